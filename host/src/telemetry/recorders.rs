//! Typed recorders: how calls are recorded.
//!
//! Handles are looked up once for each version, so that recording is an atomic add; all counters start at 0.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::{
    catalogue::{self, Metric},
    labels::{
        ErrorKind, Function, HostOutcome, LimitName, Outcome, PurchaseResult, Reason, SwapResult,
    },
    peak::Peak,
};
use crate::domain::Version;

/// The families of one export of one version.
struct OperationMetrics {
    success: Counter,
    failure: Vec<Counter>,
    rejected: Vec<Counter>,
    duration: Vec<Histogram>,
}

impl OperationMetrics {
    fn new(families: [&Metric; 4], version: &str, operation: &str) -> Self {
        let [success, failure, rejected, duration] = families.map(|family| family.name);
        let labels = [
            ("version", version.to_owned()),
            ("operation", operation.to_owned()),
        ];
        let with = |label: &'static str, value: &'static str| {
            let [version, operation] = labels.clone();
            [version, operation, (label, value.to_owned())]
        };
        Self {
            success: counter!(success, &labels),
            failure: ErrorKind::ALL
                .iter()
                .map(|kind| counter!(failure, &with("error", kind.label())))
                .collect(),
            rejected: Reason::ALL
                .iter()
                .map(|reason| counter!(rejected, &with("reason", reason.label())))
                .collect(),
            duration: Outcome::ALL
                .iter()
                .map(|outcome| histogram!(duration, &with("outcome", outcome.label())))
                .collect(),
        }
    }

    fn record(&self, outcome: Outcome, error: Option<ErrorKind>, took: Duration) {
        if let Some(duration) = self.duration.get(outcome as usize) {
            duration.record(took);
        }
        if let Some(failure) = error.and_then(|kind| self.failure.get(kind as usize)) {
            failure.increment(1);
        } else if matches!(outcome, Outcome::Completed | Outcome::Accepted) {
            self.success.increment(1);
        }
    }

    fn reject(&self, reason: Reason) {
        if let Some(rejected) = self.rejected.get(reason as usize) {
            rejected.increment(1);
        }
    }
}

/// Which export a call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// `purchase`
    Purchase,
    /// `settle`
    Settle,
}

/// Everything that is recorded of one version's calls.
pub struct StrategyMetrics {
    purchase: OperationMetrics,
    settlement: OperationMetrics,
    settlement_records: Histogram,
    purchases: Vec<(PurchaseResult, Option<Reason>, Counter)>,
    completion: Histogram,
    quantity: Histogram,
    in_flight: Gauge,
    permit_wait: Histogram,
    guest: Histogram,
    host_calls: Vec<Vec<Histogram>>,
    limits: Vec<(Peak, Gauge)>,
    swaps: Vec<Counter>,
}

impl StrategyMetrics {
    /// Looks up every handle of a version, and so exports its counters at 0.
    pub fn new(version: &Version, operation: &str) -> Self {
        let version = version.as_str();
        let of = |family: &Metric| gauge!(family.name, "version" => version.to_owned());
        let timer = |family: &Metric| histogram!(family.name, "version" => version.to_owned());
        Self {
            purchase: OperationMetrics::new(
                [
                    &catalogue::OPERATION_SUCCESS,
                    &catalogue::OPERATION_FAILURE,
                    &catalogue::OPERATION_REJECTED,
                    &catalogue::OPERATION_DURATION,
                ],
                version,
                operation,
            ),
            settlement: OperationMetrics::new(
                [
                    &catalogue::SETTLEMENT_SUCCESS,
                    &catalogue::SETTLEMENT_FAILURE,
                    &catalogue::SETTLEMENT_REJECTED,
                    &catalogue::SETTLEMENT_DURATION,
                ],
                version,
                operation,
            ),
            settlement_records: timer(&catalogue::SETTLEMENT_RECORDS),
            purchases: purchase_counters(version),
            completion: timer(&catalogue::PURCHASE_COMPLETION),
            quantity: timer(&catalogue::PURCHASE_QUANTITY),
            in_flight: of(&catalogue::CALLS_IN_FLIGHT),
            permit_wait: timer(&catalogue::PERMIT_WAIT),
            guest: timer(&catalogue::GUEST_TIME),
            host_calls: Function::ALL
                .iter()
                .map(|function| host_call_timers(version, *function))
                .collect(),
            limits: LimitName::ALL
                .iter()
                .map(|limit| {
                    let used = gauge!(catalogue::LIMIT_USED.name, "version" => version.to_owned(), "limit" => limit.label());
                    (Peak::default(), used)
                })
                .collect(),
            swaps: SwapResult::ALL
                .iter()
                .map(|result| {
                    counter!(catalogue::SWAPS.name, "version" => version.to_owned(), "result" => result.label())
                })
                .collect(),
        }
    }

