//! Runs strategies: the revision of each call, its record, and what it became.
//!
//! `http` asks for purchases and `settlement` for settles; both run in tasks that nobody drops.
//! What guests may ask of the host is `capability`'s.

pub mod compiler;
pub mod ending;
pub mod engine;
pub mod numbers;
pub mod permits;
pub mod pipeline;
pub mod probe;
pub mod registry;
pub mod revision;
pub mod rollout;
pub mod slots;
pub mod traps;
pub mod trial;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::SemaphorePermit;

use self::{
    ending::{
        Ending, Verdict, confirm_refusal, is_backend, labels, purchase_ending, reason, verdict,
    },
    engine::Engine,
    permits::Permits,
    revision::{Answer, Broken, Ran, Revision},
    slots::{Chosen, Selling, Slots},
    traps::{Trap, Traps},
};
use crate::{
    backend::Backends,
    capability::{Hangup, Operation, Reach, Task},
    config::Limits,
    domain::{Decision, Refusal, Request, UserId, Version},
    parts::Parts,
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

impl Means {
    /// What calls reach that are recorded there.
    pub fn reach(&self, metrics: Option<Arc<StrategyMetrics>>) -> Arc<Reach> {
        Arc::new(Reach {
            backends: Arc::clone(&self.backends),
            metrics,
        })
    }
}

/// A way of selling stock under contention: one version, whatever revisions of it run.
///
/// Once seen it stays for as long as the process does, and with it its series.
pub struct Strategy {
    /// The version.
    pub version: Version,
    /// The operation under which its calls are recorded.
    pub operation: String,
    /// What is recorded of it.
    pub metrics: Arc<StrategyMetrics>,
    /// Its last traps.
    pub traps: Traps,
    slots: ArcSwap<Slots>,
    means: Arc<Means>,
    reach: Parts<Arc<Reach>>,
    permits: Permits,
}

impl Strategy {
    /// A strategy that runs this.
    pub fn new(slots: Slots, means: Arc<Means>) -> Self {
        let (version, operation) = (slots.live.version.clone(), slots.live.operation.clone());
        let calls_max = slots.live.grants().limits.calls_max;
        let metrics = Arc::new(StrategyMetrics::new(&version, &operation));
        Self {
            reach: Parts::new(|| means.reach(Some(Arc::clone(&metrics)))),
            metrics,
            permits: Permits::new(calls_max),
            traps: Traps::default(),
            slots: ArcSwap::from_pointee(slots),
            version,
            operation,
            means,
        }
    }

    /// What runs now.
    pub fn slots(&self) -> Arc<Slots> {
        self.slots.load_full()
    }

    /// Whether it sells now.
    pub fn selling(&self) -> Selling {
        self.slots.load().selling
    }

    /// Has calls that begin from now on run on this, as many at once as the live revision may; returns what ran before.
    ///
    /// One at a time: whoever swaps has the version's turn.
    pub fn swap(&self, slots: Slots) -> Arc<Slots> {
        let calls_max = slots.live.grants().limits.calls_max;
        let before = self.slots.swap(Arc::new(slots));
        self.permits.bound(calls_max);
        before
    }

    /// The revision that a user's purchase runs on, to its end.
    pub fn choose(&self, user: UserId) -> Chosen {
        self.slots.load().for_purchase(user)
    }

    /// Turns a purchase away that nobody has read, where there is no room for one of whichever user; returns the revision that would have run.
    ///
    /// Recorded as one that was read: `purchase` is for all others.
    pub fn turn_away(&self) -> Option<Chosen> {
        let slots = self.slots.load();
        if slots.selling != Selling::Open || !self.permits.are_out(self.means.limits.permit_wait())
        {
            return None;
        }
        let chosen = slots.for_anyone()?;
        let mut record = CallRecord::begin(&self.metrics, Export::Purchase, &chosen);
        self.asked_for_permit(Duration::ZERO);
        (record.outcome, record.error) = labels(&Ending::Broken(Broken::Overloaded));
        drop(record);
        Some(chosen)
    }

    /// Runs `purchase` for a request on the revision that was chosen for it; must be awaited to its end.
    pub async fn purchase(&self, chosen: &Chosen, request: Request, hangup: Hangup) -> Ending {
        let arrived = request.accepted_at;
        let mut record = CallRecord::begin(&self.metrics, Export::Purchase, chosen);
        let ending = match self.permit(&chosen.revision).await {
            None => Ending::Broken(Broken::Overloaded),
            Some(_permit) => {
                let revision = &chosen.revision;
                let task = revision.task(Operation::Purchase, vec![request], hangup);
                let mut ran = self.call(revision, task).await;
                self.metrics.guest_took(ran.guest_time);
                self.note_trap(chosen, &ran);
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

    /// Runs `settle` for a batch on the live revision, with one verdict for each request; must be awaited to its end.
    pub async fn settle(&self, requests: &[Request]) -> Vec<Verdict> {
        let chosen = self.slots.load().for_settle();
        let revision = &chosen.revision;
        let mut record = CallRecord::begin(&self.metrics, Export::Settle, &chosen);
        self.metrics.settle_given(requests.len());
        let task = revision.task(Operation::Settle, requests.to_vec(), Hangup::default());
        let ran = self.call(revision, task).await;
        self.metrics.guest_took(ran.guest_time);
        self.note_trap(&chosen, &ran);
        // That there was no room for the call says nothing of the strategy either.
        let backend_failed = match ran.answer {
            Err(Broken::Overloaded) => Some(ErrorKind::Overload),
            _ => ran.failure.filter(|kind| is_backend(*kind)),
        };
        let answers: &[_] = match &ran.answer {
            Ok(Answer::Settled(answers)) if answers.len() == requests.len() => answers,
            Ok(_) => {
                tracing::error!(version = %self.version, revision = %revision.id, "settle did not answer once for each request");
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

    fn call(&self, revision: &Revision, task: Task) -> impl Future<Output = Ran> {
        revision.call(task, &self.means.engine, Arc::clone(self.reach.own()))
    }

    fn note_trap(&self, chosen: &Chosen, ran: &Ran) {
        if let Err(broken) = &ran.answer
            && !matches!(broken, Broken::Cancelled | Broken::Overloaded)
        {
            self.traps.note(Trap {
                at: Timestamp::now(),
                revision: chosen.revision.id.to_string(),
                request_id: ran.requests.first().map(|request| request.id.to_string()),
                cause: ran.cause.clone().unwrap_or_default(),
            });
        }
    }

    /// Leave to run one more call of this version, and room for its instance.
    async fn permit(&self, revision: &Revision) -> Option<[SemaphorePermit<'_>; 2]> {
        let asked = Instant::now();
        let permit = self.permits.acquire(self.means.limits.permit_wait()).await;
        self.asked_for_permit(asked.elapsed());
        Some([permit?, self.means.engine.room(revision.room)?])
    }

    fn asked_for_permit(&self, waited: Duration) {
        self.metrics.permit_waited(waited);
        let used = self.permits.used();
        self.metrics.limit_used(LimitName::CallsInFlight, used);
    }
}

/// Records a call when it is dropped: exactly once, whatever the end.
struct CallRecord<'a> {
    metrics: &'a StrategyMetrics,
    chosen: &'a Chosen,
    export: Export,
    began: Instant,
    outcome: Outcome,
    error: Option<ErrorKind>,
}

impl<'a> CallRecord<'a> {
    fn begin(metrics: &'a StrategyMetrics, export: Export, chosen: &'a Chosen) -> Self {
        metrics.in_flight(1.0);
        Self {
            metrics,
            chosen,
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
        let took = self.began.elapsed();
        self.metrics
            .call_ended(self.export, self.outcome, self.error, took);
        let Chosen {
            revision, trial, ..
        } = self.chosen;
        revision
            .numbers
            .record(self.export, self.outcome, self.error, took);
        if let Some(trial) = trial {
            trial.call_ended(revision);
        }
    }
}

/// Time since a moment of the wall clock; none where the clock went back.
fn since(then: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(then)).unwrap_or_default()
}
