//! Who waits for a lock on this host: in line for a place on the server, or in that place to be woken.
//!
//! `locks` keeps the lines, `place` the one of each line that is on the server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{AcquireError, Notify, Semaphore, SemaphorePermit};

/// Everyone on this host who waits for a lock.
#[derive(Debug, Default)]
pub struct Waiters {
    lines: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    last: u64,
    wakes: HashMap<u64, Arc<Notify>>,
}

impl Waiters {
    /// Gets in line for a lock; dropping it gets out.
    pub fn line(&self, key: &str) -> Line<'_> {
        let key: Arc<str> = key.into();
        let mut lines = self.lines();
        let line = lines.entry(Arc::clone(&key));
        let first = Arc::clone(line.or_insert_with(|| Arc::new(Semaphore::new(1))));
        Line {
            waiters: self,
            key,
            first,
        }
    }

    /// Takes in one who may be woken, under a number that nobody had before.
    pub fn enter(&self) -> (u64, Arc<Notify>) {
        let mut places = self.places();
        places.last += 1;
        let number = places.last;
        let wake = Arc::new(Notify::new());
        places.wakes.insert(number, Arc::clone(&wake));
        (number, wake)
    }

    /// Forgets one.
    pub fn leave(&self, number: u64) {
        self.places().wakes.remove(&number);
    }

    /// Tells one to look again.
    pub fn wake(&self, number: u64) {
        if let Some(wake) = self.places().wakes.get(&number) {
            wake.notify_one();
        }
    }

    /// Tells everyone to look again.
    pub fn wake_all(&self) {
        for wake in self.places().wakes.values() {
            wake.notify_one();
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Semaphore>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One in line for a lock.
#[derive(Debug)]
pub struct Line<'a> {
    waiters: &'a Waiters,
    key: Arc<str>,
    first: Arc<Semaphore>,
}

impl Line<'_> {
    /// Waits to be first, in order of arrival, and stays so until the answer is dropped.
    pub async fn first(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.first.acquire().await
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let mut lines = self.waiters.lines();
        // The table's and this one: nobody else is in line, and nobody gets in while the table is held.
        if Arc::strong_count(&self.first) == 2 {
            lines.remove(&self.key);
        }
    }
}
