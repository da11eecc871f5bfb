//! The client that asks the cluster where the requests end and what the group has committed, without joining the group.
//!
//! A task looks every so often and whenever someone needs to know at once; `Cluster` reads what it found from the marks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::marks::{Mark, Marks};
use super::settings::{self, Settings, Voice};
use super::{message, unavailable};
use crate::backend::BackendError;

/// How long what was found may be used before it is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// How long a look waits for each answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks at the requests' topic and the group's offsets.
pub struct Observer {
    marks: Arc<watch::Sender<Marks>>,
    wanted: Arc<Notify>,
    tasks: TaskTracker,
    closing: CancellationToken,
    _closing_when_dropped: DropGuard,
}

impl Observer {
    /// Starts the client and the task that looks through it.
    pub fn open(
        settings: &Settings,
        topic: String,
        marks: Arc<watch::Sender<Marks>>,
    ) -> Result<Self, BackendError> {
        let client = settings::open(&settings.observer(), Voice, "connect to Kafka")?;
        let wanted = Arc::new(Notify::new());
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let looker = Looker {
            client: Arc::new(client),
            topic: topic.into(),
            marks: Arc::clone(&marks),
            wanted: Arc::clone(&wanted),
        };
        tasks.spawn(looker.run(closing.clone()));
        tasks.close();
        Ok(Self {
            marks,
            wanted,
            tasks,
            closing: closing.clone(),
            _closing_when_dropped: closing.drop_guard(),
        })
    }

    /// Looks now; afterwards the marks are as the cluster has them, or it fails with `Unavailable`.
    pub async fn look(&self) -> Result<(), BackendError> {
        let mut marks = self.marks.subscribe();
        let look = marks.borrow_and_update().next_look();
        self.wanted.notify_one();
        let looked = tokio::select! {
            looked = marks.wait_for(|marks| marks.looked(look).is_some()) => {
                looked.ok().and_then(|marks| marks.looked(look))
            }
            () = self.tasks.wait() => None,
        };
        match looked {
            Some(found) => found.map_err(unavailable("ask Kafka")),
            None => Err(unavailable("ask Kafka")("the log is closed")),
        }
    }

    /// Stops looking and disconnects.
    pub async fn close(&self) {
        self.closing.cancel();
        self.tasks.wait().await;
    }
}

/// The task.
struct Looker {
    client: Arc<BaseConsumer<Voice>>,
    topic: Arc<str>,
    marks: Arc<watch::Sender<Marks>>,
    wanted: Arc<Notify>,
}

impl Looker {
    async fn run(self, closing: CancellationToken) {
        while !closing.is_cancelled() {
            self.marks.send_modify(Marks::look_begins);
            let (client, topic) = (Arc::clone(&self.client), Arc::clone(&self.topic));
            let found = spawn_blocking(move || look(&client, &topic)).await;
            let found = found.unwrap_or(Err(KafkaError::Canceled));
            self.marks.send_modify(|marks| marks.look_ends(found));
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.wanted.notified() => {}
                () = closing.cancelled() => {}
            }
        }
        // To drop a consumer blocks.
        drop(spawn_blocking(move || drop(self.client)).await);
    }
}

/// Asks for the partitions, what the group committed in them, and where they end; blocks.
fn look(client: &BaseConsumer<Voice>, topic: &str) -> KafkaResult<BTreeMap<u32, Mark>> {
    // It consumes nothing; polling passes on what librdkafka has to say.
    while client.poll(Duration::ZERO).is_some() {}
    let metadata = client.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
    let mut asked = TopicPartitionList::new();
    for found in metadata
        .topics()
        .iter()
        .filter(|found| found.name() == topic)
    {
        if let Some(error) = found.error() {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        for partition in found.partitions() {
            asked.add_partition(topic, partition.id());
        }
    }
    let mut marks = BTreeMap::new();
    for (partition, committed) in committed(client, asked)? {
        let (first, end) = client.fetch_watermarks(topic, partition, ANSWER_TIMEOUT)?;
        // Where nothing is committed the group begins at the first that is left.
        let committed = committed.unwrap_or(first).clamp(first, end.max(first));
        let places = message::place(partition, committed).zip(message::place(partition, end));
        if let Some((committed, end)) = places {
            let mark = Mark {
                end: end.offset,
                committed: committed.offset,
            };
            marks.insert(end.partition, mark);
        }
    }
    Ok(marks)
}

/// The offsets that the group committed, copied out: a list that outlives its client would hang it.
fn committed(
    client: &BaseConsumer<Voice>,
    asked: TopicPartitionList,
) -> KafkaResult<Vec<(i32, Option<i64>)>> {
    let answered = client.committed_offsets(asked, ANSWER_TIMEOUT)?;
    let offsets = answered.elements().into_iter().map(|element| {
        element.error()?;
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Ok((element.partition(), committed))
    });
    offsets.collect()
}
