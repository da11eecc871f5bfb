//! The log of accepted requests, whichever it is: the truth of what is pending.
//!
//! One shape for the embedded file and the cluster, so that no caller knows which it has; what the methods promise is told at each of the two.

use jiff::Timestamp;

use super::{
    BackendError,
    kafka::{self, Cluster},
    log::{self, Edge, Log, NewRecord, Record},
};
use crate::domain::{Place, RequestId, Ticket};

/// The log of a host.
pub enum Queue {
    /// One file, for one process.
    Log(Log),
    /// A cluster, for many hosts.
    Cluster(Box<Cluster>),
}

/// Requests to settle, in the order of each partition.
#[derive(Debug)]
pub enum Batch {
    /// From the file.
    Log(log::Batch),
    /// From the cluster.
    Cluster(kafka::Batch),
}

impl Batch {
    /// The requests, at least one.
    pub fn records(&self) -> &[Record] {
        match self {
            Self::Log(batch) => &batch.records,
            Self::Cluster(batch) => &batch.records,
        }
    }
}

impl Queue {
    /// What operators call it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Log(_) => "embedded",
            Self::Cluster(_) => "Kafka",
        }
    }

    /// Appends a request to be settled, and returns once it is durable; fails with `Full` when too many wait.
    pub async fn submit(&self, record: NewRecord) -> Result<Ticket, BackendError> {
        match self {
            Self::Log(it) => it.submit(record).await,
            Self::Cluster(it) => it.submit(record).await,
        }
    }

    /// Appends an event to a topic, and returns once it is durable.
    pub async fn publish(
        &self,
        topic: &str,
        key: Vec<u8>,
        payload: Vec<u8>,
    ) -> Result<Place, BackendError> {
        match self {
            Self::Log(it) => it.publish(topic, key, payload).await,
            Self::Cluster(it) => it.publish(topic, key, payload).await,
        }
    }

    /// Appends a request that cannot be settled to the dead letters; to commit past it is the caller's.
    pub async fn dead_letter(&self, record: &Record, reason: &str) -> Result<Place, BackendError> {
        match self {
            Self::Log(it) => it.dead_letter(record, reason).await,
            Self::Cluster(it) => it.dead_letter(record, reason).await,
        }
    }

    /// Waits for requests and gives the first of them, at most `max` and at least one; until they are committed they are given again.
    ///
    /// One task at a time may ask; dropping the future loses nothing.
    pub async fn next_batch(&self, max: u32) -> Result<Batch, BackendError> {
        Ok(match self {
            Self::Log(it) => Batch::Log(it.next_batch(max).await?),
            Self::Cluster(it) => Batch::Cluster(it.next_batch(max as usize).await),
        })
    }

    /// Notes durably that the requests of a batch are settled.
    pub async fn commit(&self, batch: &Batch) -> Result<(), BackendError> {
        match (self, batch) {
            (Self::Log(it), Batch::Log(batch)) => it.commit(batch).await,
            (Self::Cluster(it), Batch::Cluster(batch)) => it.commit(batch).await,
            // A batch of another log says nothing about this one.
            (Self::Log(_) | Self::Cluster(_), _) => Ok(()),
        }
    }

    /// The place of a request among those that wait.
    pub async fn find(&self, request: &RequestId) -> Result<Option<Place>, BackendError> {
        match self {
            Self::Log(it) => it.find(request).await,
            Self::Cluster(it) => it.find(request).await,
        }
    }

    /// Where a place stands among the requests that wait, 1 being next, and how many wait; none once it is settled.
    pub async fn standing(&self, place: Place) -> Result<Option<(u64, u64)>, BackendError> {
        match self {
            Self::Log(it) => Ok(it.standing(place)),
            Self::Cluster(it) => it.standing(place).await,
        }
    }

    /// For each partition, how many requests are not settled; empty while that is not known.
    pub fn lags(&self) -> Vec<(u32, u64)> {
        match self {
            Self::Log(it) => vec![(log::PARTITION, it.lag())],
            Self::Cluster(it) => it.lags(),
        }
    }

    /// Reads around the offset from which the group has not settled: at most about `settled_max` records before it, and the first after it.
    pub async fn edge(
        &self,
        late_before: Timestamp,
        settled_max: u32,
    ) -> Result<Edge, BackendError> {
        match self {
            Self::Log(it) => it.edge(late_before, settled_max).await,
            Self::Cluster(it) => it.edge(late_before, settled_max).await,
        }
    }

    /// Answers when the log does.
    pub async fn ping(&self) -> Result<(), BackendError> {
        match self {
            Self::Log(it) => it.ping().await,
            Self::Cluster(it) => it.ping().await,
        }
    }

    /// Waits for what is being written, and closes; what comes later fails.
    pub async fn close(&self) {
        match self {
            Self::Log(it) => it.close().await,
            Self::Cluster(it) => it.close().await,
        }
    }
}
