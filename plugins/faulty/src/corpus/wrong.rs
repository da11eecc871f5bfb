//! Strategies that are wrong wherever they are tried: the probe has to find each of them.
//!
//! Two more are in `lib.rs`, because they fail at `describe`: `traps-in-describe` and `no-operation`.
//!
//! | name | what is wrong |
//! |---|---|
//! | `traps` | traps always |
//! | `traps-on-every-tenth` | traps on every tenth call |
//! | `spins` | never returns |
//! | `spins-in-a-transaction` | places the order and never commits |
//! | `allocates` | allocates without end |
//! | `storms-the-host` | asks for the sale 600 times |
//! | `is-slow` | burns many times the time of a purchase |
//! | `asks-too-often` | asks for the sale 60 times |
//! | `floods-the-log` | publishes some 18 MB of events for each order |
//! | `oversells` | skips every check, and claims the sale where the host refuses it |
//! | `skips-the-checks` | reads the sale and places the order, whatever it read |
//! | `ignores-the-window` | checks the stock alone, and says that it is sold out |
//! | `ignores-the-limit` | claims the sale where the limit refuses it |
//! | `claims-an-order` | says completed, and did nothing |
//! | `claims-a-ticket` | says accepted, and did nothing |
//! | `denies-its-order` | says rejected after the commit |
//! | `misnames-its-order` | commits an order and names another |
//! | `misnames-its-ticket` | submits and names another place |
//! | `always-refuses` | says sold out to everybody |
//! | `keeps-the-last-piece` | says sold out where just enough is left |
//! | `says-not-open` | says not open where it is sold out |
//! | `trusts-its-cache` | writes a 0 into its cache and refuses by it |
//! | `orders-twice` | places the order again after the commit |
//! | `sells-and-submits` | commits the order and submits the request |
//! | `leaks-its-lock` | returns with its lock held |
//! | `leaks-a-transaction` | returns with a transaction open |
//! | `waits-in-a-transaction` | asks Redis inside a transaction |
//! | `submits-what-is-refused` | reads the sale and submits the request, whatever it read |
//! | `never-settles` | fails at every request that it accepted |
//! | `settles-the-first` | settles the first request of a batch, and fails the others |
//! | `settles-backwards` | sells to the last of a batch first |
//! | `answers-backwards` | settles a batch, and answers in the wrong order |
//! | `answers-too-few` | settles a batch, and leaves the last answer out |
//! | `submits-while-settling` | submits again what it has to settle |
//! | `traps-while-settling` | traps when it has to settle |

use std::{hint, mem, process};

use timesale_sdk::db::{self, Transaction};
use timesale_sdk::redis::{self, Lock};
use timesale_sdk::{
    Failure, Order, Outcome, Rejection, Request, RequestHandle, Ticket, kafka, rules,
};

use super::right::{
    in_a_transaction, in_one_batch, in_one_step, later, lock_key, never_asked, order,
};
use super::{Answer, Purchase, Settle, Settled};
use crate::{
    invented_order,
    misdeeds::{allocate, spin},
};

