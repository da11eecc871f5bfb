//! The state of one call: what it was asked, what it holds, what it has brought about, and how much it may still do.
//!
//! What reaches the backends is a private field here: the capabilities beside this file reach them only through `observe`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::{ResourceLimiter, component::ResourceTable};

use super::{
    bindings::timesale::strategy::types::Failure, conduct::Conduct, db::OpenTransaction,
    hangup::Hangup, log::LogBudget, memory::MemoryBound,
};
use crate::{
    backend::{BackendError, Backends, System, memory::Grant},
    config::{Limits, grants::Grants},
    domain::{Order, Refusal, Rejection, Request, RevisionId, Sale, SaleId, Ticket, Version},
    telemetry::{
        labels::{ErrorKind, Function, HostOutcome, LimitName},
        recorders::{Export, StrategyMetrics},
    },
};

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `describe`, without any capability but the log.
    Describe,
    /// `purchase`
    Purchase,
    /// `settle`
    Settle,
}

impl Operation {
    /// The export under which the call is recorded.
    pub const fn export(self) -> Export {
        match self {
            Self::Describe | Self::Purchase => Export::Purchase,
            Self::Settle => Export::Settle,
        }
    }
}

/// What a call is asked, and by whom it is run.
pub struct Task {
    /// What the call is for.
    pub operation: Operation,
    /// The version that runs it.
    pub version: Version,
    /// The revision that runs it.
    pub revision: RevisionId,
    /// What its handles mean: handle `n` is the request at place `n`.
    pub requests: Vec<Request>,
    /// Set when the client goes away.
    pub hangup: Hangup,
}

/// What a call has brought about for one of its requests.
#[derive(Debug, Clone, Default)]
pub struct Effect {
    /// The committed order.
    pub order: Option<Order>,
    /// The committed refusal.
    pub refusal: Option<Refusal>,
    /// The acknowledged place in the log.
    pub ticket: Option<Ticket>,
    /// The no that the database last had for it.
    pub rejection: Option<Rejection>,
    /// The request or its key was decided by another call.
    pub duplicate: bool,
}

/// Why the host ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallEnd {
    /// The call's deadline passed.
    #[error("the call's deadline passed")]
    Deadline,
    /// Its transaction was open for too long.
    #[error("the transaction was open for too long")]
    TransactionHold,
    /// The client went away.
    #[error("the client went away")]
    Cancelled,
    /// It called the host too often.
    #[error("the call used up its host functions")]
    HostCalls,
}

/// What a call reaches through its host functions, and where they are recorded.
pub struct Reach {
    /// Do what it asks for.
    pub backends: Arc<Backends>,
    /// Its version's; none where a call is not to be seen there.
    pub metrics: Option<Arc<StrategyMetrics>>,
}

/// The state of one call.
pub struct CallState {
    /// What the call is asked.
    pub task: Task,
    /// What it has brought about, a place for each request.
    pub effects: Vec<Effect>,
    /// How it behaved; whole once it is released.
    pub conduct: Conduct,
    pub(super) table: ResourceTable,
    pub(super) transaction: Option<OpenTransaction>,
    pub(super) next_handle: u32,
    pub(super) locks: Vec<Grant>,
    pub(super) log: LogBudget,
    reach: Arc<Reach>,
    grants: Arc<Grants>,
    memory: MemoryBound,
    began: Instant,
    host_calls: u32,
    host_time: Duration,
    failure: Option<ErrorKind>,
}

impl CallState {
    /// The state of a call that begins now.
    pub fn new(task: Task, reach: Arc<Reach>, grants: Arc<Grants>) -> Self {
        Self {
            effects: vec![Effect::default(); task.requests.len()],
            conduct: Conduct::default(),
            task,
            table: ResourceTable::new(),
            transaction: None,
            next_handle: 0,
            locks: Vec::new(),
            log: LogBudget::default(),
            memory: MemoryBound {
                max: grants.limits.memory_max_bytes,
                used: 0,
                refused: false,
            },
            reach,
            grants,
            began: Instant::now(),
            host_calls: 0,
            host_time: Duration::ZERO,
            failure: None,
        }
    }

    /// Why the call has to end now, if it has to: asked wherever the guest yields and wherever it calls the host.
    pub fn interrupted(&self) -> Option<CallEnd> {
        self.interrupted_at(Instant::now())
    }

