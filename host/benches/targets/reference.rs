//! What native Rust does on PostgreSQL by itself: the plain transaction of four round trips, one of two, and one statement for each order.
//!
//! Without HTTP, strategies, triggers or checks beyond the stock, on tables of its own, so that whatever it wins by is not the host's to win back.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::task::JoinSet;

/// As many as a host has.
const CONNECTIONS: u32 = 16;
/// As many of a host's transactions as are at one row at once.
const AT_THE_ROW: u32 = 2;
/// Buyers of a hot row, here and on hosts: it is called so because many wait for it, and as many calls of a version run at once.
///
/// With the bench's 64 one commit of a group carries all the buyers that there are, and the host rests while the database works.
pub const HOT_ROW_BUYERS: u32 = 256;

const TABLES: &str = "
    DROP SCHEMA IF EXISTS bench_reference CASCADE;
    CREATE SCHEMA bench_reference;
    CREATE TABLE bench_reference.sales (id bigint PRIMARY KEY, remaining bigint NOT NULL CHECK (remaining >= 0));
    CREATE TABLE bench_reference.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sale bigint NOT NULL, buyer bigint NOT NULL);
    INSERT INTO bench_reference.sales VALUES (1, 1000000000);";
/// What the two trips name, as a host's do, so that it is not planned each time.
const PREPARE: &str = "
    PREPARE lock_row AS SELECT remaining FROM bench_reference.sales WHERE id = 1 FOR NO KEY UPDATE;
    PREPARE take_one AS UPDATE bench_reference.sales SET remaining = remaining - 1 WHERE id = 1 AND remaining >= 1;
    PREPARE place_order (bigint) AS INSERT INTO bench_reference.orders (sale, buyer) VALUES (1, $1)";

/// How a reference sells.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// BEGIN, UPDATE, INSERT, COMMIT.
    FourRoundTrips,
    /// What v1 does, as far as these tables let it: BEGIN with the row's lock, then UPDATE, INSERT and COMMIT, and no more of them at the row than a host lets there.
    TwoRoundTrips,
    /// One statement that lowers the stock and inserts the order.
    OneStatement,
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy)]
pub enum Commit {
    /// Until it is on the disk, as every commit of a host.
    Synchronous,
    /// For nothing: a host does not start on a server that is set so, for what it had answered could be lost.
    Asynchronous,
}

/// A database with the reference's tables.
pub struct Reference {
    synchronous: PgPool,
    at_the_row: PgPool,
    asynchronous: PgPool,
}

impl Reference {
    /// Makes the tables anew.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url.parse().context("DATABASE_URL")?;
        let mut connection = options.connect().await.context("DATABASE_URL")?;
        connection.execute(sqlx::raw_sql(TABLES)).await?;
        connection.close().await?;
        let pool = |commit: &str, connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .after_connect(|connection, _| {
                    Box::pin(async { connection.execute(PREPARE).await.map(drop) })
                })
                .connect_lazy_with(options.clone().options([("synchronous_commit", commit)]))
        };
        Ok(Self {
            synchronous: pool("on", CONNECTIONS),
            at_the_row: pool("on", AT_THE_ROW),
            asynchronous: pool("off", CONNECTIONS),
        })
    }

    /// Orders a second on one hot row, for so long; fails where stock and orders do not agree afterwards.
    pub async fn sell(&self, way: Way, commit: Commit, lasts: Duration) -> anyhow::Result<f64> {
        let pool = match (commit, way) {
            (Commit::Synchronous, Way::TwoRoundTrips) => &self.at_the_row,
            (Commit::Synchronous, _) => &self.synchronous,
            (Commit::Asynchronous, _) => &self.asynchronous,
        };
        let before = self.books().await?;
        let begun = Instant::now();
        let mut buyers = JoinSet::new();
        for buyer in 0..HOT_ROW_BUYERS {
            let pool = pool.clone();
            buyers.spawn(async move {
                let mut sold = 0_u32;
                while begun.elapsed() < lasts {
                    buy(&pool, way, buyer.into()).await?;
                    sold += 1;
                }
                anyhow::Ok(sold)
            });
        }
        let mut sold = 0;
        while let Some(of_one) = buyers.join_next().await {
            sold += i64::from(of_one??);
        }
        let took = begun.elapsed();
        let after = self.books().await?;
        let agree = after.0 - before.0 == sold && before.1 - after.1 == sold;
        anyhow::ensure!(agree, "{way:?}: {sold} sold, from {before:?} to {after:?}");
        #[expect(clippy::cast_precision_loss, reason = "seconds of orders")]
        Ok(sold as f64 / took.as_secs_f64())
    }

    /// Orders, and what is left.
    async fn books(&self) -> anyhow::Result<(i64, i64)> {
        let query = "SELECT (SELECT count(*) FROM bench_reference.orders), (SELECT remaining FROM bench_reference.sales)";
        Ok(sqlx::query_as(query).fetch_one(&self.synchronous).await?)
    }

    /// Removes the tables.
    pub async fn close(self) -> anyhow::Result<()> {
        sqlx::raw_sql("DROP SCHEMA bench_reference CASCADE")
            .execute(&self.synchronous)
            .await?;
        self.synchronous.close().await;
        self.at_the_row.close().await;
        self.asynchronous.close().await;
        Ok(())
    }
}

async fn buy(pool: &PgPool, way: Way, buyer: i64) -> anyhow::Result<()> {
    match way {
        Way::FourRoundTrips => {
            let mut transaction = pool.begin().await?;
            sqlx::query("UPDATE bench_reference.sales SET remaining = remaining - 1 WHERE id = 1 AND remaining >= 1")
                .execute(&mut *transaction)
                .await?;
            sqlx::query("INSERT INTO bench_reference.orders (sale, buyer) VALUES (1, $1)")
                .bind(buyer)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
        }
        Way::TwoRoundTrips => {
            let mut connection = pool.acquire().await?;
            connection.execute("BEGIN; EXECUTE lock_row").await?;
            let place = format!("EXECUTE take_one; EXECUTE place_order ({buyer}); COMMIT");
            connection.execute(AssertSqlSafe(place)).await?;
        }
        Way::OneStatement => {
            sqlx::query(
                "WITH sold AS (UPDATE bench_reference.sales SET remaining = remaining - 1 WHERE id = 1 AND remaining >= 1 RETURNING id)
                INSERT INTO bench_reference.orders (sale, buyer) SELECT id, $1 FROM sold",
            )
            .bind(buyer)
            .execute(pool)
            .await?;
        }
    }
    Ok(())
}
