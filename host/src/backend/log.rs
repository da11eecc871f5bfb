//! The embedded log: what is accepted and not yet final, in order, in one SQLite file.
//!
//! It stands in for Kafka where none is given: one host, one partition, one group of consumers.
//! An append is answered after its commit, and appends that wait together share one.
//! `capability/kafka` submits and publishes, `settlement` reads, commits and buries, `http` asks where a request stands.

mod appender;
mod marks;
mod record;
mod store;
#[cfg(test)]
mod tests;

pub use record::{NewRecord, Record};

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::sqlite::Keeping;
use super::sqlite::file::File;
use super::{BackendError, System};
use crate::domain::{Place, RequestId, Ticket};
use appender::{Appender, Write};
use marks::Marks;

/// The topic of requests that wait to be settled.
pub const REQUESTS: &str = "time-sale-requests";
/// The topic of requests that could not be settled.
pub const DEAD_LETTERS: &str = "time-sale-requests.DLT";
/// The one partition of every topic.
pub const PARTITION: u32 = 0;

/// Header of a dead letter: why it was buried.
pub const DEAD_LETTER_REASON: &str = "dead-letter-reason";
/// Header of a dead letter: the offset that it had among the requests, in decimal.
pub const DEAD_LETTER_OFFSET: &str = "dead-letter-offset";

/// Writes that wait for the appender; whoever comes when there are more waits to hand over.
const WRITES_WAITING: usize = 1_024;
/// Connections that read: the consumer's, and those that look up a request.
const READERS: u32 = 2;
/// How long to wait for a connection, or for another process that holds the file.
const FILE_WAIT: Duration = Duration::from_secs(5);

/// Where the log is, and its bound.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The file; made when it is not there, its folder is not.
    pub path: PathBuf,
    /// Requests that may wait to be settled, at most.
    pub backlog_max: u64,
    /// How well it is kept.
    pub keeping: Keeping,
}

/// Requests to settle.
#[derive(Debug)]
pub struct Batch {
    /// The requests, at least one, in their order.
    pub records: Vec<Record>,
    next_offset: u64,
}

/// What lies where the group has settled to: the last requests before, and how long those after have waited.
#[derive(Debug, Default)]
pub struct Edge {
    /// The last requests that the group has settled past.
    pub settled: Vec<Record>,
    /// When the oldest request that waits was appended; none where none waits.
    pub oldest: Option<Timestamp>,
    /// Requests that wait and were appended before the moment asked for.
    pub late: u64,
}

