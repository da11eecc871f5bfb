//! The one move of stock: requests become orders inside an open transaction.
//!
//! `orders` and `transaction` call it, once they know that nothing is decided about the requests.
//! It reads all that the verdicts need, judges in memory in the order given, and inserts what passed; the schema's triggers lower the stock and check every sum again.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Result, Row};

use super::{keys, rows};
use crate::backend::database::Denial;
use crate::domain::{
    KeyId, Order, OrderId, Refusal, Rejection, Request, RevisionId, Sale, SaleId, UserId,
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
    let mut tally = Tally::read(&mut *connection, requests, terms).await?;
    let verdicts: Vec<_> = requests
        .iter()
        .map(|request| tally.judge(request))
        .collect();
    let placements: Vec<_> = requests
        .iter()
        .zip(&verdicts)
        .filter_map(|(request, verdict)| Some((*request, verdict.as_ref().ok()?)))
        .collect();
    let ids = insert(&mut *connection, &placements, terms).await?;
    if terms.keeps_keys {
        let placed = placements.iter().map(|(request, _)| *request);
        keys::insert_ordered(connection, placed.zip(ids.iter().copied())).await?;
    }
    let mut ids = ids.into_iter();
    requests
        .iter()
        .zip(verdicts)
        .map(|(request, verdict)| match verdict {
            Ok(sale) => {
                let id = ids.next().ok_or(sqlx::Error::RowNotFound)?;
                Ok(Ok(order(id, request, &sale, terms)))
            }
            Err(denial) => Ok(Err(denial)),
        })
        .collect()
}

fn order(id: OrderId, request: &Request, sale: &Sale, terms: &Terms<'_>) -> Order {
    Order {
        id,
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
    }
}

/// What verdicts need to know: as the transaction found it, and then as the batch's orders leave it.
#[derive(Default)]
struct Tally {
    sales: HashMap<SaleId, Sale>,
    bought: HashMap<(SaleId, UserId), i64>,
    /// The keys that are taken.
    keys: HashSet<KeyId>,
}

impl Tally {
    /// Reads what is known of these requests: rows for the sales, and for the requests whose buyer has bought or whose key is taken.
    async fn read(
        connection: &mut SqliteConnection,
        requests: &[&Request],
        terms: &Terms<'_>,
    ) -> Result<Self> {
        let mut sales = HashSet::new();
        let asked: Vec<_> = requests
            .iter()
            .map(|request| {
                let key = request.key.filter(|_| terms.keeps_keys).map(keys::hex);
                let first_of_sale = sales.insert(request.sale_id);
                (request.sale_id, request.user_id, key, first_of_sale)
            })
            .collect();
        let found = sqlx::query(
            "WITH asked AS MATERIALIZED ( \
                 SELECT key AS place, value ->> 0 AS sale, value ->> 1 AS user, \
                     unhex(value ->> 2) AS buyer_key, value ->> 3 AS first_of_sale \
                 FROM json_each(?1) \
             ), found AS ( \
                 SELECT a.place, CASE WHEN a.first_of_sale THEN a.sale END AS sale, \
                     (SELECT coalesce(sum(o.quantity), 0) FROM orders AS o \
                      WHERE o.time_sale_id = a.sale AND o.user_id = a.user) AS bought, \
                     EXISTS (SELECT 1 FROM idempotency_keys AS k WHERE k.key = a.buyer_key) AS key_taken \
                 FROM asked AS a \
             ) \
             SELECT f.place, f.bought, f.key_taken, s.id IS NOT NULL AS has_sale, s.* \
             FROM found AS f LEFT JOIN time_sales AS s ON s.id = f.sale \
             WHERE has_sale OR f.bought > 0 OR f.key_taken",
        )
        .bind(rows::batch(&asked)?)
        .fetch_all(connection)
        .await?;
        let mut tally = Self::default();
        for row in &found {
            let request = requests.get(rows::place(row)?);
            tally.note(row, request.ok_or(sqlx::Error::RowNotFound)?)?;
        }
        Ok(tally)
    }

    fn note(&mut self, row: &SqliteRow, request: &Request) -> Result<()> {
        if row.try_get("has_sale")? {
            let sale = rows::sale(row)?;
            self.sales.insert(sale.id, sale);
        }
        let buyer = (request.sale_id, request.user_id);
        self.bought.insert(buyer, row.try_get("bought")?);
        if row.try_get("key_taken")? {
            self.keys.extend(request.key);
        }
        Ok(())
    }

    /// Judges the next request of the batch: the sale as the order leaves it, or why there is none.
    fn judge(&mut self, request: &Request) -> Result<Sale, Denial> {
        if request.key.is_some_and(|key| self.keys.contains(&key)) {
            return Err(Denial::Taken);
        }
        let Some(sale) = self.sales.get_mut(&request.sale_id) else {
            return Err(Denial::Refused(Refusal::Rejected(Rejection::SaleNotFound)));
        };
        let bought = self.bought.entry((sale.id, request.user_id)).or_default();
        sale.judge(request, *bought)
            .map_err(|rejection| Denial::Refused(Refusal::Rejected(rejection)))?;
        let quantity = i64::from(request.quantity);
        sale.remaining -= quantity;
        *bought += quantity;
        self.keys.extend(request.key);
        Ok(sale.clone())
    }
}

/// Inserts the orders, and says their ids, in their order.
async fn insert(
    connection: &mut SqliteConnection,
    placements: &[(&Request, &Sale)],
    terms: &Terms<'_>,
) -> Result<Vec<OrderId>> {
    if placements.is_empty() {
        return Ok(Vec::new());
    }
    // In the order of the columns.
    let new: Vec<_> = placements
        .iter()
        .map(|(request, sale)| {
            (
                &request.id.0,
                sale.id,
                request.user_id,
                request.quantity,
                sale.discount_price,
                sale.remaining,
                request.version.as_str(),
                &request.revision.0,
            )
        })
        .collect();
    let mut ids: Vec<OrderId> = sqlx::query_scalar(
        "WITH new AS MATERIALIZED (SELECT key AS place, value FROM json_each(?1)) \
         INSERT INTO orders (request_id, time_sale_id, user_id, quantity, discount_price, remaining, \
             version, accepting_revision, settling_revision, fence, created_at) \
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, \
             value ->> 6, value ->> 7, ?2, ?3, ?4 \
         FROM new ORDER BY place \
         RETURNING id",
    )
    .bind(rows::batch(&new)?)
    .bind(terms.settling.0.as_str())
    .bind(terms.fence)
    .bind(terms.now.as_millisecond())
    .fetch_all(connection)
    .await?;
    // They rise in the order of insertion; in which order they are returned is left open by SQLite.
    ids.sort_unstable();
    Ok(ids)
}
