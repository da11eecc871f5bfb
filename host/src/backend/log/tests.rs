//! What is answered is durable, what is durable is found again, and offsets are given once.

mod appending;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::task::{JoinSet, yield_now};

use super::{
    DEAD_LETTER_OFFSET, DEAD_LETTER_REASON, DEAD_LETTERS, Log, LogOptions, NewRecord, PARTITION,
    REQUESTS, store,
};
use crate::backend::BackendError;
use crate::backend::sqlite::Keeping;
use crate::domain::{Place, RequestId};

type Outcome = Result<(), Box<dyn Error>>;

fn options(path: &Path) -> LogOptions {
    LogOptions {
        path: path.join("log.db"),
        backlog_max: 1_000,
        keeping: Keeping::Durable,
    }
}

async fn fresh() -> Result<(TempDir, Arc<Log>), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let log = Log::open(&options(folder.path())).await?;
    Ok((folder, Arc::new(log)))
}

fn record(request: &str) -> NewRecord {
    NewRecord {
        key: b"7".to_vec(),
        value: request.as_bytes().to_vec(),
        headers: vec![
            ("version".to_owned(), b"v3".to_vec()),
            ("empty".to_owned(), Vec::new()),
            ("version".to_owned(), vec![0, 255]),
        ],
        request_id: Some(id(request)),
    }
}

fn id(request: &str) -> RequestId {
    RequestId(request.into())
}

fn place(offset: u64) -> Place {
    Place {
        partition: PARTITION,
        offset,
    }
}

