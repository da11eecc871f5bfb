//! What the tables say of each other, and of those who bought lately.
//!
//! `reconciler` asks it every few seconds, so each question reads a bounded number of rows.

use jiff::Timestamp;
use sqlx::Row;

use super::file::failed;
use super::{Sqlite, rows};
use crate::backend::database::Buyers;
use crate::backend::{BackendError, System};
use crate::domain::{OrderId, SaleId};

impl Sqlite {
    /// By how many pieces the stock of each of these sales differs from its orders, read at one moment.
    pub async fn stock_drift(&self, sales: &[SaleId]) -> Result<Vec<(SaleId, u64)>, BackendError> {
        stock_drift(self, sales)
            .await
            .map_err(failed(System::Database, "sum the orders"))
    }

    /// How many of the newest orders, at most so many, are not the one decision of their request: there is a refusal too.
    pub async fn decision_drift(&self, newest: u32) -> Result<u64, BackendError> {
        let wrong = || failed(System::Database, "compare orders and refusals");
        let refused = sqlx::query_scalar(
            "SELECT count(*) FROM orders AS o \
             WHERE o.id > (SELECT max(id) FROM orders) - ?1 \
               AND EXISTS (SELECT 1 FROM refusals AS r WHERE r.request_id = o.request_id)",
        )
        .bind(newest)
        .fetch_one(self.file.readers())
        .await
        .map_err(wrong())?;
        rows::unsigned(refused).map_err(wrong())
    }

    /// Counts the buyers of the orders since a moment, among those above `after` and the newest so many.
    pub async fn buyers(
        &self,
        since: Timestamp,
        after: OrderId,
        newest: u32,
    ) -> Result<Buyers, BackendError> {
        buyers(self, since, after, newest)
            .await
            .map_err(failed(System::Database, "count the buyers"))
    }
}

async fn stock_drift(database: &Sqlite, sales: &[SaleId]) -> sqlx::Result<Vec<(SaleId, u64)>> {
    let rows = sqlx::query(
        "SELECT s.id, abs(s.quantity - s.remaining \
             - coalesce((SELECT sum(o.quantity) FROM orders AS o WHERE o.time_sale_id = s.id), 0)) AS drift \
         FROM time_sales AS s WHERE s.id IN (SELECT value FROM json_each(?1))",
    )
    .bind(rows::batch(&sales)?)
    .fetch_all(database.file.readers())
    .await?;
    let drift = |row: &sqlx::sqlite::SqliteRow| {
        Ok((row.try_get("id")?, rows::unsigned(row.try_get("drift")?)?))
    };
    rows.iter().map(drift).collect()
}

async fn buyers(
    database: &Sqlite,
    since: Timestamp,
    after: OrderId,
    newest: u32,
) -> sqlx::Result<Buyers> {
    let row = sqlx::query(
        "SELECT count(DISTINCT user_id) AS active, \
             count(DISTINCT CASE WHEN again THEN user_id END) AS repeat, \
             coalesce(min(id), (SELECT max(id) + 1 FROM orders), 1) AS first \
         FROM (SELECT o.id, o.user_id, EXISTS ( \
                 SELECT 1 FROM orders AS e \
                 WHERE e.time_sale_id = o.time_sale_id AND e.user_id = o.user_id AND e.id < o.id) AS again \
             FROM orders AS o \
             WHERE o.id > max(?2, (SELECT coalesce(max(id), 0) FROM orders) - ?3) AND o.created_at > ?1)",
    )
    .bind(since.as_millisecond())
    .bind(after)
    .bind(newest)
    .fetch_one(database.file.readers())
    .await?;
    Ok(Buyers {
        active: rows::unsigned(row.try_get("active")?)?,
        repeat: rows::unsigned(row.try_get("repeat")?)?,
        first: row.try_get("first")?,
    })
}
