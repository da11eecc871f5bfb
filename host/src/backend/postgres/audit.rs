//! What the tables say of each other, and of those who bought lately.
//!
//! `reconciler` asks it every few seconds, so each question reads a bounded number of rows.
//! What is looked up for each row is written so that the planner cannot read a whole table for it.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::fault::failed;
use super::{Postgres, rows};
use crate::backend::BackendError;
use crate::backend::database::Buyers;
use crate::domain::{OrderId, SaleId};

impl Postgres {
    /// By how many pieces the stock of each of these sales differs from its orders, read at one moment.
    pub async fn stock_drift(&self, sales: &[SaleId]) -> Result<Vec<(SaleId, u64)>, BackendError> {
        const OPERATION: &str = "sum the orders";
        let query = sqlx::query(
            "SELECT s.id, abs(s.quantity - s.remaining - coalesce( \
                 (SELECT sum(o.quantity)::bigint FROM orders AS o WHERE o.time_sale_id = s.id), 0)) AS drift \
             FROM time_sales AS s WHERE s.id = ANY ($1)",
        )
        .bind(sales);
        let rows = self.pool.fetch_all(OPERATION, query).await?;
        let drifts: sqlx::Result<_> = rows.iter().map(drift).collect();
        drifts.map_err(failed(OPERATION))
    }

    /// How many of the newest orders, at most so many, are not the one decision of their request.
    pub async fn decision_drift(&self, newest: u32) -> Result<u64, BackendError> {
        const OPERATION: &str = "compare orders and decisions";
        let query = sqlx::query(
            "SELECT count(*) AS undecided FROM orders AS o \
             WHERE o.id > (SELECT max(id) FROM orders) - $1 \
               AND (SELECT d.order_id FROM decisions AS d WHERE d.request_id = o.request_id) IS DISTINCT FROM o.id",
        )
        .bind(i64::from(newest));
        let row = self.pool.fetch_one(OPERATION, query).await?;
        let undecided = row.try_get("undecided").and_then(rows::unsigned);
        undecided.map_err(failed(OPERATION))
    }

    /// Counts the buyers of the orders since a moment, among those above `after` and the newest so many.
    pub async fn buyers(
        &self,
        since: Timestamp,
        after: OrderId,
        newest: u32,
    ) -> Result<Buyers, BackendError> {
        const OPERATION: &str = "count the buyers";
        let query = sqlx::query(
            "SELECT count(DISTINCT user_id) AS active, \
                 count(DISTINCT user_id) FILTER (WHERE again) AS repeat, \
                 coalesce(min(id), (SELECT max(id) + 1 FROM orders), 1) AS first \
             FROM (SELECT o.id, o.user_id, EXISTS ( \
                     SELECT FROM orders AS e \
                     WHERE e.time_sale_id = o.time_sale_id AND e.user_id = o.user_id AND e.id < o.id) AS again \
                 FROM orders AS o \
                 WHERE o.id > greatest($2, (SELECT coalesce(max(id), 0) FROM orders) - $3) \
                   AND o.created_at > $1) AS recent",
        )
        .bind(since.as_millisecond())
        .bind(after)
        .bind(i64::from(newest));
        let row = self.pool.fetch_one(OPERATION, query).await?;
        buyers(&row).map_err(failed(OPERATION))
    }
}

fn drift(row: &PgRow) -> sqlx::Result<(SaleId, u64)> {
    Ok((row.try_get("id")?, rows::unsigned(row.try_get("drift")?)?))
}

fn buyers(row: &PgRow) -> sqlx::Result<Buyers> {
    Ok(Buyers {
        active: rows::unsigned(row.try_get("active")?)?,
        repeat: rows::unsigned(row.try_get("repeat")?)?,
        first: row.try_get("first")?,
    })
}
