//! The parts that need no cluster: marks, the shelf, and the properties file; `cluster` needs one.

#[cfg(feature = "services")]
mod cluster;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;

use super::marks::{self, Mark, Marks, Standing};
use super::settings;
use super::shelf::{Flow, Shelf};
use crate::backend::log::Record;
use crate::domain::Place;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn place(partition: u32, offset: u64) -> Place {
    Place { partition, offset }
}

fn record(partition: u32, offset: u64) -> Record {
    Record {
        place: place(partition, offset),
        key: Vec::new(),
        value: Vec::new(),
        headers: Vec::new(),
        request_id: None,
        timestamp: Timestamp::UNIX_EPOCH,
    }
}

fn found(marks: &[(u32, u64, u64)]) -> BTreeMap<u32, Mark> {
    let marks = marks.iter().copied();
    marks
        .map(|(partition, committed, end)| (partition, Mark { end, committed }))
        .collect()
}

#[test]
fn a_look_does_not_undo_what_this_host_did_meanwhile() {
    let mut marks = Marks::default();
    marks.look_begins();
    marks.look_ends(Ok(found(&[(0, 2, 5), (1, 0, 0)])));
    marks.look_begins();
    marks.sent(place(0, 6));
    marks.settled(0, 4);
    marks.look_ends(Ok(found(&[(0, 2, 5), (1, 0, 1)])));
    assert_eq!(marks.lags(), [(0, 3), (1, 1)]);
    // A look that begins after it has the last word, as when offsets are set back.
    marks.look_begins();
    marks.look_ends(Ok(found(&[(0, 0, 7), (1, 0, 1)])));
    assert_eq!(marks.lags(), [(0, 7), (1, 1)]);
}

#[test]
fn a_place_waits_until_it_is_settled_and_is_not_denied_before_it_is_known() {
    let mut marks = Marks::default();
    assert_eq!(marks.standing(place(0, 0)), Standing::PastTheEnd);
    marks.look_begins();
    marks.look_ends(Ok(found(&[(0, 2, 5), (1, 0, 4)])));
    assert_eq!(marks.standing(place(0, 1)), Standing::Settled);
    let waits = |position| Standing::Waits { position, total: 7 };
    assert_eq!(marks.standing(place(0, 2)), waits(1));
    assert_eq!(marks.standing(place(0, 4)), waits(3));
    assert_eq!(marks.standing(place(1, 3)), waits(4));
    assert_eq!(marks.standing(place(0, 5)), Standing::PastTheEnd);
    assert_eq!(marks.standing(place(2, 0)), Standing::PastTheEnd);
    marks.sent(place(0, 5));
    let ticket = marks.ticket(place(0, 5));
    assert_eq!((ticket.queue_position, ticket.total_waiting), (4, 8));
}

#[test]
fn a_lag_that_is_not_known_is_not_told() {
    let mut marks = Marks::default();
    marks.look_begins();
    marks.look_ends(Ok(found(&[(0, 2, 5)])));
    let look = marks.next_look();
    assert_eq!(marks.looked(look), None);
    marks.look_begins();
    marks.look_ends(Err(rdkafka::error::KafkaError::Canceled));
    assert!(marks.looked(look).is_some_and(|looked| looked.is_err()));
    assert!(marks.lags().is_empty());
    // Who waits still waits.
    let waits = Standing::Waits {
        position: 1,
        total: 3,
    };
    assert_eq!(marks.standing(place(0, 2)), waits);
}

#[test]
fn room_is_promised_once_and_given_back() {
    let marks = watch::Sender::new(Marks::default());
    marks.send_modify(|marks| marks.sent(place(0, 0)));
    let first = marks::promise(&marks, 3);
    let second = marks::promise(&marks, 3);
    assert!(first.is_some() && second.is_some());
    assert!(marks::promise(&marks, 3).is_none());
    assert!(marks::promise(&marks, 3).is_none());
    drop(second);
    assert!(marks::promise(&marks, 3).is_some());
}

#[tokio::test]
async fn a_batch_is_given_again_until_it_is_committed() {
    let shelf = Shelf::default();
    shelf.put(record(0, 0));
    shelf.assign(0);
    for offset in 5..10 {
        shelf.put(record(0, offset));
    }
    shelf.put(record(0, 9));
    let first = shelf.batch(3).await;
    let again = shelf.batch(3).await;
    assert_eq!(first.records, again.records);
    assert_eq!(first.records, [record(0, 5), record(0, 6), record(0, 7)]);
    shelf.forget(&shelf.kept(&first));
    shelf.forget(&shelf.kept(&again));
    assert_eq!(shelf.batch(9).await.records, [record(0, 8), record(0, 9)]);
}

#[tokio::test]
async fn every_partition_has_its_turn_to_be_first() {
    let shelf = Shelf::default();
    for partition in [0, 3] {
        shelf.assign(partition);
        for offset in 0..4 {
            shelf.put(record(partition, offset));
        }
    }
    let mut firsts = Vec::new();
    for _ in 0..4 {
        let batch = shelf.batch(2).await;
        firsts.extend(batch.records.first().map(|record| record.place.partition));
    }
    assert_eq!(firsts, [0, 3, 0, 3]);
    assert_eq!(shelf.batch(6).await.records.len(), 6);
}

#[tokio::test]
async fn a_batch_of_a_partition_that_was_away_is_not_committed() -> Outcome {
    let shelf = Shelf::default();
    shelf.assign(0);
    shelf.assign(1);
    shelf.put(record(0, 0));
    shelf.put(record(1, 0));
    let batch = shelf.batch(9).await;
    shelf.revoke(0);
    let kept = shelf.kept(&batch);
    assert_eq!(
        kept.iter().map(|end| end.partition).collect::<Vec<_>>(),
        [1]
    );
    // Back again, it begins where the group left off.
    shelf.assign(0);
    shelf.put(record(0, 0));
    assert_eq!(shelf.kept(&batch), kept);
    shelf.forget(&kept);
    assert_eq!(shelf.batch(9).await.records, [record(0, 0)]);
    shelf.revoke(0);
    let waits = timeout(Duration::from_millis(10), shelf.batch(9)).await;
    assert!(waits.is_err());
    Ok(())
}

#[tokio::test]
async fn a_full_line_stops_its_partition_until_half_of_it_is_left() {
    let shelf = Shelf::default();
    shelf.assign(0);
    assert_eq!(shelf.flow().resume, [0]);
    for offset in 0..2_048 {
        assert_eq!(shelf.flow(), Flow::default());
        shelf.put(record(0, offset));
    }
    assert_eq!(shelf.flow().pause, [0]);
    assert_eq!(shelf.flow(), Flow::default());
    shelf.forget(&shelf.kept(&shelf.batch(1_023).await));
    assert_eq!(shelf.flow(), Flow::default());
    shelf.forget(&shelf.kept(&shelf.batch(1).await));
    assert_eq!(shelf.flow().resume, [0]);
    // One that it lost while it was full, and has again, goes on.
    (0..2_048).for_each(|offset| shelf.put(record(0, 4_096 + offset)));
    assert_eq!(shelf.flow().pause, [0]);
    shelf.revoke(0);
    shelf.assign(0);
    assert_eq!(shelf.flow().resume, [0]);
}

#[test]
fn properties_are_names_and_values() {
    let text = "# TLS\n\n security.protocol = SSL \nssl.ca.location=/a=b\nempty\n";
    let read: Vec<_> = settings::properties(text).collect();
    let expected = [
        ("security.protocol", "SSL"),
        ("ssl.ca.location", "/a=b"),
        ("empty", ""),
    ];
    assert_eq!(read, expected);
}
