//! Where the requests that this host took in stand in the log, as far as it remembers.
//!
//! A buyer who asks for a result without its place is answered without a search; other hosts, and this one after a restart, search.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::domain::{Place, RequestId};

/// Requests that are remembered; the oldest is forgotten first.
const REQUESTS_MAX: usize = 100_000;

/// The places of recent requests.
#[derive(Default)]
pub struct Places(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    places: HashMap<RequestId, Place>,
    order: VecDeque<RequestId>,
}

impl Places {
    /// Remembers where a request stands.
    pub fn note(&self, request: &RequestId, place: Place) {
        let mut recent = self.recent();
        if recent.places.insert(request.clone(), place).is_none() {
            recent.order.push_back(request.clone());
        }
        if recent.order.len() > REQUESTS_MAX
            && let Some(oldest) = recent.order.pop_front()
        {
            recent.places.remove(&oldest);
        }
    }

    /// Where a request stands, if it is remembered.
    pub fn get(&self, request: &RequestId) -> Option<Place> {
        self.recent().places.get(request).copied()
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
