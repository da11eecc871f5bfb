//! A host's place in the queue of a lock, which the server keeps.
//!
//! `locks` takes one for each caller whose turn it is.

use std::sync::Arc;
use std::time::Duration;

use redis::{Script, ScriptInvocation};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::scripts;
use super::server::{Server, milliseconds};
use super::waiters::Waiters;
use crate::backend::{BackendError, System};

/// What is tried here, as errors call it.
const OPERATION: &str = "acquire the lock";
/// How long a lock is kept for the first in its queue before the next may have it: time enough to hear of it and come, little enough to lose to a host that died.
const CLAIM_WAIT: Duration = Duration::from_millis(300);

/// What the server says to one who asks for a lock.
#[derive(Debug)]
pub enum Answer {
    /// It holds the lock, with this token.
    Granted(u64),
    /// It is in the queue; the lock, or the time in which another may come for it, lapses after so long.
    Wait(Duration),
    /// The server has lost its tokens; there is no place in the queue.
    Unseeded,
}

/// A place in a lock's queue on the server.
///
/// Dropping it leaves the queue, and gives up a lock that was granted without our hearing of it.
pub struct Place<'a> {
    server: &'a Server,
    waiters: &'a Waiters,
    key: &'a str,
    name: String,
    number: u64,
    wake: Arc<Notify>,
    /// Whether there may be something on the server to give up.
    taken: bool,
}

impl<'a> Place<'a> {
    /// A place that is not on the server before it asks.
    pub fn new(server: &'a Server, host: &str, waiters: &'a Waiters, key: &'a str) -> Self {
        let (number, wake) = waiters.enter();
        Self {
            server,
            waiters,
            key,
            name: format!("{host}:{number}"),
            number,
            wake,
            taken: false,
        }
    }

    /// Asks for the lock for `lease`, or for a place in the queue for `wait`.
    pub async fn ask(&mut self, lease: Duration, wait: Duration) -> Result<Answer, BackendError> {
        let mut call = on_lock(&scripts::ACQUIRE, self.server, self.key, &self.name);
        call.key(self.server.own("token", "last"))
            .arg(milliseconds(lease))
            .arg(milliseconds(wait + CLAIM_WAIT));
        self.taken = true;
        let (word, number): (String, i64) = self.server.invoke(OPERATION, &call).await?;
        // Below 0 where the lock never lapses, because somebody meddled.
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        match word.as_str() {
            "GRANTED" => {
                self.taken = false;
                Ok(Answer::Granted(number))
            }
            "WAIT" => Ok(Answer::Wait(Duration::from_millis(number.max(1)))),
            "UNSEEDED" => Ok(Answer::Unseeded),
            _ => Err(broken("the answer is none that there is")),
        }
    }

    /// Waits to be told to look again.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Gives up what the place has.
    pub async fn leave(mut self) -> Result<(), BackendError> {
        leave(self.server, self.key, &self.name).await?;
        self.taken = false;
        Ok(())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiters.leave(self.number);
        if let (true, Ok(runtime)) = (self.taken, Handle::try_current()) {
            let (server, key) = (self.server.clone(), self.key.to_owned());
            let name = std::mem::take(&mut self.name);
            runtime.spawn(async move {
                if let Err(error) = leave(&server, &key, &name).await {
                    // It goes by itself when its time is over.
                    tracing::debug!("a place in a lock's queue stays behind: {error}");
                }
            });
        }
    }
}

async fn leave(server: &Server, key: &str, name: &str) -> Result<(), BackendError> {
    let call = on_lock(&scripts::LEAVE, server, key, name);
    server.invoke("leave the lock's queue", &call).await
}

/// Sets the tokens above `above`, where they are not set.
pub async fn seed(server: &Server, above: u64) -> Result<(), BackendError> {
    let mut call = scripts::SEED.prepare_invoke();
    call.key(server.own("token", "last")).arg(above);
    server.invoke("seed the tokens", &call).await
}

/// A script on a lock and its queue, with what all of them take: whose, and how to pass it on.
pub fn on_lock<'s>(
    script: &'s Script,
    server: &Server,
    key: &str,
    whose: &str,
) -> ScriptInvocation<'s> {
    let mut call = script.prepare_invoke();
    call.key(server.own("lock", key))
        .key(server.own("queue", key))
        .arg(whose)
        .arg(milliseconds(CLAIM_WAIT))
        .arg(server.own("wake", ""));
    call
}

/// A server that does not keep to what its scripts say.
pub fn broken(why: &'static str) -> BackendError {
    BackendError::unavailable(System::Redis, OPERATION, why)
}
