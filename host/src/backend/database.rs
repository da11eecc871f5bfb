//! The database, whichever it is: the truth of what is final.
//!
//! One shape for the embedded file and the server, so that no caller knows which it has; what the methods promise is told at each of the two.
//! The types that both give and take are here.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    BackendError,
    postgres::{self, Postgres},
    sqlite::{self, Sqlite},
};
use crate::desired::{AuditLine, Change, Digest, HostReport, Stored};
use crate::domain::{
    Decision, KeyId, NewProduct, NewSale, Order, OrderId, Product, ProductId, Refusal, Rejection,
    Request, RequestId, RevisionId, Sale, SaleId, Status, Ticket, Version,
};

/// Which sales, at what time, in what order, and which page of them.
#[derive(Debug, Clone)]
pub struct SaleQuery {
    /// The time at which the status is judged.
    pub now: Timestamp,
    /// The statuses wanted; none finds none.
    pub statuses: Vec<Status>,
    /// What the sales are sorted by; their id decides between equals.
    pub sort: SaleSort,
    /// Whether the highest comes first.
    pub descending: bool,
    /// The page, from 0.
    pub page: u64,
    /// Sales on a page.
    pub size: u32,
}

/// What sales may be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaleSort {
    /// The sale's id.
    Id,
    /// First moment of the window.
    StartAt,
    /// First moment after the window.
    EndAt,
    /// Price of one piece.
    DiscountPrice,
    /// Pieces left.
    RemainingQuantity,
    /// When it was planned.
    CreatedAt,
}

impl SaleSort {
    /// The column of `time_sales`, the same on every database.
    pub const fn column(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::StartAt => "start_at",
            Self::EndAt => "end_at",
            Self::DiscountPrice => "discount_price",
            Self::RemainingQuantity => "remaining",
            Self::CreatedAt => "created_at",
        }
    }
}

/// One page of sales.
#[derive(Debug, Clone)]
pub struct SalePage {
    /// The sales on it.
    pub sales: Vec<Sale>,
    /// All that the query finds, on any page; counted a moment before the page is read.
    pub total: u64,
}

/// A key that is taken: by which request, and what was answered.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// The request that took the key; its `key` is this one.
    pub request: Request,
    /// The first reply.
    pub reply: KeyReply,
}

/// The first reply to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyReply {
    /// The order was placed while the buyer waited.
    Ordered(Order),
    /// The request was taken in; none where its place in the log was never noted, so that it may or may not have been published.
    Accepted(Option<Ticket>),
}

/// Why a request has no order from `purchase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// It was refused, now or before.
    Refused(Refusal),
    /// Its idempotency key belongs to another call.
    Taken,
}

impl Decision {
    /// What `purchase` answers for a request that was decided before.
    pub fn into_answer(self) -> Result<Order, Denial> {
        match self {
            Self::Ordered(order) => Ok(order),
            Self::Refused(refusal) => Err(Denial::Refused(refusal)),
        }
    }
}

/// Who bought since a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buyers {
    /// Users with an order.
    pub active: u64,
    /// Those of them who had an earlier order in the same sale.
    pub repeat: u64,
    /// The first order since then; the first to come where there is none.
    pub first: OrderId,
}

/// The database of a host.
#[derive(Debug)]
pub enum Database {
    /// One file, for one process.
    Sqlite(Sqlite),
    /// A server, for many hosts.
    Postgres(Postgres),
}

/// An open transaction; dropping it undoes it.
#[derive(Debug)]
pub enum Transaction {
    /// On the file.
    Sqlite(sqlite::Transaction),
    /// On the server.
    Postgres(postgres::Transaction),
}

/// Asks whichever it is.
macro_rules! either {
    ($asked:expr, $it:ident => $answer:expr) => {
        match $asked {
            Self::Sqlite($it) => $answer,
            Self::Postgres($it) => $answer,
        }
    };
}

impl Database {
    /// What operators call it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    /// Which of these requests have no decision yet, in their order; one that comes twice is open at its first place alone.
    pub async fn undecided(&self, requests: &[RequestId]) -> Result<Vec<bool>, BackendError> {
        let decided = self.decisions(requests).await?;
        let mut seen = HashSet::with_capacity(requests.len());
        let requests = requests.iter().zip(decided);
        Ok(requests
            .map(|(id, decision)| decision.is_none() && seen.insert(id))
            .collect())
    }

    /// Begins a transaction that sells from this sale first, with its first statement at the latest.
    pub async fn begin(&self, sale: SaleId) -> Result<Transaction, BackendError> {
        Ok(match self {
            Self::Sqlite(it) => Transaction::Sqlite(it.begin().await?),
            Self::Postgres(it) => Transaction::Postgres(it.begin_at(sale).await?),
        })
    }

