//! How a call behaved, besides what it brought about.
//!
//! The host functions note it as they go, and nothing of it changes what a buyer is told.
//! The probe judges strategies by it; every call keeps it, because what is probed has to be what runs.

use super::bindings::timesale::strategy::types::Failure;
use crate::{domain::Rejection, telemetry::labels::Function};

/// How a call behaved.
#[derive(Debug, Clone, Default)]
pub struct Conduct {
    /// Bytes of linear memory that it took.
    pub memory_bytes: usize,
    /// The first use of the host that the contract rules out, and what the guest was told.
    pub misuse: Option<(Function, String)>,
    /// The first attempt to have a request sold after the call was told why it is refused.
    pub defiance: Option<(Function, Rejection)>,
    /// Whether it sold a request again that it had sold or submitted.
    pub repeated: bool,
    /// Whether it left a transaction open.
    pub left_transaction: bool,
    /// Locks that it left held.
    pub left_locks: usize,
    host_calls: [u32; Function::ALL.len()],
}

impl Conduct {
    /// The host functions that it used, and how often.
    pub fn host_calls(&self) -> impl Iterator<Item = (Function, u32)> {
        let used = Function::ALL.iter().copied().zip(self.host_calls);
        used.filter(|(_, times)| *times > 0)
    }

    pub(super) fn used(&mut self, function: Function) {
        if let Some(times) = self.host_calls.get_mut(function as usize) {
            *times += 1;
        }
    }

    /// Keeps a failure, if it means that the host was asked for what it never does.
    pub(super) fn failed(&mut self, function: Function, failure: &Failure) {
        if let Failure::Invalid(rule) | Failure::BudgetSpent(rule) = failure {
            self.misuse.get_or_insert_with(|| (function, rule.clone()));
        }
    }

    /// Keeps an attempt to sell what the call was told is refused.
    ///
    /// The limit per user is not the strategy's to check: it is no defiance to leave it to the host.
    pub(super) fn attempted(&mut self, function: Function, told: Option<Rejection>) {
        if let Some(rejection) = told.filter(|told| *told != Rejection::LimitExceeded) {
            self.defiance.get_or_insert((function, rejection));
        }
    }
}
