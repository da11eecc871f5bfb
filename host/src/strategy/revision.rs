//! One immutable build of a version: its compiled component, and the call that runs it.
//!
//! `call` is the only door to guest code.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::gauge;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};

use super::{
    Means,
    ending::excerpt,
    engine::{Engine, Linked, Refused},
    numbers::Numbers,
    pipeline::Step,
};
use crate::{
    backend::System,
    capability::{
        CallEnd, CallState, Conduct, Effect, Hangup, Operation, Reach, Task,
        bindings::{
            exports::timesale::strategy::purchasing::{Order, Outcome as GuestOutcome, Refusal},
            timesale::strategy::types,
        },
    },
    config::grants::{Capability, Grants},
    desired::Digest,
    domain::{Request, RevisionId, Version},
    parts::Parts,
    telemetry::{
        catalogue,
        labels::{ErrorKind, Outcome},
    },
};

/// Bytes that a guest may pass to the host at once: all arguments of a host function, or its answer.
const PASSED_MAX_BYTES: usize = 1 << 20;
/// Resources that a guest may hold at once.
const HANDLES_MAX: usize = 1_000;

/// One immutable build of a version.
pub struct Revision {
    /// The version that it is a build of.
    pub version: Version,
    /// Names its component.
    pub digest: Digest,
    /// Names it: the first 12 hexadecimal digits of the component's SHA-256.
    pub id: RevisionId,
    /// The operation that its `describe` named.
    pub operation: String,
    /// The backends that it cannot do without.
    pub needs: Vec<System>,
    /// The interfaces that it imports, all of the contract.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// How long it took to compile, to link and to describe itself.
    pub loading: [Duration; 3],
    /// What its calls came to.
    pub numbers: Numbers,
    /// What an instance of it takes of the pool.
    pub room: u32,
    running: Parts<TaskTracker>,
    grants: Parts<Arc<Grants>>,
    linked: Parts<Linked>,
    _loaded: Loaded,
}

/// Counts a revision for as long as it is in memory.
struct Loaded;

impl Loaded {
    fn count() -> Self {
        gauge!(catalogue::REVISIONS_LOADED.name).increment(1);
        Self
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        gauge!(catalogue::REVISIONS_LOADED.name).decrement(1);
    }
}

/// What a guest answered.
pub enum Answer {
    /// The operation that `describe` named.
    Described(String),
    /// What `purchase` returned.
    Purchased(Result<GuestOutcome, Refusal>),
    /// What `settle` returned.
    Settled(Vec<Result<Order, Refusal>>),
}

/// How a call went wrong before the guest could answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The guest trapped.
    Trapped,
    /// A deadline or hold bound passed.
    TimedOut,
    /// The guest wanted more memory than it may have.
    OutOfMemory,
    /// No instance was to be had.
    Overloaded,
    /// The client went away.
    Cancelled,
    /// The guest called the host too often.
    HostCalls,
}

impl Broken {
    /// How the call is recorded.
    pub const fn labels(self) -> (Outcome, ErrorKind) {
        match self {
            Self::Trapped => (Outcome::Trapped, ErrorKind::Trap),
            Self::TimedOut => (Outcome::TimedOut, ErrorKind::Deadline),
            Self::OutOfMemory => (Outcome::OutOfMemory, ErrorKind::Memory),
            Self::Overloaded => (Outcome::Overloaded, ErrorKind::Overload),
            Self::Cancelled => (Outcome::Cancelled, ErrorKind::Cancelled),
            Self::HostCalls => (Outcome::Failed, ErrorKind::Budget),
        }
    }
}

/// What a call left behind.
pub struct Ran {
    /// What the guest answered, or how it broke.
    pub answer: Result<Answer, Broken>,
    /// The requests that it was given.
    pub requests: Vec<Request>,
    /// What was committed or acknowledged, a place for each request.
    pub effects: Vec<Effect>,
    /// The last failure that the host handed to the guest.
    pub failure: Option<ErrorKind>,
    /// Time in the guest, host functions apart.
    pub guest_time: Duration,
    /// How it behaved.
    pub conduct: Conduct,
    /// What ended the guest, where it did not return.
    pub cause: Option<String>,
}

