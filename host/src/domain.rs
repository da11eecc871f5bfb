//! The words of a flash sale: products, sales, requests, orders, and the kinds of no.
//!
//! Facts and their shapes only: how they are stored is `backend`'s, how they are asked for is `http`'s, how a strategy sees them is `capability`'s.
//! A purchase copies the names of its request, version and revision a dozen times on its way: they are strings whose copies allocate nothing.

use std::fmt;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Names a product; positive.
pub type ProductId = i64;
/// Names a sale; positive.
pub type SaleId = i64;
/// Names a buyer, as the gateway in front gave it; positive.
pub type UserId = i64;
/// Names an order; positive, and higher for each later order.
pub type OrderId = i64;

/// The present moment, in the whole milliseconds that stores and strategies count in.
pub fn now() -> Timestamp {
    to_milliseconds(Timestamp::now())
}

/// A moment without what stores and strategies would drop of it.
pub fn to_milliseconds(time: Timestamp) -> Timestamp {
    let whole = TimestampRound::new()
        .smallest(Unit::Millisecond)
        .mode(RoundMode::Floor);
    time.round(whole).unwrap_or(time)
}

/// A product as a seller described it.
#[derive(Debug, Clone)]
pub struct NewProduct {
    /// Not blank.
    pub name: String,
    /// Above 0, in the shop's smallest unit.
    pub price: i64,
    /// Free text, empty when there is none.
    pub description: String,
}

/// A product in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// The product's id.
    pub id: ProductId,
    /// Not blank.
    pub name: String,
    /// Above 0, in the shop's smallest unit.
    pub price: i64,
    /// Free text, empty when there is none.
    pub description: String,
    /// When the catalogue took it.
    pub created_at: Timestamp,
}

/// A sale as a seller planned it.
#[derive(Debug, Clone)]
pub struct NewSale {
    /// The product to sell.
    pub product_id: ProductId,
    /// Pieces to sell, above 0.
    pub quantity: i64,
    /// Price of one piece, above 0, in the shop's smallest unit.
    pub discount_price: i64,
    /// First moment of the window.
    pub start_at: Timestamp,
    /// First moment after the window; after `start_at`.
    pub end_at: Timestamp,
    /// Pieces that one user may buy, above 0; unlimited where absent.
    pub limit_per_user: Option<u32>,
}

/// A sale as it was committed when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// The sale's id.
    pub id: SaleId,
    /// The product on sale.
    pub product_id: ProductId,
    /// Pieces at the start; never changes.
    pub quantity: i64,
    /// Pieces left; never rises.
    pub remaining: i64,
    /// Price of one piece in the shop's smallest unit.
    pub discount_price: i64,
    /// First moment of the window.
    pub start_at: Timestamp,
    /// First moment after the window.
    pub end_at: Timestamp,
    /// Pieces that one user may buy; unlimited where absent.
    pub limit_per_user: Option<u32>,
    /// When the sale was planned.
    pub created_at: Timestamp,
}

/// Where a sale stands, derived from the clock and the stock at every read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Before the window.
    Scheduled,
    /// Inside the window, with pieces left.
    Active,
    /// Inside the window, with none left.
    SoldOut,
    /// After the window.
    Ended,
}

impl Status {
    /// The name that clients and databases see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Active => "ACTIVE",
            Self::SoldOut => "SOLD_OUT",
            Self::Ended => "ENDED",
        }
    }
}

impl Sale {
    /// Where the sale stands at `now`.
    pub fn status(&self, now: Timestamp) -> Status {
        if now < self.start_at {
            Status::Scheduled
        } else if now >= self.end_at {
            Status::Ended
        } else if self.remaining == 0 {
            Status::SoldOut
        } else {
            Status::Active
        }
    }

    /// Judges a request against this sale, in the order that clients are promised: window, stock, limit.
    ///
    /// `bought` is what the user's orders in this sale add up to.
    pub fn judge(&self, request: &Request, bought: i64) -> Result<(), Rejection> {
        let quantity = i64::from(request.quantity);
        if request.accepted_at < self.start_at || request.accepted_at >= self.end_at {
            Err(Rejection::NotOpen)
        } else if quantity > self.remaining {
            Err(Rejection::SoldOut)
        } else if self
            .limit_per_user
            .is_some_and(|limit| bought.saturating_add(quantity) > i64::from(limit))
        {
            Err(Rejection::LimitExceeded)
        } else {
            Ok(())
        }
    }
}

