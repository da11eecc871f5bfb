//! What the tests of the embedded database share: a fresh file, a sale in it, requests for it.

mod audit;
mod catalogue;
mod keys;
mod one_step;
mod purchases;
mod schema;
mod strategies;
mod together;
mod transactions;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;

use super::{Keeping, Sqlite, SqliteOptions};
use crate::backend::BackendError;
use crate::backend::database::Database;
use crate::domain::{
    KeyId, NewProduct, NewSale, Order, Refusal, Rejection, Request, RequestId, RevisionId, Sale,
    Version,
};

/// What a test ends in.
pub type Outcome = Result<(), Box<dyn Error>>;

/// A database in a folder of its own, and the time that its tests live in.
pub struct Fixture {
    pub database: Arc<Sqlite>,
    pub now: Timestamp,
    folder: TempDir,
}

impl Fixture {
    pub async fn new() -> Result<Self, Box<dyn Error>> {
        Self::waiting(Duration::from_secs(20)).await
    }

    /// A database whose callers wait so long for the writer.
    pub async fn waiting(writer_wait: Duration) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let database = Arc::new(Sqlite::open(&options(&folder, writer_wait)).await?);
        let now = Timestamp::from_second(1_800_000_000)?;
        Ok(Self {
            database,
            now,
            folder,
        })
    }

    /// Closes the database and opens its file again.
    pub async fn reopen(&mut self) -> Outcome {
        self.database.close().await;
        self.database = Arc::new(self.beside().await?);
        Ok(())
    }

    /// Opens the file a second time, as another process would.
    pub async fn beside(&self) -> Result<Sqlite, BackendError> {
        Sqlite::open(&options(&self.folder, Duration::from_secs(20))).await
    }

    /// The database as a host opens it, beside this one.
    pub async fn host(&self) -> Result<Arc<Database>, BackendError> {
        Ok(Arc::new(Database::Sqlite(self.beside().await?)))
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

    /// Runs a statement that the schema would refuse, as a stranger with the file in hand might.
    pub async fn unguarded(&self, statement: &str) -> Outcome {
        let triggers: Vec<String> =
            sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                .fetch_all(self.database.file.writer())
                .await?;
        let drops = triggers
            .iter()
            .map(|trigger| format!("DROP TRIGGER {trigger};"));
        let statements = drops.collect::<String>() + statement;
        sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(self.database.file.writer())
            .await?;
        Ok(())
    }

    /// Gives a request that has its order another decision.
    pub async fn contradict(&self, request: &str) -> Outcome {
        let refusal = format!("INSERT INTO refusals VALUES ('{request}', 1, 'SOLD_OUT', 0)");
        self.unguarded(&refusal).await
    }

    /// What is left of a sale.
    pub async fn remaining(&self, sale: &Sale) -> Result<i64, Box<dyn Error>> {
        let sale = self.database.sale(sale.id).await?;
        Ok(sale.ok_or("the sale is gone")?.remaining)
    }
}

fn options(folder: &TempDir, writer_wait: Duration) -> SqliteOptions {
    SqliteOptions {
        path: folder.path().join("timesale.db"),
        readers: 2,
        writer_wait,
        keeping: Keeping::Durable,
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
