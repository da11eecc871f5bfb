//! The embedded database: what is final, kept in one SQLite file.
//!
//! It stands in for PostgreSQL where none is given, with the same promises.
//! Nothing here judges or decides: the rules of a purchase are `domain`'s, and the schema in `migrations/sqlite` is the last defence.
//! `capability/db` calls it for strategies; `http`, `settlement` and `app` for the host.
//!
//! One connection writes and the callers queue for it in order of arrival; others only read, beside it.
//! Times are kept as whole milliseconds: callers round before they ask, or an order read back differs from the one that was placed.

mod audit;
mod catalogue;
pub(super) mod file;
mod keys;
mod orders;
mod placing;
mod rows;
mod strategies;
mod transaction;

#[cfg(test)]
mod tests;

pub use file::Keeping;
pub use transaction::Transaction;

use std::path::PathBuf;
use std::time::Duration;

use file::{File, failed};

use super::{BackendError, System};

/// Where the database is, and its bounds.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file; made when it is not there, its folder is not.
    pub path: PathBuf,
    /// Connections that read, at least 1.
    pub readers: u32,
    /// How long a caller waits for the one that writes, or for one that reads.
    pub writer_wait: Duration,
    /// How well it is kept.
    pub keeping: Keeping,
}

/// The embedded database.
///
/// Every method fails with `LockTimeout` when no connection was had within `writer_wait`, and with `Unavailable` when the file failed.
#[derive(Debug)]
pub struct Sqlite {
    file: File,
}

impl Sqlite {
    /// Opens the file and brings its schema up to date.
    pub async fn open(options: &SqliteOptions) -> Result<Self, BackendError> {
        let file = File::open(
            &options.path,
            options.readers,
            options.writer_wait,
            options.keeping,
            System::Database,
        )
        .await?;
        sqlx::migrate!("./migrations/sqlite")
            .run(file.writer())
            .await
            .map_err(|error| failed(System::Database, "migrate the database")(error.into()))?;
        Ok(Self { file })
    }

    /// Answers when the database does.
    pub async fn ping(&self) -> Result<(), BackendError> {
        sqlx::query("SELECT 1 FROM time_sales LIMIT 1")
            .execute(self.file.readers())
            .await
            .map_err(failed(System::Database, "ping"))?;
        Ok(())
    }

    /// Takes the writer, waiting `writer_wait` for its turn, and begins a transaction that holds it.
    pub async fn begin(&self) -> Result<Transaction, BackendError> {
        Ok(Transaction::new(self.file.begin("begin").await?))
    }

    /// The pools, with the connections of each that are in use and that are idle.
    pub fn connections(&self) -> [(&'static str, u32, u32); 2] {
        [
            ("writer", self.file.writer()),
            ("readers", self.file.readers()),
        ]
        .map(|(name, pool)| {
            let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
            (name, pool.size().saturating_sub(idle), idle)
        })
    }

    /// Waits for every connection to come back and closes the file; what is asked afterwards fails.
    pub async fn close(&self) {
        self.file.close().await;
    }
}
