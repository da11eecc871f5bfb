//! Products and sales: planned, listed, read.
//!
//! `http` calls it for sellers, browsers and the gauges of open sales, `reconciler` to hold sales against their orders.
//! What moves stock is in `orders` and `transaction`.

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row};

use super::fault::failed;
use super::{Postgres, rows};
use crate::backend::BackendError;
use crate::backend::database::{SalePage, SaleQuery};
use crate::domain::{NewProduct, NewSale, Product, ProductId, Sale, SaleId, Status};

impl Postgres {
    /// Takes a product into the catalogue.
    pub async fn create_product(
        &self,
        new: &NewProduct,
        now: Timestamp,
    ) -> Result<Product, BackendError> {
        const OPERATION: &str = "create the product";
        let query = sqlx::query(
            "INSERT INTO products (name, price, description, created_at) VALUES ($1, $2, $3, $4) \
             RETURNING *",
        )
        .bind(&new.name)
        .bind(new.price)
        .bind(&new.description)
        .bind(now.as_millisecond());
        let row = self.pool.fetch_one(OPERATION, query).await?;
        rows::product(&row).map_err(failed(OPERATION))
    }

    /// Reads one product.
    pub async fn product(&self, id: ProductId) -> Result<Option<Product>, BackendError> {
        const OPERATION: &str = "read the product";
        let query = sqlx::query("SELECT * FROM products WHERE id = $1").bind(id);
        let row = self.pool.fetch_optional(OPERATION, query).await?;
        let product = row.as_ref().map(rows::product).transpose();
        product.map_err(failed(OPERATION))
    }

    /// The `limit` newest products, newest last.
    pub async fn products(&self, limit: u32) -> Result<Vec<Product>, BackendError> {
        const OPERATION: &str = "read the products";
        let query = sqlx::query(
            "SELECT * FROM (SELECT * FROM products ORDER BY id DESC LIMIT $1) AS newest ORDER BY id",
        )
        .bind(i64::from(limit));
        let rows = self.pool.fetch_all(OPERATION, query).await?;
        let products: sqlx::Result<_> = rows.iter().map(rows::product).collect();
        products.map_err(failed(OPERATION))
    }

    /// Plans a sale, with its whole quantity remaining; none where there is no such product.
    pub async fn create_sale(
        &self,
        new: &NewSale,
        now: Timestamp,
    ) -> Result<Option<Sale>, BackendError> {
        const OPERATION: &str = "create the sale";
        let query = sqlx::query(
            "INSERT INTO time_sales (product_id, quantity, remaining, discount_price, start_at, end_at, \
                 limit_per_user, created_at) \
             SELECT id, $2, $2, $3, $4, $5, $6, $7 FROM products WHERE id = $1 \
             RETURNING *",
        )
        .bind(new.product_id)
        .bind(new.quantity)
        .bind(new.discount_price)
        .bind(new.start_at.as_millisecond())
        .bind(new.end_at.as_millisecond())
        .bind(new.limit_per_user.map(i64::from))
        .bind(now.as_millisecond());
        let row = self.pool.fetch_optional(OPERATION, query).await?;
        let sale = row.as_ref().map(rows::sale).transpose();
        sale.map_err(failed(OPERATION))
    }

    /// Reads one sale as it was last committed.
    pub async fn sale(&self, id: SaleId) -> Result<Option<Sale>, BackendError> {
        const OPERATION: &str = "read the sale";
        let query = sqlx::query("SELECT * FROM time_sales WHERE id = $1").bind(id);
        let row = self.pool.fetch_optional(OPERATION, query).await?;
        let sale = row.as_ref().map(rows::sale).transpose();
        sale.map_err(failed(OPERATION))
    }

    /// Lists sales.
    pub async fn sales(&self, query: &SaleQuery) -> Result<SalePage, BackendError> {
        const OPERATION: &str = "read the sales";
        // `Sale::status` in the words of the database.
        const FOUND: &str = "FROM time_sales WHERE CASE \
                 WHEN $1 < start_at THEN 'SCHEDULED' \
                 WHEN $1 >= end_at THEN 'ENDED' \
                 WHEN remaining = 0 THEN 'SOLD_OUT' \
                 ELSE 'ACTIVE' END = ANY ($2)";
        let now = query.now.as_millisecond();
        let statuses: Vec<_> = query.statuses.iter().copied().map(Status::name).collect();
        let count = AssertSqlSafe(format!("SELECT count(*) AS total {FOUND}"));
        let count = sqlx::query(count).bind(now).bind(&statuses);
        let count = self.pool.fetch_one(OPERATION, count).await?;

        let column = query.sort.column();
        let direction = if query.descending { "DESC" } else { "ASC" };
        let skipped = query.page.saturating_mul(u64::from(query.size));
        let page = AssertSqlSafe(format!(
            "SELECT * {FOUND} ORDER BY {column} {direction}, id {direction} LIMIT $3 OFFSET $4"
        ));
        let page = sqlx::query(page)
            .bind(now)
            .bind(&statuses)
            .bind(i64::from(query.size))
            .bind(i64::try_from(skipped).unwrap_or(i64::MAX));
        let page = self.pool.fetch_all(OPERATION, page).await?;

        let total = count.try_get("total").and_then(rows::unsigned);
        let sales: sqlx::Result<_> = page.iter().map(rows::sale).collect();
        Ok(SalePage {
            sales: sales.map_err(failed(OPERATION))?,
            total: total.map_err(failed(OPERATION))?,
        })
    }

    /// Sales that were inside their window at some moment from `since` to `now`, at most `limit`, those that sold most first.
    pub async fn open_sales(
        &self,
        since: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Sale>, BackendError> {
        const OPERATION: &str = "read the open sales";
        let query = sqlx::query(
            "SELECT * FROM time_sales WHERE end_at > $1 AND start_at <= $2 \
             ORDER BY quantity - remaining DESC, id LIMIT $3",
        )
        .bind(since.as_millisecond())
        .bind(now.as_millisecond())
        .bind(i64::from(limit));
        let rows = self.pool.fetch_all(OPERATION, query).await?;
        let sales: sqlx::Result<_> = rows.iter().map(rows::sale).collect();
        sales.map_err(failed(OPERATION))
    }

    /// The ticket key that all hosts of this database share; the first host's is kept.
    pub async fn ticket_key(&self, made: &str) -> Result<String, BackendError> {
        const OPERATION: &str = "read the ticket key";
        let keep = sqlx::query("INSERT INTO ticket_keys (key) VALUES ($1) ON CONFLICT DO NOTHING");
        self.pool.fetch_all(OPERATION, keep.bind(made)).await?;
        let kept = sqlx::query("SELECT key FROM ticket_keys");
        let row = self.pool.fetch_one(OPERATION, kept).await?;
        row.try_get("key").map_err(failed(OPERATION))
    }

    /// The highest token of a lock under which any order was placed; 0 where none was.
    pub async fn max_fence(&self) -> Result<u64, BackendError> {
        const OPERATION: &str = "read the highest fence";
        let query = sqlx::query("SELECT coalesce(max(fence), 0) AS fence FROM time_sales");
        let row = self.pool.fetch_one(OPERATION, query).await?;
        let fence = row.try_get("fence").and_then(rows::unsigned);
        fence.map_err(failed(OPERATION))
    }
}
