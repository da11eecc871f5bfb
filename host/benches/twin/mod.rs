//! The strategies once more, as async Rust inside the host: the other side of the benchmark that says what Wasm costs.
//!
//! Compiled with the feature `twin` alone.
//! Each is its plugin line by line, through the same host functions in the same order, which `tests/it/twin.rs` holds it to; only the guest is missing.
//! A version `native-v1` is loaded from a copy of `v1.wasm` like any other, and `Revision::call` runs the twin in its place.

mod bench;
mod group;
mod locks;
mod log;
pub mod recording;
mod row;

use std::pin::Pin;

use crate::{
    capability::{
        CallState, Operation, Task,
        bindings::{
            exports::timesale::strategy::purchasing::Outcome,
            timesale::strategy::types::{self, Failure, Refusal, Rejection},
        },
    },
    strategy::revision::Answer,
};

/// Runs one export natively.
pub type Twin = for<'a> fn(&'a mut CallState) -> Running<'a>;
type Running<'a> = Pin<Box<dyn Future<Output = wasmtime::Result<Answer>> + Send + 'a>>;

/// The twin that stands in for this task's component, if there is one.
pub fn of(task: &Task) -> Option<Twin> {
    let original = task.version.as_str().strip_prefix("native-")?;
    Some(match (original, task.operation) {
        ("v1", Operation::Purchase) => |call| Box::pin(purchase(call, row::purchase)),
        ("v2", Operation::Purchase) => |call| Box::pin(purchase(call, locks::purchase)),
        ("v3", Operation::Purchase) => |call| Box::pin(purchase(call, log::purchase)),
        ("v3", Operation::Settle) => |call| Box::pin(settle(call)),
        ("v4", Operation::Purchase) => |call| Box::pin(purchase(call, group::purchase)),
        ("noop", Operation::Purchase) => |call| Box::pin(purchase(call, bench::no_op)),
        ("take", Operation::Purchase) => |call| Box::pin(purchase(call, bench::take_if_enough)),
        _ => return None,
    })
}

/// What ends a strategy early.
enum Stop {
    /// What a guest would return.
    Refused(Refusal),
    /// What would end a guest.
    Ended(wasmtime::Error),
}

impl From<wasmtime::Error> for Stop {
    fn from(error: wasmtime::Error) -> Self {
        Self::Ended(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(Refusal::Rejected(rejection))
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Refused(Refusal::Failed(failure))
    }
}

/// The requests as the guest is given them.
fn requests(call: &CallState) -> Vec<types::Request> {
    let requests = (0..).zip(&call.task.requests);
    requests.map(types::Request::from).collect()
}

/// Runs a strategy for the call's request.
async fn purchase(
    call: &mut CallState,
    strategy: impl AsyncFnOnce(&mut CallState, &types::Request) -> Result<Outcome, Stop>,
) -> wasmtime::Result<Answer> {
    let requests = requests(call);
    let [request] = requests.as_slice() else {
        return Err(wasmtime::Error::msg("a purchase has one request"));
    };
    match strategy(call, request).await {
        Ok(outcome) => Ok(Answer::Purchased(Ok(outcome))),
        Err(Stop::Refused(refusal)) => Ok(Answer::Purchased(Err(refusal))),
        Err(Stop::Ended(error)) => Err(error),
    }
}

/// Runs the settle of the one strategy that has one.
async fn settle(call: &mut CallState) -> wasmtime::Result<Answer> {
    let requests = requests(call);
    Ok(Answer::Settled(log::settle(call, &requests).await?))
}

/// The rules that the SDK gives every strategy.
fn check(sale: Option<types::Sale>, request: &types::Request) -> Result<types::Sale, Rejection> {
    let sale = sale.ok_or(Rejection::SaleNotFound)?;
    if !(sale.start_at..sale.end_at).contains(&request.accepted_at) {
        return Err(Rejection::NotOpen);
    }
    if sale.remaining < u64::from(request.quantity) {
        return Err(Rejection::SoldOut);
    }
    Ok(sale)
}