/// The strategy of this name.
pub fn find(name: &str) -> Option<(Purchase, Settle)> {
    Some(match name {
        "traps" => (|_| process::abort(), never_asked),
        "traps-on-every-tenth" => (traps_on_every_tenth, never_asked),
        "spins" => (|_| spin(), never_asked),
        "spins-in-a-transaction" => (spins_in_a_transaction, never_asked),
        "allocates" => (|_| allocate(), never_asked),
        "storms-the-host" => (|request| asks(600, request), never_asked),
        "asks-too-often" => (|request| asks(60, request), never_asked),
        "floods-the-log" => (floods_the_log, never_asked),
        "is-slow" => (is_slow, never_asked),
        "oversells" => (oversells, never_asked),
        "skips-the-checks" => (skips_the_checks, never_asked),
        "ignores-the-window" => (ignores_the_window, never_asked),
        "ignores-the-limit" => (ignores_the_limit, never_asked),
        "claims-an-order" => (|_| Ok(Outcome::Completed(invented_order())), never_asked),
        "claims-a-ticket" => (|_| Ok(Outcome::Accepted(invented_ticket())), never_asked),
        "denies-its-order" => (denies_its_order, never_asked),
        "misnames-its-order" => (misnames_its_order, never_asked),
        "misnames-its-ticket" => (misnames_its_ticket, in_one_batch),
        "always-refuses" => (|_| Err(Rejection::SoldOut.into()), never_asked),
        "keeps-the-last-piece" => (keeps_the_last_piece, never_asked),
        "says-not-open" => (says_not_open, never_asked),
        "trusts-its-cache" => (trusts_its_cache, never_asked),
        "orders-twice" => (orders_twice, never_asked),
        "sells-and-submits" => (sells_and_submits, in_one_batch),
        "leaks-its-lock" => (leaks_its_lock, never_asked),
        "leaks-a-transaction" => (leaks_a_transaction, never_asked),
        "waits-in-a-transaction" => (waits_in_a_transaction, never_asked),
        "submits-what-is-refused" => (submits_what_is_refused, in_one_batch),
        "never-settles" => (later, never_asked),
        "settles-the-first" => (later, settles_the_first),
        "settles-backwards" => (later, settles_backwards),
        "answers-backwards" => (later, answers_backwards),
        "answers-too-few" => (later, answers_too_few),
        "submits-while-settling" => (later, submits_while_settling),
        "traps-while-settling" => (later, |_| process::abort()),
        _ => return None,
    })
}

/// Takes far longer than a purchase, also than one that a busy machine slows, without a word to the host.
pub fn burn() {
    for step in 0..240_000_000_u64 {
        hint::black_box(step);
    }
}

fn traps_on_every_tenth(request: &Request) -> Answer {
    if redis::add("corpus-calls", 1)? % 10 == 0 {
        process::abort();
    }
    in_a_transaction(request)
}

fn spins_in_a_transaction(request: &Request) -> Answer {
    let transaction = Transaction::new();
    transaction.place_order(request.handle, None)?;
    spin()
}

fn asks(times: u32, request: &Request) -> Answer {
    for _ in 0..times {
        db::find_sale(request.sale_id)?;
    }
    in_a_transaction(request)
}

fn floods_the_log(request: &Request) -> Answer {
    let payload = vec![b'e'; 60_000];
    for _ in 0..300 {
        kafka::publish("time-sale-events", b"flood", &payload)?;
    }
    in_a_transaction(request)
}

fn is_slow(request: &Request) -> Answer {
    burn();
    in_a_transaction(request)
}

fn oversells(request: &Request) -> Answer {
    let transaction = Transaction::new();
    let order = transaction.place_order(request.handle, None);
    Transaction::commit(transaction)?;
    Ok(Outcome::Completed(
        order.unwrap_or_else(|_| invented_order()),
    ))
}

fn skips_the_checks(request: &Request) -> Answer {
    let transaction = Transaction::new();
    transaction.lock_sale(request.sale_id)?;
    let order = transaction.place_order(request.handle, None)?;
    Transaction::commit(transaction)?;
    Ok(Outcome::Completed(order))
}

fn ignores_the_window(request: &Request) -> Answer {
    let transaction = Transaction::new();
    let sale = transaction.lock_sale(request.sale_id)?;
    let sale = sale.ok_or(Rejection::SaleNotFound)?;
    if sale.remaining < u64::from(request.quantity) {
        return Err(Rejection::SoldOut.into());
    }
    let placed = transaction.place_order(request.handle, None);
    Transaction::commit(transaction)?;
    Ok(Outcome::Completed(placed.map_err(|_| Rejection::SoldOut)?))
}

fn ignores_the_limit(request: &Request) -> Answer {
    let transaction = Transaction::new();
    rules::check(transaction.lock_sale(request.sale_id)?, request)?;
    let placed = transaction.place_order(request.handle, None);
    Transaction::commit(transaction)?;
    Ok(Outcome::Completed(
        placed.unwrap_or_else(|_| invented_order()),
    ))
}

