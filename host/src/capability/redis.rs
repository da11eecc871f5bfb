//! `redis`: shared memory and locks as strategies see them.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use wasmtime::component::Resource;

use super::{
    bindings::timesale::strategy::{
        redis::{Host, HostLock},
        types::Failure,
    },
    state::{CallState, Observed},
};
use crate::{
    backend::{BackendError, TTL_MAX, memory::Grant},
    telemetry::labels::{ErrorKind, Function},
};

/// Bytes of a key.
const KEY_MAX_BYTES: usize = 256;
/// Bytes of a value.
const VALUE_MAX_BYTES: usize = 64 << 10;
/// Locks that a call may hold at once.
const LOCKS_MAX: usize = 4;

/// The guest's handle of a lock.
pub struct LockHandle {
    token: u64,
}

impl CallState {
    /// When the lock with this token was granted, if the call holds it.
    pub(super) fn lock_granted(&self, token: u64) -> Option<Instant> {
        self.locks
            .iter()
            .find(|grant| grant.token == token)
            .map(|grant| grant.granted_at.into_std())
    }

    /// Opens a host call on a key, if the key is one.
    fn observe_key(
        &mut self,
        function: Function,
        key: &str,
    ) -> wasmtime::Result<Result<Observed<'_>, Failure>> {
        Ok(match self.observe_apart(function)? {
            Ok(observed) if key.is_empty() || key.len() > KEY_MAX_BYTES => {
                Err(observed.refuse_use("a key has 1 to 256 bytes"))
            }
            Ok(observed) if !observed.call.grants().allows_key(key) => {
                Err(observed.refuse_use("the key begins with no prefix that is granted"))
            }
            otherwise => otherwise,
        })
    }

    fn release_lock(&mut self, token: u64) -> Option<Grant> {
        let place = self.locks.iter().position(|grant| grant.token == token)?;
        Some(self.locks.swap_remove(place))
    }
}

/// Opens a host call on a key, or answers with the failure that rules it out.
macro_rules! observe_key {
    ($call:expr, $function:expr, $key:expr) => {
        match $call.observe_key($function, $key)? {
            Ok(observed) => observed,
            Err(failure) => return Ok(Err(failure)),
        }
    };
}

impl Host for CallState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Failure>> {
        let observed = observe_key!(self, Function::Get, &key);
        let value = observed.backends().redis.get(&key).await;
        if let Ok(value) = &value {
            let metrics = &observed.backends().queue_metrics;
            metrics.cache_read(value.is_some());
        }
        Ok(observed.finish(value))
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<(), Failure>> {
        let observed = observe_key!(self, Function::Set, &key);
        if value.len() > VALUE_MAX_BYTES {
            return Ok(Err(observed.refuse_use("a value has at most 64 KiB")));
        }
        let ttl = ttl_ms.map_or(TTL_MAX, Duration::from_millis).min(TTL_MAX);
        let set = observed.backends().redis.set(&key, value, ttl).await;
        Ok(observed.finish(set))
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<bool, Failure>> {
        let observed = observe_key!(self, Function::Delete, &key);
        let deleted = observed.backends().redis.delete(&key).await;
        Ok(observed.finish(deleted))
    }

    async fn add(&mut self, key: String, delta: i64) -> wasmtime::Result<Result<i64, Failure>> {
        let observed = observe_key!(self, Function::Add, &key);
        let sum = observed.backends().redis.add(&key, delta).await;
        Ok(observed.finish(sum))
    }

    async fn take(
        &mut self,
        key: String,
        amount: u64,
    ) -> wasmtime::Result<Result<Option<u64>, Failure>> {
        let observed = observe_key!(self, Function::Take, &key);
        let left = observed.backends().redis.take(&key, amount).await;
        Ok(observed.finish(left))
    }
}

impl HostLock for CallState {
    async fn acquire(
        &mut self,
        key: String,
        wait_ms: u32,
        lease_ms: u32,
    ) -> wasmtime::Result<Result<Resource<LockHandle>, Failure>> {
        let observed = observe_key!(self, Function::LockAcquire, &key);
        if observed.call.locks.len() >= LOCKS_MAX {
            let failure = Failure::BudgetSpent("locks held at once".to_owned());
            return Ok(Err(observed.fail(ErrorKind::Budget, failure)));
        }
        let limits = observed.call.limits();
        let wait = bounded(wait_ms, limits.lock_wait_ms).min(observed.call.time_left());
        // Never shorter than what may pass until the commit under it.
        let shortest = limits.lock_hold().unwrap_or_default();
        let lease = bounded(lease_ms, limits.lock_lease_ms).max(shortest);
        let backends = observed.backends();
        let granted = {
            // Large, and seldom asked: it is made where it is.
            let seed = pin!(async { Box::pin(backends.database.max_fence()).await });
            backends.redis.acquire(&key, wait, lease, seed).await
        };
        let grant = match granted {
            Ok(Some(grant)) => grant,
            Ok(None) => {
                return Ok(Err(
                    observed.fail(ErrorKind::LockAcquisition, Failure::LockTimeout)
                ));
            }
            Err(error) => return Ok(observed.finish(Err(error))),
        };
        let token = grant.token;
        observed.call.locks.push(grant);
        let _ = observed.finish::<()>(Ok(()));
        Ok(Ok(self.table.push(LockHandle { token })?))
    }

    async fn token(&mut self, lock: Resource<LockHandle>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&lock)?.token)
    }

    async fn release(
        &mut self,
        lock: Resource<LockHandle>,
    ) -> wasmtime::Result<Result<bool, Failure>> {
        let token = self.table.delete(lock)?.token;
        let mut observed = self.observe(Function::LockRelease)?;
        let released = observed.give_back(token).await;
        Ok(observed.finish(released))
    }

    async fn drop(&mut self, lock: Resource<LockHandle>) -> wasmtime::Result<()> {
        let token = self.table.delete(lock)?.token;
        if self.lock_granted(token).is_some() {
            let mut observed = self.observe(Function::LockRelease)?;
            let released = observed.give_back(token).await;
            let _ = observed.finish(released);
        }
        Ok(())
    }
}

impl Observed<'_> {
    /// Releases the lock with this token; false where the call does not hold it any more.
    async fn give_back(&mut self, token: u64) -> Result<bool, BackendError> {
        match self.call.release_lock(token) {
            Some(grant) => self.backends().redis.release(&grant).await,
            None => Ok(false),
        }
    }
}

/// What the guest asks for, within the host's bound; 0 asks for the bound.
fn bounded(asked_ms: u32, bound_ms: u64) -> Duration {
    let asked = match asked_ms {
        0 => bound_ms,
        asked => u64::from(asked).min(bound_ms),
    };
    Duration::from_millis(asked)
}
