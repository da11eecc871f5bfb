//! The host's client of a real Kafka cluster: requests that wait to be settled, events, and dead letters.
//!
//! It has the shape of the embedded `log`, which stands in where no cluster is given, and shares its topics and records.
//! This file and those below it are the only ones that know rdkafka; what a record means is known to `backend::record`.
//! `Backends` submits and asks where requests stand, `capability/kafka` publishes, `settlement` consumes, commits and buries.

mod consumer;
mod edge;
mod marks;
mod member;
mod message;
mod observer;
mod search;
mod sender;
mod settings;
mod shelf;
#[cfg(test)]
mod tests;
mod topics;

pub use shelf::Batch;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::log::{DEAD_LETTERS, Edge, NewRecord, REQUESTS, Record};
use super::{BackendError, System};
use crate::domain::{Place, RequestId, Ticket};
use consumer::Consumer;
use edge::EdgeReader;
use marks::{Marks, Standing};
use observer::Observer;
use search::Search;
use sender::Sender;
use settings::Settings;
use topics::Topics;

/// Header of a dead letter: the partition that it had among the requests, in decimal.
pub const DEAD_LETTER_PARTITION: &str = "dead-letter-partition";

/// How long a topic that was just made may take to be known, and how often it is looked for.
const TOPIC_WAIT: Duration = Duration::from_secs(5);
const TOPIC_PAUSE: Duration = Duration::from_millis(50);

/// Where the cluster is, and the bounds on what is asked of it.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// `host:port`, more than one with commas between.
    pub brokers: String,
    /// A file of librdkafka properties, `name=value` a line, for TLS and SASL; what the host itself sets stays as it is.
    pub properties_file: Option<PathBuf>,
    /// The consumer group, whose committed offsets say what is settled.
    pub group: String,
    /// Comes before the names of the group and of every topic, so that several hosts' worlds can share a cluster.
    pub topic_prefix: String,
    /// Partitions of a topic that has to be made; one that is there keeps its own.
    pub partitions: u32,
    /// Requests that may wait to be settled, at most. Exact for this host; what others submit counts within half a second.
    pub backlog_max: u64,
    /// How long a record may wait for its acknowledgement.
    pub produce_timeout: Duration,
}

/// A Kafka cluster, as one member of the consumer group uses it.
///
/// Methods fail with `Unavailable` while the cluster cannot be reached, and work again when it can; nothing has to be opened anew.
pub struct Cluster {
    topics: Topics,
    sender: Sender,
    consumer: Consumer,
    observer: Observer,
    search: Search,
    edge: EdgeReader,
    marks: Arc<watch::Sender<Marks>>,
    backlog_max: u64,
}

impl Cluster {
    /// Connects, makes the topics of requests and dead letters where they are missing, and joins the group.
    ///
    /// Fails with `Unavailable` where the properties cannot be read or mean nothing to librdkafka, and where no broker answers in a few seconds.
    pub async fn open(options: &KafkaOptions) -> Result<Self, BackendError> {
        let settings = Settings::read(options).await?;
        let prefix = &options.topic_prefix;
        let requests = format!("{prefix}{REQUESTS}");
        // The producer comes first, so that it has its id from the cluster by the time that it is needed.
        let sender = Sender::open(settings.clone())?;
        let topics = Topics::open(&settings, prefix.clone(), options.partitions)?;
        topics.ensure(REQUESTS).await?;
        topics.ensure(DEAD_LETTERS).await?;
        let marks = Arc::new(watch::Sender::new(Marks::default()));
        let observer = Observer::open(&settings, requests.clone(), Arc::clone(&marks))?;
        first_look(&observer).await?;
        let consumer = Consumer::open(&settings, &requests, Arc::clone(&marks))?;
        Ok(Self {
            topics,
            sender,
            consumer,
            observer,
            search: Search::new(settings.clone(), requests.clone()),
            edge: EdgeReader::new(settings, requests),
            marks,
            backlog_max: options.backlog_max,
        })
    }

    /// Appends a request to be settled, and returns once all in-sync replicas have it.
    ///
    /// Fails with `Full` when `backlog_max` requests wait.
    /// After `Unavailable` it may be in the log or not: whoever called submits again, which has no second effect.
    pub async fn submit(&self, record: NewRecord) -> Result<Ticket, BackendError> {
        let _promise = marks::promise(&self.marks, self.backlog_max)
            .ok_or(BackendError::Full { what: "the log" })?;
        let topic = self.topics.name(REQUESTS);
        let place = self.sender.send(&topic, &record, "submit").await?;
        self.marks.send_modify(|marks| marks.sent(place));
        Ok(self.marks.borrow().ticket(place))
    }

