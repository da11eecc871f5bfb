//! Orders and refusals: placed, made final, looked up, always by the batch.
//!
//! A batch is one statement however long it is: the database's function `purchase_batch`, or `purchase_one` for a single request, locks the sales, judges, inserts and answers, and the commit comes with it.
//! One hot sale is sold by one row; it is the batch that makes it fast.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;

use super::fault::{failed, is_conflict};
use super::{Postgres, rows};
use crate::backend::BackendError;
use crate::backend::database::Denial;
use crate::backend::once::Once;
use crate::domain::{
    Decision, Order, OrderId, ProductId, Refusal, Request, RequestId, RevisionId, SaleId,
};

/// How often a batch is judged again because another writer decided one of its requests, or took its key, at the same moment.
const CONFLICTS_MAX: u32 = 3;

/// On what terms orders are placed.
#[derive(Debug)]
pub struct Terms<'a> {
    /// The revision that places them.
    pub settling: &'a RevisionId,
    /// The token of the lock that is held.
    pub fence: Option<i64>,
    /// Whether a rejection is made final; if so keys are left alone, else an order takes its request's.
    pub refusals_are_final: bool,
    /// The time of placing.
    pub now: Timestamp,
}

/// What the database says of a request.
#[derive(Debug)]
pub enum Verdict {
    /// Its order, placed just now.
    Placed(Order),
    /// It was decided before.
    Decided(Decision),
    /// Its idempotency key belongs to another request.
    Taken,
    /// A token above the fence has written to the sale.
    LockLost,
    /// It was refused just now.
    Refused(Refusal),
}

impl Postgres {
    /// Reads one order.
    pub async fn order(&self, id: OrderId) -> Result<Option<Order>, BackendError> {
        const OPERATION: &str = "read the order";
        let query = sqlx::query(
            "SELECT o.*, s.product_id FROM orders AS o JOIN time_sales AS s ON s.id = o.time_sale_id \
             WHERE o.id = $1",
        )
        .bind(id);
        let row = self.pool.fetch_optional(OPERATION, query).await?;
        let order = row.as_ref().map(rows::order).transpose();
        order.map_err(failed(OPERATION))
    }

    /// What was decided about these requests, in their order; none where nothing is final yet.
    pub async fn decisions(
        &self,
        requests: &[RequestId],
    ) -> Result<Vec<Option<Decision>>, BackendError> {
        const OPERATION: &str = "read the decisions";
        let ids: Vec<_> = requests.iter().map(|id| id.0.as_str()).collect();
        let query = sqlx::query(
            "SELECT o.*, s.product_id, d.reason FROM unnest($1) WITH ORDINALITY AS wanted (id, place) \
             LEFT JOIN decisions AS d ON d.request_id = wanted.id \
             LEFT JOIN orders AS o ON o.id = d.order_id \
             LEFT JOIN time_sales AS s ON s.id = o.time_sale_id \
             ORDER BY wanted.place",
        )
        .bind(ids);
        let rows = self.pool.fetch_all(OPERATION, query).await?;
        let decisions: sqlx::Result<_> = rows.iter().map(rows::decision).collect();
        decisions.map_err(failed(OPERATION))
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
        const OPERATION: &str = "purchase";
        let terms = Terms {
            settling,
            fence: None,
            refusals_are_final,
            now,
        };
        let once = Once::of(requests);
        for _ in 0..CONFLICTS_MAX {
            let query = match once.requests[..] {
                [request] => purchase_one(request, &terms),
                _ => purchase_batch(&once.requests, &terms),
            };
            let rows = match self.pool.try_fetch_all(OPERATION, query).await? {
                Ok(rows) => rows,
                Err(error) if is_conflict(&error) => continue,
                Err(error) => return Err(failed(OPERATION)(error)),
            };
            let answers = match once.requests[..] {
                [_] => verdict(&rows).and_then(|it| Ok(vec![Some(answer(it)?)])),
                _ => answers(&rows, &once.requests, &terms),
            };
            let answers = answers.map_err(failed(OPERATION))?;
            let open = once.open(&answers).into_iter();
            let open: Vec<_> = open.map(|request| request.id.clone()).collect();
            let before = match open[..] {
                [] => Vec::new(),
                _ => self.decisions(&open).await?,
            };
            let before: Option<Vec<_>> = before.into_iter().collect();
            let answers = before.and_then(|before| {
                once.spread(answers, before.into_iter().map(Decision::into_answer))
            });
            return answers.ok_or_else(|| failed(OPERATION)(sqlx::Error::RowNotFound));
        }
        Err(BackendError::Duplicate)
    }

