//! v2: buyers of a sale queue at a lock in Redis, so that they do not hold database connections while they wait.
//!
//! The order of the steps is the strategy: lock, transaction, commit, cache, unlock.
//! The lock is released after the commit, so that the next buyer sees what this one took.
//! Its fencing token goes with the order, so that a buyer who outlived the lease cannot write behind the next one's back.
//! The cache holds the pieces left and is a hint: it spares a buyer of a sold-out sale the queue, and the database confirms it before anyone is refused.

use timesale_sdk::db::{self, Transaction};
use timesale_sdk::redis::{self, Lock};
use timesale_sdk::{
    Failure, Order, Outcome, Refusal, Rejection, Request, SaleId, Strategy, log, rules, strategy,
};

/// How long a hint lives; long enough to serve a rush, short enough to leave nothing behind.
const HINT_TTL_MS: u64 = 60_000;

struct RedisLock;

impl Strategy for RedisLock {
    const OPERATION: &str = "purchaseTimeSaleWithRedis";

    fn purchase(request: &Request) -> Result<Outcome, Refusal> {
        let hint = hint(request.sale_id);
        if hint.is_none_or(|left| left < u64::from(request.quantity)) {
            let sale = rules::check(db::find_sale(request.sale_id)?, request)?;
            if hint.is_none() {
                keep_hint(request.sale_id, sale.remaining);
            }
        }
        let lock = acquire(request.sale_id)?;
        let sold = order(request, lock.token());
        match &sold {
            Ok(order) => lower_hint(request.sale_id, order.remaining),
            Err(Refusal::Rejected(Rejection::SoldOut)) => {
                // Other strategies sold it: those who come next shall not queue here.
                let sale = db::find_sale(request.sale_id)?;
                sale.inspect(|sale| lower_hint(sale.id, sale.remaining));
            }
            Err(_) => {}
        }
        drop(lock);
        Ok(Outcome::Completed(sold?))
    }
}

strategy!(RedisLock);

/// Takes the sale's lock, within the wait and for the lease that the host sets.
fn acquire(sale: SaleId) -> Result<Lock, Failure> {
    let key = format!("time-sale-lock:{sale}");
    Lock::acquire(&key, 0, 0)
}

/// Takes the pieces in one transaction, under the lock of which `fence` is the token.
fn order(request: &Request, fence: u64) -> Result<Order, Refusal> {
    let transaction = Transaction::new();
    let sale = transaction.lock_sale(request.sale_id)?;
    rules::check(sale, request)?;
    Transaction::place_and_commit(transaction, request.handle, Some(fence))
}

/// The pieces left when the cache was written, if it can be read: without it the purchase only takes longer.
fn hint(sale: SaleId) -> Option<u64> {
    let value = redis::get(&hint_key(sale))
        .inspect_err(|failure| log::warn(&format!("cannot read the cache: {failure:?}")))
        .ok()??;
    str::from_utf8(&value).ok()?.parse().ok()
}

/// Writes what is left after a commit, never above what is there: what remains never rises.
fn lower_hint(sale: SaleId, remaining: u64) {
    if hint(sale).is_none_or(|left| left > remaining) {
        keep_hint(sale, remaining);
    }
}

/// Writes what was read committed; a cache that cannot be written does not fail the purchase.
fn keep_hint(sale: SaleId, remaining: u64) {
    let value = remaining.to_string();
    if let Err(failure) = redis::set(&hint_key(sale), value.as_bytes(), Some(HINT_TTL_MS)) {
        log::warn(&format!("cannot write the cache: {failure:?}"));
    }
}

fn hint_key(sale: SaleId) -> String {
    format!("time-sale:{sale}")
}