    /// Appends an event to a topic, made where it is missing, and returns once all in-sync replicas have it.
    ///
    /// After `Unavailable` it may be in the log or not.
    pub async fn publish(
        &self,
        topic: &str,
        key: Vec<u8>,
        payload: Vec<u8>,
    ) -> Result<Place, BackendError> {
        self.topics.ensure(topic).await?;
        let record = NewRecord {
            key,
            value: payload,
            headers: Vec::new(),
            request_id: None,
        };
        let topic = self.topics.name(topic);
        self.sender.send(&topic, &record, "publish").await
    }

    /// Appends a request that cannot be settled to the dead letters, with the reason, and returns once it is durable; to commit past it is the caller's.
    ///
    /// Called again for the same record it appends again. What is too long to be sent again is cut.
    pub async fn dead_letter(&self, record: &Record, reason: &str) -> Result<Place, BackendError> {
        let letter = message::letter(record, reason);
        let topic = self.topics.name(DEAD_LETTERS);
        self.sender.send(&topic, &letter, "bury the record").await
    }

    /// Waits until requests wait in partitions that are this host's, and gives the first of them, at most `max` and at least one.
    ///
    /// Until a batch is committed it is given again, so that whoever fails at one only has to ask again, at once or much later: the group is kept in touch with meanwhile.
    /// One task at a time may ask; dropping the future loses nothing.
    pub async fn next_batch(&self, max: usize) -> Batch {
        self.consumer.next_batch(max).await
    }

    /// Notes durably that the requests of a batch are settled.
    ///
    /// Partitions that went to another member of the group meanwhile are left out: that member settles their requests again, to no effect.
    /// Fails with `Unavailable` while the group is being rebalanced, too; the batch is then given again.
    pub async fn commit(&self, batch: &Batch) -> Result<(), BackendError> {
        self.consumer.commit(batch).await
    }

    /// Where a place stands among the requests of its partition that wait, 1 being next, and how many wait in all; none once it is settled, or where the log has no such place.
    ///
    /// What other hosts have settled counts within half a second. A place past the known end is looked for in the cluster first.
    pub async fn standing(&self, place: Place) -> Result<Option<(u64, u64)>, BackendError> {
        let mut standing = self.marks.borrow().standing(place);
        if standing == Standing::PastTheEnd {
            self.observer.look().await?;
            standing = self.marks.borrow().standing(place);
        }
        Ok(match standing {
            Standing::Waits { position, total } => Some((position, total)),
            Standing::Settled | Standing::PastTheEnd => None,
        })
    }

    /// The first record of a request that waits to be settled; none where there is none.
    ///
    /// The cluster keeps no index: all requests that wait are read, once at a time, so this is for who has lost the place.
    pub async fn find(&self, request: &RequestId) -> Result<Option<Place>, BackendError> {
        self.observer.look().await?;
        self.search.find(request, &self.marks).await
    }

    /// Reads around the offsets that the group committed: at most about `settled_max` records before them, and the first after each.
    pub async fn edge(
        &self,
        late_before: Timestamp,
        settled_max: u32,
    ) -> Result<Edge, BackendError> {
        self.observer.look().await?;
        let marks = self.marks.borrow().partitions();
        self.edge.read(marks, late_before, settled_max).await
    }

    /// For each partition of the requests, how many the group has not settled; empty while that is not known.
    pub fn lags(&self) -> Vec<(u32, u64)> {
        self.marks.borrow().lags()
    }

    /// Answers when the cluster does.
    pub async fn ping(&self) -> Result<(), BackendError> {
        self.observer.look().await
    }

    /// Waits for what is being sent, and leaves the group so that others take the partitions at once; what comes later fails.
    pub async fn close(&self) {
        self.consumer.close().await;
        self.sender.close().await;
        self.observer.close().await;
    }
}

/// Looks until the topics are there: those that were just made are not known to every broker at once.
async fn first_look(observer: &Observer) -> Result<(), BackendError> {
    let asked = Instant::now();
    loop {
        match observer.look().await {
            Err(_) if asked.elapsed() < TOPIC_WAIT => tokio::time::sleep(TOPIC_PAUSE).await,
            looked => return looked,
        }
    }
}

/// Whatever the cluster or its client says, the log is not there.
fn unavailable<E>(operation: &'static str) -> impl FnOnce(E) -> BackendError
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    move |source| BackendError::unavailable(System::Kafka, operation, source)
}
