//! The last traps of a version, for whoever has to find out why.
//!
//! `strategy` notes them, the admin interface shows them; what the guest said is in the log.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Traps that are kept.
const KEPT: usize = 20;

/// A call that did not return.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trap {
    /// When it ended.
    pub at: Timestamp,
    /// The revision that it ran on.
    pub revision: String,
    /// The first request that it was given.
    pub request_id: Option<String>,
    /// What ended it.
    pub cause: String,
}

/// The last traps of a version.
#[derive(Debug, Default)]
pub struct Traps(Mutex<VecDeque<Trap>>);

impl Traps {
    /// Keeps a trap, and forgets the oldest where there are too many.
    pub fn note(&self, trap: Trap) {
        let mut traps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        traps.truncate(KEPT - 1);
        traps.push_front(trap);
    }

    /// Those that are kept, the last first.
    pub fn all(&self) -> Vec<Trap> {
        let traps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        traps.iter().cloned().collect()
    }
}
