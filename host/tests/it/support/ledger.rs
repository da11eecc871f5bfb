//! What the database and the log say, read beside the host and without it.

use std::{
    any::Any,
    collections::{BTreeMap, HashSet},
    path::Path,
};

use serde::Deserialize;
use sqlx::{
    AssertSqlSafe, Connection as _,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};

use super::Setup;

/// A sale with its orders and refusals, as one snapshot.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Ledger {
    pub quantity: u64,
    pub remaining: u64,
    pub orders: Vec<OrderRow>,
    /// Why requests were refused for ever, by request id.
    pub refusals: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct OrderRow {
    pub id: u64,
    pub request_id: String,
    pub user_id: u64,
    pub quantity: u64,
    pub discount_price: i64,
    pub version: String,
    /// What the sale had left after it.
    remaining: u64,
    /// Milliseconds since 1970; taken before the commit.
    pub created_at: i64,
}

/// A sale as one document, in the words of PostgreSQL.
const IN_POSTGRES: &str = "
    SELECT json_build_object('quantity', quantity, 'remaining', remaining,
        'orders', (SELECT coalesce(json_agg(o), '[]') FROM orders AS o WHERE time_sale_id = $1),
        'refusals', (SELECT coalesce(json_object_agg(request_id, reason), '{}')
                     FROM decisions WHERE time_sale_id = $1 AND reason IS NOT NULL))::text
    FROM time_sales WHERE id = $1";

/// The same in those of SQLite.
const IN_SQLITE: &str = "
    SELECT json_object('quantity', quantity, 'remaining', remaining,
        'orders', (SELECT json_group_array(json_object(
                'id', id, 'request_id', request_id, 'user_id', user_id, 'quantity', quantity,
                'discount_price', discount_price, 'version', version, 'remaining', remaining, 'created_at', created_at))
            FROM orders WHERE time_sale_id = $1),
        'refusals', (SELECT json_group_object(request_id, reason) FROM refusals WHERE time_sale_id = $1))
    FROM time_sales WHERE id = $1";

impl Ledger {
    /// Reads a sale, and fails where its rows contradict each other.
    pub async fn read(setup: &Setup, sale: u64) -> Self {
        let id = i64::try_from(sale).unwrap();
        let document: String = match setup.world().postgres().await {
            Some(mut database) => {
                let query = sqlx::query_scalar(IN_POSTGRES).bind(id);
                query.fetch_one(&mut database).await.unwrap()
            }
            None => {
                let mut database = open(setup.data(), "timesale.db").await;
                let query = sqlx::query_scalar(IN_SQLITE).bind(id);
                query.fetch_one(&mut database).await.unwrap()
            }
        };
        let mut ledger: Self = serde_json::from_str(&document).unwrap();
        ledger.orders.sort_by_key(|order| order.id);
        ledger.audit();
        ledger
    }

    /// Pieces sold, by the orders.
    pub fn sold(&self) -> u64 {
        self.orders.iter().map(|order| order.quantity).sum()
    }

    /// Pieces that a user has bought.
    pub fn sold_to(&self, user: u64) -> u64 {
        let of_user = self.orders.iter().filter(|order| order.user_id == user);
        of_user.map(|order| order.quantity).sum()
    }

    /// The order of a request.
    pub fn order(&self, request: &str) -> Option<&OrderRow> {
        self.orders.iter().find(|order| order.request_id == request)
    }

    fn audit(&self) {
        let mut left = self.quantity;
        let mut requests = HashSet::new();
        for order in &self.orders {
            left = left
                .checked_sub(order.quantity)
                .unwrap_or_else(|| panic!("oversold at {order:?}"));
            assert_eq!(order.remaining, left, "{order:?}");
            assert!(
                requests.insert(&order.request_id),
                "a request has two orders: {order:?}"
            );
            assert!(
                !self.refusals.contains_key(&order.request_id),
                "charged and refused: {order:?}"
            );
        }
        assert_eq!(
            self.remaining, left,
            "what remains is not what was not sold"
        );
    }
}

#[cfg(feature = "services")]
/// What PostgreSQL says of a request, whoever may ask the host for it: `SUCCESS`, why it failed for ever, or nothing yet.
pub async fn decision(setup: &Setup, request: &str) -> Option<String> {
    let mut database = setup.world().postgres().await.unwrap();
    let query = "SELECT coalesce(reason, 'SUCCESS') FROM decisions WHERE request_id = $1";
    let query = sqlx::query_scalar(query).bind(request);
    query.fetch_optional(&mut database).await.unwrap()
}

/// Keeps everybody from buying in a sale, as a stuck session might, until it is dropped: takes its row, or the one writer of SQLite.
pub async fn hold(setup: &Setup, sale: u64) -> Box<dyn Any + Send> {
    if let Some(mut database) = setup.world().postgres().await {
        let id = i64::try_from(sale).unwrap();
        sqlx::query("BEGIN").execute(&mut database).await.unwrap();
        sqlx::query("SELECT FROM time_sales WHERE id = $1 FOR UPDATE")
            .bind(id)
            .execute(&mut database)
            .await
            .unwrap();
        return Box::new(database);
    }
    let mut database = writer(setup).await;
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut database)
        .await
        .unwrap();
    Box::new(database)
}

/// Takes two pieces of a sale without an order and forgets what was decided about a request, past every rule of the schema.
pub async fn contradict(setup: &Setup, sale: u64, request: &str) {
    let taken = format!("UPDATE time_sales SET remaining = remaining - 2 WHERE id = {sale};");
    let forgotten = |table| {
        format!("UPDATE {table} SET request_id = 'another' WHERE request_id = '{request}';")
    };
    if let Some(mut database) = setup.world().postgres().await {
        let unguarded = ["time_sales", "decisions"]
            .map(|table| format!("ALTER TABLE {table} DISABLE TRIGGER USER;"));
        let statements = unguarded.concat() + &taken + &forgotten("decisions");
        let run = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut database);
        run.await.unwrap();
        return;
    }
    let mut database = writer(setup).await;
    let unguarded = ["time_sales_move_with_an_order", "orders_never_change"]
        .map(|trigger| format!("DROP TRIGGER {trigger};"));
    let statements = unguarded.concat() + &taken + &forgotten("orders");
    let run = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut database);
    run.await.unwrap();
}

/// Takes the component of a version out of the database, which goes on naming it.
pub async fn lose_component(setup: &Setup, version: &str) {
    let statement = format!("DELETE FROM components WHERE version = '{version}'");
    let query = sqlx::raw_sql(AssertSqlSafe(statement));
    let lost = match setup.world().postgres().await {
        Some(mut database) => {
            let done = query.execute(&mut database).await.unwrap();
            done.rows_affected()
        }
        None => {
            let done = query.execute(&mut writer(setup).await).await.unwrap();
            done.rows_affected()
        }
    };
    assert_eq!(lost, 1);
}

/// The embedded database, to be written beside the host.
async fn writer(setup: &Setup) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(setup.data().join("timesale.db"));
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// A file of the embedded backends.
pub async fn open(data: &Path, file: &str) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(data.join(file))
        .read_only(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}
