//! A strategy's transaction: lock a sale, place orders, commit.
//!
//! `capability/db` holds one for a guest's `transaction`; the host's own batches go through `Postgres::purchase`.

use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::fault::{failed, is_conflict, unavailable};
use super::orders::{self, Terms, Verdict};
use super::pool::Lease;
use super::rows;
use crate::backend::BackendError;
use crate::backend::turns::Turn;
use crate::domain::{Order, Refusal, Rejection, Request, RevisionId, Sale, SaleId};

/// What a transaction says as text, in one trip with `BEGIN` or `COMMIT`, is prepared when its connection is made: its text would be planned anew each time, half of it while others wait for the row.
///
/// The columns of a sale are named: a prepared `*` fails once the migration of a newer host has added one.
pub const PREPARE: &str = "\
    PREPARE lock_sale (bigint) AS \
    SELECT id, product_id, quantity, remaining, discount_price, start_at, end_at, limit_per_user, created_at \
    FROM time_sales WHERE id = $1 FOR NO KEY UPDATE; \
    PREPARE purchase_one (text, bigint, bigint, bigint, bigint, text, text, bytea, text, bigint, boolean, bigint) AS \
    SELECT * FROM purchase_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// A transaction that begins with its first statement; from then on it holds the rows of the sales that it locked or sold from.
///
/// Dropping it undoes it: its connection is closed.
/// After an error other than `LockLost` and `Duplicate`, or a method's future dropped half-way, it can only be rolled back: every later method fails.
/// So it is after a `Duplicate` that another writer caused at the very moment.
#[derive(Debug)]
pub struct Transaction {
    lease: Lease,
    begun: bool,
    sound: bool,
    /// Given up with the transaction; where that was dropped, while its connection is being closed.
    _turn: Option<Turn<SaleId>>,
}