    /// Makes refusals final where nothing is decided: the first writer wins, and an order stays an order.
    pub async fn refuse(
        &self,
        refusals: &[(RequestId, SaleId, Refusal)],
        now: Timestamp,
    ) -> Result<(), BackendError> {
        let ids: Vec<_> = refusals.iter().map(|(id, ..)| id.0.as_str()).collect();
        let sales: Vec<_> = refusals.iter().map(|(_, sale, _)| *sale).collect();
        let reasons: Vec<_> = refusals.iter().map(|(.., why)| why.code()).collect();
        let query = sqlx::query(
            "INSERT INTO decisions (request_id, time_sale_id, reason, created_at) \
             SELECT n.id, n.sale, n.reason, $4 \
             FROM unnest($1, $2, $3) WITH ORDINALITY AS n (id, sale, reason, place) \
             ORDER BY n.id, n.place ON CONFLICT DO NOTHING",
        )
        .bind(ids)
        .bind(sales)
        .bind(reasons)
        .bind(now.as_millisecond());
        self.pool.fetch_all("refuse", query).await.map(drop)
    }
}

/// The call of the database that places one request; its answer is a row.
pub fn purchase_one<'q>(
    request: &'q Request,
    terms: &Terms<'q>,
) -> Query<'q, sqlx::Postgres, PgArguments> {
    let asked = sqlx::query(
        "SELECT * FROM purchase_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(request.id.0.as_str())
    .bind(request.sale_id)
    .bind(request.user_id)
    .bind(i64::from(request.quantity))
    .bind(request.accepted_at.as_millisecond())
    .bind(request.version.as_str())
    .bind(request.revision.0.as_str())
    .bind(key(request, terms));
    on(asked, terms)
}

/// The call of the database that places these requests, each id once; its answer is one row for all.
pub fn purchase_batch<'q>(
    requests: &[&'q Request],
    terms: &Terms<'q>,
) -> Query<'q, sqlx::Postgres, PgArguments> {
    let asked = sqlx::query(
        "SELECT * FROM purchase_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(each(requests, |request| request.id.0.as_str()))
    .bind(each(requests, |request| request.sale_id))
    .bind(each(requests, |request| request.user_id))
    .bind(each(requests, |request| i64::from(request.quantity)))
    .bind(each(requests, |request| {
        request.accepted_at.as_millisecond()
    }))
    .bind(each(requests, |request| request.version.as_str()))
    .bind(each(requests, |request| request.revision.0.as_str()))
    .bind(each(requests, |request| key(request, terms)));
    on(asked, terms)
}

fn each<'q, T>(requests: &[&'q Request], fact: impl Fn(&'q Request) -> T) -> Vec<T> {
    requests.iter().map(|request| fact(request)).collect()
}

/// The idempotency key that an order takes.
fn key(request: &Request, terms: &Terms<'_>) -> Option<[u8; 32]> {
    let key = request.key.filter(|_| !terms.refusals_are_final);
    key.map(|key| key.0)
}

fn on<'q>(
    asked: Query<'q, sqlx::Postgres, PgArguments>,
    terms: &Terms<'q>,
) -> Query<'q, sqlx::Postgres, PgArguments> {
    asked
        .bind(terms.settling.0.as_str())
        .bind(terms.fence)
        .bind(terms.refusals_are_final)
        .bind(terms.now.as_millisecond())
}