    fn interrupted_at(&self, now: Instant) -> Option<CallEnd> {
        if now - self.began >= self.limits().call_deadline() {
            Some(CallEnd::Deadline)
        } else if self.transaction_age() >= self.limits().transaction_hold() {
            Some(CallEnd::TransactionHold)
        } else if self.task.hangup.is_set() {
            Some(CallEnd::Cancelled)
        } else {
            None
        }
    }

    /// Waits until there is a reason, of those that a call without a transaction has.
    pub(super) fn interruption(&self) -> impl Future<Output = ()> + use<> {
        let (left, hangup) = (self.time_left(), self.task.hangup.clone());
        async move {
            let _ = tokio::time::timeout(left, hangup.set()).await;
        }
    }

    /// The bound on the call's memory.
    pub fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.memory
    }

    /// Whether the guest was refused memory.
    pub const fn memory_refused(&self) -> bool {
        self.memory.refused
    }

    /// The last failure that the host handed to the guest, as it is recorded.
    pub const fn failure(&self) -> Option<ErrorKind> {
        self.failure
    }

    /// The call's time in host functions so far.
    pub const fn host_time(&self) -> Duration {
        self.host_time
    }

    /// Releases what the guest still holds: its transaction rolls back, its locks are freed.
    pub async fn release(&mut self) {
        self.conduct.memory_bytes = self.memory.used;
        self.conduct.left_transaction = self.transaction.is_some();
        self.conduct.left_locks = self.locks.len();
        if let Some(open) = self.transaction.take() {
            self.note_limit(
                LimitName::TransactionHold,
                open.age(),
                self.limits().transaction_hold(),
            );
            // Large, and seldom: in a box it is no part of what every call carries.
            Box::pin(open.roll_back()).await;
        }
        for grant in self.locks.drain(..) {
            // One that cannot be released lapses with its lease.
            if let Err(error) = self.reach.backends.redis.release(&grant).await {
                tracing::warn!(version = %self.task.version, "a lock was not released: {error}");
            }
        }
        self.note_use();
    }

    /// Opens a host call: checks the call's bounds and starts the clock.
    pub(super) fn observe(&mut self, function: Function) -> wasmtime::Result<Observed<'_>> {
        self.host_calls += 1;
        self.conduct.used(function);
        if self.host_calls > self.limits().host_calls_max {
            return Err(CallEnd::HostCalls.into());
        }
        let now = Instant::now();
        if let Some(end) = self.interrupted_at(now) {
            return Err(end.into());
        }
        if self.task.operation == Operation::Describe {
            return Err(wasmtime::Error::msg(
                "describe may use no capability but log",
            ));
        }
        Ok(Observed {
            began: now,
            outcome: HostOutcome::Failed,
            function,
            call: self,
        })
    }

    /// Opens a host call of a capability that may not be waited for inside a transaction.
    pub(super) fn observe_apart(
        &mut self,
        function: Function,
    ) -> wasmtime::Result<Result<Observed<'_>, Failure>> {
        let inside = self.transaction.is_some();
        let observed = self.observe(function)?;
        if inside {
            return Ok(Err(observed.refuse_use(
                "this is not asked for inside a transaction: commit or drop it first",
            )));
        }
        Ok(Ok(observed))
    }

    /// The request that a handle means.
    pub(super) fn request(&self, handle: u32) -> Option<&Request> {
        self.task.requests.get(usize::try_from(handle).ok()?)
    }

    /// Keeps what a sale, as it was read, means for the requests that want it.
    pub(super) fn note_sale(&mut self, id: SaleId, sale: Option<&Sale>) {
        for (request, effect) in self.task.requests.iter().zip(&mut self.effects) {
            if request.sale_id == id {
                // A no of committed facts stays a no: stock never rises, and windows and orders stay.
                effect.rejection = request.refused_by(sale).or(effect.rejection);
            }
        }
    }

    /// Keeps the no that the database had for a request.
    pub(super) fn note_rejection(&mut self, handle: u32, rejection: Rejection) {
        if let Some(effect) = self.effect(handle) {
            effect.rejection = Some(rejection);
        }
    }

    /// What became of a request.
    pub(super) fn effect(&mut self, handle: u32) -> Option<&mut Effect> {
        self.effects.get_mut(usize::try_from(handle).ok()?)
    }

    /// What the call may do.
    pub(super) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Within which bounds.
    pub(super) fn limits(&self) -> &Limits {
        &self.grants.limits
    }

    /// Time left until the call's deadline.
    pub(super) fn time_left(&self) -> Duration {
        self.limits()
            .call_deadline()
            .saturating_sub(self.began.elapsed())
    }

    pub(super) fn note_limit(&self, limit: LimitName, used: Duration, bound: Duration) {
        if let Some(metrics) = &self.reach.metrics {
            metrics.limit_used(limit, used.as_secs_f64() / bound.as_secs_f64());
        }
    }

    fn transaction_age(&self) -> Duration {
        self.transaction
            .as_ref()
            .map_or(Duration::ZERO, OpenTransaction::age)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of a bound needs no more precision"
    )]
    fn note_use(&self) {
        let Some(metrics) = &self.reach.metrics else {
            return;
        };
        self.note_limit(
            LimitName::CallDeadline,
            self.began.elapsed(),
            self.limits().call_deadline(),
        );
        metrics.limit_used(
            LimitName::Memory,
            self.memory.used as f64 / self.limits().memory_max_bytes as f64,
        );
        metrics.limit_used(
            LimitName::HostCalls,
            f64::from(self.host_calls) / f64::from(self.limits().host_calls_max),
        );
    }
}

