//! Idempotency keys: what was first answered to a buyer's key.
//!
//! An order takes its key in its own transaction (see `migrations/postgres`); a request for the log claims its key before it is published and notes its place after.
//! `http/purchases` and `Backends` call it, and `app` to purge; nothing here waits for another call's outcome, save for a claim at the very moment in which an order takes the key.

use jiff::{SignedDuration, Timestamp};
use sqlx::Row;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use super::fault::{failed, is_conflict};
use super::{Postgres, rows};
use crate::backend::BackendError;
use crate::backend::database::{KeyRecord, KeyReply};
use crate::domain::{KeyId, Request, Ticket};

/// Keys deleted in one commit.
const PURGE_STEP: i64 = 1_000;

impl Postgres {
    /// Reads who holds a key; none where it is free.
    pub async fn find_key(&self, key: &KeyId) -> Result<Option<KeyRecord>, BackendError> {
        const OPERATION: &str = "read the key";
        let query = sqlx::query("SELECT * FROM idempotency_keys WHERE key = $1").bind(key.0);
        let Some(row) = self.pool.fetch_optional(OPERATION, query).await? else {
            return Ok(None);
        };
        let request = rows::request(&row, *key).map_err(failed(OPERATION))?;
        let order = row.try_get("order_id").map_err(failed(OPERATION))?;
        let reply = match order {
            None => KeyReply::Accepted(rows::ticket(&row).map_err(failed(OPERATION))?),
            Some(id) => KeyReply::Ordered(
                self.order(id)
                    .await?
                    .ok_or(sqlx::Error::RowNotFound)
                    .map_err(failed(OPERATION))?,
            ),
        };
        Ok(Some(KeyRecord { request, reply }))
    }

    /// Claims the request's key before the request is published; without a key there is nothing to claim.
    ///
    /// Fails with `Duplicate` where the key is taken, by a claim of the same request too, or the request is decided.
    pub async fn claim_key(&self, request: &Request) -> Result<(), BackendError> {
        const OPERATION: &str = "claim the key";
        let Some(key) = request.key else {
            return Ok(());
        };
        let query = sqlx::query(
            "INSERT INTO idempotency_keys \
                 (key, request_id, time_sale_id, user_id, quantity, version, revision, accepted_at) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8 \
             WHERE NOT EXISTS (SELECT FROM decisions WHERE request_id = $2) \
             ON CONFLICT (key) DO NOTHING \
             RETURNING key",
        );
        let query = bind(query, key, request);
        match self.pool.try_fetch_all(OPERATION, query).await? {
            Ok(claimed) if !claimed.is_empty() => Ok(()),
            Ok(_) => Err(BackendError::Duplicate),
            Err(error) if is_conflict(&error) => Err(BackendError::Duplicate),
            Err(error) => Err(failed(OPERATION)(error)),
        }
    }

    /// Notes the place that a request got in the log, if it has a key; a place that is noted already stays.
    ///
    /// A claim that another host released meanwhile, because it had no room for the request, is made again.
    pub async fn place_key(&self, request: &Request, ticket: &Ticket) -> Result<(), BackendError> {
        const OPERATION: &str = "place the key";
        let Some(key) = request.key else {
            return Ok(());
        };
        let signed = |count| rows::signed(count).map_err(failed(OPERATION));
        let query = sqlx::query(
            "INSERT INTO idempotency_keys AS k \
                 (key, request_id, time_sale_id, user_id, quantity, version, revision, accepted_at, \
                  log_partition, log_offset, queue_position, total_waiting) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
             ON CONFLICT (key) DO UPDATE SET \
                 log_partition = excluded.log_partition, log_offset = excluded.log_offset, \
                 queue_position = excluded.queue_position, total_waiting = excluded.total_waiting \
             WHERE k.request_id = excluded.request_id AND k.order_id IS NULL AND k.log_offset IS NULL",
        );
        let query = bind(query, key, request)
            .bind(i64::from(ticket.place.partition))
            .bind(signed(ticket.place.offset)?)
            .bind(signed(ticket.queue_position)?)
            .bind(signed(ticket.total_waiting)?);
        self.pool.fetch_all(OPERATION, query).await.map(drop)
    }

    /// Frees a key whose request was not published; one with a place or an order stays.
    pub async fn release_key(&self, key: &KeyId) -> Result<(), BackendError> {
        let query = sqlx::query(
            "DELETE FROM idempotency_keys \
             WHERE key = $1 AND order_id IS NULL AND log_offset IS NULL",
        )
        .bind(key.0);
        self.pool
            .fetch_all("release the key", query)
            .await
            .map(drop)
    }

    /// Deletes the keys whose sale ended more than `keep` before `now`, and says how many; where there is no such sale, the request's acceptance counts.
    pub async fn purge_keys(
        &self,
        now: Timestamp,
        keep: SignedDuration,
    ) -> Result<u64, BackendError> {
        let kept_since = now.as_duration().saturating_sub(keep).as_millis();
        let kept_since = i64::try_from(kept_since).unwrap_or(i64::MIN);
        let mut purged = 0;
        loop {
            // Another host may be at it too: each takes what the other has not.
            let query = sqlx::query(
                "DELETE FROM idempotency_keys WHERE key IN ( \
                     SELECT k.key FROM idempotency_keys AS k LEFT JOIN time_sales AS s ON s.id = k.time_sale_id \
                     WHERE coalesce(s.end_at, k.accepted_at) < $1 \
                     LIMIT $2 FOR UPDATE OF k SKIP LOCKED) \
                 RETURNING 1",
            )
            .bind(kept_since)
            .bind(PURGE_STEP);
            let step = self.pool.fetch_all("purge the keys", query).await?;
            if step.is_empty() {
                return Ok(purged);
            }
            purged += step.len() as u64;
        }
    }
}

/// Binds what the row of a key says of its request: $1 to $8.
fn bind<'q>(
    query: Query<'q, sqlx::Postgres, PgArguments>,
    key: KeyId,
    request: &'q Request,
) -> Query<'q, sqlx::Postgres, PgArguments> {
    query
        .bind(key.0)
        .bind(request.id.0.as_str())
        .bind(request.sale_id)
        .bind(request.user_id)
        .bind(i64::from(request.quantity))
        .bind(request.version.as_str())
        .bind(request.revision.0.as_str())
        .bind(request.accepted_at.as_millisecond())
}
