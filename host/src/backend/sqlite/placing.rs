//! The one move of stock: requests become orders inside an open transaction.
//!
//! `orders` and `transaction` call it, once they know that nothing is decided about the requests.
//! It reads all that the verdicts need, judges in memory in the order given, and inserts what passed; the schema's triggers lower the stock and check every sum again.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Result, Row};

use super::{keys, rows};
use crate::backend::database::Denial;
use crate::domain::{
    KeyId, Order, OrderId, Refusal, Rejection, Request, RequestId, RevisionId, Sale, SaleId, UserId,
};

/// On what terms orders are placed.
#[derive(Debug)]
pub struct Terms<'a> {
    /// The revision that places them.
    pub settling: &'a RevisionId,
    /// The token of the lock that is held, not below that of the sale.
    pub fence: Option<i64>,
    /// Whether an order takes its request's idempotency key.
    pub keeps_keys: bool,
    /// The time of placing.
    pub now: Timestamp,
}

/// Judges undecided requests, each id once, in the order given, and places the orders of those that pass.
pub async fn place(
    connection: &mut SqliteConnection,
    requests: &[&Request],
    terms: &Terms<'_>,
) -> Result<Vec<Result<Order, Denial>>> {
    let circumstances = circumstances(&mut *connection, requests, terms).await?;
    let mut tally = Tally::default();
    let verdicts: Vec<_> = requests
        .iter()
        .zip(circumstances)
        .map(|(request, found)| tally.judge(request, found))
        .collect();
    let placements: Vec<_> = requests
        .iter()
        .zip(&verdicts)
        .filter_map(|(request, verdict)| Some((*request, verdict.as_ref().ok()?)))
        .collect();
    let ids = insert(&mut *connection, &placements, terms).await?;
    if terms.keeps_keys {
        let ordered = placements
            .iter()
            .filter_map(|(request, _)| Some((*request, *ids.get(&request.id)?)));
        keys::insert_ordered(connection, ordered).await?;
    }
    requests
        .iter()
        .zip(verdicts)
        .map(|(request, verdict)| match verdict {
            Ok(sale) => order(request, &sale, &ids, terms).map(Ok),
            Err(denial) => Ok(Err(denial)),
        })
        .collect()
}

fn order(
    request: &Request,
    sale: &Sale,
    ids: &HashMap<RequestId, OrderId>,
    terms: &Terms<'_>,
) -> Result<Order> {
    Ok(Order {
        id: *ids.get(&request.id).ok_or(sqlx::Error::RowNotFound)?,
        request_id: request.id.clone(),
        sale_id: sale.id,
        product_id: sale.product_id,
        user_id: request.user_id,
        quantity: request.quantity,
        discount_price: sale.discount_price,
        remaining: sale.remaining,
        version: request.version.clone(),
        accepting_revision: request.revision.clone(),
        settling_revision: terms.settling.clone(),
        created_at: terms.now,
    })
}

/// What a verdict on a request needs to know, as the transaction found it.
struct Circumstance {
    sale: Option<Sale>,
    bought: i64,
    key_taken: bool,
}

#[derive(Serialize)]
struct Asked {
    sale: SaleId,
    user: UserId,
    key: Option<String>,
}

async fn circumstances(
    connection: &mut SqliteConnection,
    requests: &[&Request],
    terms: &Terms<'_>,
) -> Result<Vec<Circumstance>> {
    let asked: Vec<_> = requests
        .iter()
        .map(|request| Asked {
            sale: request.sale_id,
            user: request.user_id,
            key: request.key.filter(|_| terms.keeps_keys).map(keys::hex),
        })
        .collect();
    let rows = sqlx::query(
        "SELECT s.*, s.id IS NOT NULL AS known, \
             (SELECT coalesce(sum(o.quantity), 0) FROM orders AS o \
              WHERE o.time_sale_id = a.value ->> 'sale' AND o.user_id = a.value ->> 'user') AS bought, \
             EXISTS (SELECT 1 FROM idempotency_keys AS k WHERE k.key = unhex(a.value ->> 'key')) AS key_taken \
         FROM json_each(?1) AS a LEFT JOIN time_sales AS s ON s.id = a.value ->> 'sale' \
         ORDER BY a.key",
    )
    .bind(rows::batch(&asked)?)
    .fetch_all(connection)
    .await?;
    rows.iter().map(circumstance).collect()
}

fn circumstance(row: &SqliteRow) -> Result<Circumstance> {
    let known: bool = row.try_get("known")?;
    Ok(Circumstance {
        sale: known.then(|| rows::sale(row)).transpose()?,
        bought: row.try_get("bought")?,
        key_taken: row.try_get("key_taken")?,
    })
}

/// What the orders of this batch have changed already.
#[derive(Default)]
struct Tally {
    sales: HashMap<SaleId, Sale>,
    bought: HashMap<(SaleId, UserId), i64>,
    keys: HashSet<KeyId>,
}

impl Tally {
    /// Judges the next request of the batch: the sale as the order leaves it, or why there is none.
    fn judge(&mut self, request: &Request, found: Circumstance) -> Result<Sale, Denial> {
        let taken = found.key_taken || request.key.is_some_and(|key| self.keys.contains(&key));
        if taken {
            return Err(Denial::Taken);
        }
        let Some(sale) = found.sale else {
            return Err(Denial::Refused(Refusal::Rejected(Rejection::SaleNotFound)));
        };
        let sale = self.sales.entry(sale.id).or_insert(sale);
        let bought = self
            .bought
            .entry((sale.id, request.user_id))
            .or_insert(found.bought);
        sale.judge(request, *bought)
            .map_err(|rejection| Denial::Refused(Refusal::Rejected(rejection)))?;
        let quantity = i64::from(request.quantity);
        sale.remaining -= quantity;
        *bought += quantity;
        self.keys.extend(request.key);
        Ok(sale.clone())
    }
}

#[derive(Serialize)]
struct NewOrder<'a> {
    request: &'a str,
    sale: SaleId,
    user: UserId,
    quantity: u32,
    price: i64,
    remaining: i64,
    version: &'a str,
    accepting: &'a str,
}

async fn insert(
    connection: &mut SqliteConnection,
    placements: &[(&Request, &Sale)],
    terms: &Terms<'_>,
) -> Result<HashMap<RequestId, OrderId>> {
    if placements.is_empty() {
        return Ok(HashMap::new());
    }
    let new: Vec<_> = placements
        .iter()
        .map(|(request, sale)| NewOrder {
            request: &request.id.0,
            sale: sale.id,
            user: request.user_id,
            quantity: request.quantity,
            price: sale.discount_price,
            remaining: sale.remaining,
            version: request.version.as_str(),
            accepting: &request.revision.0,
        })
        .collect();
    let rows = sqlx::query(
        "INSERT INTO orders (request_id, time_sale_id, user_id, quantity, discount_price, remaining, \
             version, accepting_revision, settling_revision, fence, created_at) \
         SELECT n.value ->> 'request', n.value ->> 'sale', n.value ->> 'user', n.value ->> 'quantity', \
             n.value ->> 'price', n.value ->> 'remaining', n.value ->> 'version', n.value ->> 'accepting', \
             ?2, ?3, ?4 \
         FROM json_each(?1) AS n WHERE true ORDER BY n.key \
         RETURNING id, request_id",
    )
    .bind(rows::batch(&new)?)
    .bind(&terms.settling.0)
    .bind(terms.fence)
    .bind(terms.now.as_millisecond())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok((RequestId(row.try_get("request_id")?), row.try_get("id")?)))
        .collect()
}
