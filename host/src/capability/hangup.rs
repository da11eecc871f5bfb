//! The signal that a client went away: set where the request's future is dropped, looked at where a call can end safely.

use tokio_util::sync::{CancellationToken, DropGuard};

/// Whether the client went away.
#[derive(Clone, Default)]
pub struct Hangup(CancellationToken);

impl Hangup {
    /// A guard that sets the signal when it is dropped, unless it is disarmed first.
    pub fn guard(&self) -> DropGuard {
        self.0.clone().drop_guard()
    }

    /// Whether the client went away.
    pub(super) fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the client goes away.
    pub(super) async fn set(self) {
        self.0.cancelled_owned().await;
    }
}