/// The call of `purchase_one`, as its connection has prepared it, as text without parameters: for a trip that carries more statements than it.
pub fn purchase_as_text(request: &Request, terms: &Terms<'_>) -> String {
    // In an `E''` these two alone mean something, whatever the server's settings; texts are UTF-8 on both sides.
    let text = |text: &str| format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"));
    let or_null = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    let key = key(request, terms).map(|key| text(&format!(r"\x{}", hex::encode(key))));
    let parameters = [
        text(&request.id.0),
        request.sale_id.to_string(),
        request.user_id.to_string(),
        request.quantity.to_string(),
        request.accepted_at.as_millisecond().to_string(),
        text(request.version.as_str()),
        text(&request.revision.0),
        or_null(key),
        text(&terms.settling.0),
        or_null(terms.fence.map(|fence| fence.to_string())),
        terms.refusals_are_final.to_string(),
        terms.now.as_millisecond().to_string(),
    ];
    format!("EXECUTE purchase_one ({})", parameters.join(", "))
}

/// Reads the answer of `purchase_one`.
pub fn verdict(rows: &[PgRow]) -> sqlx::Result<Verdict> {
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let word: Option<&str> = row.try_get("verdict")?;
    let decided = rows::decision(row)?;
    Ok(match (word, decided) {
        (None, Some(Decision::Ordered(order))) => Verdict::Placed(order),
        (Some("TAKEN"), _) => Verdict::Taken,
        (Some("LOCK_LOST"), _) => Verdict::LockLost,
        (Some("DECIDED"), Some(decision)) => Verdict::Decided(decision),
        (Some(code), _) => Verdict::Refused(rows::refusal(code, "verdict")?),
        (None, _) => return Err(sqlx::Error::RowNotFound),
    })
}

fn answer(verdict: Verdict) -> sqlx::Result<Result<Order, Denial>> {
    Ok(match verdict {
        Verdict::Placed(order) => Ok(order),
        Verdict::Decided(decision) => decision.into_answer(),
        Verdict::Refused(refusal) => Err(Denial::Refused(refusal)),
        Verdict::Taken => Err(Denial::Taken),
        // It is said of a fence, and a batch has none.
        Verdict::LockLost => return Err(sqlx::Error::RowNotFound),
    })
}

/// Reads the answer of `purchase_batch`: one for each request, none where it was decided before.
fn answers(
    rows: &[PgRow],
    requests: &[&Request],
    terms: &Terms<'_>,
) -> sqlx::Result<Vec<Option<Result<Order, Denial>>>> {
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let verdicts: Vec<Option<String>> = row.try_get("verdicts")?;
    let ids: Vec<OrderId> = row.try_get("ids")?;
    let products: Vec<Option<ProductId>> = row.try_get("products")?;
    let prices: Vec<Option<i64>> = row.try_get("prices")?;
    let lefts: Vec<Option<i64>> = row.try_get("lefts")?;
    let mut ids = ids.into_iter();
    let sold = products.into_iter().zip(prices).zip(lefts);
    let answer = |((request, verdict), sold): ((&&Request, Option<String>), _)| {
        let ((product_id, discount_price), remaining) = sold;
        let mut order = || {
            Some(Order {
                id: ids.next()?,
                request_id: request.id.clone(),
                sale_id: request.sale_id,
                product_id: product_id?,
                user_id: request.user_id,
                quantity: request.quantity,
                discount_price: discount_price?,
                remaining: remaining?,
                version: request.version.clone(),
                accepting_revision: request.revision.clone(),
                settling_revision: terms.settling.clone(),
                created_at: terms.now,
            })
        };
        Ok(match verdict.as_deref() {
            None => Some(Ok(order().ok_or(sqlx::Error::RowNotFound)?)),
            Some("DECIDED") => None,
            Some("TAKEN") => Some(Err(Denial::Taken)),
            Some(code) => Some(Err(Denial::Refused(rows::refusal(code, "verdicts")?))),
        })
    };
    requests
        .iter()
        .zip(verdicts)
        .zip(sold)
        .map(answer)
        .collect()
}
