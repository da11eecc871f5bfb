//! Holds the stores against each other, again and again: what database, caches and log say of the same thing.
//!
//! It changes and decides nothing: what it finds is shown at the scrape, and operators are told.
//! `app` runs one in each host; what it finds is the same on every host that shares the stores.
//!
//! A round is a few questions, each with a bound on what is read, and a pause that keeps it from weighing on a sale.
//! What a backend does not answer is unknown, and an unknown figure is absent, never 0.

mod turns;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use self::turns::Turns;
use crate::{
    backend::{BackendError, Backends, System, database::Buyers, probe::Probed, record},
    domain::{self, OrderId, RequestId, Sale},
    telemetry::{
        catalogue::{self, Metric},
        exposition::Exposition,
        labels::Drift,
    },
};

/// The least time between two rounds.
const ROUND_EVERY: Duration = Duration::from_secs(10);
/// The pause after a round is at least so many times as long as the round was.
const PAUSE_FACTOR: u32 = 20;
/// Sales that are looked at: open, or ended so lately.
const SALES_READ: u32 = 1_000;
const LATELY: SignedDuration = SignedDuration::from_mins(10);
/// What counts as recent for buyers, and as too long for a request to wait.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// The newest orders among which buyers are counted, and those whose decision is looked up.
const BUYERS_READ: u32 = 100_000;
const DECISIONS_READ: u32 = 10_000;
/// How far an order may have overtaken those with lower numbers, in numbers.
const OVERTAKING_MAX: OrderId = 1_000;
/// Settled requests that are looked up, about.
const SETTLED_READ: u32 = 256;

/// What it last found, and what it looks at.
pub struct Reconciler {
    backends: Arc<Backends>,
    last: Mutex<Findings>,
}

/// What a round found; what is not known is absent.
struct Findings {
    ended: Instant,
    backends: Vec<Probed>,
    pending: Option<Pending>,
    buyers: Option<Buyers>,
    hints: Option<Hints>,
    stock: Option<u64>,
    queue: Option<u64>,
    results: Option<u64>,
}

/// What waits to be settled.
#[derive(Clone, Copy)]
struct Pending {
    /// How long the oldest has waited, in seconds; 0 where none waits.
    oldest_s: f64,
    /// How many have waited longer than a minute.
    stuck: u64,
}

/// What cached hints deny of what is left.
#[derive(Default, Clone, Copy)]
struct Hints {
    sales: u64,
    pieces: u64,
}

/// What a round leaves to the next.
#[derive(Default)]
struct Memory {
    turns: Turns,
    /// No order of the last minute has a number as low as this.
    old_order: OrderId,
}

impl Reconciler {
    /// Has found nothing yet.
    pub fn new(backends: Arc<Backends>) -> Self {
        Self {
            backends,
            last: Mutex::new(Findings::of(Vec::new())),
        }
    }

