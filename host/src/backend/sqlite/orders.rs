//! Orders and refusals: placed, made final, looked up, always by the batch.
//!
//! A batch is a handful of statements however long it is: what is decided, the circumstances of the rest, the orders, the keys, the refusals.
//! One hot sale is sold by one row; it is the batch that makes it fast.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::file::failed;
use super::placing::{self, Terms};
use super::{Sqlite, rows};
use crate::backend::database::Denial;
use crate::backend::once::Once;
use crate::backend::{BackendError, System};
use crate::domain::{Decision, Order, OrderId, Refusal, Request, RequestId, RevisionId, SaleId};

impl Sqlite {
    /// Reads one order.
    pub async fn order(&self, id: OrderId) -> Result<Option<Order>, BackendError> {
        find(self, id)
            .await
            .map_err(failed(System::Database, "read the order"))
    }

    /// What was decided about these requests, in their order; none where nothing is final yet.
    pub async fn decisions(
        &self,
        requests: &[RequestId],
    ) -> Result<Vec<Option<Decision>>, BackendError> {
        let wrong = || failed(System::Database, "read the decisions");
        let mut connection = self.file.readers().acquire().await.map_err(wrong())?;
        let ids: Vec<_> = requests.iter().collect();
        decisions(&mut connection, &ids).await.map_err(wrong())
    }

    /// Places orders for these requests in one commit, judging each in turn; one answer for each, in their order.
    ///
    /// A request that is decided already is answered as it was decided.
    /// With `refusals_are_final` a rejection is made final in the same commit and keys are left alone: the requests come out of the log.
    /// Without it a rejected request may be asked again, and an order takes its request's key with it.
    /// After an error the whole batch is placed or none of it: whoever called asks again, or looks up.
    pub async fn purchase(
        &self,
        requests: &[Request],
        settling: &RevisionId,
        refusals_are_final: bool,
        now: Timestamp,
    ) -> Result<Vec<Result<Order, Denial>>, BackendError> {
        let terms = Terms {
            settling,
            fence: None,
            keeps_keys: !refusals_are_final,
            now,
        };
        let mut writing = self.file.begin("purchase").await?;
        let answers = purchase(writing.connection(), requests, &terms)
            .await
            .map_err(failed(System::Database, "purchase"))?;
        writing.commit().await?;
        Ok(answers)
    }

    /// Makes refusals final where nothing is decided: the first writer wins, and an order stays an order.
    pub async fn refuse(
        &self,
        refusals: &[(RequestId, SaleId, Refusal)],
        now: Timestamp,
    ) -> Result<(), BackendError> {
        let mut writing = self.file.begin("refuse").await?;
        let refusals = refusals
            .iter()
            .map(|(request, sale, refusal)| (request, *sale, *refusal));
        insert_refusals(writing.connection(), refusals, now)
            .await
            .map_err(failed(System::Database, "refuse"))?;
        writing.commit().await
    }
}

async fn find(database: &Sqlite, id: OrderId) -> sqlx::Result<Option<Order>> {
    let row = sqlx::query(
        "SELECT o.*, s.product_id FROM orders AS o JOIN time_sales AS s ON s.id = o.time_sale_id \
         WHERE o.id = ?1",
    )
    .bind(id)
    .fetch_optional(database.file.readers())
    .await?;
    row.as_ref().map(rows::order).transpose()
}

async fn purchase(
    connection: &mut SqliteConnection,
    requests: &[Request],
    terms: &Terms<'_>,
) -> sqlx::Result<Vec<Result<Order, Denial>>> {
    let once = Once::of(requests);
    let ids: Vec<_> = once.requests.iter().map(|request| &request.id).collect();
    let decided = decisions(&mut *connection, &ids).await?;
    let open = once.open(&decided);
    let placed = placing::place(&mut *connection, &open, terms).await?;
    if !terms.keeps_keys {
        let refused = open.iter().zip(&placed).filter_map(|(request, answer)| {
            let Err(Denial::Refused(refusal)) = answer else {
                return None;
            };
            Some((&request.id, request.sale_id, *refusal))
        });
        insert_refusals(connection, refused, terms.now).await?;
    }
    let decided = decided.into_iter();
    let decided = decided.map(|decision| decision.map(Decision::into_answer));
    once.spread(decided.collect(), placed)
        .ok_or(sqlx::Error::RowNotFound)
}

/// What was decided about these requests, as the connection sees it.
pub(super) async fn decisions(
    connection: &mut SqliteConnection,
    requests: &[&RequestId],
) -> sqlx::Result<Vec<Option<Decision>>> {
    let ids: Vec<_> = requests.iter().map(|id| &id.0).collect();
    let rows = sqlx::query(
        "SELECT wanted.key AS place, o.*, s.product_id, r.reason FROM json_each(?1) AS wanted \
         LEFT JOIN orders AS o ON o.request_id = wanted.value \
         LEFT JOIN time_sales AS s ON s.id = o.time_sale_id \
         LEFT JOIN refusals AS r ON r.request_id = wanted.value \
         WHERE o.id IS NOT NULL OR r.reason IS NOT NULL",
    )
    .bind(rows::batch(&ids)?)
    .fetch_all(connection)
    .await?;
    let mut decided: HashMap<usize, Decision> = rows
        .iter()
        .map(|row| Ok((rows::place(row)?, decision(row)?)))
        .collect::<sqlx::Result<_>>()?;
    Ok((0..requests.len())
        .map(|place| decided.remove(&place))
        .collect())
}

fn decision(row: &SqliteRow) -> sqlx::Result<Decision> {
    let Some(reason) = row.try_get::<Option<String>, _>("reason")? else {
        return Ok(Decision::Ordered(rows::order(row)?));
    };
    let refusal = Refusal::from_code(&reason).ok_or_else(|| rows::unknown("reason", &reason))?;
    Ok(Decision::Refused(refusal))
}

#[derive(Serialize)]
struct NewRefusal<'a> {
    request: &'a str,
    sale: SaleId,
    reason: &'static str,
}

async fn insert_refusals(
    connection: &mut SqliteConnection,
    refusals: impl Iterator<Item = (&RequestId, SaleId, Refusal)>,
    now: Timestamp,
) -> sqlx::Result<()> {
    let mut seen = HashSet::new();
    let new: Vec<_> = refusals
        .filter(|(request, ..)| seen.insert(*request))
        .map(|(request, sale, refusal)| NewRefusal {
            request: &request.0,
            sale,
            reason: refusal.code(),
        })
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH new AS MATERIALIZED (SELECT value FROM json_each(?1)) \
         INSERT INTO refusals (request_id, time_sale_id, reason, created_at) \
         SELECT value ->> 'request', value ->> 'sale', value ->> 'reason', ?2 \
         FROM new \
         WHERE NOT EXISTS (SELECT 1 FROM orders WHERE request_id = value ->> 'request') \
           AND NOT EXISTS (SELECT 1 FROM refusals WHERE request_id = value ->> 'request')",
    )
    .bind(rows::batch(&new)?)
    .bind(now.as_millisecond())
    .execute(connection)
    .await?;
    Ok(())
}
