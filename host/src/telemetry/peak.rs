//! The highest of recent values, for gauges that show head-room.

use std::sync::atomic::{AtomicU64, Ordering};

/// The highest value of this half minute and the last one.
#[derive(Default)]
pub struct Peak {
    present: AtomicU64,
    last: AtomicU64,
}

impl Peak {
    /// Notes a value; bits of non-negative floats order as the floats do.
    ///
    /// Hardly any value is the highest: what is only read, cores need not take from each other.
    pub fn note(&self, value: f64) {
        let bits = value.max(0.0).to_bits();
        if bits > self.present.load(Ordering::Relaxed) {
            self.present.fetch_max(bits, Ordering::Relaxed);
        }
    }

    /// The highest value noted.
    pub fn get(&self) -> f64 {
        let bits = self
            .present
            .load(Ordering::Relaxed)
            .max(self.last.load(Ordering::Relaxed));
        f64::from_bits(bits)
    }

    /// Begins a new half minute.
    pub fn rotate(&self) {
        self.last
            .store(self.present.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}