impl Revision {
    /// Compiles a component, holds its imports against the grants and has it describe itself.
    pub async fn load(
        version: Version,
        bytes: Vec<u8>,
        grants: Grants,
        means: &Means,
    ) -> Result<Self, Refused> {
        let compiled = means.engine.compile(bytes).await?;
        let wanted = Capability::ALL.into_iter().filter(|it| compiled.wants(*it));
        if let Some(kept) = wanted.into_iter().find(|it| !grants.allows(*it)) {
            return Err(Refused::NotGranted(kept.name()));
        }
        let mut revision = Self {
            version,
            id: compiled.digest.revision(),
            needs: compiled.needs(),
            digest: compiled.digest,
            operation: String::new(),
            grants: Parts::new(|| Arc::new(grants.clone())),
            linked: compiled.linked,
            room: compiled.room,
            imports: compiled.imports,
            exports: compiled.exports,
            loading: [compiled.compiling, compiled.linking, Duration::ZERO],
            numbers: Numbers::default(),
            running: Parts::new(TaskTracker::new),
            _loaded: Loaded::count(),
        };
        let asked = Instant::now();
        let task = revision.task(Operation::Describe, Vec::new(), Hangup::default());
        let described = revision.call(task, &means.engine, means.reach(None));
        match described.await.answer {
            Ok(Answer::Described(operation)) if is_operation(&operation) => {
                revision.operation = operation;
                let [_, _, describing] = &mut revision.loading;
                *describing = asked.elapsed();
                Step::Describe.done();
                Ok(revision)
            }
            Ok(Answer::Described(operation)) => Err(Refused::Operation(excerpt(&operation))),
            Ok(_) => Err(Refused::Describe("it answered something else".to_owned())),
            Err(broken) => Err(Refused::Describe(format!("{broken:?}"))),
        }
    }

    /// What it may do, and within which bounds.
    pub fn grants(&self) -> &Arc<Grants> {
        self.grants.own()
    }

    /// Whether it is this component, under these grants.
    pub fn is(&self, digest: &Digest, grants: &str) -> bool {
        self.digest == *digest && self.grants().section == grants
    }

    /// Counts a call that is given it, for as long as the token is there.
    pub fn begin(&self) -> TaskTrackerToken {
        self.running.own().token()
    }

    /// The calls that were given it and have not ended.
    pub fn running(&self) -> usize {
        self.running.iter().map(TaskTracker::len).sum()
    }

    /// Waits for the last of them, where no call is given it any more.
    pub async fn drain(&self) {
        for running in self.running.iter() {
            running.close();
            running.wait().await;
        }
    }

    /// Has calls given to it, perhaps once more.
    pub fn reopen(&self) {
        for running in self.running.iter() {
            running.reopen();
        }
    }

    /// A task for this revision.
    pub fn task(&self, operation: Operation, requests: Vec<Request>, hangup: Hangup) -> Task {
        Task {
            operation,
            version: self.version.clone(),
            revision: self.id.clone(),
            requests,
            hangup,
        }
    }