    /// Goes round until `stop`, which it looks at between two rounds.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut memory = Memory::default();
        loop {
            let began = Instant::now();
            let found = self.round(&mut memory).await;
            let pause = ROUND_EVERY.max(began.elapsed() * PAUSE_FACTOR);
            found.tell(&self.last());
            *self.last() = found;
            let paused = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            if paused.is_none() {
                return;
            }
        }
    }

    /// Writes what it last found.
    pub fn show(&self, page: &mut Exposition) {
        self.last().show(page);
    }

    async fn round(&self, memory: &mut Memory) -> Findings {
        let backends = self.backends.probe().await;
        let is_up = |system| backends.iter().any(|it| it.system == system && it.up);
        let database = is_up(System::Database);
        let (redis, kafka) = (is_up(System::Redis), is_up(System::Kafka));
        let mut found = Findings::of(backends.to_vec());
        if database {
            found.stock = known("the stock", self.stock(&mut memory.turns).await);
            found.results = known(
                "the decisions",
                self.backends.database.decision_drift(DECISIONS_READ).await,
            );
            found.buyers = known("who buys", self.buyers(&mut memory.old_order).await);
        }
        if database && redis {
            found.hints = known("the hints", self.hints().await);
        }
        if kafka && let Some((pending, settled)) = known("the log", self.pending().await) {
            found.pending = Some(pending);
            if database {
                let undecided = self.undecided(&settled).await;
                found.queue = known("what is settled", undecided);
            }
        }
        found.ended = Instant::now();
        found
    }

    /// By how many pieces stock and orders differ, as far as the sales have had their turn.
    async fn stock(&self, turns: &mut Turns) -> Result<u64, BackendError> {
        let due = turns.due(&self.sales(LATELY).await?);
        if !due.is_empty() {
            turns.note(self.backends.database.stock_drift(&due).await?);
        }
        Ok(turns.drift())
    }

    async fn buyers(&self, old_order: &mut OrderId) -> Result<Buyers, BackendError> {
        let since = domain::now() - MINUTE;
        let database = &self.backends.database;
        let buyers = database.buyers(since, *old_order, BUYERS_READ).await?;
        *old_order = (buyers.first - OVERTAKING_MAX).max(0);
        Ok(buyers)
    }

    /// What the hints of open sales deny.
    ///
    /// A hint is lowered after the commit, so it is never below what was left when it was read; what is left is read after it, and never rises.
    async fn hints(&self) -> Result<Hints, BackendError> {
        let sales = self.sales(SignedDuration::ZERO).await?;
        let keys: Vec<_> = sales.iter().map(|sale| domain::hint_key(sale.id)).collect();
        let values = self.backends.redis.values(&keys).await?;
        let hints = sales.iter().zip(values).filter_map(|(sale, value)| {
            let left: i64 = std::str::from_utf8(&value?).ok()?.parse().ok()?;
            (left < sale.remaining).then_some((sale.id, left))
        });
        let low: Vec<_> = hints.collect();
        let mut denied = Hints::default();
        if low.is_empty() {
            return Ok(denied);
        }
        for sale in self.sales(SignedDuration::ZERO).await? {
            let hint = low.iter().find(|(id, _)| *id == sale.id);
            let pieces = hint.map_or(0, |(_, left)| sale.remaining.saturating_sub(*left));
            if pieces > 0 {
                denied.sales += 1;
                denied.pieces += pieces.unsigned_abs();
            }
        }
        Ok(denied)
    }

    /// How long requests have waited, and the last that are settled.
    async fn pending(&self) -> Result<(Pending, Vec<RequestId>), BackendError> {
        let now = domain::now();
        let edge = self.backends.kafka.edge(now - MINUTE, SETTLED_READ).await?;
        let waited = |oldest| now.duration_since(oldest).as_secs_f64().max(0.0);
        let pending = Pending {
            oldest_s: edge.oldest.map_or(0.0, waited),
            stuck: edge.late,
        };
        // What cannot be read as a request has no decision: it is among the dead letters.
        let requests = edge.settled.iter().filter_map(|it| record::decode(it).ok());
        Ok((pending, requests.map(|request| request.id).collect()))
    }

    /// How many of these have no decision.
    async fn undecided(&self, settled: &[RequestId]) -> Result<u64, BackendError> {
        let decisions = self.backends.database.decisions(settled).await?;
        let undecided = decisions.iter().filter(|decision| decision.is_none());
        Ok(u64::try_from(undecided.count()).unwrap_or(u64::MAX))
    }

    /// The sales that are open, or were `before`.
    async fn sales(&self, before: SignedDuration) -> Result<Vec<Sale>, BackendError> {
        let now = domain::now();
        let database = &self.backends.database;
        database.open_sales(now - before, now, SALES_READ).await
    }

    fn last(&self) -> MutexGuard<'_, Findings> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Findings {
    /// Nothing but which backends answer.
    fn of(backends: Vec<Probed>) -> Self {
        Self {
            ended: Instant::now(),
            backends,
            pending: None,
            buyers: None,
            hints: None,
            stock: None,
            queue: None,
            results: None,
        }
    }

    fn drifts(&self) -> [(Drift, Option<u64>); 4] {
        [
            (Drift::Stock, self.stock),
            (Drift::Cache, self.hints.map(|hints| hints.sales)),
            (Drift::Queue, self.queue),
            (Drift::Results, self.results),
        ]
    }

    /// Logs a contradiction that the last round did not find.
    fn tell(&self, last: &Self) {
        for ((kind, now), (_, before)) in self.drifts().into_iter().zip(last.drifts()) {
            if let Some(drift) = now.filter(|drift| *drift > before.unwrap_or(0)) {
                tracing::error!(
                    kind = kind.label(),
                    drift,
                    "two stores contradict each other"
                );
            }
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "pieces, requests and users stay far below 2^53"
    )]
    fn show(&self, page: &mut Exposition) {
        let age = self.ended.elapsed().as_secs_f64();
        page.family(
            &catalogue::BACKEND_UP,
            self.backends.iter().map(|it| {
                let labels = vec![("backend", it.system.label().to_owned())];
                (labels, f64::from(u8::from(it.up)))
            }),
        );
        page.family(
            &catalogue::LEDGER_DRIFT,
            self.drifts().into_iter().filter_map(|(kind, drift)| {
                Some((vec![("kind", kind.label().to_owned())], drift? as f64))
            }),
        );
        let mut figure = |metric: &Metric, value: Option<f64>| {
            page.family(metric, value.map(|value| (Vec::new(), value)));
        };
        figure(&catalogue::RECONCILIATION_AGE, Some(age));
        let pending = self.pending;
        figure(&catalogue::OLDEST_PENDING, pending.map(|it| it.oldest_s));
        figure(&catalogue::STUCK_PENDING, pending.map(|it| it.stuck as f64));
        let pieces = self.hints.map(|hints| hints.pieces as f64);
        figure(&catalogue::LEAKED_STOCK, pieces);
        let buyers = self.buyers;
        figure(&catalogue::ACTIVE_BUYERS, buyers.map(|it| it.active as f64));
        figure(&catalogue::REPEAT_BUYERS, buyers.map(|it| it.repeat as f64));
    }
}

/// What was answered, if anything; what was not is logged and stays unknown.
fn known<T>(what: &str, answer: Result<T, BackendError>) -> Option<T> {
    answer
        .inspect_err(|error| tracing::warn!("{what} cannot be reconciled: {error}"))
        .ok()
}
