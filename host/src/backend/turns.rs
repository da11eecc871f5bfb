//! Turns by key: so many at once for each, and the others wait in order of arrival.
//!
//! A server with sixteen that wait for one row or one lock wakes each of them to wait again; who waits here instead costs it nothing, and no connection.
//! `redis` keeps one caller of this host in a lock's queue by it, `postgres` two transactions at a sale's row; group commit needs none, since a line's leader is one.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The keys that somebody of this host has a turn at, or waits for.
#[derive(Debug)]
pub struct Turns<K> {
    at_once: usize,
    keys: Arc<Mutex<HashMap<K, Arc<Semaphore>>>>,
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// Turns of which so many may be had at once, for each key.
    pub fn new(at_once: usize) -> Self {
        Self {
            at_once,
            keys: Arc::default(),
        }
    }

    /// Waits so long at most for a turn; none where it did not come.
    pub async fn take(&self, key: K, wait: Duration) -> Option<Turn<K>> {
        let new = || Arc::new(Semaphore::new(self.at_once));
        let line = Arc::clone(held(&self.keys).entry(key.clone()).or_insert_with(new));
        let mut turn = Turn {
            keys: Arc::clone(&self.keys),
            key,
            line,
            permit: None,
        };
        let permit = timeout(wait, Arc::clone(&turn.line).acquire_owned()).await;
        turn.permit = Some(permit.ok()?.ok()?);
        Some(turn)
    }
}

/// A turn, or a place in line for one; given up when it is dropped.
#[derive(Debug)]
pub struct Turn<K: Eq + Hash> {
    keys: Arc<Mutex<HashMap<K, Arc<Semaphore>>>>,
    key: K,
    line: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        let mut keys = held(&self.keys);
        self.permit = None;
        // The table's and this one: nobody else is in line, and nobody comes while the table is held.
        if Arc::strong_count(&self.line) == 2 {
            keys.remove(&self.key);
        }
    }
}

fn held<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Turns, held};

    #[tokio::test(start_paused = true)]
    async fn so_many_have_a_turn_and_the_others_wait_for_them_and_for_no_other_key() {
        let turns = Turns::new(2);
        let take = async |key| turns.take(key, Duration::from_secs(1)).await;
        let (first, second) = (take(1).await, take(1).await);
        assert!(first.is_some() && second.is_some());
        assert!(take(1).await.is_none());
        assert!(take(2).await.is_some());
        let (third, ()) = tokio::join!(take(1), async { drop(first) });
        assert!(third.is_some());
        assert!(take(1).await.is_none());
        drop((second, third));
        assert!(held(&turns.keys).is_empty());
    }
}
