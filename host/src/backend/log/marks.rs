//! Where the log of requests ends and how far it is settled: the copy in memory of what the file says.
//!
//! The appender moves it after each commit; everyone else reads it.

use crate::domain::{Place, Ticket};

use super::PARTITION;

/// The marks of the requests' topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// The offset that the next request will get.
    pub end: u64,
    /// The offset from which the group has not settled.
    pub committed: u64,
    /// Requests that were let in and are not appended yet.
    pub promised: u64,
}

impl Marks {
    /// Lets one more request in if fewer than `backlog_max` wait.
    pub fn promise(&mut self, backlog_max: u64) -> bool {
        let room = self.waiting() + self.promised < backlog_max;
        self.promised += u64::from(room);
        room
    }

    /// The ticket of a request that was just appended.
    pub fn ticket(&self, offset: u64) -> Ticket {
        Ticket {
            place: Place {
                partition: PARTITION,
                offset,
            },
            queue_position: (offset + 1).saturating_sub(self.committed).max(1),
            total_waiting: self.waiting().max(1),
        }
    }

    /// The position of a request that waits, 1 being next, and how many wait.
    pub fn standing(&self, offset: u64) -> Option<(u64, u64)> {
        (self.committed..self.end)
            .contains(&offset)
            .then(|| (offset + 1 - self.committed, self.waiting()))
    }

    fn waiting(&self) -> u64 {
        self.end.saturating_sub(self.committed)
    }
}
