//! What lapses when, soonest first.
//!
//! `memory` keeps the lives of its values in one, `locks` its leases.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

/// When a thing lapses; the number tells apart those of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lapse {
    /// The first moment at which it is gone.
    pub at: Instant,
    number: u64,
}

/// Keys in the order in which they lapse.
#[derive(Debug, Default)]
pub struct Lapses {
    keys: BTreeMap<Lapse, Arc<str>>,
    inserted: u64,
}

impl Lapses {
    /// Notes that a key lapses at a moment; the answer removes it again.
    pub fn insert(&mut self, at: Instant, key: Arc<str>) -> Lapse {
        self.inserted += 1;
        let lapse = Lapse {
            at,
            number: self.inserted,
        };
        self.keys.insert(lapse, key);
        lapse
    }

    /// Forgets a lapse.
    pub fn remove(&mut self, lapse: Lapse) {
        self.keys.remove(&lapse);
    }

    /// Takes out the key that lapsed first, where one has by `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<Arc<str>> {
        let soonest = self.keys.first_entry()?;
        (soonest.key().at <= now).then(|| soonest.remove())
    }
}
