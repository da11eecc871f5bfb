//! Locks with a lease and a fencing token, shared by every host of the server.
//!
//! Only `redis` calls it.
//! Of each host one caller at most stands in a lock's queue on the server; the others wait for their turn here, in order of arrival.
//! So a release wakes one, however many wait, and no host starves another.
//! Nobody polls: a waiter looks again when it is told to, when the lease before it is over, and now and then in case that it was told while the connection was broken.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::SendError;
use redis::{PushInfo, PushKind, from_redis_value};
use tokio::time::{Instant, timeout_at};

use super::place::{self, Answer, Place};
use super::scripts;
use super::server::Server;
use super::waiters::Waiters;
use crate::backend::BackendError;
use crate::backend::memory::Grant;
use crate::backend::turns::Turns;

/// The longest that a waiter sleeps before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The locks as this host takes part in them.
pub struct Locks {
    /// This host's name among those of the server.
    host: String,
    /// Who has a place in a lock's queue on the server.
    turns: Turns<String>,
    waiters: Arc<Waiters>,
}

impl Locks {
    /// Takes part as a host that nobody has heard of.
    pub fn new() -> Self {
        Self {
            host: format!("{:016x}", rand::random::<u64>()),
            turns: Turns::new(1),
            waiters: Arc::default(),
        }
    }

    /// The last part of the channel that this host's waiters are woken by.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What the connection calls with whatever comes by a channel.
    pub fn wake_ups(&self) -> impl Fn(PushInfo) -> Result<(), SendError> + use<> {
        let waiters = Arc::clone(&self.waiters);
        move |push| {
            match (&push.kind, push.data.into_iter().nth(1)) {
                (PushKind::Message, Some(number)) => {
                    if let Ok(number) = from_redis_value(number) {
                        waiters.wake(number);
                    }
                }
                // The connection is new: what was said before nobody heard.
                (PushKind::Subscribe, _) => waiters.wake_all(),
                _ => {}
            }
            Ok(())
        }
    }

    /// Waits at most `wait` for the lock and holds it for at most `lease`.
    pub async fn acquire(
        &self,
        server: &Server,
        key: &str,
        wait: Duration,
        lease: Duration,
        seed: impl Future<Output = Result<u64, BackendError>>,
    ) -> Result<Option<Grant>, BackendError> {
        let give_up_at = Instant::now() + wait;
        let Some(_turn) = self.turns.take(key.to_owned(), wait).await else {
            return Ok(None);
        };
        let mut place = Place::new(server, &self.host, &self.waiters, key);
        let mut seed = Some(seed);
        loop {
            let asked_at = Instant::now();
            let pause = match place.ask(lease, give_up_at - asked_at).await? {
                Answer::Granted(token) => {
                    return Ok(Some(Grant {
                        key: key.into(),
                        token,
                        // Not later than it began for the server.
                        granted_at: asked_at,
                        lapses_at: asked_at + lease,
                    }));
                }
                Answer::Unseeded => {
                    let lost_again =
                        || place::broken("the tokens are lost as soon as they are set");
                    let seed = seed.take().ok_or_else(lost_again)?;
                    place::seed(server, seed.await?).await?;
                    continue;
                }
                Answer::Wait(pause) => pause.min(LOOK_AGAIN),
            };
            let now = Instant::now();
            if now >= give_up_at {
                place.leave().await?;
                return Ok(None);
            }
            // Woken or not: either way it looks again.
            let _ = timeout_at(give_up_at.min(now + pause), place.woken()).await;
        }
    }

    /// Releases the lock if this grant still holds it.
    pub async fn release(&self, server: &Server, grant: &Grant) -> Result<bool, BackendError> {
        let call = place::on_lock(
            &scripts::RELEASE,
            server,
            &grant.key,
            &grant.token.to_string(),
        );
        server.invoke("release the lock", &call).await
    }
}
