//! How a wish becomes what runs: revisions are fetched and proven, and the slots of the version are swapped at once.
//!
//! A host that cannot run a wish keeps what it runs, says why, and tries again later.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::Rollout;
use crate::{
    backend::BackendError,
    desired::{Desired, Digest, Stored},
    strategy::{
        Strategy,
        pipeline::NotProven,
        registry::Full,
        revision::Revision,
        slots::{Selling, Slots},
        trial::{Kind, Trial},
    },
    telemetry::labels::SwapResult,
};

/// How long a host waits before it tries again what it could not run.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What a host has made of a version's wish.
#[derive(Default)]
pub struct Followed {
    /// The epoch that it runs, or has tried to.
    pub epoch: i64,
    /// Why it does not run it, and since when.
    pub behind: Option<(String, Instant)>,
    /// The components of the wish that were proven on this host, or before it started.
    proven: Vec<Digest>,
}

/// Why a host does not run a wish.
#[derive(Debug, thiserror::Error)]
pub(super) enum Behind {
    /// The database failed.
    #[error("{0}")]
    Backend(#[from] BackendError),
    /// Its component was refused here.
    #[error("{0}")]
    NotProven(#[from] NotProven),
    /// There are too many versions.
    #[error("{0}")]
    Full(#[from] Full),
    /// Nothing names it any more, or never did.
    #[error("the database has no component {0}")]
    NoComponent(Digest),
}

impl Followed {
    /// Notes that a component was proven on this host.
    pub fn note_proven(&mut self, digest: &Digest) {
        self.proven.push(digest.clone());
    }

    /// Whether there is something to do; a wish that was read before a change of this host's is not followed back.
    pub fn is_due(&self, stored: &Stored) -> bool {
        let retried = |(_, since): &(String, Instant)| since.elapsed() >= RETRY_AFTER;
        let again = self.epoch == stored.epoch && self.behind.as_ref().is_some_and(retried);
        self.epoch < stored.epoch || again
    }
}

impl Rollout {
    /// Has this host run a wish; `ready` is a revision of it that is proven already.
    ///
    /// Returns the revision that is live no longer, if there is one.
    pub(super) async fn apply(
        &self,
        followed: &mut Followed,
        stored: &Stored,
        ready: Option<Arc<Revision>>,
    ) -> Option<Arc<Revision>> {
        if followed.epoch == 0 && self.coming_back.load(Ordering::Relaxed) {
            followed.proven = stored.desired.components().into_iter().cloned().collect();
        }
        followed.epoch = stored.epoch;
        let strategy = self.registry.get(stored.version.as_str());
        let applied = self.try_apply(followed, stored, strategy.as_deref(), ready);
        match applied.await {
            Ok(old) => {
                followed.behind = None;
                let named = stored.desired.components();
                followed.proven.retain(|digest| named.contains(&digest));
                old
            }
            Err(behind) => {
                tracing::error!(
                    version = %stored.version,
                    revision = %stored.desired.live.digest.revision(),
                    "this host does not run what is wanted: {behind}"
                );
                if let Some(strategy) = strategy {
                    strategy.metrics.swapped(SwapResult::Failed);
                }
                followed.behind = Some((behind.to_string(), Instant::now()));
                None
            }
        }
    }

    async fn try_apply(
        &self,
        followed: &mut Followed,
        stored: &Stored,
        strategy: Option<&Strategy>,
        ready: Option<Arc<Revision>>,
    ) -> Result<Option<Arc<Revision>>, Behind> {
        let desired = &stored.desired;
        let now = strategy.map(Strategy::slots);
        let live = match &ready {
            Some(ready) if ready.digest == desired.live.digest => Arc::clone(ready),
            _ => {
                let digest = &desired.live.digest;
                self.obtain(followed, stored, digest).await?
            }
        };
        let candidate = match (&desired.candidate, ready) {
            (None, _) => None,
            (Some(candidate), Some(ready)) if ready.digest == candidate.placed.digest => {
                Some((ready, candidate.share))
            }
            (Some(candidate), _) => {
                let digest = &candidate.placed.digest;
                let revision = self.obtain(followed, stored, digest).await?;
                Some((revision, candidate.share))
            }
        };
        let slots = Slots {
            trial: self.trial(desired, now.as_deref(), &live, candidate),
            selling: selling(desired),
            live: Arc::clone(&live),
        };
        live.running.reopen();
        let Some(strategy) = strategy else {
            let added = Strategy::new(slots, Arc::clone(&self.means));
            let added = self.registry.add(added)?;
            tracing::info!(version = %added.version, revision = %live.id, operation = added.operation, "runs a strategy");
            return Ok(None);
        };
        let before = strategy.swap(slots);
        if Arc::ptr_eq(&before.live, &live) {
            return Ok(None);
        }
        strategy.metrics.swapped(SwapResult::Swapped);
        tracing::info!(
            version = %stored.version,
            revision = %live.id,
            before = %before.live.id,
            epoch = stored.epoch,
            by = desired.live.by,
            "swapped the live revision"
        );
        Ok(Some(Arc::clone(&before.live)))
    }

    /// A revision of this digest: one that runs here, or the database's component, proven here unless it was before.
    pub(super) async fn obtain(
        &self,
        followed: &mut Followed,
        stored: &Stored,
        digest: &Digest,
    ) -> Result<Arc<Revision>, Behind> {
        let slots = self.registry.get(stored.version.as_str());
        let slots = slots.map(|strategy| strategy.slots());
        if let Some(revision) = slots.as_ref().and_then(|slots| slots.find(digest)) {
            return Ok(Arc::clone(revision));
        }
        let database = &self.means.backends.database;
        let bytes = database.component(&stored.version, digest).await?;
        let bytes = bytes.ok_or_else(|| Behind::NoComponent(digest.clone()))?;
        let operation = Some(stored.desired.operation.as_str());
        if followed.proven.contains(digest) {
            let loaded = self.pipeline.load(&stored.version, bytes, operation);
            return Ok(loaded.await?.revision);
        }
        let live = slots.as_ref().map(|slots| &slots.live);
        let proven = self.pipeline.prove(&stored.version, bytes, operation, live);
        let revision = proven.await?.revision;
        followed.proven.push(digest.clone());
        Ok(revision)
    }

    /// What is on trial under a wish, given what ran before.
    fn trial(
        &self,
        desired: &Desired,
        now: Option<&Slots>,
        live: &Arc<Revision>,
        candidate: Option<(Arc<Revision>, u8)>,
    ) -> Option<Arc<Trial>> {
        let before = now.and_then(|now| now.trial.as_ref());
        let begin = |challenger, baseline, kind| {
            let alarm = Arc::clone(&self.alarm);
            Some(Arc::new(Trial::new(challenger, baseline, kind, alarm)))
        };
        if let Some((candidate, share)) = candidate {
            let kind = Kind::Canary(share);
            let same = |trial: &&Arc<Trial>| {
                trial.kind == kind
                    && Arc::ptr_eq(&trial.challenger, &candidate)
                    && Arc::ptr_eq(&trial.baseline, live)
            };
            return match before.filter(same) {
                Some(trial) => Some(Arc::clone(trial)),
                None => begin(candidate, Arc::clone(live), kind),
            };
        }
        let now = now?;
        if Arc::ptr_eq(&now.live, live) {
            let watch = |trial: &&Arc<Trial>| matches!(trial.kind, Kind::Watch(_));
            return before.filter(watch).cloned();
        }
        // What it replaced has to have run here: without its calls there is nothing to hold it against.
        if self.watch.is_zero() || desired.replaced.as_ref() != Some(&now.live.digest) {
            return None;
        }
        let kind = Kind::Watch(Instant::now() + self.watch);
        begin(Arc::clone(live), Arc::clone(&now.live), kind)
    }

    /// Ends the watches whose time is over, which frees what was replaced.
    pub(super) fn end_watches(&self) {
        for strategy in self.registry.all() {
            // Under the version's lock, so that it does not undo a change.
            let followed = self.followed(&strategy.version);
            let Ok(_unchanged) = followed.try_lock() else {
                continue;
            };
            let slots = strategy.slots();
            let over = |trial: &Arc<Trial>| trial.is_over() && trial.failed().is_none();
            if slots.trial.as_ref().is_some_and(over) {
                strategy.swap(Slots {
                    trial: None,
                    ..Slots::clone(&slots)
                });
            }
        }
    }

    /// Writes down the trials that have failed, so that every host goes back.
    pub(super) async fn end_failed_trials(&self) {
        for strategy in self.registry.all() {
            let slots = strategy.slots();
            let Some(trial) = &slots.trial else { continue };
            let Some(evidence) = trial.failed() else {
                continue;
            };
            let evidence = serde_json::to_value(evidence).unwrap_or(Value::Null);
            // The baseline takes every call already, and the next tick tries again.
            if let Err(error) = self.go_back(&strategy, trial, evidence).await {
                tracing::warn!(version = %strategy.version, "a failed trial is not written down: {error}");
            }
        }
    }

    /// Every version, with why this host does not run its wish, where that is so.
    pub(super) fn behind(&self) -> Vec<(String, i64, Option<String>)> {
        let all = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter_map(|(version, followed)| {
                // One that is being changed now is told of next time.
                let followed = followed.try_lock().ok()?;
                // Nor is one that was only ever asked for in vain.
                if followed.epoch == 0 {
                    return None;
                }
                let behind = followed.behind.as_ref().map(|(why, _)| why.clone());
                Some((version.to_string(), followed.epoch, behind))
            })
            .collect()
    }
}

const fn selling(desired: &Desired) -> Selling {
    if desired.retired {
        Selling::Retired
    } else if desired.enabled {
        Selling::Open
    } else {
        Selling::Disabled
    }
}
