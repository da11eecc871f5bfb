//! Settlement: takes accepted requests from the log in their order, has their strategies decide them, and moves on.
//!
//! The offset moves only once every record before it is final: an order, a refusal, or a dead letter.
//! A backend that fails is waited for, without end; a strategy that fails at a record loses that record alone.
//! `app` starts one and stops it between two batches.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    backend::{BackendError, Backends, log::Record, queue::Batch, record},
    config::Limits,
    domain::{self, Decision, Refusal, Request, Version},
    strategy::{Strategy, ending::Verdict, rollout::Rollout},
    telemetry::labels::DeadLetter,
};

/// The consumer group, whose committed offset says what is settled.
pub const GROUP: &str = "time-sale-group";
/// The first pause after a backend failed; it doubles up to `PAUSE_MAX`.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The first pause after a strategy failed at a single request, which doubles too: short, because whoever is behind it in the log waits as long.
const STRATEGY_PAUSE: Duration = Duration::from_millis(10);

/// Settles what the log holds.
pub struct Settlement {
    /// Where requests come from and decisions go to.
    pub backends: Arc<Backends>,
    /// The bounds of a batch.
    pub limits: Arc<Limits>,
    /// Finds the strategy of a version, and knows whether one that does not run here yet will.
    pub rollout: Arc<Rollout>,
}

