//! Strategies that are right, each in a way of its own; also the steps that the wrong ones differ from.
//!
//! | name | sells |
//! |---|---|
//! | `in-a-transaction` | as v1: locks the row, checks, places, commits |
//! | `later` | as v3: checks, submits, settles a batch in one step |
//! | `chatty` | as v1, and logs more than the host writes |
//! | `counts` | as v1, and counts its calls in Redis |
//! | `publishes` | as v1, and publishes an event for each order |
//! | `retries-the-lock` | under a Redis lock that it waits for briefly, twice |
//! | `places-blindly` | in a transaction, and leaves every check to the host |
//! | `checks-first` | checks without a lock, then in one step |
//! | `changes-its-mind` | drops a transaction that it began, then in one step |
//! | `settles-one-by-one` | as v3, and settles each request by itself |
//! | `settles-in-transactions` | as v3, and settles each request as v1 sells |

use timesale_sdk::db::{self, Transaction};
use timesale_sdk::redis::{self, Lock};
use timesale_sdk::{Failure, Order, Outcome, Refusal, Request, RequestHandle, kafka, log, rules};

use super::{Answer, Purchase, Settle, Settled};

/// The strategy of this name.
pub fn find(name: &str) -> Option<(Purchase, Settle)> {
    Some(match name {
        "in-a-transaction" => (in_a_transaction, never_asked),
        "later" => (later, in_one_batch),
        "chatty" => (chatty, never_asked),
        "counts" => (counts, never_asked),
        "publishes" => (publishes, never_asked),
        "retries-the-lock" => (retries_the_lock, never_asked),
        "places-blindly" => (places_blindly, never_asked),
        "checks-first" => (checks_first, never_asked),
        "changes-its-mind" => (changes_its_mind, never_asked),
        "settles-one-by-one" => (later, one_by_one),
        "settles-in-transactions" => (later, in_transactions),
        _ => return None,
    })
}

/// Sells as v1 does.
pub fn in_a_transaction(request: &Request) -> Answer {
    Ok(Outcome::Completed(order(request, None)?))
}

/// Accepts as v3 does.
pub fn later(request: &Request) -> Answer {
    rules::check(db::find_sale(request.sale_id)?, request)?;
    Ok(Outcome::Accepted(kafka::submit(request.handle)?))
}

/// Settles as v3 does.
pub fn in_one_batch(requests: &[Request]) -> Vec<Settled> {
    let handles: Vec<RequestHandle> = requests.iter().map(|it| it.handle).collect();
    match db::purchase(&handles) {
        Ok(answers) => answers
            .into_iter()
            .map(|it| it.map_err(Refusal::from))
            .collect(),
        Err(failure) => handles
            .iter()
            .map(|_| Err(failure.clone().into()))
            .collect(),
    }
}

/// Settles nothing: for strategies that accept nothing.
pub fn never_asked(requests: &[Request]) -> Vec<Settled> {
    let never = || Failure::Invalid("this strategy submits no requests".to_owned());
    requests.iter().map(|_| Err(never().into())).collect()
}

/// Places an order in a transaction, fenced by a lock's token where there is one.
pub fn order(request: &Request, fence: Option<u64>) -> Result<Order, Refusal> {
    let transaction = Transaction::new();
    let sale = transaction.lock_sale(request.sale_id)?;
    rules::check(sale, request)?;
    let order = transaction.place_order(request.handle, fence)?;
    Transaction::commit(transaction)?;
    Ok(order)
}

/// Places an order by the database's own purchase.
pub fn in_one_step(request: &Request) -> Result<Order, Refusal> {
    let answer = db::purchase(&[request.handle])?.into_iter().next();
    let order = answer.ok_or_else(|| Failure::Other("no answer".to_owned()))??;
    Ok(order)
}

/// The Redis lock of a request's sale.
pub fn lock_key(request: &Request) -> String {
    format!("time-sale-lock:{}", request.sale_id)
}

fn chatty(request: &Request) -> Answer {
    for line in 0..40 {
        log::debug(&format!("line {line} of request {}", request.id));
    }
    in_a_transaction(request)
}

fn counts(request: &Request) -> Answer {
    let calls = redis::add("corpus-calls", 1)?;
    log::debug(&format!("call {calls}"));
    in_a_transaction(request)
}

fn publishes(request: &Request) -> Answer {
    let order = order(request, None)?;
    let key = request.sale_id.to_string();
    let payload = format!("{} of {}", order.id, request.id);
    kafka::publish("time-sale-events", key.as_bytes(), payload.as_bytes())?;
    Ok(Outcome::Completed(order))
}

fn retries_the_lock(request: &Request) -> Answer {
    const BRIEFLY_MS: u32 = 20;
    let key = lock_key(request);
    let lock = match Lock::acquire(&key, BRIEFLY_MS, 0) {
        Err(Failure::LockTimeout) => Lock::acquire(&key, BRIEFLY_MS, 0)?,
        otherwise => otherwise?,
    };
    let order = order(request, Some(lock.token()))?;
    Lock::release(lock)?;
    Ok(Outcome::Completed(order))
}

fn places_blindly(request: &Request) -> Answer {
    let transaction = Transaction::new();
    let order = transaction.place_order(request.handle, None)?;
    Transaction::commit(transaction)?;
    Ok(Outcome::Completed(order))
}

fn checks_first(request: &Request) -> Answer {
    rules::check(db::find_sale(request.sale_id)?, request)?;
    Ok(Outcome::Completed(in_one_step(request)?))
}

fn changes_its_mind(request: &Request) -> Answer {
    let transaction = Transaction::new();
    let sale = transaction.lock_sale(request.sale_id)?;
    drop(transaction);
    rules::check(sale, request)?;
    Ok(Outcome::Completed(in_one_step(request)?))
}

fn one_by_one(requests: &[Request]) -> Vec<Settled> {
    requests.iter().map(in_one_step).collect()
}

fn in_transactions(requests: &[Request]) -> Vec<Settled> {
    requests
        .iter()
        .map(|request| order(request, None))
        .collect()
}
