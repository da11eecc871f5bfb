//! Idempotency keys: what was first answered to a buyer's key.
//!
//! An order takes its key in its own transaction (see `placing`); a request for the log claims its key before it is published and notes its place after.
//! `http/purchases` and `Backends::accept` call it, and `app` to purge; nothing here waits for another call's outcome.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Result, Row};

use super::file::failed;
use super::{Sqlite, rows};
use crate::backend::database::{KeyRecord, KeyReply};
use crate::backend::{BackendError, System};
use crate::domain::{KeyId, OrderId, Request, Ticket};

/// Keys deleted in one commit; purchases get between two.
const PURGE_STEP: i64 = 1_000;

impl Sqlite {
    /// Reads who holds a key; none where it is free.
    pub async fn find_key(&self, key: &KeyId) -> Result<Option<KeyRecord>, BackendError> {
        let wrong = || failed(System::Database, "read the key");
        let row = sqlx::query("SELECT * FROM idempotency_keys WHERE key = ?1")
            .bind(key.0.as_slice())
            .fetch_optional(self.file.readers())
            .await
            .map_err(wrong())?;
        let Some(row) = row else { return Ok(None) };
        let request = rows::request(&row, *key).map_err(wrong())?;
        let order: Option<OrderId> = row.try_get("order_id").map_err(wrong())?;
        let reply = match order {
            None => KeyReply::Accepted(rows::ticket(&row).map_err(wrong())?),
            Some(id) => KeyReply::Ordered(
                self.order(id)
                    .await?
                    .ok_or(sqlx::Error::RowNotFound)
                    .map_err(wrong())?,
            ),
        };
        Ok(Some(KeyRecord { request, reply }))
    }

    /// Claims the request's key before the request is published; without a key there is nothing to claim.
    ///
    /// Fails with `Duplicate` where the key is taken, by a claim of the same request too, or the request is decided.
    pub async fn claim_key(&self, request: &Request) -> Result<(), BackendError> {
        let Some(key) = request.key else {
            return Ok(());
        };
        let query = sqlx::query(
            "INSERT INTO idempotency_keys \
                 (key, request_id, time_sale_id, user_id, quantity, version, revision, accepted_at) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 \
             WHERE NOT EXISTS (SELECT 1 FROM orders WHERE request_id = ?2) \
               AND NOT EXISTS (SELECT 1 FROM refusals WHERE request_id = ?2) \
             ON CONFLICT (key) DO NOTHING",
        );
        let claim = bind(query, &key, request);
        match claim.execute(self.file.writer()).await {
            Ok(done) if done.rows_affected() == 1 => Ok(()),
            Ok(_) => Err(BackendError::Duplicate),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(BackendError::Duplicate)
            }
            Err(error) => Err(failed(System::Database, "claim the key")(error)),
        }
    }

    /// Notes the place that a request got in the log, if it has a key; a place that is noted already stays.
    ///
    /// A claim that was released meanwhile is made again.
    pub async fn place_key(&self, request: &Request, ticket: &Ticket) -> Result<(), BackendError> {
        match request.key {
            Some(key) => place(self, &key, request, ticket)
                .await
                .map_err(failed(System::Database, "place the key")),
            None => Ok(()),
        }
    }

    /// Frees a key whose request was not published; one with a place or an order stays.
    pub async fn release_key(&self, key: &KeyId) -> Result<(), BackendError> {
        sqlx::query(
            "DELETE FROM idempotency_keys \
             WHERE key = ?1 AND order_id IS NULL AND log_offset IS NULL",
        )
        .bind(key.0.as_slice())
        .execute(self.file.writer())
        .await
        .map_err(failed(System::Database, "release the key"))?;
        Ok(())
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
            let step = purge(self, kept_since)
                .await
                .map_err(failed(System::Database, "purge the keys"))?;
            purged += step;
            if step == 0 {
                return Ok(purged);
            }
        }
    }
}