    /// Places orders for these requests in one commit, judging each in turn; one answer for each, in their order.
    ///
    /// With `refusals_are_final` a rejection is made final in the same commit and keys are left alone.
    /// After `Unavailable` nobody knows whether it was committed, so it is asked for once more: what was is answered as it was decided, and the rest is decided then.
    /// Where that fails too, whatever its reason, the doubt is what is answered.
    pub async fn purchase(
        &self,
        requests: &[Request],
        settling: &RevisionId,
        refusals_are_final: bool,
        now: Timestamp,
    ) -> Result<Vec<Result<Order, Denial>>, BackendError> {
        let purchase = async || either!(self, it => it.purchase(requests, settling, refusals_are_final, now).await);
        match purchase().await {
            Err(doubt @ BackendError::Unavailable { .. }) => purchase().await.map_err(|_| doubt),
            decided => decided,
        }
    }

    /// What purchases of a sale wait for: the sale's row, or where none is named the database's one writer.
    pub const fn contended(&self, sale: SaleId) -> Option<SaleId> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(_) => Some(sale),
        }
    }

    /// The pools, with the connections of each that are in use and that are idle.
    pub fn connections(&self) -> Vec<(&'static str, u32, u32)> {
        either!(self, it => it.connections().to_vec())
    }

    /// How long callers have waited for a connection since the start, where that is counted.
    pub fn pool_wait(&self) -> Option<Duration> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(it) => Some(it.waits().total),
        }
    }

    /// Waits for every connection to come back and closes them.
    pub async fn close(&self) {
        either!(self, it => it.close().await);
    }

    /// Answers when the database does.
    pub async fn ping(&self) -> Result<(), BackendError> {
        either!(self, it => it.ping().await)
    }

    /// Takes a product into the catalogue.
    pub async fn create_product(
        &self,
        new: &NewProduct,
        now: Timestamp,
    ) -> Result<Product, BackendError> {
        either!(self, it => it.create_product(new, now).await)
    }

    /// Reads one product.
    pub async fn product(&self, id: ProductId) -> Result<Option<Product>, BackendError> {
        either!(self, it => it.product(id).await)
    }

    /// Reads the newest products, at most `limit`.
    pub async fn products(&self, limit: u32) -> Result<Vec<Product>, BackendError> {
        either!(self, it => it.products(limit).await)
    }

    /// Takes a sale into the catalogue; none where there is no such product.
    pub async fn create_sale(
        &self,
        new: &NewSale,
        now: Timestamp,
    ) -> Result<Option<Sale>, BackendError> {
        either!(self, it => it.create_sale(new, now).await)
    }

    /// Reads one sale as last committed.
    pub async fn sale(&self, id: SaleId) -> Result<Option<Sale>, BackendError> {
        either!(self, it => it.sale(id).await)
    }

    /// Reads a page of sales.
    pub async fn sales(&self, query: &SaleQuery) -> Result<SalePage, BackendError> {
        either!(self, it => it.sales(query).await)
    }

    /// Reads the sales that were open at some moment from `since` to `now`, those that sold most, at most `limit`.
    pub async fn open_sales(
        &self,
        since: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Sale>, BackendError> {
        either!(self, it => it.open_sales(since, now, limit).await)
    }

    /// By how many pieces the stock of each of these sales differs from its orders, read at one moment.
    pub async fn stock_drift(&self, sales: &[SaleId]) -> Result<Vec<(SaleId, u64)>, BackendError> {
        either!(self, it => it.stock_drift(sales).await)
    }

    /// How many of the newest orders, at most so many, are not the one decision of their request.
    pub async fn decision_drift(&self, newest: u32) -> Result<u64, BackendError> {
        either!(self, it => it.decision_drift(newest).await)
    }

    /// Counts the buyers of the orders since a moment, among those above `after` and the newest so many.
    pub async fn buyers(
        &self,
        since: Timestamp,
        after: OrderId,
        newest: u32,
    ) -> Result<Buyers, BackendError> {
        either!(self, it => it.buyers(since, after, newest).await)
    }

    /// The highest fencing token that any sale has seen.
    pub async fn max_fence(&self) -> Result<u64, BackendError> {
        either!(self, it => it.max_fence().await)
    }

    /// Reads one order.
    pub async fn order(&self, id: OrderId) -> Result<Option<Order>, BackendError> {
        either!(self, it => it.order(id).await)
    }

    /// What was decided about these requests, in their order; none where nothing is final yet.
    pub async fn decisions(
        &self,
        requests: &[RequestId],
    ) -> Result<Vec<Option<Decision>>, BackendError> {
        either!(self, it => it.decisions(requests).await)
    }

    /// Makes refusals final where nothing is decided: the first writer wins, and an order stays an order.
    pub async fn refuse(
        &self,
        refusals: &[(RequestId, SaleId, Refusal)],
        now: Timestamp,
    ) -> Result<(), BackendError> {
        either!(self, it => it.refuse(refusals, now).await)
    }

    /// Reads who holds a key; none where it is free.
    pub async fn find_key(&self, key: &KeyId) -> Result<Option<KeyRecord>, BackendError> {
        either!(self, it => it.find_key(key).await)
    }

    /// Claims the request's key before the request is published; fails with `Duplicate` where it is taken or the request decided.
    pub async fn claim_key(&self, request: &Request) -> Result<(), BackendError> {
        either!(self, it => it.claim_key(request).await)
    }

    /// Notes the place that a request got in the log, if it has a key.
    pub async fn place_key(&self, request: &Request, ticket: &Ticket) -> Result<(), BackendError> {
        either!(self, it => it.place_key(request, ticket).await)
    }

    /// Frees a key whose request was not published.
    pub async fn release_key(&self, key: &KeyId) -> Result<(), BackendError> {
        either!(self, it => it.release_key(key).await)
    }

    /// Deletes the keys whose sale ended more than `keep` before `now`, and says how many.
    pub async fn purge_keys(
        &self,
        now: Timestamp,
        keep: SignedDuration,
    ) -> Result<u64, BackendError> {
        either!(self, it => it.purge_keys(now, keep).await)
    }

    /// What operators want of each version.
    pub async fn strategies(&self) -> Result<Vec<Stored>, BackendError> {
        either!(self, it => it.strategies().await)
    }

    /// Replaces what is wanted of a version, with its component and its line of the audit, and returns the new epoch; none where another change came first.
    pub async fn save_strategy(&self, change: &Change) -> Result<Option<i64>, BackendError> {
        either!(self, it => it.save_strategy(change).await)
    }

    /// Reads the bytes of a component; none where nothing names it any more.
    pub async fn component(
        &self,
        version: &Version,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>, BackendError> {
        either!(self, it => it.component(version, digest).await)
    }

    /// Writes a line of the audit about something that changed nothing.
    pub async fn write_audit(&self, line: &AuditLine) -> Result<(), BackendError> {
        either!(self, it => it.write_audit(line).await)
    }

    /// Reads the last lines of the audit, of one version or of all, the last first.
    pub async fn audit(
        &self,
        version: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AuditLine>, BackendError> {
        either!(self, it => it.audit(version, limit).await)
    }

    /// Keeps what a host says that it runs, and forgets hosts that were not heard of since `since`.
    pub async fn report_host(
        &self,
        report: &HostReport,
        since: Timestamp,
    ) -> Result<(), BackendError> {
        either!(self, it => it.report_host(report, since).await)
    }

    /// Reads what hosts said since `since`.
    pub async fn hosts(&self, since: Timestamp) -> Result<Vec<HostReport>, BackendError> {
        either!(self, it => it.hosts(since).await)
    }
}

impl Transaction {
    /// Reads a sale; nobody else changes it before this transaction ends.
    pub async fn lock_sale(&mut self, id: SaleId) -> Result<Option<Sale>, BackendError> {
        either!(self, it => it.lock_sale(id).await)
    }

    /// Places the order for a request, and takes its idempotency key with it; nobody sees either before `commit`.
    pub async fn place_order(
        &mut self,
        request: &Request,
        settling: &RevisionId,
        fence: Option<u64>,
        now: Timestamp,
    ) -> Result<Result<Order, Rejection>, BackendError> {
        either!(self, it => it.place_order(request, settling, fence, now).await)
    }

    /// Places the order for a request, makes it durable and visible, and ends the transaction, all in one trip; for a transaction that has placed none.
    ///
    /// After an error other than `LockLost` and `Duplicate` it may be durable or not.
    pub async fn place_and_commit(
        self,
        request: &Request,
        settling: &RevisionId,
        fence: Option<u64>,
        now: Timestamp,
    ) -> Result<Result<Order, Rejection>, BackendError> {
        either!(self, it => it.place_and_commit(request, settling, fence, now).await)
    }

    /// Makes the transaction durable and visible; after an error it may be durable or not.
    pub async fn commit(self) -> Result<(), BackendError> {
        either!(self, it => it.commit().await)
    }

    /// Undoes the transaction.
    pub async fn rollback(self) -> Result<(), BackendError> {
        either!(self, it => it.rollback().await)
    }
}
