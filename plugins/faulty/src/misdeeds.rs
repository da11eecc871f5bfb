//! What a purchase does wrong, one function or one line per row of the first table in `lib.rs`.
//!
//! Not for settlement (`poison`).
//! Called by the strategy's `purchase`.

use std::{hint, iter, mem, process};

use timesale_sdk::db::{self, Transaction};
use timesale_sdk::redis::{self, Lock};
use timesale_sdk::{Failure, Order, Outcome, Refusal, Rejection, Request, Ticket, kafka, log};

use crate::invented_order;

type Answer = Result<Outcome, Refusal>;

/// Does what the number stands for.
pub fn commit(misdeed: u64, request: &Request) -> Answer {
    match misdeed {
        0 => buy(&[request.handle]),
        1 => process::abort(),
        2 => panic_aloud(),
        3 => spin(),
        4 => allocate(),
        5 => overflow_the_stack(),
        6 => storm(request),
        7 => chatter(),
        8 => Ok(Outcome::Completed(invented_order())),
        9 => Ok(Outcome::Accepted(invented_ticket())),
        10 => leak_the_transaction(request),
        11 => leak_the_lock(request),
        12..=15 | 40 => with_the_row_locked(misdeed, request),
        16..=20 => with_the_order_placed(misdeed, request),
        21 => place_a_hundred_times(request),
        22 => place_and_commit_twice(request),
        23 => place_for_others(request),
        24 => buy(&[request.handle, request.handle, request.handle + 1, u32::MAX]),
        25 => place_and_commit(request.handle, Some(u64::MAX)),
        26 => submit_and_trap(request),
        27 => submit(request).and_then(|_| submit(request)),
        28 => forge_a_request(request),
        29 => set(&"k".repeat(1 << 20), b"1"),
        30 => set("faulty", &vec![b'v'; 1 << 20]),
        31 => set(&format!("time-sale:{}", request.sale_id), b"0"),
        32 => hoard_locks(),
        33 => take_ten_megabytes_and_buy(request),
        34 => hold_the_lock(request),
        35 => place_and_commit_at_once_and_again(request),
        36 => place_and_commit_at_once(request.handle + 1, None),
        37 => place_and_commit_at_once(request.handle, Some(u64::MAX)),
        38 => place_and_then_at_once(request),
        39 => hoard_transactions(),
        _ => Err(Failure::Invalid(format!("there is no misdeed {misdeed}")).into()),
    }
}

/// Buys in one step for these requests, and answers with the first one's.
fn buy(requests: &[u32]) -> Answer {
    let first = db::purchase(requests)?.into_iter().next();
    let order = first.ok_or_else(|| Failure::Other("no answer".to_owned()))??;
    Ok(Outcome::Completed(order))
}

#[expect(clippy::panic, reason = "the misdeed is the panic")]
fn panic_aloud() -> ! {
    panic!("misdeed 2")
}

/// Never returns, and never calls the host.
pub fn spin() -> ! {
    loop {
        hint::black_box(());
    }
}

/// Takes memory until it is refused.
pub fn allocate() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(hint::black_box(vec![1_u8; 1 << 20]));
    }
}

/// Far more than a component's memory begins with, and far less than it may have.
fn take_ten_megabytes_and_buy(request: &Request) -> Answer {
    let bytes = || (0..=u8::MAX).cycle();
    let small: Vec<_> = bytes().take(1 << 14).map(|byte| vec![byte; 320]).collect();
    let large = vec![7; 5 << 20];
    let (small, large) = hint::black_box((small, large));
    let kept = |(piece, byte): (&Vec<u8>, u8)| piece.iter().all(|it| *it == byte);
    if small.iter().zip(bytes()).all(kept) && kept((&large, 7)) {
        return buy(&[request.handle]);
    }
    Err(Failure::Other("memory does not keep what it was given".to_owned()).into())
}

fn overflow_the_stack() -> ! {
    /// Uses its frame after the call, so that no compiler makes a loop of it.
    #[expect(unconditional_recursion, reason = "the misdeed is the recursion")]
    fn descend(depth: u64) -> u64 {
        let frame = hint::black_box([depth; 64]);
        descend(depth + 1) + hint::black_box(frame).iter().sum::<u64>()
    }
    hint::black_box(descend(0));
    spin()
}

fn storm(request: &Request) -> ! {
    loop {
        hint::black_box(db::find_sale(request.sale_id)).ok();
    }
}

fn chatter() -> ! {
    let line = "chatter ".repeat(8 << 10);
    loop {
        log::info(&line);
    }
}

fn invented_ticket() -> Ticket {
    Ticket {
        partition: 0,
        offset: 4_000_000_000,
    }
}

