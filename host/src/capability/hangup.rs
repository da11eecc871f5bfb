//! The signal that a client went away: set where the request's future is dropped, looked at where a call can end safely.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether the client went away.
#[derive(Clone, Default)]
pub struct Hangup(Arc<AtomicBool>);

impl Hangup {
    /// A guard that sets the signal when it is dropped, unless it is disarmed first.
    pub fn guard(&self) -> HangupGuard {
        HangupGuard(Some(self.clone()))
    }

    /// Whether the client went away.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets its signal when dropped.
pub struct HangupGuard(Option<Hangup>);

impl HangupGuard {
    /// The answer is there: nobody went away.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for HangupGuard {
    fn drop(&mut self) {
        if let Some(Hangup(flag)) = &self.0 {
            flag.store(true, Ordering::Relaxed);
        }
    }
}