impl Transaction {
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            lease,
            begun: false,
            sound: true,
            _turn: None,
        }
    }

    /// The transaction, which gives up this turn with its end.
    pub(super) fn in_turn(self, turn: Turn<SaleId>) -> Self {
        Self {
            _turn: Some(turn),
            ..self
        }
    }

    /// Reads a sale; nobody else changes it before this transaction ends.
    pub async fn lock_sale(&mut self, id: SaleId) -> Result<Option<Sale>, BackendError> {
        const OPERATION: &str = "lock the sale";
        self.enter(OPERATION)?;
        // In one trip with BEGIN, which takes no parameters; an integer needs no quotes.
        let begin = if self.begun { "" } else { "BEGIN; " };
        let query = sqlx::raw_sql(AssertSqlSafe(format!("{begin}EXECUTE lock_sale ({id})")));
        self.begun = true;
        let rows = self.lease.fetch_all(query).await;
        let rows = rows.map_err(failed(OPERATION))?;
        let sale = rows.first().map(rows::sale).transpose();
        let sale = sale.map_err(failed(OPERATION))?;
        self.sound = true;
        Ok(sale)
    }

    /// Places the order for a request, and takes its idempotency key with it; nobody sees either before `commit`.
    ///
    /// Locks the sale where `lock_sale` has not; window, stock and limit are judged on what was committed then and on what this transaction has done.
    /// Fails with `Duplicate` where the request is decided or its key taken, with `LockLost` where a token above `fence` has written to the sale; both leave the transaction as it was.
    pub async fn place_order(
        &mut self,
        request: &Request,
        settling: &RevisionId,
        fence: Option<u64>,
        now: Timestamp,
    ) -> Result<Result<Order, Rejection>, BackendError> {
        const OPERATION: &str = "place the order";
        let terms = terms(settling, fence, now).map_err(failed(OPERATION))?;
        self.enter(OPERATION)?;
        if !self.begun {
            self.run("BEGIN", OPERATION).await?;
            self.begun = true;
        }
        let query = orders::purchase_one(request, &terms);
        let rows = match self.lease.fetch_all(query).await {
            Ok(rows) => rows,
            Err(error) if is_conflict(&error) => return Err(BackendError::Duplicate),
            Err(error) => return Err(failed(OPERATION)(error)),
        };
        let verdict = orders::verdict(&rows).map_err(failed(OPERATION))?;
        self.sound = true;
        placed(verdict)
    }

    /// Places the order for a request, makes it durable and visible, and ends the transaction, all in one trip; for a transaction that has placed none.
    ///
    /// Judges and fails as `place_order` does.
    /// After an error other than `LockLost` and `Duplicate` it may be durable or not: whoever called looks up the request.
    pub async fn place_and_commit(
        mut self,
        request: &Request,
        settling: &RevisionId,
        fence: Option<u64>,
        now: Timestamp,
    ) -> Result<Result<Order, Rejection>, BackendError> {
        const OPERATION: &str = "place the order and commit";
        let terms = terms(settling, fence, now).map_err(failed(OPERATION))?;
        self.enter(OPERATION)?;
        let place = orders::purchase_as_text(request, &terms);
        // Where there is no order COMMIT ends a transaction that wrote nothing; after a fault the server does not come to it.
        let commit = if self.begun { "; COMMIT" } else { "" };
        let query = sqlx::raw_sql(AssertSqlSafe(place + commit));
        let rows = match self.lease.fetch_all(query).await {
            Ok(rows) => rows,
            Err(error) => {
                let conflict = is_conflict(&error);
                if let Err(error) = self.rollback().await {
                    tracing::debug!("what could not be placed was not rolled back: {error}");
                }
                return Err(match conflict {
                    true => BackendError::Duplicate,
                    false => failed(OPERATION)(error),
                });
            }
        };
        self.lease.give_back();
        placed(orders::verdict(&rows).map_err(failed(OPERATION))?)
    }

    /// Makes the transaction durable and visible.
    ///
    /// After an error it may be durable or not: whoever called looks up the request.
    pub async fn commit(mut self) -> Result<(), BackendError> {
        // Where a statement failed, the server would take COMMIT for ROLLBACK and not say so.
        self.enter("commit")?;
        self.end("COMMIT", "commit").await
    }

    /// Undoes the transaction.
    pub async fn rollback(self) -> Result<(), BackendError> {
        self.end("ROLLBACK", "roll back").await
    }

    async fn end(
        mut self,
        statement: &'static str,
        operation: &'static str,
    ) -> Result<(), BackendError> {
        if self.begun {
            self.run(statement, operation).await?;
        }
        self.lease.give_back();
        Ok(())
    }

    async fn run(
        &mut self,
        statement: &'static str,
        operation: &'static str,
    ) -> Result<(), BackendError> {
        let answer = self.lease.fetch_all(sqlx::raw_sql(statement)).await;
        answer.map(drop).map_err(failed(operation))
    }

    /// Refuses to go on where an earlier statement failed or was never heard of again.
    fn enter(&mut self, operation: &'static str) -> Result<(), BackendError> {
        if !self.sound {
            return Err(unavailable(operation)(
                "an earlier statement of the transaction failed",
            ));
        }
        self.sound = false;
        Ok(())
    }
}

/// A strategy's terms: its rejections are not final, and its orders take their requests' keys.
fn terms(settling: &RevisionId, fence: Option<u64>, now: Timestamp) -> sqlx::Result<Terms<'_>> {
    Ok(Terms {
        settling,
        fence: fence.map(rows::signed).transpose()?,
        refusals_are_final: false,
        now,
    })
}

/// What a verdict is to a strategy.
fn placed(verdict: Verdict) -> Result<Result<Order, Rejection>, BackendError> {
    match verdict {
        Verdict::Placed(order) => Ok(Ok(order)),
        Verdict::Refused(Refusal::Rejected(rejection)) => Ok(Err(rejection)),
        Verdict::LockLost => Err(BackendError::LockLost),
        Verdict::Decided(_) | Verdict::Taken | Verdict::Refused(Refusal::StrategyFailed) => {
            Err(BackendError::Duplicate)
        }
    }
}