/// The key of the shared memory under which strategies keep what a sale has left, in decimal: a hint, lowered after each commit.
pub fn hint_key(sale: SaleId) -> String {
    format!("time-sale:{sale}")
}

/// The id of a request: unique for ever, signed by the host's ticket key (see `ticket`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(pub SmolStr);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The digest of a user and that user's `Idempotency-Key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 32]);

/// A strategy's version: the stem of its file, its place in the path, its label in the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(SmolStr);

impl Version {
    /// Takes `[a-z][a-z0-9-]{0,31}`.
    pub fn parse(text: &str) -> Option<Self> {
        let shaped = text.len() <= 32
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        shaped.then(|| Self(text.into()))
    }

    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One immutable build of a strategy: the first 12 hexadecimal digits of its component's SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RevisionId(pub SmolStr);

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A purchase as the host took it in: every fact that an order is made of.
#[derive(Debug, Clone)]
pub struct Request {
    /// The request's id.
    pub id: RequestId,
    /// The idempotency key that it came with.
    pub key: Option<KeyId>,
    /// The sale to buy from; not known to exist.
    pub sale_id: SaleId,
    /// The buyer.
    pub user_id: UserId,
    /// Pieces, above 0.
    pub quantity: u32,
    /// When it arrived.
    pub accepted_at: Timestamp,
    /// The version that it was sent to.
    pub version: Version,
    /// The revision that took it in.
    pub revision: RevisionId,
}

impl Request {
    /// Why the sale, as it was read, refuses this request, as far as the sale alone can tell.
    pub fn refused_by(&self, sale: Option<&Sale>) -> Option<Rejection> {
        match sale {
            Some(sale) => sale.judge(self, 0).err(),
            None => Some(Rejection::SaleNotFound),
        }
    }
}

/// An order: append-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The order's id.
    pub id: OrderId,
    /// The request that it answers; one order per request.
    pub request_id: RequestId,
    /// The sale that it was bought from.
    pub sale_id: SaleId,
    /// The product of that sale.
    pub product_id: ProductId,
    /// The buyer.
    pub user_id: UserId,
    /// Pieces.
    pub quantity: u32,
    /// Price of one piece at the time of the purchase.
    pub discount_price: i64,
    /// Pieces of the sale left after it.
    pub remaining: i64,
    /// The version that sold it.
    pub version: Version,
    /// The revision that took the request in.
    pub accepting_revision: RevisionId,
    /// The revision that placed the order.
    pub settling_revision: RevisionId,
    /// When it was placed.
    pub created_at: Timestamp,
}

/// A business no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Fewer pieces are left than were asked for.
    SoldOut,
    /// The request came before or after the window.
    NotOpen,
    /// The user's orders and this request together pass the limit per user.
    LimitExceeded,
    /// There is no such sale.
    SaleNotFound,
    /// A no of the strategy's own, of a kind that the contract does not name.
    Other,
}

impl Rejection {
    /// Every kind of no.
    pub const ALL: [Self; 5] = [
        Self::SoldOut,
        Self::NotOpen,
        Self::LimitExceeded,
        Self::SaleNotFound,
        Self::Other,
    ];

    /// The stable code that clients see and the database keeps.
    pub const fn code(self) -> &'static str {
        match self {
            Self::SoldOut => "SOLD_OUT",
            Self::NotOpen => "NOT_OPEN",
            Self::LimitExceeded => "LIMIT_EXCEEDED",
            Self::SaleNotFound => "NOT_FOUND",
            Self::Other => "REJECTED",
        }
    }
}

/// Why an accepted request ended without an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A business no.
    Rejected(Rejection),
    /// The strategy could not decide it, or no longer exists.
    StrategyFailed,
}

impl Refusal {
    /// The stable code that clients see and the database keeps.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::StrategyFailed => "STRATEGY_FAILED",
        }
    }

    /// The refusal of a code that `code` gave.
    pub fn from_code(code: &str) -> Option<Self> {
        Rejection::ALL
            .into_iter()
            .map(Self::Rejected)
            .chain([Self::StrategyFailed])
            .find(|refusal| refusal.code() == code)
    }
}

/// The final state of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It has its order.
    Ordered(Order),
    /// It will never have one.
    Refused(Refusal),
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Partition of the topic.
    pub partition: u32,
    /// Position in the partition, from 0.
    pub offset: u64,
}

/// What an asynchronous purchase hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Where the request stands in the log.
    pub place: Place,
    /// 1 is next; computed when the request was accepted.
    pub queue_position: u64,
    /// Requests that waited then, this one among them.
    pub total_waiting: u64,
}