/// A host call under way; dropping it records it, as failed unless it was finished.
pub struct Observed<'a> {
    /// The call that it belongs to.
    pub(super) call: &'a mut CallState,
    function: Function,
    began: Instant,
    outcome: HostOutcome,
}

impl Observed<'_> {
    /// The backends: handed out to host calls that are observed, and to nobody else.
    pub(super) fn backends(&self) -> &Backends {
        &self.call.reach.backends
    }

    /// Ends the host call with what the backend said.
    pub(super) fn finish<T>(mut self, result: Result<T, BackendError>) -> Result<T, Failure> {
        match result {
            Ok(value) => {
                self.outcome = HostOutcome::Ok;
                Ok(value)
            }
            Err(error) => Err(self.translate(&error)),
        }
    }

    /// Ends the host call with a business no.
    pub(super) fn reject(mut self) {
        self.outcome = HostOutcome::Rejected;
    }

    /// Ends the host call with a failure that the host decided on.
    pub(super) fn fail(self, kind: ErrorKind, failure: Failure) -> Failure {
        self.call.failure = Some(kind);
        self.call.conduct.failed(self.function, &failure);
        failure
    }

    /// Keeps that the guest is about to have a request sold.
    pub(super) fn attempt(&mut self, handle: u32) {
        let told = self.call.effect(handle).and_then(|it| it.rejection);
        self.call.conduct.attempted(self.function, told);
    }

    /// Ends the host call: it is used in a way that the contract rules out.
    pub(super) fn refuse_use(self, rule: &str) -> Failure {
        self.fail(ErrorKind::Strategy, Failure::Invalid(rule.to_owned()))
    }

    fn translate(&mut self, error: &BackendError) -> Failure {
        let (kind, failure) = match error {
            BackendError::LockTimeout { .. } => (ErrorKind::RowLock, Failure::LockTimeout),
            BackendError::LockLost => (ErrorKind::LockLost, Failure::LockLost),
            BackendError::Duplicate => (ErrorKind::Strategy, Failure::Duplicate),
            BackendError::Full { .. } => match self.function.labels().0 {
                // Not that Redis is away: a strategy that fills it would have itself tried again for ever.
                "redis" => (ErrorKind::Overload, Failure::Overloaded),
                _ => (ErrorKind::QueueFull, Failure::Overloaded),
            },
            BackendError::WrongValue { .. } => {
                (ErrorKind::Strategy, Failure::Invalid(error.to_string()))
            }
            BackendError::Unavailable { system, .. } => {
                tracing::warn!(
                    version = %self.call.task.version,
                    revision = %self.call.task.revision,
                    "{error}"
                );
                let (kind, name) = match system {
                    System::Database => (ErrorKind::Database, "db"),
                    System::Redis => (ErrorKind::Redis, "redis"),
                    System::Kafka => (ErrorKind::Kafka, "kafka"),
                };
                (kind, Failure::Unavailable(name.to_owned()))
            }
        };
        self.call.failure = Some(kind);
        self.call.conduct.failed(self.function, &failure);
        failure
    }
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.call.host_time += took;
        let (capability, function) = self.function.labels();
        tracing::trace!(
            version = %self.call.task.version,
            capability,
            function,
            outcome = self.outcome.label(),
            "a host function ended"
        );
        if let Some(metrics) = &self.call.reach.metrics {
            metrics.host_call(self.function, self.outcome, took);
        }
    }
}