fn denies_its_order(request: &Request) -> Answer {
    order(request, None)?;
    Err(Rejection::SoldOut.into())
}

fn misnames_its_order(request: &Request) -> Answer {
    let order = order(request, None)?;
    Ok(Outcome::Completed(Order {
        id: order.id + 1,
        ..order
    }))
}

fn misnames_its_ticket(request: &Request) -> Answer {
    later(request)?;
    Ok(Outcome::Accepted(invented_ticket()))
}

fn keeps_the_last_piece(request: &Request) -> Answer {
    let sale = rules::check(db::find_sale(request.sale_id)?, request)?;
    if sale.remaining == u64::from(request.quantity) {
        return Err(Rejection::SoldOut.into());
    }
    in_a_transaction(request)
}

fn says_not_open(request: &Request) -> Answer {
    in_a_transaction(request).map_err(|_| Rejection::NotOpen.into())
}

fn trusts_its_cache(request: &Request) -> Answer {
    let key = format!("time-sale:{}", request.sale_id);
    if redis::get(&key)?.is_some_and(|left| left == b"0") {
        return Err(Rejection::SoldOut.into());
    }
    let sold = in_a_transaction(request)?;
    redis::set(&key, b"0", None)?;
    Ok(sold)
}

fn orders_twice(request: &Request) -> Answer {
    let sold = order(request, None)?;
    order(request, None).ok();
    Ok(Outcome::Completed(sold))
}

fn sells_and_submits(request: &Request) -> Answer {
    let order = order(request, None)?;
    kafka::submit(request.handle)?;
    Ok(Outcome::Completed(order))
}

fn leaks_its_lock(request: &Request) -> Answer {
    let lock = Lock::acquire(&lock_key(request), 0, 0)?;
    let sold = order(request, Some(lock.token()));
    mem::forget(lock);
    Ok(Outcome::Completed(sold?))
}

fn leaks_a_transaction(request: &Request) -> Answer {
    let sold = in_a_transaction(request);
    let transaction = Transaction::new();
    transaction.lock_sale(request.sale_id)?;
    mem::forget(transaction);
    sold
}

fn waits_in_a_transaction(request: &Request) -> Answer {
    let transaction = Transaction::new();
    rules::check(transaction.lock_sale(request.sale_id)?, request)?;
    let order = transaction.place_order(request.handle, None)?;
    redis::add("corpus-orders", 1).ok();
    Transaction::commit(transaction)?;
    Ok(Outcome::Completed(order))
}

fn submits_what_is_refused(request: &Request) -> Answer {
    db::find_sale(request.sale_id)?;
    Ok(Outcome::Accepted(kafka::submit(request.handle)?))
}

fn invented_ticket() -> Ticket {
    Ticket {
        partition: 0,
        offset: 4_000_000_000,
    }
}

fn settles_the_first(requests: &[Request]) -> Vec<Settled> {
    let fails = || Failure::Other("not today".to_owned());
    let answers = requests
        .iter()
        .enumerate()
        .map(|(place, request)| match place {
            0 => in_one_step(request),
            _ => Err(fails().into()),
        });
    answers.collect()
}

fn settles_backwards(requests: &[Request]) -> Vec<Settled> {
    let handles: Vec<RequestHandle> = requests.iter().rev().map(|it| it.handle).collect();
    match db::purchase(&handles) {
        Ok(answers) => answers
            .into_iter()
            .rev()
            .map(|it| it.map_err(Into::into))
            .collect(),
        Err(_) => never_asked(requests),
    }
}

fn answers_backwards(requests: &[Request]) -> Vec<Settled> {
    let mut answers = in_one_batch(requests);
    answers.reverse();
    answers
}

fn answers_too_few(requests: &[Request]) -> Vec<Settled> {
    let mut answers = in_one_batch(requests);
    answers.pop();
    answers
}

fn submits_while_settling(requests: &[Request]) -> Vec<Settled> {
    for request in requests {
        kafka::submit(request.handle).ok();
    }
    in_one_batch(requests)
}
