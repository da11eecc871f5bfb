//! v1: buyers of a sale queue at the sale's row in the database.
//!
//! One transaction locks the row, judges the sale as it then is, and then places the order and commits in one step.
//! The simplest strategy that is right, and the slowest on a hot sale: every buyer waits for the commits of those before.
//! Buyers of a sale that is sold out for ever do not queue, because the host answers `lock_sale` for it without a lock.

use timesale_sdk::db::Transaction;
use timesale_sdk::{Outcome, Refusal, Request, Strategy, rules, strategy};

struct RowLock;

impl Strategy for RowLock {
    const OPERATION: &str = "purchaseTimeSale";

    fn purchase(request: &Request) -> Result<Outcome, Refusal> {
        let transaction = Transaction::new();
        let sale = transaction.lock_sale(request.sale_id)?;
        rules::check(sale, request)?;
        let order = Transaction::place_and_commit(transaction, request.handle, None)?;
        Ok(Outcome::Completed(order))
    }
}

strategy!(RowLock);
