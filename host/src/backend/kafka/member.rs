//! The two threads of this host's member of the group: one polls, one commits.
//!
//! The first polls without a pause, whatever becomes of the batches, so that the group never takes this host for dead; what it fetches goes to the shelf.
//! The second is there because a commit blocks for as long as the group has no coordinator.
//! Both are threads of their own, and no tasks, so that neither keeps the process from ending. `Consumer` starts them.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::settings::{self, Settings, Voice};
use super::shelf::{End, Shelf};
use super::{message, unavailable};
use crate::backend::BackendError;

/// How long a poll waits for a request; that a full partition has room again is noticed as late.
const POLL: Duration = Duration::from_millis(20);
const JOIN: &str = "join the consumer group";

/// Offsets to commit.
pub struct Commit {
    /// How far in which partitions.
    pub ends: Vec<End>,
    /// Who waits for the cluster's answer, if anyone still does.
    pub answer: oneshot::Sender<KafkaResult<()>>,
}

/// Joins the group and starts the threads, which end after `closing`, and once all senders of commits are gone; `left` is dropped when the group is left.
pub fn join(
    settings: &Settings,
    topic: &str,
    shelf: Arc<Shelf>,
    closing: CancellationToken,
    left: DropGuard,
) -> Result<mpsc::Sender<Commit>, BackendError> {
    let listener = Listener {
        shelf: Arc::clone(&shelf),
    };
    let client: BaseConsumer<_> = settings::open(&settings.member(), listener, JOIN)?;
    client.subscribe(&[topic]).map_err(unavailable(JOIN))?;
    let member = Arc::new(Member {
        client,
        topic: topic.to_owned(),
        _left: left,
    });
    let (commits, asked) = mpsc::channel();
    let committing = Arc::clone(&member);
    spawn("kafka-commits", move || committing.commit_all(&asked))?;
    spawn("kafka-consumer", move || member.poll(&shelf, &closing))?;
    Ok(commits)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), BackendError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).map_err(unavailable(JOIN))
}

/// What the threads share; the last to let go leaves the group, which blocks.
struct Member {
    client: BaseConsumer<Listener>,
    topic: String,
    // After the client: its drop tells that the group is left.
    _left: DropGuard,
}

impl Member {
    /// Fetches until it is to close.
    fn poll(&self, shelf: &Shelf, closing: &CancellationToken) {
        while !closing.is_cancelled() {
            match self.client.poll(POLL) {
                Some(Ok(message)) => {
                    if let Some(record) = message::record(&message) {
                        shelf.put(record);
                    }
                }
                // librdkafka tries again by itself.
                Some(Err(error)) => tracing::debug!("the consumer waits: {error}"),
                None => {}
            }
            self.steer(shelf);
        }
    }

    /// Stops and starts fetching as the shelf fills and empties.
    fn steer(&self, shelf: &Shelf) {
        let flow = shelf.flow();
        for (partitions, pause) in [(flow.pause, true), (flow.resume, false)] {
            if partitions.is_empty() {
                continue;
            }
            let mut list = TopicPartitionList::new();
            for partition in partitions {
                list.add_partition(&self.topic, message::partition(partition));
            }
            let steered = if pause {
                self.client.pause(&list)
            } else {
                self.client.resume(&list)
            };
            if let Err(error) = steered {
                tracing::warn!(pause, "a partition cannot be steered: {error}");
            }
        }
    }

    /// Commits, one after the other, what is asked.
    fn commit_all(&self, asked: &mpsc::Receiver<Commit>) {
        for Commit { ends, answer } in asked {
            // Whoever gave up waiting asks again.
            if !answer.is_closed() {
                drop(answer.send(self.commit(&ends)));
            }
        }
    }

    fn commit(&self, ends: &[End]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for end in ends {
            let offset = Offset::Offset(message::offset(end.next_offset));
            list.add_partition_offset(&self.topic, message::partition(end.partition), offset)?;
        }
        self.client.commit(&list, CommitMode::Sync)
    }
}

/// Hears, on the polling thread, which partitions come and go.
struct Listener {
    shelf: Arc<Shelf>,
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Voice.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Voice.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        Voice.stats(statistics);
    }
}

impl ConsumerContext for Listener {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let (list, ours) = match rebalance {
            Rebalance::Assign(list) => (list, true),
            Rebalance::Revoke(list) => (list, false),
            Rebalance::Error(error) => {
                tracing::warn!("the group was not rebalanced: {error}");
                return;
            }
        };
        let numbers = list.elements().into_iter();
        let partitions: Vec<_> = numbers
            .filter_map(|element| u32::try_from(element.partition()).ok())
            .collect();
        if partitions.is_empty() {
            return;
        }
        tracing::info!(?partitions, ours, "the group moved partitions");
        for partition in partitions {
            if ours {
                self.shelf.assign(partition);
            } else {
                self.shelf.revoke(partition);
            }
        }
    }
}
