//! The connections to the server, lent to one caller at a time.
//!
//! The other files of the room call it; it knows no table.
//!
//! sqlx has a pool of its own, which does not serve here:
//! it tries a server that refuses until the wait is over and then calls it a full pool, so that nobody can tell a busy database from one that is down;
//! it can take back a connection inside an open transaction when its future is dropped (sqlx 0.9.0, its issue 4385);
//! and it sends a ping before and after each use.
//! Here a connection comes back only when its borrower says so, and a fault is told at once.

mod lease;

pub use lease::Lease;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::fault::{failed, unavailable};
use crate::backend::BackendError;

/// A connection that lay idle for so long is asked for a sign of life before it is lent: a restart or a firewall may have cut it.
const PING_AFTER: Duration = Duration::from_secs(1);
/// How long that sign may take.
const PING_WAIT: Duration = Duration::from_secs(1);
/// How long a connection may take to say good-bye.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How callers have waited for a connection since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Callers that asked for a connection.
    pub count: u64,
    /// Their waits together, connecting included.
    pub total: Duration,
}

/// The connections to the server.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    connect: PgConnectOptions,
    /// Run on each connection before it is lent.
    prepare: &'static str,
    size: u32,
    /// One permit for each connection that may be lent.
    permits: Arc<Semaphore>,
    /// Those at rest, the last used on top.
    idle: Mutex<Vec<Idle>>,
    wait: Duration,
    answer_wait: Duration,
    /// Whether the last that was heard of the server was a fault.
    down: AtomicBool,
    waits: AtomicU64,
    waited_us: AtomicU64,
}

struct Idle {
    connection: PgConnection,
    since: Instant,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the options: they hold the password.
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Pool {
    /// No connections yet, `size` at most, each of which begins with what `prepare` says; `wait` bounds the wait for one, `answer_wait` that for any answer.
    pub fn new(
        connect: PgConnectOptions,
        prepare: &'static str,
        size: u32,
        wait: Duration,
        answer_wait: Duration,
    ) -> Self {
        let permits = usize::try_from(size).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                connect,
                prepare,
                size,
                permits: Arc::new(Semaphore::new(permits)),
                idle: Mutex::default(),
                wait,
                answer_wait,
                down: AtomicBool::new(false),
                waits: AtomicU64::new(0),
                waited_us: AtomicU64::new(0),
            }),
        }
    }

    /// Lends a connection, in order of arrival.
    ///
    /// Fails with `LockTimeout` where all were lent for too long, with `Unavailable` where the server could not be reached.
    pub async fn acquire(&self, operation: &'static str) -> Result<Lease, BackendError> {
        let asked = Instant::now();
        let lease = self.lend(operation).await;
        let waited = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.waits.fetch_add(1, Ordering::Relaxed);
        self.shared.waited_us.fetch_add(waited, Ordering::Relaxed);
        lease
    }

    async fn lend(&self, operation: &'static str) -> Result<Lease, BackendError> {
        let shared = &self.shared;
        let permit = match timeout(shared.wait, Arc::clone(&shared.permits).acquire_owned()).await {
            Ok(permit) => permit.map_err(unavailable(operation))?,
            // Those that were lent wait for a server that is gone.
            Err(late) if shared.down.load(Ordering::Relaxed) => {
                return Err(unavailable(operation)(late));
            }
            Err(_) => return Err(BackendError::LockTimeout { operation }),
        };
        let connection = match shared.rested().await {
            Some(connection) => connection,
            // Rare, and large: in a box it is not part of every caller's future.
            None => Box::pin(shared.connect())
                .await
                .map_err(unavailable(operation))?,
        };
        Ok(Lease::new(connection, permit, Arc::clone(shared)))
    }

    /// Runs one statement that is a transaction by itself; the rows come after its commit.
    pub async fn fetch_all<'q>(
        &self,
        operation: &'static str,
        query: Query<'q, sqlx::Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, BackendError> {
        self.try_fetch_all(operation, query)
            .await?
            .map_err(failed(operation))
    }

    /// As `fetch_all`, for a statement with at most one row.
    pub async fn fetch_optional<'q>(
        &self,
        operation: &'static str,
        query: Query<'q, sqlx::Postgres, PgArguments>,
    ) -> Result<Option<PgRow>, BackendError> {
        Ok(self.fetch_all(operation, query).await?.into_iter().next())
    }

    /// As `fetch_all`, for a statement with one row.
    pub async fn fetch_one<'q>(
        &self,
        operation: &'static str,
        query: Query<'q, sqlx::Postgres, PgArguments>,
    ) -> Result<PgRow, BackendError> {
        let row = self.fetch_optional(operation, query).await?;
        row.ok_or(sqlx::Error::RowNotFound)
            .map_err(failed(operation))
    }

    /// As `fetch_all`; the inner error is the server's, for callers that can tell what it means.
    pub async fn try_fetch_all<'q>(
        &self,
        operation: &'static str,
        query: Query<'q, sqlx::Postgres, PgArguments>,
    ) -> Result<sqlx::Result<Vec<PgRow>>, BackendError> {
        let mut lease = self.acquire(operation).await?;
        let answer = lease.fetch_all(query).await;
        lease.give_back();
        Ok(answer)
    }

    /// Connections that are lent, and those at rest.
    pub fn connections(&self) -> (u32, u32) {
        let free = u32::try_from(self.shared.permits.available_permits()).unwrap_or(u32::MAX);
        let idle = u32::try_from(self.shared.idle().len()).unwrap_or(u32::MAX);
        (self.shared.size.saturating_sub(free), idle)
    }

    /// How callers have waited.
    pub fn waits(&self) -> Waits {
        Waits {
            count: self.shared.waits.load(Ordering::Relaxed),
            total: Duration::from_micros(self.shared.waited_us.load(Ordering::Relaxed)),
        }
    }

    /// Waits for every connection to come back and closes them; nothing is lent any more.
    pub async fn close(&self) {
        let all = self.shared.permits.acquire_many(self.shared.size).await;
        self.shared.permits.close();
        drop(all);
        let rested = std::mem::take(&mut *self.shared.idle());
        for idle in rested {
            // One that cannot say good-bye is gone already.
            let _ = timeout(CLOSE_WAIT, idle.connection.close()).await;
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was at rest and is alive.
    async fn rested(&self) -> Option<PgConnection> {
        let Idle {
            mut connection,
            since,
        } = self.idle().pop()?;
        if since.elapsed() < PING_AFTER {
            return Some(connection);
        }
        if let Ok(Ok(())) = timeout(PING_WAIT.min(self.wait), connection.ping()).await {
            return Some(connection);
        }
        // The others rest for longer, and whatever cut this one has cut them: nobody waits for each in turn.
        self.idle().clear();
        None
    }

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        let connected = async {
            let mut connection = self.connect.connect().await?;
            connection.execute(sqlx::raw_sql(self.prepare)).await?;
            Ok(connection)
        };
        let connection = match timeout(self.wait, connected).await {
            Ok(connection) => connection,
            Err(late) => Err(sqlx::Error::Io(late.into())),
        };
        self.down.store(connection.is_err(), Ordering::Relaxed);
        connection
    }
}
