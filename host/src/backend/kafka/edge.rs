//! Reads the records on both sides of the offsets that the group committed: the last that are settled, and the first that waits.
//!
//! `Cluster` asks it for the reconciler. It reads apart from the group and moves none of its offsets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::spawn_blocking;

use super::marks::Mark;
use super::settings::{self, Settings, Voice};
use super::{message, unavailable};
use crate::backend::BackendError;
use crate::backend::log::Edge;

/// How long all of it may take, and each answer of a broker.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);
/// Bytes that a broker sends of a partition at once, for a few records are wanted of each.
const FETCH_BYTES: &str = "65536";
const OPERATION: &str = "read what is settled and what waits";

/// Reads, with a client of its own each time: it is asked seldom, and a client that idles would fetch on.
pub struct EdgeReader {
    settings: Settings,
    topic: Arc<str>,
}

impl EdgeReader {
    /// Will read this topic.
    pub fn new(settings: Settings, topic: String) -> Self {
        Self {
            settings,
            topic: topic.into(),
        }
    }

    /// Reads around these marks, an equal share of `settled_max` in each partition and one record at least.
    ///
    /// Fails with `Unavailable` when it cannot read them in some seconds.
    pub async fn read(
        &self,
        marks: BTreeMap<u32, Mark>,
        late_before: Timestamp,
        settled_max: u32,
    ) -> Result<Edge, BackendError> {
        let (settings, topic) = (self.settings.clone(), Arc::clone(&self.topic));
        spawn_blocking(move || {
            let mut config = settings.observer();
            config
                .set("enable.partition.eof", "true")
                .set("fetch.message.max.bytes", FETCH_BYTES);
            let client = settings::open(&config, Voice, OPERATION)?;
            let mut edge = records(&client, &topic, &marks, settled_max)?;
            if edge.oldest.is_some_and(|oldest| oldest < late_before) {
                edge.late =
                    late(&client, &topic, &marks, late_before).map_err(unavailable(OPERATION))?;
            }
            Ok(edge)
        })
        .await
        .map_err(unavailable(OPERATION))?
    }
}

/// Reads the records; blocks.
fn records(
    client: &BaseConsumer<Voice>,
    topic: &str,
    marks: &BTreeMap<u32, Mark>,
    settled_max: u32,
) -> Result<Edge, BackendError> {
    let partitions = u64::try_from(marks.len()).unwrap_or(u64::MAX).max(1);
    let share = (u64::from(settled_max) / partitions).max(1);
    let mut list = TopicPartitionList::new();
    // What is to be read of each partition: up to which offset, and which of it is settled.
    let mut unread = BTreeMap::new();
    for (partition, mark) in marks {
        let first = mark.committed.saturating_sub(share);
        let end = mark.committed + mark.waiting().min(1);
        if first < end {
            let offset = Offset::Offset(message::offset(first));
            list.add_partition_offset(topic, message::partition(*partition), offset)
                .map_err(unavailable(OPERATION))?;
            unread.insert(*partition, (end, mark.committed));
        }
    }
    client.assign(&list).map_err(unavailable(OPERATION))?;
    drop(list);
    let mut edge = Edge::default();
    let began = Instant::now();
    while !unread.is_empty() {
        if began.elapsed() > READ_TIMEOUT {
            return Err(unavailable(OPERATION)("the log was not read in time"));
        }
        let record = match client.poll(POLL) {
            Some(Ok(fetched)) => message::record(&fetched),
            // What is settled may be deleted already, up to the end.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.retain(|number, _| message::partition(*number) != partition);
                None
            }
            // A fault is librdkafka's to get over, in the time that is left.
            Some(Err(_)) | None => None,
        };
        let Some(record) = record else { continue };
        let Some((end, committed)) = unread.get(&record.place.partition).copied() else {
            continue;
        };
        let offset = record.place.offset;
        if offset + 1 >= end {
            unread.remove(&record.place.partition);
        }
        if offset < committed {
            edge.settled.push(record);
        } else if edge.oldest.is_none_or(|oldest| record.timestamp < oldest) {
            edge.oldest = Some(record.timestamp);
        }
    }
    Ok(edge)
}

/// How many of the requests that wait were appended before a moment; blocks.
fn late(
    client: &BaseConsumer<Voice>,
    topic: &str,
    marks: &BTreeMap<u32, Mark>,
    before: Timestamp,
) -> KafkaResult<u64> {
    let mut asked = TopicPartitionList::new();
    for (partition, _) in marks.iter().filter(|(_, mark)| mark.waiting() > 0) {
        let moment = Offset::Offset(before.as_millisecond());
        asked.add_partition_offset(topic, message::partition(*partition), moment)?;
    }
    let answered = client.offsets_for_times(asked, ANSWER_TIMEOUT)?;
    let mut late = 0;
    for element in answered.elements() {
        element.error()?;
        let partition = u32::try_from(element.partition()).ok();
        let Some(mark) = partition.and_then(|partition| marks.get(&partition)) else {
            continue;
        };
        late += match element.offset() {
            Offset::Offset(first) => u64::try_from(first)
                .unwrap_or(0)
                .min(mark.end)
                .saturating_sub(mark.committed),
            // None was appended since.
            _ => mark.waiting(),
        };
    }
    Ok(late)
}
