//! Turns by key: so many at once for each, and the others wait in order of arrival.
//!
//! A server with sixteen that wait for one row or one lock wakes each of them to wait again; who waits here instead costs it nothing, and no connection.
//! `redis` keeps one caller of this host in a lock's queue by it, `postgres` two transactions at a sale's row; group commit needs none, since a line's leader is one.

use std::{hash::Hash, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::keyed::{Held, Keyed};

/// The keys that somebody of this host has a turn at, or waits for.
#[derive(Debug)]
pub struct Turns<K> {
    at_once: usize,
    lines: Keyed<K, Semaphore>,
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// Turns of which so many may be had at once, for each key.
    pub fn new(at_once: usize) -> Self {
        Self {
            at_once,
            lines: Keyed::default(),
        }
    }

    /// Waits so long at most for a turn; none where it did not come.
    pub async fn take(&self, key: K, wait: Duration) -> Option<Turn<K>> {
        let line = self.lines.hold(key, || Semaphore::new(self.at_once));
        let permit = timeout(wait, line.value().acquire_owned()).await;
        Some(Turn {
            _permit: permit.ok()?.ok()?,
            _line: line,
        })
    }
}

/// A turn, given up when it is dropped.
#[derive(Debug)]
pub struct Turn<K: Eq + Hash> {
    _permit: OwnedSemaphorePermit,
    _line: Held<K, Semaphore>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Turns;

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
        assert!(turns.lines.is_empty());
    }
}
