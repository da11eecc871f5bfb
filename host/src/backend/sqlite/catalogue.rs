//! Products and sales: planned, listed, read.
//!
//! `http` calls it for sellers and browsers, `http/management` for the gauges of open sales.
//! What moves stock is in `placing`.

use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::file::failed;
use super::{Sqlite, rows};
use crate::backend::database::{SalePage, SaleQuery};
use crate::backend::{BackendError, System};
use crate::domain::{NewProduct, NewSale, Product, ProductId, Sale, SaleId, Status};

impl Sqlite {
    /// Takes a product into the catalogue.
    pub async fn create_product(
        &self,
        new: &NewProduct,
        now: Timestamp,
    ) -> Result<Product, BackendError> {
        let wrong = || failed(System::Database, "create the product");
        let row = sqlx::query(
            "INSERT INTO products (name, price, description, created_at) VALUES (?1, ?2, ?3, ?4) \
             RETURNING *",
        )
        .bind(&new.name)
        .bind(new.price)
        .bind(&new.description)
        .bind(now.as_millisecond())
        .fetch_one(self.file.writer())
        .await
        .map_err(wrong())?;
        rows::product(&row).map_err(wrong())
    }

    /// Reads one product.
    pub async fn product(&self, id: ProductId) -> Result<Option<Product>, BackendError> {
        let wrong = || failed(System::Database, "read the product");
        let row = sqlx::query("SELECT * FROM products WHERE id = ?1")
            .bind(id)
            .fetch_optional(self.file.readers())
            .await
            .map_err(wrong())?;
        row.as_ref().map(rows::product).transpose().map_err(wrong())
    }

    /// The `limit` newest products, newest last.
    pub async fn products(&self, limit: u32) -> Result<Vec<Product>, BackendError> {
        let wrong = || failed(System::Database, "read the products");
        let rows = sqlx::query(
            "SELECT * FROM (SELECT * FROM products ORDER BY id DESC LIMIT ?1) ORDER BY id",
        )
        .bind(limit)
        .fetch_all(self.file.readers())
        .await
        .map_err(wrong())?;
        rows.iter()
            .map(rows::product)
            .collect::<Result<_, _>>()
            .map_err(wrong())
    }

    /// Plans a sale, with its whole quantity remaining; none where there is no such product.
    pub async fn create_sale(
        &self,
        new: &NewSale,
        now: Timestamp,
    ) -> Result<Option<Sale>, BackendError> {
        let wrong = || failed(System::Database, "create the sale");
        let row = sqlx::query(
            "INSERT INTO time_sales (product_id, quantity, remaining, discount_price, start_at, end_at, \
                 limit_per_user, created_at) \
             SELECT id, ?2, ?2, ?3, ?4, ?5, ?6, ?7 FROM products WHERE id = ?1 \
             RETURNING *",
        )
        .bind(new.product_id)
        .bind(new.quantity)
        .bind(new.discount_price)
        .bind(new.start_at.as_millisecond())
        .bind(new.end_at.as_millisecond())
        .bind(new.limit_per_user)
        .bind(now.as_millisecond())
        .fetch_optional(self.file.writer())
        .await
        .map_err(wrong())?;
        row.as_ref().map(rows::sale).transpose().map_err(wrong())
    }

    /// Reads one sale as it was last committed.
    pub async fn sale(&self, id: SaleId) -> Result<Option<Sale>, BackendError> {
        let wrong = || failed(System::Database, "read the sale");
        let mut connection = self.file.readers().acquire().await.map_err(wrong())?;
        rows::find_sale(&mut connection, id).await.map_err(wrong())
    }

    /// Lists sales.
    pub async fn sales(&self, query: &SaleQuery) -> Result<SalePage, BackendError> {
        page(self, query)
            .await
            .map_err(failed(System::Database, "read the sales"))
    }

    /// Sales that were inside their window at some moment from `since` to `now`, at most `limit`, those that sold most first.
    pub async fn open_sales(
        &self,
        since: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Sale>, BackendError> {
        let wrong = || failed(System::Database, "read the open sales");
        let rows = sqlx::query(
            "SELECT * FROM time_sales WHERE end_at > ?1 AND start_at <= ?2 \
             ORDER BY quantity - remaining DESC, id LIMIT ?3",
        )
        .bind(since.as_millisecond())
        .bind(now.as_millisecond())
        .bind(limit)
        .fetch_all(self.file.readers())
        .await
        .map_err(wrong())?;
        rows.iter()
            .map(rows::sale)
            .collect::<Result<_, _>>()
            .map_err(wrong())
    }

    /// The highest token of a lock under which any order was placed; 0 where none was.
    pub async fn max_fence(&self) -> Result<u64, BackendError> {
        let wrong = || failed(System::Database, "read the highest fence");
        let fence = sqlx::query_scalar("SELECT coalesce(max(fence), 0) FROM time_sales")
            .fetch_one(self.file.readers())
            .await
            .map_err(wrong())?;
        rows::unsigned(fence).map_err(wrong())
    }
}

async fn page(database: &Sqlite, query: &SaleQuery) -> sqlx::Result<SalePage> {
    // `Sale::status` in the words of the database.
    const FOUND: &str = "FROM time_sales WHERE CASE \
             WHEN ?1 < start_at THEN 'SCHEDULED' \
             WHEN ?1 >= end_at THEN 'ENDED' \
             WHEN remaining = 0 THEN 'SOLD_OUT' \
             ELSE 'ACTIVE' END IN (SELECT value FROM json_each(?2))";
    let now = query.now.as_millisecond();
    let statuses: Vec<_> = query.statuses.iter().copied().map(Status::name).collect();
    let statuses = rows::batch(&statuses)?;
    let total = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) {FOUND}")))
        .bind(now)
        .bind(&statuses)
        .fetch_one(database.file.readers())
        .await?;
    let column = query.sort.column();
    let direction = if query.descending { "DESC" } else { "ASC" };
    let skipped = query.page.saturating_mul(u64::from(query.size));
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT * {FOUND} ORDER BY {column} {direction}, id {direction} LIMIT ?3 OFFSET ?4"
    )))
    .bind(now)
    .bind(&statuses)
    .bind(query.size)
    .bind(i64::try_from(skipped).unwrap_or(i64::MAX))
    .fetch_all(database.file.readers())
    .await?;
    Ok(SalePage {
        sales: rows.iter().map(rows::sale).collect::<sqlx::Result<_>>()?,
        total: rows::unsigned(total)?,
    })
}