#[tokio::test]
async fn the_edge_is_what_is_settled_last_and_what_waits() -> Outcome {
    let (_folder, log) = fresh().await?;
    let long_ago = Timestamp::UNIX_EPOCH;
    let empty = log.edge(Timestamp::MAX, 10).await?;
    assert_eq!(
        (empty.settled.len(), empty.oldest, empty.late),
        (0, None, 0)
    );
    for request in ["a", "b", "c", "d", "e"] {
        log.submit(record(request)).await?;
    }
    let all_wait = log.edge(Timestamp::MAX, 10).await?;
    assert_eq!((all_wait.settled.len(), all_wait.late), (0, 5));
    log.commit_to(3).await?;
    let read = log.read(0, 10).await?;
    let edge = log.edge(Timestamp::MAX, 2).await?;
    assert_eq!(Some(edge.settled.as_slice()), read.get(1..3));
    assert_eq!(edge.oldest, read.get(3).map(|record| record.timestamp));
    assert_eq!(edge.late, 2);
    assert_eq!(log.edge(long_ago, 2).await?.late, 0);
    log.commit_to(5).await?;
    let settled = log.edge(Timestamp::MAX, 10).await?;
    assert_eq!(
        (settled.settled, settled.oldest, settled.late),
        (read, None, 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_request_comes_out_as_it_went_in() -> Outcome {
    let (_folder, log) = fresh().await?;
    let first = log.submit(record("a")).await?;
    let second = log.submit(record("b")).await?;
    assert_eq!((first.place, first.queue_position), (place(0), 1));
    assert_eq!((second.place, second.queue_position), (place(1), 2));
    assert_eq!(second.total_waiting, 2);
    let read = log.read(1, 10).await?;
    let [b] = read.as_slice() else {
        return Err(format!("{read:?}").into());
    };
    let sent = record("b");
    assert_eq!(
        (b.place, &b.key, &b.value),
        (place(1), &sent.key, &sent.value)
    );
    assert_eq!(
        (&b.headers, &b.request_id),
        (&sent.headers, &sent.request_id)
    );
    assert_eq!(log.read(0, 1).await?.len(), 1);
    assert_eq!(log.read(2, 10).await?, []);
    assert_eq!(log.read(u64::MAX, 10).await?, []);
    Ok(())
}

#[tokio::test]
async fn a_restart_changes_nothing_and_no_offset_is_given_twice() -> Outcome {
    let (folder, log) = fresh().await?;
    for request in ["a", "b", "a", "c"] {
        log.submit(record(request)).await?;
    }
    log.commit_to(3).await?;
    log.close().await;
    drop(log);

    let log = Log::open(&options(folder.path())).await?;
    assert_eq!((log.committed(), log.end()), (3, 4));
    assert_eq!(log.find(&id("a")).await?, Some(place(2)));
    assert_eq!(log.find(&id("d")).await?, None);
    assert_eq!(log.standing(place(3)), Some((1, 1)));
    log.commit_to(4).await?;
    store::trim(&mut *log.file.writer().acquire().await?, REQUESTS, 4).await?;
    log.close().await;

    let log = Log::open(&options(folder.path())).await?;
    assert_eq!(log.read(0, 10).await?, []);
    assert_eq!((log.committed(), log.end()), (4, 4));
    assert_eq!(log.submit(record("d")).await?.place, place(4));
    Ok(())
}

#[tokio::test]
async fn what_was_answered_survives_a_host_that_stops_dead() -> Outcome {
    let (folder, log) = fresh().await?;
    log.submit(record("a")).await?;
    log.publish("events", Vec::new(), Vec::new()).await?;
    log.commit_to(1).await?;
    // Not closed: the files are taken as they lie, the write-ahead log among them.
    let copy = tempfile::tempdir()?;
    for name in ["log.db", "log.db-wal"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name))?;
    }
    let log = Log::open(&options(copy.path())).await?;
    assert_eq!((log.committed(), log.end()), (1, 1));
    assert_eq!(log.find(&id("a")).await?, Some(place(0)));
    assert_eq!(
        log.publish("events", Vec::new(), Vec::new()).await?,
        place(1)
    );
    Ok(())
}

#[tokio::test]
async fn the_backlog_is_bounded_however_many_come_at_once() -> Outcome {
    let folder = tempfile::tempdir()?;
    let options = LogOptions {
        backlog_max: 30,
        ..options(folder.path())
    };
    let log = Arc::new(Log::open(&options).await?);
    let mut senders = JoinSet::new();
    for number in 0..100 {
        let log = Arc::clone(&log);
        senders.spawn(async move { log.submit(record(&number.to_string())).await });
    }
    let mut full = 0;
    while let Some(sent) = senders.join_next().await {
        match sent? {
            Ok(_) => {}
            Err(BackendError::Full { .. }) => full += 1,
            Err(error) => return Err(error.into()),
        }
    }
    assert_eq!((full, log.end()), (70, 30));
    log.commit_to(1).await?;
    log.submit(record("room")).await?;
    assert!(log.submit(record("none")).await.is_err());
    Ok(())
}

#[tokio::test]
async fn an_offset_is_committed_forward_only_and_never_past_the_end() -> Outcome {
    let (_folder, log) = fresh().await?;
    log.commit_to(5).await?;
    assert_eq!(log.committed(), 0);
    for request in ["a", "b", "c"] {
        log.submit(record(request)).await?;
    }
    log.commit_to(2).await?;
    log.commit_to(1).await?;
    assert_eq!(log.committed(), 2);
    assert_eq!(log.standing(place(1)), None);
    assert_eq!(log.standing(place(2)), Some((1, 1)));
    assert_eq!(log.standing(place(3)), None);
    let elsewhere = Place {
        partition: 1,
        offset: 2,
    };
    assert_eq!(log.standing(elsewhere), None);
    log.commit_to(99).await?;
    assert_eq!((log.committed(), log.end()), (3, 3));
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_keeps_the_record_and_says_why() -> Outcome {
    let (_folder, log) = fresh().await?;
    log.submit(record("a")).await?;
    let read = log.read(0, 1).await?;
    let bad = read.first().ok_or("not there")?;
    assert_eq!(log.dead_letter(bad, "the guest trapped").await?, place(0));
    let (value, headers): (Vec<u8>, String) =
        sqlx::query_as("SELECT value, headers FROM records WHERE topic = ?1")
            .bind(DEAD_LETTERS)
            .fetch_one(log.file.readers())
            .await?;
    assert_eq!(value, bad.value);
    let headers: Vec<(String, Vec<u8>)> = serde_json::from_str(&headers)?;
    let mut expected = bad.headers.clone();
    expected.push((DEAD_LETTER_REASON.to_owned(), b"the guest trapped".to_vec()));
    expected.push((DEAD_LETTER_OFFSET.to_owned(), b"0".to_vec()));
    assert_eq!(headers, expected);
    // Other topics neither wait to be settled nor are found.
    assert_eq!((log.committed(), log.end()), (0, 1));
    assert_eq!(log.find(&id("a")).await?, Some(place(0)));
    Ok(())
}

#[tokio::test]
async fn a_consumer_is_woken_by_an_append_and_by_the_close() -> Outcome {
    let (_folder, log) = fresh().await?;
    let wait = |offset| {
        let log = Arc::clone(&log);
        tokio::spawn(async move { log.appended(offset).await })
    };
    let (now, later) = (wait(0), wait(1));
    yield_now().await;
    log.submit(record("a")).await?;
    assert!(now.await?);
    assert!(log.appended(0).await);
    log.close().await;
    assert!(!later.await?);
    assert!(log.submit(record("b")).await.is_err());
    assert!(log.publish("events", Vec::new(), Vec::new()).await.is_err());
    assert!(log.commit_to(1).await.is_err());
    Ok(())
}