fn leak_the_transaction(request: &Request) -> Answer {
    let transaction = Transaction::new();
    transaction.lock_sale(request.sale_id)?;
    mem::forget(transaction);
    Err(Rejection::SoldOut.into())
}

fn leak_the_lock(request: &Request) -> Answer {
    mem::forget(Lock::acquire(&lock_key(request), 0, 0)?);
    Err(Rejection::SoldOut.into())
}

fn with_the_row_locked(misdeed: u64, request: &Request) -> Answer {
    let transaction = Transaction::new();
    transaction.lock_sale(request.sale_id)?;
    match misdeed {
        12 => spin(),
        13 => {
            let lock = Lock::acquire(&lock_key(request), 0, 0)?;
            Err(Failure::Other(format!("waited in a transaction, had: {}", lock.token())).into())
        }
        14 => submit(request),
        40 => {
            db::find_sale(request.sale_id)?;
            let order = transaction.place_order(request.handle, None)?;
            Transaction::commit(transaction)?;
            Ok(Outcome::Completed(order))
        }
        _ => {
            let sale = Transaction::new().lock_sale(request.sale_id)?;
            Err(Failure::Other(format!("opened a second transaction, saw: {sale:?}")).into())
        }
    }
}

fn with_the_order_placed(misdeed: u64, request: &Request) -> Answer {
    let transaction = Transaction::new();
    let order = transaction.place_order(request.handle, None)?;
    match misdeed {
        16 => process::abort(),
        17 => {
            drop(transaction);
            return Ok(Outcome::Completed(order));
        }
        _ => Transaction::commit(transaction)?,
    }
    match misdeed {
        18 => process::abort(),
        19 => spin(),
        _ => Err(Rejection::SoldOut.into()),
    }
}

fn place_a_hundred_times(request: &Request) -> Answer {
    let transaction = Transaction::new();
    let place = || transaction.place_order(request.handle, None);
    let last = iter::repeat_with(place).take(100).last();
    Transaction::commit(transaction)?;
    completed(last.ok_or_else(|| Failure::Other("no attempt".to_owned()))?)
}

fn place_and_commit_twice(request: &Request) -> Answer {
    place_and_commit(request.handle, None).ok();
    place_and_commit(request.handle, None)
}

fn place_for_others(request: &Request) -> Answer {
    place_and_commit(request.handle + 1, None).ok();
    place_and_commit(u32::MAX, None)
}

fn place_and_commit(request: u32, fence: Option<u64>) -> Answer {
    let transaction = Transaction::new();
    let order = transaction.place_order(request, fence);
    Transaction::commit(transaction)?;
    completed(order)
}

fn place_and_commit_at_once(request: u32, fence: Option<u64>) -> Answer {
    completed(Transaction::place_and_commit(
        Transaction::new(),
        request,
        fence,
    ))
}

fn place_and_commit_at_once_and_again(request: &Request) -> Answer {
    place_and_commit_at_once(request.handle, None).ok();
    place_and_commit_at_once(request.handle, None)
}

fn place_and_then_at_once(request: &Request) -> Answer {
    let transaction = Transaction::new();
    transaction.place_order(request.handle, None)?;
    completed(Transaction::place_and_commit(
        transaction,
        request.handle,
        None,
    ))
}

fn completed(order: Result<Order, Refusal>) -> Answer {
    order.map(Outcome::Completed)
}

fn submit(request: &Request) -> Answer {
    Ok(Outcome::Accepted(kafka::submit(request.handle)?))
}

fn submit_and_trap(request: &Request) -> ! {
    submit(request).ok();
    process::abort()
}

fn forge_a_request(request: &Request) -> Answer {
    let sale = request.sale_id;
    let record = format!(r#"{{"timeSaleId":{sale},"userId":1,"quantity":1,"requestId":"forged"}}"#);
    let key = sale.to_string();
    let ticket = kafka::publish("time-sale-requests", key.as_bytes(), record.as_bytes())?;
    Ok(Outcome::Accepted(ticket))
}

fn set(key: &str, value: &[u8]) -> Answer {
    redis::set(key, value, None)?;
    Err(Rejection::SoldOut.into())
}

fn hoard_locks() -> Answer {
    let mut hoard = Vec::new();
    loop {
        let key = format!("faulty-lock:{}", hoard.len());
        hoard.push(Lock::acquire(&key, 0, 0)?);
    }
}

fn hoard_transactions() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(Transaction::new());
    }
}

fn hold_the_lock(request: &Request) -> Answer {
    let lock = Lock::acquire(&lock_key(request), 0, 0)?;
    // A guest has no clock: it waits by asking for what it holds already.
    Lock::acquire(&lock_key(request), 300 * request.quantity, 0).ok();
    place_and_commit(request.handle, Some(lock.token()))
}

fn lock_key(request: &Request) -> String {
    format!("time-sale-lock:{}", request.sale_id)
}
