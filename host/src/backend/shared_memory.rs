//! The shared memory, whichever it is: copies, counters and locks, all of which may be lost at any time.
//!
//! One shape for the table in this process and the server, so that no caller knows which it has; what the methods promise is told at each of the two.

use std::time::Duration;

use super::{
    BackendError,
    memory::{Grant, Memory},
    redis::Redis,
};

/// The shared memory of a host.
pub enum SharedMemory {
    /// In this process, for this process.
    Memory(Memory),
    /// On a server, for many hosts.
    Redis(Redis),
}

/// What operators are shown of it; a figure that nobody knows is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedMemoryStats {
    /// Keys of the table in this process.
    pub entries: Option<u64>,
    /// Clients of the server.
    pub connected_clients: Option<u64>,
    /// Bytes that it uses.
    pub used_memory: Option<u64>,
    /// Reads of the server, whoever's, that found their key since it started, and those that did not.
    pub keyspace: Option<(u64, u64)>,
}

impl SharedMemory {
    /// What operators call it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "embedded",
            Self::Redis(_) => "Redis",
        }
    }

    /// Answers when the memory does.
    pub async fn ping(&self) -> Result<(), BackendError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(it) => it.ping().await,
        }
    }

    /// The value of a key; none where it is absent or past its life.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BackendError> {
        match self {
            Self::Memory(it) => Ok(it.get(key)),
            Self::Redis(it) => it.get(key).await,
        }
    }

    /// The values of these keys, in their order.
    pub async fn values(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        match self {
            Self::Memory(it) => Ok(keys.iter().map(|key| it.get(key)).collect()),
            Self::Redis(it) => it.values(keys).await,
        }
    }

    /// Sets a key for `ttl`, within the bound on lives.
    pub async fn set(&self, key: &str, value: Vec<u8>, ttl: Duration) -> Result<(), BackendError> {
        match self {
            Self::Memory(it) => it.set(key, value, ttl),
            Self::Redis(it) => it.set(key, value, ttl).await,
        }
    }

    /// Deletes a key; says whether it was there.
    pub async fn delete(&self, key: &str) -> Result<bool, BackendError> {
        match self {
            Self::Memory(it) => Ok(it.delete(key)),
            Self::Redis(it) => it.delete(key).await,
        }
    }

    /// Adds to a counter and returns the new value; an absent one counts from 0.
    pub async fn add(&self, key: &str, delta: i64) -> Result<i64, BackendError> {
        match self {
            Self::Memory(it) => it.add(key, delta),
            Self::Redis(it) => it.add(key, delta).await,
        }
    }

    /// Lowers a counter that holds at least `amount` and returns the new value; none where it holds less or is absent.
    pub async fn take(&self, key: &str, amount: u64) -> Result<Option<u64>, BackendError> {
        match self {
            Self::Memory(it) => it.take(key, amount),
            Self::Redis(it) => it.take(key, amount).await,
        }
    }

    /// Waits at most `wait` for a lock and holds it for at most `lease`; none where it was not had.
    ///
    /// `seed` gives a token above which to go on where the tokens were lost.
    pub async fn acquire(
        &self,
        key: &str,
        wait: Duration,
        lease: Duration,
        seed: impl Future<Output = Result<u64, BackendError>>,
    ) -> Result<Option<Grant>, BackendError> {
        match self {
            Self::Memory(it) => Ok(it.acquire(key, wait, lease).await),
            Self::Redis(it) => it.acquire(key, wait, lease, seed).await,
        }
    }

    /// Releases a lock; says whether it was still held by this grant.
    pub async fn release(&self, grant: &Grant) -> Result<bool, BackendError> {
        match self {
            Self::Memory(it) => Ok(it.release(grant)),
            Self::Redis(it) => it.release(grant).await,
        }
    }

    /// What it says of itself now.
    pub async fn stats(&self) -> SharedMemoryStats {
        match self {
            Self::Memory(it) => SharedMemoryStats {
                entries: u64::try_from(it.stats().entries).ok(),
                connected_clients: None,
                used_memory: None,
                keyspace: None,
            },
            Self::Redis(it) => {
                let stats = it.stats().await.ok();
                SharedMemoryStats {
                    entries: None,
                    connected_clients: stats.and_then(|stats| stats.connected_clients),
                    used_memory: stats.and_then(|stats| stats.used_memory),
                    keyspace: stats.and_then(|stats| stats.keyspace),
                }
            }
        }
    }
}
