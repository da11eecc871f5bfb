//! A strategy's transaction: lock a sale, place orders, commit.
//!
//! `capability/db` holds one for a guest's `transaction`; the host's own batches go through `Sqlite::purchase`.

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::file::{Writing, failed};
use super::orders;
use super::placing::{self, Terms};
use super::rows;
use crate::backend::database::Denial;
use crate::backend::{BackendError, System};
use crate::domain::{Order, Refusal, Rejection, Request, RevisionId, Sale, SaleId};

/// An open transaction; it holds the database's one writer, and with it every row.
///
/// Dropping it undoes it.
/// After an error other than `LockLost` and `Duplicate`, or a method's future dropped half-way, it can only be rolled back: every later method fails.
#[derive(Debug)]
pub struct Transaction {
    writing: Writing,
    sound: bool,
}

impl Transaction {
    pub(super) fn new(writing: Writing) -> Self {
        Self {
            writing,
            sound: true,
        }
    }

    /// Reads a sale; nobody else changes it before this transaction ends.
    pub async fn lock_sale(&mut self, id: SaleId) -> Result<Option<Sale>, BackendError> {
        self.enter("lock the sale")?;
        let sale = rows::find_sale(self.writing.connection(), id)
            .await
            .map_err(failed(System::Database, "lock the sale"))?;
        self.sound = true;
        Ok(sale)
    }

    /// Places the order for a request, and takes its idempotency key with it; nobody sees either before `commit`.
    ///
    /// Window, stock and limit are judged on what this transaction sees.
    /// Fails with `Duplicate` where the request is decided or its key taken, with `LockLost` where a token above `fence` has written to the sale; both leave the transaction as it was.
    pub async fn place_order(
        &mut self,
        request: &Request,
        settling: &RevisionId,
        fence: Option<u64>,
        now: Timestamp,
    ) -> Result<Result<Order, Rejection>, BackendError> {
        self.enter("place the order")?;
        let terms = Terms {
            settling,
            fence: fence
                .map(rows::signed)
                .transpose()
                .map_err(failed(System::Database, "place the order"))?,
            keeps_keys: true,
            now,
        };
        let answer = place(self.writing.connection(), request, &terms).await;
        self.sound = matches!(
            answer,
            Ok(_) | Err(BackendError::LockLost | BackendError::Duplicate)
        );
        answer
    }

    /// Places the order for a request, makes it durable and visible, and ends the transaction; for a transaction that has placed none.
    ///
    /// After an error other than `LockLost` and `Duplicate` it may be durable or not: whoever called looks up the request.
    pub async fn place_and_commit(
        mut self,
        request: &Request,
        settling: &RevisionId,
        fence: Option<u64>,
        now: Timestamp,
    ) -> Result<Result<Order, Rejection>, BackendError> {
        let placed = self.place_order(request, settling, fence, now).await;
        match &placed {
            Ok(Ok(_)) => self.commit().await?,
            Ok(Err(_)) | Err(_) => self.rollback().await?,
        }
        placed
    }

    /// Makes the transaction durable and visible.
    ///
    /// After an error it may be durable or not: whoever called looks up the request.
    pub async fn commit(mut self) -> Result<(), BackendError> {
        self.enter("commit")?;
        self.writing.commit().await
    }

    /// Undoes the transaction.
    pub async fn rollback(self) -> Result<(), BackendError> {
        self.writing.rollback().await
    }

    /// Refuses to go on where an earlier statement left the transaction in an unknown state: SQLite may have rolled it back, and the next statement would commit by itself.
    fn enter(&mut self, operation: &'static str) -> Result<(), BackendError> {
        if !self.sound {
            return Err(BackendError::unavailable(
                System::Database,
                operation,
                "an earlier statement of the transaction failed",
            ));
        }
        self.sound = false;
        Ok(())
    }
}

async fn place(
    connection: &mut SqliteConnection,
    request: &Request,
    terms: &Terms<'_>,
) -> Result<Result<Order, Rejection>, BackendError> {
    let wrong = || failed(System::Database, "place the order");
    let decided = orders::decisions(&mut *connection, &[&request.id])
        .await
        .map_err(wrong())?;
    if decided.iter().any(Option::is_some) {
        return Err(BackendError::Duplicate);
    }
    if let Some(fence) = terms.fence {
        let highest: Option<i64> = sqlx::query_scalar("SELECT fence FROM time_sales WHERE id = ?1")
            .bind(request.sale_id)
            .fetch_optional(&mut *connection)
            .await
            .map_err(wrong())?;
        if highest.is_some_and(|highest| fence < highest) {
            return Err(BackendError::LockLost);
        }
    }
    let answers = placing::place(connection, &[request], terms)
        .await
        .map_err(wrong())?;
    match answers.into_iter().next() {
        Some(Ok(order)) => Ok(Ok(order)),
        Some(Err(Denial::Refused(Refusal::Rejected(rejection)))) => Ok(Err(rejection)),
        Some(Err(Denial::Refused(Refusal::StrategyFailed) | Denial::Taken)) => {
            Err(BackendError::Duplicate)
        }
        None => Err(wrong()(sqlx::Error::RowNotFound)),
    }
}
