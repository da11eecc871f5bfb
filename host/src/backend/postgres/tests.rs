//! What the tests of the database on a server share: a schema of their own, a sale in it, requests for it.
//!
//! They need the server of `DATABASE_URL` and come with the feature `services`.
//! What both databases promise is tested by the files of the embedded one.
#![expect(
    clippy::duplicate_mod,
    reason = "the same tests run on either database, each with a Fixture of its own"
)]

#[path = "../sqlite/tests/audit.rs"]
mod audit;
#[path = "../sqlite/tests/catalogue.rs"]
mod catalogue;
mod crowd;
mod faults;
#[path = "../sqlite/tests/keys.rs"]
mod keys;
#[path = "../sqlite/tests/one_step.rs"]
mod one_step;
mod plans;
#[path = "../sqlite/tests/purchases.rs"]
mod purchases;
mod schema;
#[path = "../sqlite/tests/strategies.rs"]
mod strategies;
#[path = "../sqlite/tests/together.rs"]
mod together;
mod transactions;

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::{Postgres, PostgresOptions};
use crate::backend::BackendError;
use crate::backend::database::Database;
use crate::domain::{
    KeyId, NewProduct, NewSale, Order, Refusal, Rejection, Request, RequestId, RevisionId, Sale,
    Version,
};

/// What a test ends in.
pub type Outcome = Result<(), Box<dyn Error>>;

/// A database in a schema of its own, and the time that its tests live in.
pub struct Fixture {
    pub database: Arc<Postgres>,
    pub now: Timestamp,
    pub options: PostgresOptions,
    _schema: Schema,
}

impl Fixture {
    pub async fn new() -> Result<Self, Box<dyn Error>> {
        Self::with(|_| {}).await
    }

    /// A database with other options than the usual.
    pub async fn with(change: impl FnOnce(&mut PostgresOptions)) -> Result<Self, Box<dyn Error>> {
        let url = std::env::var("DATABASE_URL")?;
        let schema = format!("test_{:032x}", rand::random::<u128>());
        let mut options = PostgresOptions {
            url: url.clone(),
            pool_max: 8,
            row_lock_wait: Duration::from_secs(20),
            statement_timeout: Duration::from_secs(25),
            transaction_hold: Duration::from_secs(20),
            schema: Some(schema.clone()),
        };
        change(&mut options);
        let schema = Schema { url, name: schema };
        let database = Arc::new(Postgres::open(&options).await?);
        let now = Timestamp::from_second(1_800_000_000)?;
        Ok(Self {
            database,
            now,
            options,
            _schema: schema,
        })
    }

    /// Closes the database and opens it again.
    pub async fn reopen(&mut self) -> Outcome {
        self.database.close().await;
        self.database = Arc::new(self.beside().await?);
        Ok(())
    }

    /// Opens the database a second time, as another host would.
    pub async fn beside(&self) -> Result<Postgres, BackendError> {
        Postgres::open(&self.options).await
    }

    /// The database as a host opens it, beside this one.
    pub async fn host(&self) -> Result<Arc<Database>, BackendError> {
        Ok(Arc::new(Database::Postgres(self.beside().await?)))
    }

    /// A connection past the host, in the same schema.
    pub async fn raw(&self) -> Result<PgConnection, Box<dyn Error>> {
        let mut connection = PgConnection::connect(&self.options.url).await?;
        let schema = self.options.schema.as_deref().unwrap_or_default();
        connection
            .execute(AssertSqlSafe(format!("SET search_path = \"{schema}\"")))
            .await?;
        Ok(connection)
    }

    /// An open sale of so many pieces.
    pub async fn sale(&self, quantity: i64) -> Result<Sale, Box<dyn Error>> {
        self.limited_sale(quantity, None).await
    }

    pub async fn limited_sale(
        &self,
        quantity: i64,
        limit_per_user: Option<u32>,
    ) -> Result<Sale, Box<dyn Error>> {
        let product = NewProduct {
            name: "토끼 인형".to_owned(),
            price: 20_000,
            description: String::new(),
        };
        let product = self.database.create_product(&product, self.now).await?;
        let sale = NewSale {
            product_id: product.id,
            quantity,
            discount_price: 9_900,
            start_at: self.now - SignedDuration::from_hours(1),
            end_at: self.now + SignedDuration::from_hours(1),
            limit_per_user,
        };
        let sale = self.database.create_sale(&sale, self.now).await?;
        sale.ok_or_else(|| "the product is not there".into())
    }

    /// A request without a key.
    pub fn request(&self, id: &str, sale: &Sale, user_id: i64, quantity: u32) -> Request {
        Request {
            id: RequestId(id.into()),
            key: None,
            sale_id: sale.id,
            user_id,
            quantity,
            accepted_at: self.now,
            version: version(),
            revision: RevisionId("accepting".into()),
        }
    }

    /// A request whose key is made of one byte.
    pub fn keyed(&self, id: &str, sale: &Sale, key: u8) -> Request {
        Request {
            key: Some(KeyId([key; 32])),
            ..self.request(id, sale, 1, 1)
        }
    }

    /// Buys in a commit of its own, as a call that its buyer waits for.
    pub async fn buy(&self, request: &Request) -> Result<Order, Box<dyn Error>> {
        let bought = self
            .database
            .purchase(std::slice::from_ref(request), &settling(), false, self.now)
            .await?;
        match bought.into_iter().next() {
            Some(Ok(order)) => Ok(order),
            other => Err(format!("no order but {other:?}").into()),
        }
    }

    /// Runs a statement that the schema would refuse, as the tables' owner might.
    pub async fn unguarded(&self, statement: &str) -> Outcome {
        let disable = ["time_sales", "orders", "decisions"]
            .map(|table| format!("ALTER TABLE {table} DISABLE TRIGGER USER;"));
        let statements = disable.concat() + statement;
        let mut connection = self.raw().await?;
        connection.execute(AssertSqlSafe(statements)).await?;
        Ok(())
    }

    /// Gives a request that has its order another decision.
    pub async fn contradict(&self, request: &str) -> Outcome {
        let refusal = format!(
            "UPDATE decisions SET order_id = NULL, reason = 'SOLD_OUT' WHERE request_id = '{request}'"
        );
        self.unguarded(&refusal).await
    }

    /// What is left of a sale.
    pub async fn remaining(&self, sale: &Sale) -> Result<i64, Box<dyn Error>> {
        let sale = self.database.sale(sale.id).await?;
        Ok(sale.ok_or("the sale is gone")?.remaining)
    }
}

/// A schema that is dropped with its test.
struct Schema {
    url: String,
    name: String,
}

impl Drop for Schema {
    fn drop(&mut self) {
        let drop = AssertSqlSafe(format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", self.name));
        let url = self.url.clone();
        // A runtime of its own: that of the test is about to end.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&url).await?;
                connection.execute(drop).await?;
                connection.close().await
            })
        });
        if !matches!(dropped.join(), Ok(Ok(()))) {
            eprintln!("the schema {} is left behind", self.name);
        }
    }
}

pub fn settling() -> RevisionId {
    RevisionId("settling".into())
}

pub fn rejected(rejection: Rejection) -> Refusal {
    Refusal::Rejected(rejection)
}

pub fn is_duplicate<T>(answer: &Result<T, BackendError>) -> bool {
    matches!(answer, Err(BackendError::Duplicate))
}

fn version() -> Version {
    Version::parse("v1").unwrap_or_else(|| unreachable!("v1 is a version"))
}
