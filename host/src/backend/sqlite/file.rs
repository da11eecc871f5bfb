//! A SQLite file: the one connection that writes, those that read, and what their faults mean.
//!
//! It knows no table. `sqlite` and `log` each keep one.

use std::path::Path;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};

use crate::backend::{BackendError, System};

/// The primary result codes of SQLite that mean that another holds the lock: BUSY and LOCKED.
const LOCKED: [i32; 2] = [5, 6];

/// Rows that a connection's thread may be ahead of their reader: those of a batch, so that the two need not take turns.
const ROW_BUFFER: usize = 1_024;
/// Pages of 4 KiB that a file may have which serves a probe.
const SCRATCH_PAGES_MAX: &str = "16384";

/// How well a file is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// What is committed survives a loss of power.
    Durable,
    /// It serves a probe and is thrown away: no commit waits for the disk, and it takes at most 64 MiB.
    Scratch,
}

/// An open file.
#[derive(Debug)]
pub struct File {
    writer: SqlitePool,
    readers: SqlitePool,
    system: System,
}

impl File {
    /// Opens the file, making it where there is none; `wait` bounds every wait for a connection or for another process's lock.
    pub async fn open(
        path: &Path,
        readers: u32,
        wait: Duration,
        keeping: Keeping,
        system: System,
    ) -> Result<Self, BackendError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .busy_timeout(wait)
            .row_buffer_size(ROW_BUFFER);
        let options = match keeping {
            Keeping::Durable => options.synchronous(SqliteSynchronous::Full),
            Keeping::Scratch => options
                .synchronous(SqliteSynchronous::Off)
                .pragma("max_page_count", SCRATCH_PAGES_MAX),
        };
        // The log that lets readers read beside the writer is the writer's to turn on.
        let writing = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let writer = pool(1, wait)
            .connect_with(writing)
            .await
            .map_err(failed(system, "open the file"))?;
        let readers = pool(readers, wait).connect_lazy_with(options.read_only(true));
        Ok(Self {
            writer,
            readers,
            system,
        })
    }

    /// The connection that writes, for single statements; whoever needs two begins a transaction.
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// The connections that read.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Takes the writer and the file's write lock.
    pub async fn begin(&self, operation: &'static str) -> Result<Writing, BackendError> {
        let connection = self
            .writer
            .acquire()
            .await
            .map_err(failed(self.system, operation))?;
        // Made before BEGIN is sent: should this future be dropped in the middle, the connection is closed too.
        let mut writing = Writing {
            connection,
            ended: false,
            system: self.system,
        };
        // Not a plain BEGIN: one that reads first cannot always be raised to write, once another process has written.
        writing.run("BEGIN IMMEDIATE", operation).await?;
        Ok(writing)
    }

    /// Waits for every connection to come back, and closes them.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The writer inside a transaction.
///
/// Dropped without `commit` or `rollback`, or where one of them failed, the connection is closed, which rolls back; it never returns to the pool inside a transaction.
#[derive(Debug)]
pub struct Writing {
    connection: PoolConnection<sqlx::Sqlite>,
    ended: bool,
    system: System,
}

impl Writing {
    /// The connection, to run statements inside the transaction.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Makes the transaction durable. After an error it may be durable or not.
    pub async fn commit(mut self) -> Result<(), BackendError> {
        self.run("COMMIT", "commit").await?;
        self.ended = true;
        Ok(())
    }

    /// Undoes the transaction.
    pub async fn rollback(mut self) -> Result<(), BackendError> {
        self.run("ROLLBACK", "roll back").await?;
        self.ended = true;
        Ok(())
    }

    async fn run(
        &mut self,
        statement: &'static str,
        operation: &'static str,
    ) -> Result<(), BackendError> {
        sqlx::query(statement)
            .execute(&mut *self.connection)
            .await
            .map_err(failed(self.system, operation))?;
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

/// Says what a fault of sqlx means to a caller of `operation`.
pub fn failed(system: System, operation: &'static str) -> impl FnOnce(sqlx::Error) -> BackendError {
    move |error| {
        if matches!(error, sqlx::Error::PoolTimedOut) || is_locked(&error) {
            BackendError::LockTimeout { operation }
        } else {
            BackendError::unavailable(system, operation, error)
        }
    }
}

fn is_locked(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<i32>().ok())
        // The low byte of an extended code is the primary one.
        .is_some_and(|code| LOCKED.contains(&(code & 0xff)))
}

fn pool(connections: u32, wait: Duration) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(wait)
        // A file does not hang up on us: a test before each use would only cost a round trip.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}
