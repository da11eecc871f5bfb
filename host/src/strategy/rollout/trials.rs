//! Trials: one begins with a wish, and ends with its time, or with a wish to go back where it has failed.

use std::{sync::Arc, time::Instant};

use serde_json::Value;

use super::{
    Rollout,
    outcome::{Action, Undone},
};
use crate::{
    desired::{Desired, Placed},
    strategy::{
        Strategy,
        revision::Revision,
        slots::Slots,
        trial::{Kind, Trial},
    },
    telemetry::labels::SwapResult,
};

impl Rollout {
    /// What is on trial under a wish, given what ran before.
    pub(super) fn trial(
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
            let version = &strategy.version;
            let followed = self.followed(version);
            if followed.try_lock().is_ok_and(|it| it.behind.is_some()) {
                continue;
            }
            // The baseline takes every call already, and the next tick tries again.
            let Err(error) = self.go_back(strategy, trial, evidence).await else {
                continue;
            };
            tracing::warn!(%version, "a failed trial is not written down: {error}");
            // What is to be gone back to may be refused under the grants of now: that is not compiled each second.
            if let (Undone::NotProven(_), Ok(mut followed)) = (&error, followed.try_lock()) {
                followed.behind = Some((error.to_string(), Instant::now()));
            }
        }
    }

    /// Ends a trial that has failed, unless operators have already.
    async fn go_back(
        &self,
        strategy: &Strategy,
        trial: &Trial,
        evidence: Value,
    ) -> Result<(), Undone> {
        let version = &strategy.version;
        let turn = self.turn_now(version)?;
        let Some(stored) = self.stored(version).await? else {
            return Ok(());
        };
        let grants = &stored.desired.grants;
        let is_challenger = |placed: &Placed| trial.challenger.is(&placed.digest, grants);
        let candidate = stored.desired.candidate.as_ref();
        let action = match trial.kind {
            Kind::Canary(_) if candidate.is_some_and(|it| is_challenger(&it.placed)) => {
                Action::Abort
            }
            Kind::Watch(_) if is_challenger(&stored.desired.live) => Action::Rollback,
            _ => return Ok(()),
        };
        tracing::error!(%version, revision = %trial.challenger.id, %evidence, "goes back by itself: {}", action.name());
        let by = format!("{} by itself", self.host);
        let counted = Some(SwapResult::AutoRolledBack);
        self.change(turn, version, action, &by, evidence, counted)
            .await?;
        Ok(())
    }
}
