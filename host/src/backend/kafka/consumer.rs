//! This host's member of the consumer group.
//!
//! `Cluster` takes batches and commits them; the threads that speak to the group are in `member`.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::marks::Marks;
use super::member::{self, Commit};
use super::settings::Settings;
use super::shelf::{Batch, Shelf};
use super::unavailable;
use crate::backend::BackendError;

/// How long a commit may wait for its answer.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to leave the group.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
const COMMIT: &str = "commit the offsets";

/// A member of the group.
pub struct Consumer {
    shelf: Arc<Shelf>,
    marks: Arc<watch::Sender<Marks>>,
    /// Where commits go; none once it is closed.
    commits: Mutex<Option<mpsc::Sender<Commit>>>,
    closing: CancellationToken,
    _closing_when_dropped: DropGuard,
    left: CancellationToken,
}

impl Consumer {
    /// Joins the group and starts to fetch the topic's requests.
    pub fn open(
        settings: &Settings,
        topic: &str,
        marks: Arc<watch::Sender<Marks>>,
    ) -> Result<Self, BackendError> {
        let shelf = Arc::new(Shelf::default());
        let (closing, left) = (CancellationToken::new(), CancellationToken::new());
        let commits = member::join(
            settings,
            topic,
            Arc::clone(&shelf),
            closing.clone(),
            left.clone().drop_guard(),
        )?;
        Ok(Self {
            shelf,
            marks,
            commits: Mutex::new(Some(commits)),
            closing: closing.clone(),
            _closing_when_dropped: closing.drop_guard(),
            left,
        })
    }

    /// Waits for requests, and copies the first that are not committed, at most `max`.
    pub async fn next_batch(&self, max: usize) -> Batch {
        self.shelf.batch(max).await
    }

    /// Commits past a batch where the partitions are still this host's, and returns once the cluster has it.
    pub async fn commit(&self, batch: &Batch) -> Result<(), BackendError> {
        let commits = self.commits.lock();
        let commits = commits.unwrap_or_else(PoisonError::into_inner).clone();
        let commits = commits.ok_or_else(|| unavailable(COMMIT)("the log is closed"))?;
        let ends = self.shelf.kept(batch);
        if ends.is_empty() {
            tracing::debug!("a batch's partitions went to another member before its commit");
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let commit = Commit {
            ends: ends.clone(),
            answer,
        };
        commits
            .send(commit)
            .map_err(|_| unavailable(COMMIT)("the log is closed"))?;
        timeout(COMMIT_TIMEOUT, answered)
            .await
            .map_err(unavailable(COMMIT))?
            .map_err(unavailable(COMMIT))?
            .map_err(unavailable(COMMIT))?;
        self.shelf.forget(&ends);
        self.marks.send_modify(|marks| {
            for end in &ends {
                marks.settled(end.partition, end.next_offset);
            }
        });
        Ok(())
    }

    /// Leaves the group and disconnects, as far as the cluster lets it in some seconds.
    pub async fn close(&self) {
        let commits = self.commits.lock();
        drop(commits.unwrap_or_else(PoisonError::into_inner).take());
        self.closing.cancel();
        if timeout(LEAVE_TIMEOUT, self.left.cancelled()).await.is_err() {
            tracing::warn!("the group was not left in time, and will miss this member");
        }
    }
}
