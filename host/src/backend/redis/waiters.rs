//! Who waits on this host to be woken: the one caller for each lock that has a place in its queue on the server.
//!
//! `locks` wakes them, `place` is what they wait in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Everyone on this host who waits to be woken.
#[derive(Debug, Default)]
pub struct Waiters {
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    last: u64,
    wakes: HashMap<u64, Arc<Notify>>,
}

impl Waiters {
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

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
