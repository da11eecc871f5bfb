//! Strategies that are wrong for the shop's buyers and right for the probe's: they pass it, and production has to find them.
//!
//! They tell the two apart by the buyer's number, which the probe takes from above 900 million.
//!
//! | name | what is wrong, for buyers below |
//! |---|---|
//! | `late-traps` | traps for every fourth |
//! | `late-slow` | burns many times the time of a purchase |
//! | `late-refuses` | says sold out to every fourth, whom the database would sell to |
//! | `late-claims` | says completed to every fourth, and did nothing |
//! | `late-never-settles` | accepts, and fails at every request when it has to settle |

use std::process;

use timesale_sdk::{Outcome, Rejection, Request};

use super::right::{in_a_transaction, in_one_batch, later, never_asked};
use super::wrong::burn;
use super::{Answer, Purchase, Settle, Settled};
use crate::invented_order;

/// The strategy of this name.
pub fn find(name: &str) -> Option<(Purchase, Settle)> {
    Some(match name {
        "late-traps" => (traps, never_asked),
        "late-slow" => (slow, never_asked),
        "late-refuses" => (refuses, never_asked),
        "late-claims" => (claims, never_asked),
        "late-never-settles" => (later, settles_for_the_probe),
        _ => return None,
    })
}

fn is_of_the_shop(request: &Request) -> bool {
    request.user_id < 900_000_000
}

fn is_fourth(request: &Request) -> bool {
    is_of_the_shop(request) && request.user_id.is_multiple_of(4)
}

fn traps(request: &Request) -> Answer {
    if is_fourth(request) {
        process::abort();
    }
    in_a_transaction(request)
}

fn slow(request: &Request) -> Answer {
    if is_of_the_shop(request) {
        burn();
    }
    in_a_transaction(request)
}

fn refuses(request: &Request) -> Answer {
    if is_fourth(request) {
        return Err(Rejection::SoldOut.into());
    }
    in_a_transaction(request)
}

fn claims(request: &Request) -> Answer {
    if is_fourth(request) {
        return Ok(Outcome::Completed(invented_order()));
    }
    in_a_transaction(request)
}

fn settles_for_the_probe(requests: &[Request]) -> Vec<Settled> {
    if requests.iter().any(is_of_the_shop) {
        return never_asked(requests);
    }
    in_one_batch(requests)
}