/// Why a batch is to be tried again.
#[derive(Debug, thiserror::Error)]
enum Hindered {
    #[error("{0}")]
    Backend(#[from] BackendError),
    #[error("a backend failed under the strategy of {0}")]
    Strategy(Version),
    #[error("{0} is wanted, and does not run here yet")]
    NotYet(Version),
}

impl Settlement {
    /// Settles until `stop`, which it looks at between batches and while it waits.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = PAUSE_MIN;
        loop {
            let next = self.backends.kafka.next_batch(self.limits.settle_batch_max);
            let settled = match stop.run_until_cancelled(next).await {
                None => return,
                Some(Ok(batch)) => self.settle(&batch).await,
                Some(Err(error)) => Err(error.into()),
            };
            match settled {
                Ok(()) => pause = PAUSE_MIN,
                Err(hindered) => {
                    tracing::warn!("settlement waits {pause:?}: {hindered}");
                    if stop
                        .run_until_cancelled(tokio::time::sleep(pause))
                        .await
                        .is_none()
                    {
                        return;
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Settles a batch, and commits past it.
    async fn settle(&self, batch: &Batch) -> Result<(), Hindered> {
        let began = Instant::now();
        let mut batches = BTreeMap::<Version, Vec<(Request, &Record)>>::new();
        let mut unreadable = Vec::new();
        for record in batch.records() {
            match record::decode(record) {
                Ok(request) => {
                    let batch = batches.entry(request.version.clone()).or_default();
                    batch.push((request, record));
                }
                Err(reason) => unreadable.push((record, reason)),
            }
        }
        let mut awaited = None;
        for (version, batch) in batches {
            if let Some(strategy) = self.rollout.registry.get(version.as_str()) {
                self.settle_batch(strategy, batch).await?;
                continue;
            }
            let open = self.undecided(batch).await?;
            if open.is_empty() {
                continue;
            }
            if self.rollout.may_come_to_run(&version).await? {
                awaited = Some(version);
                continue;
            }
            tracing::error!(%version, "accepted requests of a version that is not served");
            self.give_up(&open, DeadLetter::UnknownVersion).await?;
        }
        if let Some(version) = awaited {
            return Err(Hindered::NotYet(version));
        }
        // Last, so that a batch that has to be tried again does not bury them again.
        for (record, reason) in unreadable {
            self.bury(record, reason).await?;
        }
        self.backends.kafka.commit(batch).await?;
        self.backends
            .queue_metrics
            .processed(batch.records().len(), began.elapsed());
        Ok(())
    }

    /// Settles requests of one version: a batch that the strategy fails at is halved until the record that it fails at is alone.
    async fn settle_batch(
        &self,
        strategy: &Strategy,
        batch: Vec<(Request, &Record)>,
    ) -> Result<(), Hindered> {
        let mut batches = vec![batch];
        let mut failures = 0;
        while let Some(batch) = batches.pop() {
            let open = self.undecided(batch).await?;
            if open.is_empty() {
                continue;
            }
            let mut broken = self.ask(strategy, open).await?;
            if broken.is_empty() {
                failures = 0;
            } else if broken.len() > 1 {
                let second = broken.split_off(broken.len().div_ceil(2));
                batches.extend([second, broken]);
            } else {
                failures += 1;
                if failures < self.limits.settle_attempts_max {
                    batches.push(broken);
                    let doubled = STRATEGY_PAUSE.saturating_mul(2_u32.saturating_pow(failures - 1));
                    tokio::time::sleep(doubled.min(PAUSE_MAX)).await;
                } else {
                    failures = 0;
                    self.give_up(&broken, DeadLetter::StrategyFailed).await?;
                    let refusal = Decision::Refused(Refusal::StrategyFailed);
                    broken
                        .iter()
                        .for_each(|(request, _)| strategy.settled(request, &refusal));
                }
            }
        }
        Ok(())
    }

    /// The requests of a batch that are not final yet.
    async fn undecided<'a>(
        &self,
        batch: Vec<(Request, &'a Record)>,
    ) -> Result<Vec<(Request, &'a Record)>, BackendError> {
        let ids: Vec<_> = batch
            .iter()
            .map(|(request, _)| request.id.clone())
            .collect();
        let open = self.backends.database.undecided(&ids).await?;
        let entries = batch.into_iter().zip(open);
        Ok(entries
            .filter(|(_, open)| *open)
            .map(|(it, _)| it)
            .collect())
    }

    /// Has the strategy decide a batch; returns what it failed at.
    async fn ask<'a>(
        &self,
        strategy: &Strategy,
        batch: Vec<(Request, &'a Record)>,
    ) -> Result<Vec<(Request, &'a Record)>, Hindered> {
        let requests: Vec<_> = batch.iter().map(|(request, _)| request.clone()).collect();
        let verdicts = strategy.settle(&requests).await;
        let mut refused = Vec::new();
        for (request, verdict) in requests.iter().zip(&verdicts) {
            match verdict {
                // Counted before anything can fail: a second try would not meet it again.
                Verdict::Final(decision) => strategy.settled(request, decision),
                Verdict::Refuse(refusal) => {
                    refused.push((request.id.clone(), request.sale_id, *refusal));
                }
                Verdict::Retry | Verdict::Broken => {}
            }
        }
        if !refused.is_empty() {
            self.backends
                .database
                .refuse(&refused, domain::now())
                .await?;
        }
        let mut broken = Vec::new();
        let mut hindered = false;
        for (entry, verdict) in batch.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Final(_) => {}
                Verdict::Refuse(refusal) => {
                    strategy.settled(&entry.0, &Decision::Refused(refusal));
                }
                Verdict::Retry => hindered = true,
                Verdict::Broken => broken.push(entry),
            }
        }
        if hindered {
            return Err(Hindered::Strategy(strategy.version.clone()));
        }
        Ok(broken)
    }

    /// Ends requests that no strategy will decide: a dead letter and a final FAIL for each.
    async fn give_up(
        &self,
        batch: &[(Request, &Record)],
        reason: DeadLetter,
    ) -> Result<(), BackendError> {
        let refusals: Vec<_> = batch
            .iter()
            .map(|(request, _)| (request.id.clone(), request.sale_id, Refusal::StrategyFailed))
            .collect();
        for (_, record) in batch {
            self.bury(record, reason).await?;
        }
        self.backends
            .database
            .refuse(&refusals, domain::now())
            .await
    }

    async fn bury(&self, record: &Record, reason: DeadLetter) -> Result<(), BackendError> {
        tracing::error!(
            partition = record.place.partition,
            offset = record.place.offset,
            reason = reason.label(),
            request.id = record.request_id.as_ref().map(|id| id.0.as_str()),
            "a record goes to the dead letters"
        );
        self.backends
            .kafka
            .dead_letter(record, reason.label())
            .await?;
        self.backends.queue_metrics.dead_letter(reason);
        Ok(())
    }
}
