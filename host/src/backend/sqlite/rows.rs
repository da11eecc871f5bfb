//! Rows of the database as words of the domain, and back.
//!
//! The other files of the room call it; whoever adds a column changes it here.

use jiff::Timestamp;
use smol_str::SmolStr;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Result, Row};

use crate::desired::Stored;
use crate::domain::{
    KeyId, Order, Place, Product, Request, RequestId, RevisionId, Sale, SaleId, Ticket, Version,
};

/// Reads one sale.
pub async fn find_sale(connection: &mut SqliteConnection, id: SaleId) -> Result<Option<Sale>> {
    let row = sqlx::query("SELECT * FROM time_sales WHERE id = ?1")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(sale).transpose()
}

/// A row of `products`.
pub fn product(row: &SqliteRow) -> Result<Product> {
    Ok(Product {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        price: row.try_get("price")?,
        description: row.try_get("description")?,
        created_at: time(row, "created_at")?,
    })
}

/// A row of `time_sales`.
pub fn sale(row: &SqliteRow) -> Result<Sale> {
    Ok(Sale {
        id: row.try_get("id")?,
        product_id: row.try_get("product_id")?,
        quantity: row.try_get("quantity")?,
        remaining: row.try_get("remaining")?,
        discount_price: row.try_get("discount_price")?,
        start_at: time(row, "start_at")?,
        end_at: time(row, "end_at")?,
        limit_per_user: row.try_get("limit_per_user")?,
        created_at: time(row, "created_at")?,
    })
}

/// A row of `orders`, with the `product_id` of its sale.
pub fn order(row: &SqliteRow) -> Result<Order> {
    Ok(Order {
        id: row.try_get("id")?,
        request_id: RequestId(text(row, "request_id")?),
        sale_id: row.try_get("time_sale_id")?,
        product_id: row.try_get("product_id")?,
        user_id: row.try_get("user_id")?,
        quantity: row.try_get("quantity")?,
        discount_price: row.try_get("discount_price")?,
        remaining: row.try_get("remaining")?,
        version: version(row, "version")?,
        accepting_revision: RevisionId(text(row, "accepting_revision")?),
        settling_revision: RevisionId(text(row, "settling_revision")?),
        created_at: time(row, "created_at")?,
    })
}

/// The request in a row of `idempotency_keys`.
pub fn request(row: &SqliteRow, key: KeyId) -> Result<Request> {
    Ok(Request {
        id: RequestId(text(row, "request_id")?),
        key: Some(key),
        sale_id: row.try_get("time_sale_id")?,
        user_id: row.try_get("user_id")?,
        quantity: row.try_get("quantity")?,
        accepted_at: time(row, "accepted_at")?,
        version: version(row, "version")?,
        revision: RevisionId(text(row, "revision")?),
    })
}

/// The ticket in a row of `idempotency_keys`; none where the place was never noted.
pub fn ticket(row: &SqliteRow) -> Result<Option<Ticket>> {
    let Some(offset) = row.try_get::<Option<i64>, _>("log_offset")? else {
        return Ok(None);
    };
    Ok(Some(Ticket {
        place: Place {
            partition: row.try_get("log_partition")?,
            offset: unsigned(offset)?,
        },
        queue_position: unsigned(row.try_get("queue_position")?)?,
        total_waiting: unsigned(row.try_get("total_waiting")?)?,
    }))
}

/// A row of `strategies`.
pub fn stored(row: &SqliteRow) -> Result<Stored> {
    Ok(Stored {
        version: version(row, "version")?,
        epoch: row.try_get("epoch")?,
        desired: parsed(row, "desired")?,
    })
}

/// A document in a column.
pub fn parsed<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A document as the database keeps it.
pub fn document(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn text(row: &SqliteRow, column: &'static str) -> Result<SmolStr> {
    row.try_get::<&str, _>(column).map(SmolStr::new)
}

/// A strategy's version in a column.
pub fn version(row: &SqliteRow, column: &'static str) -> Result<Version> {
    let text: &str = row.try_get(column)?;
    Version::parse(text).ok_or_else(|| unknown(column, text))
}

/// A moment in a column of milliseconds.
pub fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp> {
    Timestamp::from_millisecond(row.try_get(column)?)
        .map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A column whose value says something that no code here has written.
pub fn unknown(column: &'static str, value: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {column} says {value:?}").into())
}

/// A batch as one parameter, for `json_each`: any number of rows, one statement, no limit of parameters.
///
/// The value of an element is text, which SQLite writes out anew wherever a statement names it: one that takes it apart keeps it first (`MATERIALIZED`).
pub fn batch(rows: &impl serde::Serialize) -> Result<String> {
    document(rows)
}

/// Which element of a batch a row is about, where rows come only for elements of which there is something to say: each costs more than the look that finds it.
pub fn place(row: &SqliteRow) -> Result<usize> {
    let place: u32 = row.try_get("place")?;
    usize::try_from(place).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A count as the database keeps it.
pub fn signed(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A count that the database keeps.
pub fn unsigned(count: i64) -> Result<u64> {
    u64::try_from(count).map_err(|error| sqlx::Error::Decode(error.into()))
}
