//! What an author implements, and how the contract's exports reach it.
//!
//! Not for what a strategy does between a request and its answer: that is the author's.
//! Called by the exports that [`crate::strategy!`] places in the author's crate.

use std::panic::{self, PanicHookInfo};

use crate::bindings::exports::timesale::strategy::purchasing::{Description, Guest};
use crate::{Failure, Order, Outcome, Refusal, Rejection, Request, log};

/// A way of selling stock under contention.
///
/// The host calls each function in a fresh instance: nothing that is kept in memory outlives the call.
/// A panic ends the call; its message and place are written to the host's log, and what the call held is given back.
pub trait Strategy {
    /// The label of the strategy's calls in the metrics, of the form `[a-z][A-Za-z]{2,40}`.
    const OPERATION: &str;

    /// Sells to one buyer, now ([`Outcome::Completed`]) or later ([`Outcome::Accepted`]).
    ///
    /// The host answers the buyer from what was committed or accepted; a refusal counts only where nothing was.
    fn purchase(request: &Request) -> Result<Outcome, Refusal>;

    /// Decides requests that [`Strategy::purchase`] submitted earlier, with one answer for each, in their order.
    ///
    /// An `Ok` must have its committed order, a rejection is final, a failure is tried again.
    /// A strategy that never submits is never asked and keeps this default.
    fn settle(requests: &[Request]) -> Vec<Result<Order, Refusal>> {
        let never = || Failure::Invalid("this strategy submits no requests".to_owned());
        requests.iter().map(|_| Err(never().into())).collect()
    }
}

impl<S: Strategy> Guest for S {
    fn describe() -> Description {
        panic::set_hook(Box::new(report));
        Description {
            operation: S::OPERATION.to_owned(),
        }
    }

    fn purchase(request: Request) -> Result<Outcome, Refusal> {
        panic::set_hook(Box::new(report));
        <S as Strategy>::purchase(&request)
    }

    fn settle(requests: Vec<Request>) -> Vec<Result<Order, Refusal>> {
        panic::set_hook(Box::new(report));
        <S as Strategy>::settle(&requests)
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Tells the host in one line why the call is about to trap: the trap itself carries no message.
fn report(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a value that is no text");
    match panic.location() {
        Some(place) => log::error(&format!("panicked at {place}: {message}")),
        None => log::error(&format!("panicked: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NeverSubmits;

    impl Strategy for NeverSubmits {
        const OPERATION: &str = "neverSubmits";

        fn purchase(_: &Request) -> Result<Outcome, Refusal> {
            Err(Rejection::SaleNotFound.into())
        }
    }

    #[test]
    fn a_strategy_that_never_submits_fails_every_request_it_is_asked_to_settle() {
        let request = Request {
            handle: 0,
            id: "r".to_owned(),
            sale_id: 1,
            user_id: 7,
            quantity: 1,
            accepted_at: 0,
        };
        let answers = <NeverSubmits as Strategy>::settle(&[request.clone(), request]);
        assert_eq!(answers.len(), 2);
        for answer in answers {
            assert!(matches!(answer, Err(Refusal::Failed(Failure::Invalid(_)))));
        }
    }
}
