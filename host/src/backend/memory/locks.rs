//! Locks with a lease and a fencing token, granted in order of arrival.
//!
//! Only `memory` calls it.
//! Nobody polls: a waiter sleeps until it is first in its queue and is woken, or until the lease before it lapses, or until its own wait is over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::lapses::{Lapse, Lapses};

/// Lapsed leases that one acquisition looks at, at most, to clear away locks that nobody released.
const SWEEP_STEP: usize = 64;

/// A lock that was had.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The lock.
    pub key: Arc<str>,
    /// The fencing token: higher with every grant of any lock.
    pub token: u64,
    /// When it was granted.
    pub granted_at: Instant,
    /// The first moment at which the lease is over.
    pub lapses_at: Instant,
}

/// All locks of a process.
#[derive(Debug)]
pub struct Locks {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    locks: HashMap<Arc<str>, Lock>,
    leases: Lapses,
    next_token: u64,
    next_waiter: u64,
}

/// A lock is in the table while it is held or waited for.
#[derive(Debug, Default)]
struct Lock {
    holder: Option<Holder>,
    queue: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Holder {
    token: u64,
    lease: Lapse,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    wake: Arc<Notify>,
}

/// What a waiter found when it looked.
enum Turn {
    Granted(Grant),
    /// Nothing to do before this moment, or before it is woken.
    Wait(Option<Instant>),
}

impl Locks {
    /// No locks; the first grant gets `first_token`.
    pub fn new(first_token: u64) -> Self {
        Self {
            table: Mutex::new(Table {
                locks: HashMap::new(),
                leases: Lapses::default(),
                next_token: first_token,
                next_waiter: 0,
            }),
        }
    }

    /// Locks that are held or waited for.
    pub fn len(&self) -> usize {
        self.table().locks.len()
    }

    /// Waits at most `wait` for the lock and holds it for at most `lease`.
    pub async fn acquire(&self, key: &str, wait: Duration, lease: Duration) -> Option<Grant> {
        let give_up_at = Instant::now() + wait;
        let place = Place::enqueue(self, key.into());
        loop {
            let turn = self.table().turn(&place, lease);
            let wake_at = match turn {
                Turn::Granted(grant) => return Some(grant),
                Turn::Wait(lapses_at) => lapses_at.map_or(give_up_at, |at| at.min(give_up_at)),
            };
            if Instant::now() >= give_up_at {
                return None;
            }
            // Woken or timed out: either way it looks again.
            let _ = timeout_at(wake_at, place.wake.notified()).await;
        }
    }

    /// Releases the lock if this grant still holds it.
    pub fn release(&self, grant: &Grant) -> bool {
        self.table().release(grant)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a lock's queue; dropping it leaves the queue.
struct Place<'a> {
    locks: &'a Locks,
    key: Arc<str>,
    number: u64,
    wake: Arc<Notify>,
}

impl<'a> Place<'a> {
    fn enqueue(locks: &'a Locks, key: Arc<str>) -> Self {
        let wake = Arc::new(Notify::new());
        let number = locks.table().enqueue(&key, Arc::clone(&wake));
        Self {
            locks,
            key,
            number,
            wake,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.locks.table().leave(&self.key, self.number);
    }
}

impl Table {
    fn enqueue(&mut self, key: &Arc<str>, wake: Arc<Notify>) -> u64 {
        self.sweep(Instant::now());
        self.next_waiter += 1;
        let number = self.next_waiter;
        let lock = self.locks.entry(Arc::clone(key)).or_default();
        lock.queue.push_back(Waiter { number, wake });
        number
    }

    /// Grants the lock to a waiter that is first, if it is free or its lease has lapsed.
    fn turn(&mut self, place: &Place<'_>, lease: Duration) -> Turn {
        let now = Instant::now();
        let Some(lock) = self.locks.get_mut(&place.key) else {
            return Turn::Wait(None);
        };
        if lock
            .queue
            .front()
            .is_none_or(|first| first.number != place.number)
        {
            return Turn::Wait(None);
        }
        if let Some(holder) = &lock.holder {
            if holder.lease.at > now {
                return Turn::Wait(Some(holder.lease.at));
            }
            self.leases.remove(holder.lease);
        }
        let token = self.next_token;
        self.next_token += 1;
        let lapses_at = now + lease;
        let lease = self.leases.insert(lapses_at, Arc::clone(&place.key));
        lock.holder = Some(Holder { token, lease });
        lock.queue.pop_front();
        // The next one now watches this lease.
        lock.wake_first();
        Turn::Granted(Grant {
            key: Arc::clone(&place.key),
            token,
            granted_at: now,
            lapses_at,
        })
    }

    /// Takes a waiter out of its queue; one that was granted the lock is in it no more.
    fn leave(&mut self, key: &str, number: u64) {
        let Some(lock) = self.locks.get_mut(key) else {
            return;
        };
        let Some(index) = lock.queue.iter().position(|waiter| waiter.number == number) else {
            return;
        };
        lock.queue.remove(index);
        if index == 0 {
            lock.wake_first();
        }
        self.forget_if_idle(key);
    }

    fn release(&mut self, grant: &Grant) -> bool {
        let Some(lock) = self.locks.get_mut(&grant.key) else {
            return false;
        };
        let Some(holder) = lock.holder.take_if(|holder| holder.token == grant.token) else {
            return false;
        };
        self.leases.remove(holder.lease);
        lock.wake_first();
        self.forget_if_idle(&grant.key);
        holder.lease.at > Instant::now()
    }

    /// Frees locks whose lease lapsed unreleased.
    fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP_STEP {
            let Some(key) = self.leases.pop_due(now) else {
                return;
            };
            if let Some(lock) = self.locks.get_mut(&key) {
                lock.holder = None;
                lock.wake_first();
            }
            self.forget_if_idle(&key);
        }
    }

    fn forget_if_idle(&mut self, key: &str) {
        if self
            .locks
            .get(key)
            .is_some_and(|lock| lock.holder.is_none() && lock.queue.is_empty())
        {
            self.locks.remove(key);
        }
    }
}

impl Lock {
    /// Tells the first waiter to look again.
    fn wake_first(&self) {
        if let Some(first) = self.queue.front() {
            first.wake.notify_one();
        }
    }
}
