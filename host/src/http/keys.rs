//! The idempotency keys in use on this host, so that two purchases with one key do not run at once.
//!
//! Between hosts it is the database that lets one of them win.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use crate::domain::KeyId;

/// The idempotency keys that purchases of this host are using now.
#[derive(Clone, Default)]
pub struct KeysInFlight(Arc<Mutex<HashSet<KeyId>>>);

impl KeysInFlight {
    /// Takes a key until the guard is dropped; none where another purchase has it.
    pub(super) fn take(&self, key: KeyId) -> Option<KeyGuard> {
        let taken = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key);
        taken.then(|| KeyGuard {
            keys: self.clone(),
            key,
        })
    }
}

/// Frees its key when dropped.
pub(super) struct KeyGuard {
    keys: KeysInFlight,
    key: KeyId,
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        let mut keys = self.keys.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.remove(&self.key);
    }
}