    /// Runs one export in a fresh instance: the only door to guest code.
    ///
    /// Whatever the guest still holds at the end is released before this returns, so it must not be dropped before.
    pub async fn call(&self, task: Task, engine: &Engine, reach: Arc<Reach>) -> Ran {
        let state = CallState::new(task, reach, Arc::clone(self.grants()));
        #[cfg(feature = "twin")]
        if let Some(twin) = crate::twin::of(&state.task) {
            return self.call_twin(twin, state).await;
        }
        let began = Instant::now();
        let mut store = Store::new(engine.wasm(), state);
        store.limiter(CallState::limiter);
        store.set_hostcall_fuel(PASSED_MAX_BYTES);
        store.set_max_component_handles(HANDLES_MAX);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| match context.data().interrupted() {
            Some(end) => Err(end.into()),
            None => Ok(UpdateDeadline::Yield(1)),
        });
        let answer = self.run(&mut store).await;
        let guest_time = began.elapsed().saturating_sub(store.data().host_time());
        store.data_mut().release().await;
        self.ran(answer, store.into_data(), guest_time)
    }

    /// Runs a native twin in the place of the component: the same call but for Wasm.
    #[cfg(feature = "twin")]
    async fn call_twin(&self, twin: crate::twin::Twin, mut state: CallState) -> Ran {
        let began = Instant::now();
        let answer = twin(&mut state).await;
        let guest_time = began.elapsed().saturating_sub(state.host_time());
        state.release().await;
        self.ran(answer, state, guest_time)
    }

    fn ran(&self, answer: wasmtime::Result<Answer>, state: CallState, guest_time: Duration) -> Ran {
        let cause = answer
            .as_ref()
            .err()
            .map(|error| excerpt(&error.root_cause().to_string()));
        let answer = answer.map_err(|error| self.broken(&error, &state));
        Ran {
            answer,
            cause,
            failure: state.failure(),
            conduct: state.conduct,
            requests: state.task.requests,
            effects: state.effects,
            guest_time,
        }
    }

    async fn run(&self, store: &mut Store<CallState>) -> wasmtime::Result<Answer> {
        type Purchase<'a> = (&'a types::Request,);
        type Purchased = (Result<GuestOutcome, Refusal>,);

        let Linked { pre, purchase } = self.linked.own();
        let requests: Vec<types::Request> = (0..)
            .zip(&store.data().task.requests)
            .map(types::Request::from)
            .collect();
        if let (Operation::Purchase, Some(request)) =
            (store.data().task.operation, requests.first())
        {
            // The one that is hot looks up its export alone; that all three are as the contract has them, `describe` has seen.
            let instance = pre.instance_pre().instantiate_async(&mut *store);
            let instance = instance.await?;
            let purchase =
                instance.get_typed_func::<Purchase<'_>, Purchased>(&mut *store, purchase)?;
            let (answer,) = purchase.call_async(store, (request,)).await?;
            return Ok(Answer::Purchased(answer));
        }
        let instance = pre.instantiate_async(&mut *store).await?;
        let exports = instance.timesale_strategy_purchasing();
        Ok(match store.data().task.operation {
            Operation::Settle => Answer::Settled(exports.call_settle(store, &requests).await?),
            Operation::Purchase | Operation::Describe => {
                Answer::Described(exports.call_describe(store).await?.operation)
            }
        })
    }

    /// Says how a call broke, and tells the log where in the guest it was.
    fn broken(&self, error: &wasmtime::Error, state: &CallState) -> Broken {
        let broken = match error.downcast_ref::<CallEnd>() {
            Some(CallEnd::Deadline | CallEnd::TransactionHold) => Broken::TimedOut,
            Some(CallEnd::Cancelled) => Broken::Cancelled,
            Some(CallEnd::HostCalls) => Broken::HostCalls,
            None if error.is::<PoolConcurrencyLimitError>() => Broken::Overloaded,
            None if state.memory_refused() => Broken::OutOfMemory,
            None => Broken::Trapped,
        };
        if broken != Broken::Cancelled {
            tracing::error!(
                version = %self.version,
                revision = %self.id,
                request.id = state.task.requests.first().map(|request| request.id.0.as_str()),
                requests = state.task.requests.len(),
                cause = error.root_cause().to_string(),
                "the guest did not return ({broken:?}): {error:?}"
            );
        }
        broken
    }
}

/// Whether a name can be a label: `[a-z][A-Za-z]{2,40}`.
fn is_operation(name: &str) -> bool {
    (3..=41).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_alphabetic())
}