/// The embedded log.
///
/// Methods that touch the file fail with `Unavailable` while it fails, and work again when it does.
/// A write is carried out once it is handed over, whether its caller still waits or not.
#[derive(Debug)]
pub struct Log {
    file: Arc<File>,
    marks: Arc<watch::Sender<Marks>>,
    writes: mpsc::Sender<Write>,
    backlog_max: u64,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Log {
    /// Opens the file and starts the task that writes it.
    pub async fn open(options: &LogOptions) -> Result<Self, BackendError> {
        let file = File::open(
            &options.path,
            READERS,
            FILE_WAIT,
            options.keeping,
            System::Kafka,
        );
        let file = Arc::new(file.await?);
        let marks = store::open(&file)
            .await
            .map_err(unavailable("open the log"))?;
        let marks = Arc::new(watch::Sender::new(marks));
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (writes, waiting) = mpsc::channel(WRITES_WAITING);
        let appender = Appender::new(Arc::clone(&file), Arc::clone(&marks), waiting);
        tasks.spawn(appender.run(closing.clone()));
        tasks.close();
        Ok(Self {
            file,
            marks,
            writes,
            backlog_max: options.backlog_max,
            closing,
            tasks,
        })
    }

    /// Appends a request to be settled, and returns once it is durable.
    ///
    /// Fails with `Full` when `backlog_max` requests wait.
    /// After `Unavailable` it may be in the log or not: whoever called finds it by its request id, or submits again.
    pub async fn submit(&self, record: NewRecord) -> Result<Ticket, BackendError> {
        let permit = self.writes.reserve().await.map_err(closed("submit"))?;
        // From the promise to the hand-over nothing awaits, so that no promise is lost.
        let mut promised = false;
        self.marks.send_if_modified(|marks| {
            promised = marks.promise(self.backlog_max);
            false
        });
        if !promised {
            return Err(BackendError::Full { what: "the log" });
        }
        let (answer, answered) = oneshot::channel();
        permit.send(Write::Submit { record, answer });
        answered.await.map_err(closed("submit"))?
    }

    /// Appends an event to a topic, and returns once it is durable.
    ///
    /// After `Unavailable` it may be in the log or not.
    pub async fn publish(
        &self,
        topic: &str,
        key: Vec<u8>,
        payload: Vec<u8>,
    ) -> Result<Place, BackendError> {
        let record = NewRecord {
            key,
            value: payload,
            headers: Vec::new(),
            request_id: None,
        };
        self.append(topic, record, "publish").await
    }

    /// Appends a request that cannot be settled to the dead letters, with the reason, and returns once it is durable; to commit past it is the caller's.
    ///
    /// Called again for the same record it appends again.
    pub async fn dead_letter(&self, record: &Record, reason: &str) -> Result<Place, BackendError> {
        let mut headers = record.headers.clone();
        headers.push((DEAD_LETTER_REASON.to_owned(), reason.into()));
        headers.push((
            DEAD_LETTER_OFFSET.to_owned(),
            record.place.offset.to_string().into(),
        ));
        let letter = NewRecord {
            key: record.key.clone(),
            value: record.value.clone(),
            headers,
            request_id: record.request_id.clone(),
        };
        self.append(DEAD_LETTERS, letter, "bury the record").await
    }

    /// The requests from an offset on, at most `max`, in order; an offset that was trimmed begins at the first that is left.
    async fn read(&self, from_offset: u64, max: u32) -> Result<Vec<Record>, BackendError> {
        store::read(&self.file, from_offset, max)
            .await
            .map_err(unavailable("read the log"))
    }

    /// Waits for requests that are not settled and gives the first of them, at most `max`, at least one; until they are committed they are given again.
    ///
    /// Fails with `Unavailable` where the log closes first.
    pub async fn next_batch(&self, max: u32) -> Result<Batch, BackendError> {
        loop {
            let from = self.committed();
            if !self.appended(from).await {
                return Err(unavailable("read the log")("the log is closed"));
            }
            let records = self.read(from, max).await?;
            if let Some(last) = records.last() {
                let next_offset = last.place.offset + 1;
                return Ok(Batch {
                    records,
                    next_offset,
                });
            }
        }
    }

    /// Notes durably that the requests of a batch are settled.
    pub async fn commit(&self, batch: &Batch) -> Result<(), BackendError> {
        self.commit_to(batch.next_offset).await
    }

    /// Reads around the committed offset: at most `settled_max` records before it, and the first after it.
    pub async fn edge(
        &self,
        late_before: Timestamp,
        settled_max: u32,
    ) -> Result<Edge, BackendError> {
        let committed = self.committed();
        let first = committed.saturating_sub(settled_max.into());
        let mut settled = self.read(first, settled_max.saturating_add(1)).await?;
        let waits = settled.partition_point(|record| record.place.offset < committed);
        let oldest = settled.get(waits).map(|record| record.timestamp);
        settled.truncate(waits);
        let late = if oldest.is_some_and(|oldest| oldest < late_before) {
            store::count(&self.file, committed, late_before)
                .await
                .map_err(unavailable("count what waits"))?
        } else {
            0
        };
        Ok(Edge {
            settled,
            oldest,
            late,
        })
    }

    /// How many requests are not settled.
    pub fn lag(&self) -> u64 {
        let marks = self.marks.borrow();
        marks.end.saturating_sub(marks.committed)
    }

    /// Answers when the file does.
    pub async fn ping(&self) -> Result<(), BackendError> {
        self.read(self.end(), 1).await.map(drop)
    }

    /// Waits until there is a request at `offset` or past it; false when the log closes first.
    async fn appended(&self, offset: u64) -> bool {
        let mut marks = self.marks.subscribe();
        tokio::select! {
            appended = marks.wait_for(|marks| marks.end > offset) => appended.is_ok(),
            () = self.closing.cancelled() => false,
        }
    }

    /// The offset from which the group has not settled.
    fn committed(&self) -> u64 {
        self.marks.borrow().committed
    }

    /// The offset that the next request will get.
    fn end(&self) -> u64 {
        self.marks.borrow().end
    }

    /// Notes durably that all requests before `next_offset` are settled; never backwards, never past the end.
    async fn commit_to(&self, next_offset: u64) -> Result<(), BackendError> {
        let (answer, answered) = oneshot::channel();
        let write = Write::Commit {
            next_offset,
            answer,
        };
        self.hand_over(write, "commit the offset").await?;
        answered.await.map_err(closed("commit the offset"))?
    }

    /// The newest record of a request; none where there is none, or it was trimmed long after it was settled.
    pub async fn find(&self, request: &RequestId) -> Result<Option<Place>, BackendError> {
        store::find(&self.file, request)
            .await
            .map_err(unavailable("find the request"))
    }

    /// Where a place stands among the requests that wait, 1 being next, and how many wait; none where it is settled or not in the log.
    pub fn standing(&self, place: Place) -> Option<(u64, u64)> {
        (place.partition == PARTITION)
            .then(|| self.marks.borrow().standing(place.offset))
            .flatten()
    }

    /// Carries out what was handed over, and closes the file; what comes later fails.
    pub async fn close(&self) {
        self.closing.cancel();
        self.tasks.wait().await;
        self.file.close().await;
    }

    async fn append(
        &self,
        topic: &str,
        record: NewRecord,
        operation: &'static str,
    ) -> Result<Place, BackendError> {
        let (answer, answered) = oneshot::channel();
        let write = Write::Publish {
            topic: topic.to_owned(),
            record,
            answer,
        };
        self.hand_over(write, operation).await?;
        answered.await.map_err(closed(operation))?
    }

    async fn hand_over(&self, write: Write, operation: &'static str) -> Result<(), BackendError> {
        self.writes.send(write).await.map_err(closed(operation))
    }
}

/// The fault of a log whose appender is gone.
fn closed<E>(operation: &'static str) -> impl FnOnce(E) -> BackendError {
    move |_| unavailable(operation)("the log is closed")
}

/// Every fault of the file, a lock not had in time among them, means that the log is not there.
fn unavailable<E>(operation: &'static str) -> impl FnOnce(E) -> BackendError
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    move |source| BackendError::unavailable(System::Kafka, operation, source)
}
