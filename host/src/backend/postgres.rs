//! The database on a server: what is final, kept in PostgreSQL and shared by every host.
//!
//! The twin of `sqlite`, method for method, with the same promises.
//! Nothing here decides a purchase but the function in `migrations/postgres`, which judges as `domain::Sale::judge` does; the schema there is the last defence.
//! `capability/db` calls it for strategies; `http`, `settlement`, `reconciler` and `strategy/rollout` for the host.
//!
//! A round trip costs more than the work, and a hot row is held for as long as its transaction's trips take.
//! So a batch is one trip, commit included, and a strategy's transaction is one for each of its steps.
//! Times are kept as whole milliseconds: callers round before they ask, or an order read back differs from the one that was placed.

mod audit;
mod catalogue;
mod fault;
mod keys;
mod orders;
mod pool;
mod rows;
mod strategies;
mod transaction;

#[cfg(all(test, feature = "services"))]
mod tests;

pub use pool::Waits;
pub use transaction::Transaction;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;

use super::BackendError;
use super::turns::Turns;
use crate::domain::SaleId;
use fault::{failed, unavailable};
use pool::Pool;

/// Transactions of this host at one sale's row in the server: while one has it the next has said so, and nothing is lost between the two.
const AT_A_ROW: usize = 2;

/// Settings of the server without which a commit is not durable, and the values that make it so.
const DURABLE: [(&str, &[&str]); 2] = [
    ("synchronous_commit", &["on", "remote_apply"]),
    ("fsync", &["on"]),
];

/// Where the database is, and its bounds.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`, with what else sqlx takes in a URL; never logged.
    pub url: String,
    /// Connections at once, at least 1.
    pub pool_max: u32,
    /// How long a caller waits for its turn at a row, then for a connection, and a statement for each lock.
    pub row_lock_wait: Duration,
    /// How long the server may take for a statement, waits for locks included; longer than `row_lock_wait`.
    pub statement_timeout: Duration,
    /// How long a transaction may lie idle before the server ends it.
    pub transaction_hold: Duration,
    /// The schema to keep the tables in, made when it is not there; where absent, the first of the user's search path.
    pub schema: Option<String>,
}

/// The database on a server.
///
/// Every method fails with `LockTimeout` when no connection or no lock was had within `row_lock_wait`, and with `Unavailable` when the server did not answer or answered with a fault.
#[derive(Debug)]
pub struct Postgres {
    pool: Pool,
    turns: Turns<SaleId>,
    row_lock_wait: Duration,
}

impl Postgres {
    /// Connects, checks that a commit is durable and brings the schema up to date; fails with a line that names what is wrong.
    ///
    /// Hosts that start at once migrate one after the other.
    pub async fn open(options: &PostgresOptions) -> Result<Self, BackendError> {
        let connect = connect_options(options)?;
        check_durability(&connect, options.row_lock_wait).await?;
        migrate(connect.clone(), options.schema.as_deref())
            .await
            .map_err(unavailable("migrate the database"))?;
        let pool = Pool::new(
            connect,
            transaction::PREPARE,
            options.pool_max,
            options.row_lock_wait,
            // Twice what the server grants itself: past that the connection is taken for dead.
            options.statement_timeout.saturating_mul(2),
        );
        Ok(Self {
            pool,
            turns: Turns::new(AT_A_ROW),
            row_lock_wait: options.row_lock_wait,
        })
    }

    /// Answers when the database does.
    pub async fn ping(&self) -> Result<(), BackendError> {
        let query = sqlx::query("SELECT FROM time_sales LIMIT 1");
        self.pool.fetch_all("ping", query).await.map(drop)
    }

    /// Takes a connection, waiting `row_lock_wait` for one, for a transaction that begins with its first statement.
    pub async fn begin(&self) -> Result<Transaction, BackendError> {
        Ok(Transaction::new(self.pool.acquire("begin").await?))
    }

    /// As `begin`, for one that will be at this sale's row: waits as long for its turn there first.
    pub async fn begin_at(&self, sale: SaleId) -> Result<Transaction, BackendError> {
        let turn = self.turns.take(sale, self.row_lock_wait).await;
        let turn = turn.ok_or(BackendError::LockTimeout { operation: "begin" })?;
        Ok(self.begin().await?.in_turn(turn))
    }

    /// The pool, with its connections that are in use and that are idle.
    pub fn connections(&self) -> [(&'static str, u32, u32); 1] {
        let (used, idle) = self.pool.connections();
        [("postgres", used, idle)]
    }

    /// How often and how long callers have waited for a connection since the start.
    pub fn waits(&self) -> Waits {
        self.pool.waits()
    }

    /// Waits for every connection to come back and closes them; what is asked afterwards fails.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Refuses a server on which a commit may be lost, or that does not say so in time.
async fn check_durability(connect: &PgConnectOptions, wait: Duration) -> Result<(), BackendError> {
    const OPERATION: &str = "check the settings";
    let checked = async {
        let mut connection = connect.connect().await.map_err(failed(OPERATION))?;
        for (name, durable) in DURABLE {
            let query = sqlx::query_scalar("SELECT current_setting($1)").bind(name);
            let setting: String = query
                .fetch_one(&mut connection)
                .await
                .map_err(failed(OPERATION))?;
            if !durable.contains(&setting.as_str()) {
                let wanted = durable.join(" or ");
                return Err(unavailable(OPERATION)(format!(
                    "{name} is {setting}: a commit is durable only where it is {wanted}"
                )));
            }
        }
        connection.close().await.map_err(failed(OPERATION))
    };
    let checked = timeout(wait, checked).await;
    checked.map_err(unavailable(OPERATION))?
}

fn connect_options(options: &PostgresOptions) -> Result<PgConnectOptions, BackendError> {
    let milliseconds = |time: Duration| time.as_millis().to_string();
    let mut connect = options
        .url
        .parse::<PgConnectOptions>()
        .map_err(unavailable("read the database's URL"))?
        .application_name("timesale")
        .options([
            // What a statement sees is what was committed when it began: `purchase` relies on it.
            ("default_transaction_isolation", "read committed"),
            // Plans are kept: one that reads a small table as a whole would do so when it is large.
            ("enable_seqscan", "off"),
            ("lock_timeout", &milliseconds(options.row_lock_wait)),
            (
                "statement_timeout",
                &milliseconds(options.statement_timeout),
            ),
            (
                "idle_in_transaction_session_timeout",
                &milliseconds(options.transaction_hold),
            ),
        ]);
    if let Some(schema) = &options.schema {
        connect = connect.options([("search_path", quoted(schema))]);
    }
    Ok(connect)
}

/// Migrates on a connection of its own: another host's turn, or the work itself, may take longer than any statement of a purchase.
async fn migrate(
    connect: PgConnectOptions,
    schema: Option<&str>,
) -> Result<(), sqlx::migrate::MigrateError> {
    let mut migrator = sqlx::migrate!("./migrations/postgres");
    if let Some(schema) = schema {
        migrator.create_schema(quoted(schema));
    }
    let patient = connect.options([
        ("lock_timeout", "0"),
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
    ]);
    let connection = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(patient);
    // It takes an advisory lock first, which one that fails half-way frees with its connection.
    let migrated = migrator.run(&connection).await;
    connection.close().await;
    migrated
}

/// A name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