/// Notes for requests with a key that the key's reply is this order.
pub(super) async fn insert_ordered(
    connection: &mut SqliteConnection,
    ordered: impl Iterator<Item = (&Request, OrderId)>,
) -> Result<()> {
    let new: Vec<_> = ordered
        .filter_map(|(request, order)| {
            Some(NewKey {
                key: hex(request.key?),
                request: &request.id.0,
                sale: request.sale_id,
                user: request.user_id,
                quantity: request.quantity,
                version: request.version.as_str(),
                revision: &request.revision.0,
                accepted_at: request.accepted_at.as_millisecond(),
                order,
            })
        })
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH new AS MATERIALIZED (SELECT value FROM json_each(?1)) \
         INSERT INTO idempotency_keys (key, request_id, time_sale_id, user_id, quantity, \
             version, revision, accepted_at, order_id) \
         SELECT unhex(value ->> 'key'), value ->> 'request', value ->> 'sale', value ->> 'user', \
             value ->> 'quantity', value ->> 'version', value ->> 'revision', \
             value ->> 'accepted_at', value ->> 'order' \
         FROM new",
    )
    .bind(rows::batch(&new)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// A key as hexadecimal text, to travel in a batch; the database's `unhex` undoes it.
pub(super) fn hex(key: KeyId) -> String {
    hex::encode(key.0)
}

#[derive(Serialize)]
struct NewKey<'a> {
    key: String,
    request: &'a str,
    sale: i64,
    user: i64,
    quantity: u32,
    version: &'a str,
    revision: &'a str,
    accepted_at: i64,
    order: OrderId,
}

async fn place(database: &Sqlite, key: &KeyId, request: &Request, ticket: &Ticket) -> Result<()> {
    let query = sqlx::query(
        "INSERT INTO idempotency_keys \
             (key, request_id, time_sale_id, user_id, quantity, version, revision, accepted_at, \
              log_partition, log_offset, queue_position, total_waiting) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
         ON CONFLICT (key) DO UPDATE SET \
             log_partition = excluded.log_partition, log_offset = excluded.log_offset, \
             queue_position = excluded.queue_position, total_waiting = excluded.total_waiting \
         WHERE request_id = excluded.request_id AND order_id IS NULL AND log_offset IS NULL",
    );
    bind(query, key, request)
        .bind(ticket.place.partition)
        .bind(rows::signed(ticket.place.offset)?)
        .bind(rows::signed(ticket.queue_position)?)
        .bind(rows::signed(ticket.total_waiting)?)
        .execute(database.file.writer())
        .await?;
    Ok(())
}

/// Binds what the row of a key says of its request: ?1 to ?8.
fn bind<'q>(
    query: Query<'q, sqlx::Sqlite, SqliteArguments>,
    key: &'q KeyId,
    request: &'q Request,
) -> Query<'q, sqlx::Sqlite, SqliteArguments> {
    query
        .bind(key.0.as_slice())
        .bind(request.id.0.as_str())
        .bind(request.sale_id)
        .bind(request.user_id)
        .bind(request.quantity)
        .bind(request.version.as_str())
        .bind(request.revision.0.as_str())
        .bind(request.accepted_at.as_millisecond())
}

async fn purge(database: &Sqlite, kept_since: i64) -> Result<u64> {
    // Found beside the writer: what makes a key old never changes.
    let old: Vec<String> = sqlx::query_scalar(
        "SELECT hex(k.key) FROM idempotency_keys AS k LEFT JOIN time_sales AS s ON s.id = k.time_sale_id \
         WHERE coalesce(s.end_at, k.accepted_at) < ?1 LIMIT ?2",
    )
    .bind(kept_since)
    .bind(PURGE_STEP)
    .fetch_all(database.file.readers())
    .await?;
    if old.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "DELETE FROM idempotency_keys WHERE key IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(rows::batch(&old)?)
    .execute(database.file.writer())
    .await?;
    Ok(done.rows_affected())
}
