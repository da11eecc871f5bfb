//! The one task that writes the log: it takes all that wait, writes them in one transaction, and answers each after the commit.
//!
//! `Log` starts it and hands over to it. A batch that fails is answered as failed and the task goes on with the next.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::marks::Marks;
use super::store;
use super::{NewRecord, PARTITION, REQUESTS, unavailable};
use crate::backend::BackendError;
use crate::backend::sqlite::file::File;
use crate::domain::{Place, Ticket};

/// Writes that share a commit at most.
const BATCH_MAX: usize = 256;
/// Settled requests that are kept, to be looked up; of other topics, records.
const RECORDS_KEPT: u64 = 100_000;

/// Answers to who waits for it, if anyone still does.
type Answer<T> = oneshot::Sender<Result<T, BackendError>>;

/// What the appender is asked to do.
#[derive(Debug)]
pub enum Write {
    /// Append a request; it was promised its room.
    Submit {
        /// The request.
        record: NewRecord,
        /// Who waits.
        answer: Answer<Ticket>,
    },
    /// Append to any topic but the requests'.
    Publish {
        /// The topic.
        topic: String,
        /// The record.
        record: NewRecord,
        /// Who waits.
        answer: Answer<Place>,
    },
    /// Move the group's offset forward.
    Commit {
        /// The first offset that is not settled.
        next_offset: u64,
        /// Who waits.
        answer: Answer<()>,
    },
}

/// The task that writes.
#[derive(Debug)]
pub struct Appender {
    file: Arc<File>,
    marks: Arc<watch::Sender<Marks>>,
    waiting: mpsc::Receiver<Write>,
}

impl Appender {
    /// A task that will write to this file, move these marks and take from this queue.
    pub fn new(
        file: Arc<File>,
        marks: Arc<watch::Sender<Marks>>,
        waiting: mpsc::Receiver<Write>,
    ) -> Self {
        Self {
            file,
            marks,
            waiting,
        }
    }

    /// Writes until the log is closed or dropped and nothing waits any more.
    pub async fn run(mut self, closing: CancellationToken) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                () = closing.cancelled(), if !self.waiting.is_closed() => {
                    // What is in the queue stays to be taken.
                    self.waiting.close();
                    continue;
                }
                taken = self.waiting.recv_many(&mut batch, BATCH_MAX) => {
                    if taken == 0 {
                        return;
                    }
                }
            }
            self.write(batch).await;
        }
    }

    async fn write(&self, batch: Vec<Write>) {
        let submitted = batch
            .iter()
            .filter(|write| matches!(write, Write::Submit { .. }));
        let submitted = u64::try_from(submitted.count()).unwrap_or(u64::MAX);
        match self.store(&batch).await {
            Ok(offsets) => {
                self.marks.send_modify(|marks| {
                    marks.promised = marks.promised.saturating_sub(submitted);
                    for (write, offset) in batch.iter().zip(&offsets) {
                        match write {
                            Write::Submit { .. } => marks.end = offset + 1,
                            Write::Publish { .. } => {}
                            Write::Commit { .. } => marks.committed = *offset,
                        }
                    }
                });
                let marks = *self.marks.borrow();
                for (write, offset) in batch.into_iter().zip(offsets) {
                    write.done(offset, &marks);
                }
            }
            Err(error) => {
                // The commit may have been made and only its answer lost.
                let found = store::marks(&self.file).await;
                self.marks.send_modify(|marks| {
                    marks.promised = marks.promised.saturating_sub(submitted);
                    if let Ok(found) = found {
                        marks.end = found.end;
                        marks.committed = found.committed;
                    }
                });
                let error = Arc::new(error);
                for write in batch {
                    write.failed(&error);
                }
            }
        }
    }

    /// Carries out a batch in one transaction; for each write its offset, or the group's.
    async fn store(&self, batch: &[Write]) -> Result<Vec<u64>, BackendError> {
        let wrong = || unavailable("append");
        let now = Timestamp::now();
        let mut writing = self.file.begin("append").await?;
        let mut offsets = Vec::with_capacity(batch.len());
        for write in batch {
            let connection = writing.connection();
            let (topic, offset) = match write {
                Write::Submit { record, .. } => {
                    let offset = store::append(connection, REQUESTS, record, now).await;
                    offsets.push(offset.map_err(wrong())?);
                    continue;
                }
                Write::Publish { topic, record, .. } => (
                    topic.as_str(),
                    store::append(connection, topic, record, now).await,
                ),
                Write::Commit { next_offset, .. } => {
                    (REQUESTS, store::commit(connection, *next_offset).await)
                }
            };
            let offset = offset.map_err(wrong())?;
            offsets.push(offset);
            store::trim(
                writing.connection(),
                topic,
                offset.saturating_sub(RECORDS_KEPT),
            )
            .await
            .map_err(wrong())?;
        }
        writing.commit().await?;
        Ok(offsets)
    }
}

impl Write {
    fn done(self, offset: u64, marks: &Marks) {
        // Whoever gave up waiting is not there to be answered.
        match self {
            Self::Submit { answer, .. } => drop(answer.send(Ok(marks.ticket(offset)))),
            Self::Publish { answer, .. } => drop(answer.send(Ok(Place {
                partition: PARTITION,
                offset,
            }))),
            Self::Commit { answer, .. } => drop(answer.send(Ok(()))),
        }
    }

    fn failed(self, error: &Arc<BackendError>) {
        match self {
            Self::Submit { answer, .. } => {
                drop(answer.send(Err(unavailable("submit")(Arc::clone(error)))));
            }
            Self::Publish { answer, .. } => {
                drop(answer.send(Err(unavailable("publish")(Arc::clone(error)))));
            }
            Self::Commit { answer, .. } => {
                drop(answer.send(Err(unavailable("commit the offset")(Arc::clone(error)))));
            }
        }
    }
}
