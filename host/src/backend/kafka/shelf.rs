//! Requests that were fetched and are not committed: a line for each partition of this host.
//!
//! The consumer's thread fills it and takes away lines that the group gives to others; batches are copies of its fronts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::backend::log::Record;

/// Requests of a partition that are kept at most; fetching goes on when half of them are left.
const LINE_MAX: usize = 2_048;

/// Requests to settle, in the order of each partition.
#[derive(Debug)]
pub struct Batch {
    /// The requests, at least one.
    pub records: Vec<Record>,
    ends: Vec<End>,
}

/// How far a batch goes in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The partition.
    pub partition: u32,
    /// The offset after the last one of the batch.
    pub next_offset: u64,
    /// Which of the times that this host had the partition.
    tenure: u64,
}

/// What the consumer should stop and go on fetching.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Partitions whose lines are full.
    pub pause: Vec<u32>,
    /// Partitions whose lines have room again.
    pub resume: Vec<u32>,
}

/// The lines.
#[derive(Debug, Default)]
pub struct Shelf {
    lines: Mutex<Lines>,
    stocked: Notify,
}

#[derive(Debug, Default)]
struct Lines {
    lines: BTreeMap<u32, Line>,
    tenures: u64,
    /// The partition that the next batch begins with, so that none waits for ever behind a busy one.
    turn: u32,
}

#[derive(Debug)]
struct Line {
    tenure: u64,
    records: VecDeque<Record>,
    paused: bool,
}

impl Shelf {
    /// Begins an empty line for a partition that is now this host's.
    pub fn assign(&self, partition: u32) {
        let mut lines = self.lines();
        lines.tenures += 1;
        let line = Line {
            tenure: lines.tenures,
            records: VecDeque::new(),
            // The client keeps a partition paused that it had paused before it lost it: it has to be told to go on.
            paused: true,
        };
        lines.lines.insert(partition, line);
    }

    /// Throws away the line of a partition that is another's now.
    pub fn revoke(&self, partition: u32) {
        self.lines().lines.remove(&partition);
    }

    /// Takes in a request that was fetched; one that is there already, or of another's partition, is dropped.
    pub fn put(&self, record: Record) {
        if let Some(line) = self.lines().lines.get_mut(&record.place.partition) {
            let newer = |last: &Record| last.place.offset < record.place.offset;
            if line.records.back().is_none_or(newer) {
                line.records.push_back(record);
                self.stocked.notify_one();
            }
        }
    }

    /// What should be paused and resumed since it was last asked.
    pub fn flow(&self) -> Flow {
        let mut flow = Flow::default();
        for (partition, line) in &mut self.lines().lines {
            if !line.paused && line.records.len() >= LINE_MAX {
                line.paused = true;
                flow.pause.push(*partition);
            } else if line.paused && line.records.len() <= LINE_MAX / 2 {
                line.paused = false;
                flow.resume.push(*partition);
            }
        }
        flow
    }

    /// Waits for requests, and copies the first of them, at most `max`.
    pub async fn batch(&self, max: usize) -> Batch {
        loop {
            // What is put while it is looked at is notified of.
            if let Some(batch) = self.lines().batch(max.max(1)) {
                return batch;
            }
            self.stocked.notified().await;
        }
    }

    /// How far a batch goes in the partitions that are still this host's.
    pub fn kept(&self, batch: &Batch) -> Vec<End> {
        let lines = self.lines();
        let kept = |end: &&End| {
            let line = lines.lines.get(&end.partition);
            line.is_some_and(|line| line.tenure == end.tenure)
        };
        batch.ends.iter().filter(kept).copied().collect()
    }

    /// Forgets what is committed.
    pub fn forget(&self, ends: &[End]) {
        let mut lines = self.lines();
        for end in ends {
            let line = lines.lines.get_mut(&end.partition);
            if let Some(line) = line.filter(|line| line.tenure == end.tenure) {
                let settled = |record: &Record| record.place.offset < end.next_offset;
                let count = line.records.partition_point(settled);
                line.records.drain(..count);
            }
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn batch(&mut self, max: usize) -> Option<Batch> {
        let mut batch = Batch {
            records: Vec::new(),
            ends: Vec::new(),
        };
        let (before, after): (Vec<_>, Vec<_>) = self
            .lines
            .iter()
            .partition(|(partition, _)| **partition < self.turn);
        for (partition, line) in after.into_iter().chain(before) {
            let room = max - batch.records.len();
            let taken = line.records.range(..room.min(line.records.len()));
            if let Some(last) = taken.clone().next_back() {
                batch.ends.push(End {
                    partition: *partition,
                    next_offset: last.place.offset + 1,
                    tenure: line.tenure,
                });
            }
            batch.records.extend(taken.cloned());
        }
        self.turn = batch.ends.first()?.partition.wrapping_add(1);
        Some(batch)
    }
}
