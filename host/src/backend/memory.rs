//! The embedded shared memory: values that vanish, counters, and locks with a lease.
//!
//! It stands in for Redis where none is given, inside one process; what it keeps is a copy and is gone with the process.
//! `capability/redis` calls it for strategies, `http/management` for its gauges.
//!
//! Time is tokio's: a value past its life is never seen, and makes room when someone writes.

mod lapses;
mod locks;
#[cfg(test)]
mod tests;

pub use locks::Grant;

use std::collections::HashMap;
use std::str;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::BackendError;
use lapses::{Lapse, Lapses};
use locks::Locks;

/// Entries past their life that one write removes at most.
const SWEEP_STEP: usize = 64;
/// What an entry costs beside its key and value, in bytes: about what the two tables keep for it.
const ENTRY_OVERHEAD: usize = 128;
/// The kind of value that the counters want.
const COUNTER: &str = "a decimal that fits into 64 bits";

/// The bounds of the memory.
#[derive(Debug, Clone)]
pub struct MemoryOptions {
    /// Entries kept at once.
    pub entries_max: usize,
    /// Bytes of keys and values, overhead included, kept at once.
    pub bytes_max: usize,
    /// The longest life of an entry, and that of a counter which `add` begins.
    pub ttl_max: Duration,
}

/// What the memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStats {
    /// Entries, with those past their life that no write has removed yet.
    pub entries: usize,
    /// Their bytes, overhead included.
    pub bytes: usize,
    /// Locks that are held or waited for.
    pub locks: usize,
}

/// The embedded shared memory.
#[derive(Debug)]
pub struct Memory {
    options: MemoryOptions,
    values: Mutex<Values>,
    locks: Locks,
}

impl Memory {
    /// An empty memory; `first_token` is the first fencing token that a grant gets, above any that the database has seen.
    pub fn new(first_token: u64, options: MemoryOptions) -> Self {
        Self {
            options,
            values: Mutex::default(),
            locks: Locks::new(first_token),
        }
    }

    /// The value of a key; none where it is absent or past its life.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let values = self.values();
        values.live(key, Instant::now()).map(|e| e.value.clone())
    }

    /// Sets a key for `ttl`, at most `ttl_max`; fails with `Full`.
    pub fn set(&self, key: &str, value: Vec<u8>, ttl: Duration) -> Result<(), BackendError> {
        let now = Instant::now();
        self.values().put(
            key,
            value,
            now,
            now + ttl.min(self.options.ttl_max),
            &self.options,
        )
    }

    /// Deletes a key; says whether it was there.
    pub fn delete(&self, key: &str) -> bool {
        let mut values = self.values();
        let was_there = values.live(key, Instant::now()).is_some();
        values.remove(key);
        was_there
    }

    /// Adds to a counter and returns the new value; an absent one counts from 0 and lives for `ttl_max`, another keeps its life.
    ///
    /// Fails with `WrongValue` where the value, or the sum, is no decimal of 64 bits, and with `Full`.
    pub fn add(&self, key: &str, delta: i64) -> Result<i64, BackendError> {
        let now = Instant::now();
        let mut values = self.values();
        let (count, lapses_at) = match values.live(key, now) {
            Some(entry) => (entry.count()?, entry.lapse.at),
            None => (0, now + self.options.ttl_max),
        };
        let sum = count
            .checked_add(delta)
            .ok_or(BackendError::WrongValue { wanted: COUNTER })?;
        values.put(
            key,
            sum.to_string().into_bytes(),
            now,
            lapses_at,
            &self.options,
        )?;
        Ok(sum)
    }

    /// Lowers a counter that holds at least `amount` and returns the new value; none where it holds less or is absent.
    ///
    /// Fails with `WrongValue` where the value is no decimal of 64 bits.
    pub fn take(&self, key: &str, amount: u64) -> Result<Option<u64>, BackendError> {
        let now = Instant::now();
        let mut values = self.values();
        let Some(entry) = values.live(key, now) else {
            return Ok(None);
        };
        // A counter below 0 holds less than any amount.
        let held = u64::try_from(entry.count()?).ok();
        let lapses_at = entry.lapse.at;
        let Some(left) = held.and_then(|held| held.checked_sub(amount)) else {
            return Ok(None);
        };
        values.put(
            key,
            left.to_string().into_bytes(),
            now,
            lapses_at,
            &self.options,
        )?;
        Ok(Some(left))
    }

    /// Waits at most `wait` for a lock, in order of arrival, and holds it for at most `lease`; none where it was not had.
    ///
    /// Dropping the future leaves the queue.
    pub async fn acquire(&self, key: &str, wait: Duration, lease: Duration) -> Option<Grant> {
        self.locks.acquire(key, wait, lease).await
    }

    /// Releases a lock; says whether it was still held by this grant.
    pub fn release(&self, grant: &Grant) -> bool {
        self.locks.release(grant)
    }

    /// What the memory holds now.
    pub fn stats(&self) -> MemoryStats {
        let values = self.values();
        MemoryStats {
            entries: values.entries.len(),
            bytes: values.bytes,
            locks: self.locks.len(),
        }
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    lapse: Lapse,
}

impl Entry {
    fn count(&self) -> Result<i64, BackendError> {
        str::from_utf8(&self.value)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(BackendError::WrongValue { wanted: COUNTER })
    }
}

#[derive(Debug, Default)]
struct Values {
    entries: HashMap<Arc<str>, Entry>,
    lapses: Lapses,
    bytes: usize,
}

impl Values {
    fn live(&self, key: &str, now: Instant) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.lapse.at > now)
    }

    fn put(
        &mut self,
        key: &str,
        value: Vec<u8>,
        now: Instant,
        lapses_at: Instant,
        options: &MemoryOptions,
    ) -> Result<(), BackendError> {
        for _ in 0..SWEEP_STEP {
            let Some(lapsed) = self.lapses.pop_due(now) else {
                break;
            };
            self.remove(&lapsed);
        }
        let replaced = self.entries.get(key).map(|entry| size(key, &entry.value));
        let entries = self.entries.len() + usize::from(replaced.is_none());
        let bytes = self.bytes - replaced.unwrap_or(0) + size(key, &value);
        if entries > options.entries_max || bytes > options.bytes_max {
            return Err(BackendError::Full { what: "the memory" });
        }
        self.remove(key);
        let key: Arc<str> = key.into();
        let lapse = self.lapses.insert(lapses_at, Arc::clone(&key));
        self.entries.insert(key, Entry { value, lapse });
        self.bytes = bytes;
        Ok(())
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.lapses.remove(entry.lapse);
            self.bytes -= size(&key, &entry.value);
        }
    }
}

/// The bytes that an entry counts as.
fn size(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_OVERHEAD
}
