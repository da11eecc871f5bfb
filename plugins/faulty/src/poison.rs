//! What a settlement does wrong, by the second table in `lib.rs`.
//!
//! The rest of a batch is settled as it should be, where the misdeed leaves time for it.
//! Not for purchases (`misdeeds`).
//! Called by the strategy's `settle`.

use std::{hint, process};

use timesale_sdk::{Failure, Order, Refusal, Rejection, Request, db, kafka};

use crate::{invented_order, number};

type Answer = Result<Order, Refusal>;

/// Settles a batch, with the misdeeds of the records in it.
pub fn settle(requests: &[Request]) -> Vec<Answer> {
    for request in requests {
        match number(request) {
            51 => process::abort(),
            52 => panic_aloud(),
            53 => loop {
                hint::black_box(());
            },
            _ => {}
        }
    }
    requests.iter().flat_map(answers).collect()
}

#[expect(clippy::panic, reason = "the misdeed is the panic")]
fn panic_aloud() -> ! {
    panic!("misdeed 52")
}

/// The answers to one record; a strategy that behaves has one.
fn answers(request: &Request) -> Vec<Answer> {
    match number(request) {
        54 => vec![],
        55 => vec![buy(request), Ok(invented_order())],
        56 => vec![Ok(invented_order())],
        57 => vec![buy(request).and(Err(Rejection::SoldOut.into()))],
        58 => vec![Err(Failure::Other("misdeed 58".to_owned()).into())],
        59 => vec![submit_again(request)],
        _ => vec![buy(request)],
    }
}

fn buy(request: &Request) -> Answer {
    let answer = db::purchase(&[request.handle])?.into_iter().next();
    let order = answer.ok_or_else(|| Failure::Other("no answer".to_owned()))??;
    Ok(order)
}

fn submit_again(request: &Request) -> Answer {
    kafka::submit(request.handle)?;
    Err(Failure::Other("submitted again".to_owned()).into())
}
