//! The shared memory on a server: values that vanish, counters, and locks with a lease, in Redis 6.0.6 or later.
//!
//! The twin of `memory` for hosts that share it; what it keeps is a copy and may be lost at any time.
//! `capability/redis` calls it for strategies, `http/management` for its gauges.
//!
//! One connection carries every command, and the wake-ups of those that wait for a lock; where it breaks it is made anew in the background.
//! A command is sent once: after an error it was carried out or not.

mod locks;
mod place;
mod scripts;
mod server;
#[cfg(all(test, feature = "services"))]
mod tests;
mod waiters;

use std::fmt;
use std::time::Duration;

use redis::{InfoDict, cmd};

use super::BackendError;
use super::memory::Grant;
use locks::Locks;
use server::{Server, milliseconds};

/// Where the shared memory is, and its bounds.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://` or, for TLS, `rediss://`, with user, password, host, port and database; never logged.
    pub url: String,
    /// What every key begins with, so that others may use the same server.
    pub prefix: String,
    /// The longest life of a value, and that of a counter which `add` begins.
    pub ttl_max: Duration,
    /// How long an answer may take, and how long connecting.
    pub answer_wait: Duration,
}

/// What the server says of itself; a figure that it does not tell is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisStats {
    /// Connections of clients, ours among them.
    pub connected_clients: Option<u64>,
    /// Bytes that it has allocated.
    pub used_memory: Option<u64>,
    /// Reads that found their key since it started, and those that did not.
    pub keyspace: Option<(u64, u64)>,
}

/// The shared memory on a server.
///
/// Every method fails with `Unavailable` when the server did not answer within `answer_wait` or answered with a fault, and with `Full` when it takes nothing new.
pub struct Redis {
    server: Server,
    ttl_max: Duration,
    locks: Locks,
}

impl Redis {
    /// Connects; fails where the server cannot be reached or refuses.
    pub async fn open(options: &RedisOptions) -> Result<Self, BackendError> {
        let locks = Locks::new();
        let server = Server::connect(options, locks.host(), locks.wake_ups()).await?;
        Ok(Self {
            server,
            ttl_max: options.ttl_max,
            locks,
        })
    }

    /// Answers when the server does.
    pub async fn ping(&self) -> Result<(), BackendError> {
        self.server.query("ping", &cmd("PING")).await
    }

    /// The value of a key; none where it is absent or past its life.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BackendError> {
        let command = cmd("GET").arg(self.server.value(key)).take();
        self.server.query("get", &command).await
    }

    /// The values of these keys, in their order.
    pub async fn values(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<_> = keys.iter().map(|key| self.server.value(key)).collect();
        self.server.query("get", cmd("MGET").arg(keys)).await
    }

    /// Sets a key for `ttl`, at most `ttl_max`.
    pub async fn set(&self, key: &str, value: Vec<u8>, ttl: Duration) -> Result<(), BackendError> {
        let command = cmd("SET")
            .arg(self.server.value(key))
            .arg(value)
            .arg("PX")
            .arg(milliseconds(ttl.min(self.ttl_max)))
            .take();
        self.server.query("set", &command).await
    }

    /// Deletes a key; says whether it was there.
    pub async fn delete(&self, key: &str) -> Result<bool, BackendError> {
        let command = cmd("DEL").arg(self.server.value(key)).take();
        self.server.query("delete", &command).await
    }

    /// Adds to a counter and returns the new value; an absent one counts from 0 and lives for `ttl_max`, another keeps its life.
    ///
    /// Fails with `WrongValue` where the value, or the sum, is no decimal of 64 bits.
    pub async fn add(&self, key: &str, delta: i64) -> Result<i64, BackendError> {
        let mut call = scripts::ADD.prepare_invoke();
        call.key(self.server.value(key))
            .arg(delta)
            .arg(milliseconds(self.ttl_max));
        self.server.invoke("add", &call).await
    }

    /// Lowers a counter that holds at least `amount` and returns the new value; none where it holds less or is absent.
    ///
    /// Fails with `WrongValue` where the value is no decimal of 64 bits.
    pub async fn take(&self, key: &str, amount: u64) -> Result<Option<u64>, BackendError> {
        let mut call = scripts::TAKE.prepare_invoke();
        call.key(self.server.value(key)).arg(amount);
        self.server.invoke("take", &call).await
    }

    /// Waits at most `wait` for a lock and holds it for at most `lease`; none where it was not had.
    ///
    /// Callers of one host are served in order of arrival, hosts in turn.
    /// Where the server has lost its data, `seed` is awaited for a token above which to go on: the highest that any row has seen.
    /// Dropping the future leaves the queue.
    pub async fn acquire(
        &self,
        key: &str,
        wait: Duration,
        lease: Duration,
        seed: impl Future<Output = Result<u64, BackendError>>,
    ) -> Result<Option<Grant>, BackendError> {
        self.locks
            .acquire(&self.server, key, wait, lease, seed)
            .await
    }

    /// Releases a lock; says whether it was still held by this grant.
    pub async fn release(&self, grant: &Grant) -> Result<bool, BackendError> {
        self.locks.release(&self.server, grant).await
    }

    /// What the server says of itself now.
    pub async fn stats(&self) -> Result<RedisStats, BackendError> {
        let clients: InfoDict = self
            .server
            .query("info", cmd("INFO").arg("clients"))
            .await?;
        let memory: InfoDict = self.server.query("info", cmd("INFO").arg("memory")).await?;
        let stats: InfoDict = self.server.query("info", cmd("INFO").arg("stats")).await?;
        Ok(RedisStats {
            connected_clients: clients.get("connected_clients"),
            used_memory: memory.get("used_memory"),
            keyspace: stats.get("keyspace_hits").zip(stats.get("keyspace_misses")),
        })
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the connection: it holds the password.
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}