    /// Records the end of a call: once, whatever the end.
    pub fn call_ended(
        &self,
        export: Export,
        outcome: Outcome,
        error: Option<ErrorKind>,
        took: Duration,
    ) {
        self.of(export).record(outcome, error, took);
    }

    /// Records a business no: a purchase call's, or that of one request of a settle call.
    pub fn rejected(&self, export: Export, reason: Reason) {
        self.of(export).reject(reason);
    }

    /// Records how many requests a settle call was given.
    pub fn settle_given(&self, records: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        self.settlement_records.record(records as f64);
    }

    /// Records a purchase whose final state is committed, `after` its arrival.
    pub fn purchase_final(&self, result: PurchaseResult, reason: Option<Reason>, after: Duration) {
        let counted = self
            .purchases
            .iter()
            .find(|(of, why, _)| *of == result && *why == reason);
        if let Some((_, _, counter)) = counted {
            counter.increment(1);
        }
        self.completion.record(after);
    }

    /// Records the pieces of a committed order.
    pub fn ordered(&self, quantity: u32) {
        self.quantity.record(f64::from(quantity));
    }

    /// A call begins or ends; `change` is 1 or -1.
    pub fn in_flight(&self, change: f64) {
        self.in_flight.increment(change);
    }

    /// Records how long a call waited for its turn.
    pub fn permit_waited(&self, waited: Duration) {
        self.permit_wait.record(waited);
    }

    /// Records a call's time in the guest.
    pub fn guest_took(&self, took: Duration) {
        self.guest.record(took);
    }

    /// Records a host call.
    pub fn host_call(&self, function: Function, outcome: HostOutcome, took: Duration) {
        let timer = self
            .host_calls
            .get(function as usize)
            .and_then(|timers| timers.get(outcome as usize));
        if let Some(timer) = timer {
            timer.record(took);
        }
    }

    /// Notes how much of a limit a call used; 1 is the limit.
    pub fn limit_used(&self, limit: LimitName, ratio: f64) {
        if let Some((peak, _)) = self.limits.get(limit as usize) {
            peak.note(ratio);
        }
    }

    /// Records what a change of the version's revisions came to.
    pub fn swapped(&self, result: SwapResult) {
        if let Some(swaps) = self.swaps.get(result as usize) {
            swaps.increment(1);
        }
    }

    /// Shows the peaks of the last minute.
    pub fn show_peaks(&self) {
        for (peak, used) in &self.limits {
            used.set(peak.get());
        }
    }

    /// Begins a new half minute of peaks.
    pub fn rotate_peaks(&self) {
        for (peak, _) in &self.limits {
            peak.rotate();
        }
    }

    fn of(&self, export: Export) -> &OperationMetrics {
        match export {
            Export::Purchase => &self.purchase,
            Export::Settle => &self.settlement,
        }
    }
}

fn purchase_counters(version: &str) -> Vec<(PurchaseResult, Option<Reason>, Counter)> {
    let rejections = Reason::ALL
        .iter()
        .filter(|reason| **reason != Reason::Duplicate)
        .map(|reason| (PurchaseResult::Rejected, Some(*reason)));
    [
        (PurchaseResult::Success, None),
        (PurchaseResult::Failed, None),
    ]
    .into_iter()
    .chain(rejections)
    .map(|(result, reason)| {
        let counter = counter!(
            catalogue::PURCHASES.name,
            "version" => version.to_owned(),
            "result" => result.label(),
            "reason" => reason.map_or("none", Reason::label)
        );
        (result, reason, counter)
    })
    .collect()
}

fn host_call_timers(version: &str, function: Function) -> Vec<Histogram> {
    let (capability, name) = function.labels();
    HostOutcome::ALL
        .iter()
        .map(|outcome| {
            histogram!(
                catalogue::HOST_CALL.name,
                "version" => version.to_owned(),
                "capability" => capability,
                "function" => name,
                "outcome" => outcome.label()
            )
        })
        .collect()
}
