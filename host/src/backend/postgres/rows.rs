//! Rows of the database as words of the domain, and back.
//!
//! The other files of the room call it; whoever adds a column changes it here.

use jiff::Timestamp;
use smol_str::SmolStr;
use sqlx::postgres::PgRow;
use sqlx::{Result, Row};

use crate::desired::Stored;
use crate::domain::{
    Decision, KeyId, Order, OrderId, Place, Product, Refusal, Request, RequestId, RevisionId, Sale,
    Ticket, Version,
};

/// A row of `products`.
pub fn product(row: &PgRow) -> Result<Product> {
    Ok(Product {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        price: row.try_get("price")?,
        description: row.try_get("description")?,
        created_at: time(row, "created_at")?,
    })
}

/// A row of `time_sales`.
pub fn sale(row: &PgRow) -> Result<Sale> {
    let limit: Option<i64> = row.try_get("limit_per_user")?;
    Ok(Sale {
        id: row.try_get("id")?,
        product_id: row.try_get("product_id")?,
        quantity: row.try_get("quantity")?,
        remaining: row.try_get("remaining")?,
        discount_price: row.try_get("discount_price")?,
        start_at: time(row, "start_at")?,
        end_at: time(row, "end_at")?,
        limit_per_user: limit.map(small).transpose()?,
        created_at: time(row, "created_at")?,
    })
}

/// A row of `orders`, with the `product_id` of its sale.
pub fn order(row: &PgRow) -> Result<Order> {
    Ok(Order {
        id: row.try_get("id")?,
        request_id: RequestId(text(row, "request_id")?),
        sale_id: row.try_get("time_sale_id")?,
        product_id: row.try_get("product_id")?,
        user_id: row.try_get("user_id")?,
        quantity: small(row.try_get("quantity")?)?,
        discount_price: row.try_get("discount_price")?,
        remaining: row.try_get("remaining")?,
        version: version(row, "version")?,
        accepting_revision: RevisionId(text(row, "accepting_revision")?),
        settling_revision: RevisionId(text(row, "settling_revision")?),
        created_at: time(row, "created_at")?,
    })
}

/// A row of `orders` beside the `reason` of a refusal, one of which is none; none where both are.
pub fn decision(row: &PgRow) -> Result<Option<Decision>> {
    if row.try_get::<Option<OrderId>, _>("id")?.is_some() {
        return Ok(Some(Decision::Ordered(order(row)?)));
    }
    let reason: Option<&str> = row.try_get("reason")?;
    let refusal = reason.map(|code| refusal(code, "reason")).transpose()?;
    Ok(refusal.map(Decision::Refused))
}

/// A refusal's code in a column.
pub fn refusal(code: &str, column: &'static str) -> Result<Refusal> {
    Refusal::from_code(code).ok_or_else(|| unknown(column, code))
}

/// The request in a row of `idempotency_keys`.
pub fn request(row: &PgRow, key: KeyId) -> Result<Request> {
    Ok(Request {
        id: RequestId(text(row, "request_id")?),
        key: Some(key),
        sale_id: row.try_get("time_sale_id")?,
        user_id: row.try_get("user_id")?,
        quantity: small(row.try_get("quantity")?)?,
        accepted_at: time(row, "accepted_at")?,
        version: version(row, "version")?,
        revision: RevisionId(text(row, "revision")?),
    })
}

/// The ticket in a row of `idempotency_keys`; none where the place was never noted.
pub fn ticket(row: &PgRow) -> Result<Option<Ticket>> {
    let Some(offset) = row.try_get::<Option<i64>, _>("log_offset")? else {
        return Ok(None);
    };
    Ok(Some(Ticket {
        place: Place {
            partition: small(row.try_get("log_partition")?)?,
            offset: unsigned(offset)?,
        },
        queue_position: unsigned(row.try_get("queue_position")?)?,
        total_waiting: unsigned(row.try_get("total_waiting")?)?,
    }))
}

/// A row of `strategies`.
pub fn stored(row: &PgRow) -> Result<Stored> {
    Ok(Stored {
        version: version(row, "version")?,
        epoch: row.try_get("epoch")?,
        desired: parsed(row, "desired")?,
    })
}

/// A document in a column.
pub fn parsed<T: serde::de::DeserializeOwned>(row: &PgRow, column: &'static str) -> Result<T> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A document as the database keeps it.
pub fn document(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A count as the database keeps it.
pub fn signed(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A count that the database keeps.
pub fn unsigned(count: i64) -> Result<u64> {
    u64::try_from(count).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn small(count: i64) -> Result<u32> {
    u32::try_from(count).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn text(row: &PgRow, column: &'static str) -> Result<SmolStr> {
    row.try_get::<&str, _>(column).map(SmolStr::new)
}

fn version(row: &PgRow, column: &'static str) -> Result<Version> {
    let text: &str = row.try_get(column)?;
    Version::parse(text).ok_or_else(|| unknown(column, text))
}

/// A moment in a column of milliseconds.
pub fn time(row: &PgRow, column: &'static str) -> Result<Timestamp> {
    Timestamp::from_millisecond(row.try_get(column)?)
        .map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A column whose value says something that no code here has written.
fn unknown(column: &'static str, value: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {column} says {value:?}").into())
}
