//! Runs strategies: permits, the live revision, the record of each call, and what a call became.
//!
//! `http` asks for purchases and `settlement` for settles; both run in tasks that nobody drops.
//! What guests may ask of the host is `capability`'s.

pub mod ending;
pub mod engine;
pub mod probe;
pub mod registry;
pub mod revision;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::{
    ending::{
        Ending, Verdict, confirm_refusal, is_backend, labels, purchase_ending, reason, verdict,
    },
    engine::Engine,
    revision::{Answer, Broken, Revision},
};
use crate::{
    backend::Backends,
    capability::{Hangup, Operation},
    config::Limits,
    domain::{Decision, Refusal, Request, Version},
    telemetry::{
        labels::{ErrorKind, LimitName, Outcome, PurchaseResult, Reason},
        recorders::{Export, StrategyMetrics},
    },
};

/// What every call needs.
pub struct Means {
    /// Runs the guests.
    pub engine: Arc<Engine>,
    /// Does what they ask for.
    pub backends: Arc<Backends>,
    /// Bounds them.
    pub limits: Arc<Limits>,
}

/// A way of selling stock under contention: one version, with the revision that is live.
pub struct Strategy {
    /// The revision that is live.
    pub live: Revision,
    /// The operation under which its calls are recorded.
    pub operation: String,
    /// What is recorded of it.
    pub metrics: Arc<StrategyMetrics>,
    means: Arc<Means>,
    permits: Semaphore,
}

impl Strategy {
    /// A strategy whose live revision named `operation`.
    pub fn new(live: Revision, operation: String, means: Arc<Means>) -> Self {
        Self {
            metrics: Arc::new(StrategyMetrics::new(&live.version, &operation)),
            permits: Semaphore::new(live.grants.limits.calls_max as usize),
            live,
            operation,
            means,
        }
    }

    /// The version.
    pub const fn version(&self) -> &Version {
        &self.live.version
    }

    /// Runs `purchase` for a request; must be awaited to its end.
    pub async fn purchase(&self, request: Request, hangup: Hangup) -> Ending {
        let arrived = request.accepted_at;
        let mut record = CallRecord::begin(&self.metrics, Export::Purchase);
        let ending = match self.permit().await {
            None => Ending::Broken(Broken::Overloaded),
            Some(_permit) => {
                let task = self.live.task(Operation::Purchase, vec![request], hangup);
                let mut ran = self
                    .live
                    .call(task, &self.means, Some(Arc::clone(&self.metrics)))
                    .await;
                self.metrics.guest_took(ran.guest_time);
                confirm_refusal(&mut ran, &self.means.backends).await;
                purchase_ending(ran)
            }
        };
        let reason = match &ending {
            Ending::Rejected(rejection) => Some(reason(*rejection)),
            Ending::Duplicate => Some(Reason::Duplicate),
            _ => None,
        };
        (record.outcome, record.error) = labels(&ending);
        drop(record);
        if let Some(reason) = reason {
            self.metrics.rejected(Export::Purchase, reason);
        }
        let result = match ending {
            Ending::Completed(ref order) => {
                self.metrics.ordered(order.quantity);
                PurchaseResult::Success
            }
            Ending::Rejected(_) => PurchaseResult::Rejected,
            _ => return ending,
        };
        self.metrics.purchase_final(result, reason, since(arrived));
        ending
    }

    /// Runs `settle` for a batch, with one verdict for each request; must be awaited to its end.
    pub async fn settle(&self, requests: &[Request]) -> Vec<Verdict> {
        let mut record = CallRecord::begin(&self.metrics, Export::Settle);
        self.metrics.settle_given(requests.len());
        let task = self
            .live
            .task(Operation::Settle, requests.to_vec(), Hangup::default());
        let ran = self
            .live
            .call(task, &self.means, Some(Arc::clone(&self.metrics)))
            .await;
        self.metrics.guest_took(ran.guest_time);
        // That there was no room for the call says nothing of the strategy either.
        let backend_failed = match ran.answer {
            Err(Broken::Overloaded) => Some(ErrorKind::Overload),
            _ => ran.failure.filter(|kind| is_backend(*kind)),
        };
        let answers: &[_] = match &ran.answer {
            Ok(Answer::Settled(answers)) if answers.len() == requests.len() => answers,
            Ok(_) => {
                tracing::error!(version = %self.version(), revision = %self.live.id, "settle did not answer once for each request");
                &[]
            }
            Err(_) => &[],
        };
        let verdicts: Vec<Verdict> = ran
            .effects
            .iter()
            .zip(requests)
            .enumerate()
            .map(|(place, (effect, request))| {
                let answer = answers.get(place);
                verdict(request, effect, answer, backend_failed.is_some())
            })
            .collect();
        (record.outcome, record.error) = match (&ran.answer, backend_failed) {
            (Err(broken), _) => {
                let (outcome, error) = broken.labels();
                (outcome, Some(error))
            }
            (Ok(_), Some(kind)) => (Outcome::Failed, Some(kind)),
            (Ok(_), None) if verdicts.contains(&Verdict::Broken) => {
                (Outcome::Failed, Some(ErrorKind::Strategy))
            }
            (Ok(_), None) => (Outcome::Completed, None),
        };
        verdicts
    }

    /// Records that an accepted request reached its final state.
    pub fn settled(&self, request: &Request, decision: &Decision) {
        let (result, reason) = match decision {
            Decision::Ordered(order) => {
                self.metrics.ordered(order.quantity);
                (PurchaseResult::Success, None)
            }
            Decision::Refused(Refusal::Rejected(rejection)) => {
                (PurchaseResult::Rejected, Some(reason(*rejection)))
            }
            Decision::Refused(Refusal::StrategyFailed) => (PurchaseResult::Failed, None),
        };
        if let Some(reason) = reason {
            self.metrics.rejected(Export::Settle, reason);
        }
        self.metrics
            .purchase_final(result, reason, since(request.accepted_at));
    }

    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        let asked = Instant::now();
        let permit = tokio::time::timeout(self.means.limits.permit_wait(), self.permits.acquire())
            .await
            .ok()
            .and_then(Result::ok);
        self.metrics.permit_waited(asked.elapsed());
        let max = self.live.grants.limits.calls_max as usize;
        #[expect(clippy::cast_precision_loss, reason = "at most a thousand calls")]
        let used = (max - self.permits.available_permits().min(max)) as f64 / max as f64;
        self.metrics.limit_used(LimitName::CallsInFlight, used);
        permit
    }
}

/// Records a call when it is dropped: exactly once, whatever the end.
struct CallRecord<'a> {
    metrics: &'a StrategyMetrics,
    export: Export,
    began: Instant,
    outcome: Outcome,
    error: Option<ErrorKind>,
}

impl<'a> CallRecord<'a> {
    fn begin(metrics: &'a StrategyMetrics, export: Export) -> Self {
        metrics.in_flight(1.0);
        Self {
            metrics,
            export,
            began: Instant::now(),
            outcome: Outcome::Cancelled,
            error: Some(ErrorKind::Cancelled),
        }
    }
}

impl Drop for CallRecord<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight(-1.0);
        self.metrics
            .call_ended(self.export, self.outcome, self.error, self.began.elapsed());
    }
}

/// Time since a moment of the wall clock; none where the clock went back.
fn since(then: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(then)).unwrap_or_default()
}
