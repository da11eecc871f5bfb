//! Where each partition of the requests ends and how far the group has settled it, as far as this host knows.
//!
//! The observer brings what the cluster says, the sender and the consumer what they did since; everyone else reads it.

use std::collections::BTreeMap;

use rdkafka::error::KafkaError;
use tokio::sync::watch;

use crate::domain::{Place, Ticket};

/// The marks of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// The offset that the next request will get.
    pub end: u64,
    /// The offset from which the group has not settled.
    pub committed: u64,
}

impl Mark {
    /// How many requests wait.
    pub fn waiting(self) -> u64 {
        self.end.saturating_sub(self.committed)
    }
}

/// Where a place stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Waits {
        /// Among those of its partition that wait; 1 is next.
        position: u64,
        /// How many wait in all partitions.
        total: u64,
    },
    /// The group has settled past it.
    Settled,
    /// The partition is not known to reach so far.
    PastTheEnd,
}

/// The marks of the requests' topic.
#[derive(Debug, Default)]
pub struct Marks {
    partitions: BTreeMap<u32, Mark>,
    /// What this host appended and committed since the present look began, which the look may have missed.
    sent: BTreeMap<u32, u64>,
    settled: BTreeMap<u32, u64>,
    promised: u64,
    looks_begun: u64,
    looks_done: u64,
    fault: Option<KafkaError>,
}

impl Marks {
    /// Notes that a look at the cluster begins.
    pub fn look_begins(&mut self) {
        self.looks_begun += 1;
        self.sent.clear();
        self.settled.clear();
    }

    /// Notes what the look found.
    pub fn look_ends(&mut self, found: Result<BTreeMap<u32, Mark>, KafkaError>) {
        self.looks_done = self.looks_begun;
        match found {
            Ok(partitions) => {
                self.fault = None;
                self.partitions = partitions;
                for (partition, mark) in &mut self.partitions {
                    let sent = self.sent.get(partition).copied();
                    mark.end = mark.end.max(sent.unwrap_or(0));
                    let settled = self.settled.get(partition).copied();
                    mark.committed = settled.unwrap_or(mark.committed).min(mark.end);
                }
            }
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// The number of the first look that begins after now.
    pub fn next_look(&self) -> u64 {
        self.looks_begun + 1
    }

    /// What came of a look or of a later one; none while it is under way.
    pub fn looked(&self, look: u64) -> Option<Result<(), KafkaError>> {
        (self.looks_done >= look).then(|| self.fault.clone().map_or(Ok(()), Err))
    }

    /// Notes that this host appended a request.
    pub fn sent(&mut self, place: Place) {
        let end = place.offset + 1;
        for known in [
            self.sent.entry(place.partition).or_default(),
            &mut self.partitions.entry(place.partition).or_default().end,
        ] {
            *known = end.max(*known);
        }
    }

    /// Notes that this host committed that all requests of a partition before `next_offset` are settled.
    pub fn settled(&mut self, partition: u32, next_offset: u64) {
        self.settled.insert(partition, next_offset);
        let mark = self.partitions.entry(partition).or_default();
        mark.committed = next_offset;
        mark.end = mark.end.max(next_offset);
    }

    /// The ticket of a request that was just appended.
    pub fn ticket(&self, place: Place) -> Ticket {
        let (queue_position, total_waiting) = match self.standing(place) {
            Standing::Waits { position, total } => (position, total),
            Standing::Settled | Standing::PastTheEnd => (1, self.waiting().max(1)),
        };
        Ticket {
            place,
            queue_position,
            total_waiting,
        }
    }

    /// Where a place stands.
    pub fn standing(&self, place: Place) -> Standing {
        match self.partitions.get(&place.partition) {
            Some(mark) if place.offset < mark.committed => Standing::Settled,
            Some(mark) if place.offset < mark.end => Standing::Waits {
                position: place.offset - mark.committed + 1,
                total: self.waiting(),
            },
            _ => Standing::PastTheEnd,
        }
    }

    /// How many requests of each partition wait; empty while the cluster does not say.
    pub fn lags(&self) -> Vec<(u32, u64)> {
        if self.fault.is_some() {
            return Vec::new();
        }
        let lags = self.partitions.iter();
        lags.map(|(partition, mark)| (*partition, mark.waiting()))
            .collect()
    }

    /// The marks of all partitions.
    pub fn partitions(&self) -> BTreeMap<u32, Mark> {
        self.partitions.clone()
    }

    /// The marks of the partitions in which requests wait.
    pub fn unsettled(&self) -> BTreeMap<u32, Mark> {
        let mut unsettled = self.partitions();
        unsettled.retain(|_, mark| mark.waiting() > 0);
        unsettled
    }

    fn waiting(&self) -> u64 {
        self.partitions.values().map(|mark| mark.waiting()).sum()
    }
}

/// Room for a request that is being appended, given back when this is dropped.
pub struct Promise<'a>(&'a watch::Sender<Marks>);

/// Lets one more request in if fewer than `backlog_max` wait or are being appended.
pub fn promise(marks: &watch::Sender<Marks>, backlog_max: u64) -> Option<Promise<'_>> {
    let mut promised = false;
    marks.send_if_modified(|marks| {
        promised = marks.waiting() + marks.promised < backlog_max;
        marks.promised += u64::from(promised);
        false
    });
    promised.then(|| Promise(marks))
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|marks| {
            marks.promised = marks.promised.saturating_sub(1);
            false
        });
    }
}
