//! What operators may ask for: each change is proven, committed with its line of the audit, swapped in, and told of.
//! What is particular to a component, to grants and to trials is in `pushing`, `grants` and `trials`.
//!
//! One change of a version at a time, on this host by a lock and among hosts by the epoch.

use std::{
    collections::BTreeSet,
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    Rollout,
    following::Followed,
    outcome::{Action, Outcome, Undone},
};
use crate::{
    backend::BackendError,
    desired::{self, AuditLine, Change, Stored},
    domain::{self, Version},
    strategy::{
        pipeline::{Done, NotProven, Step},
        revision::Revision,
    },
    telemetry::labels::SwapResult,
};

/// How long an operator's change waits for its turn: a look at the version, which the host takes every second, is over by then, and another change is not.
const TURN_WAIT: Duration = Duration::from_millis(500);

/// A change of a version under way: nobody else changes it meanwhile.
pub struct Turn(pub(super) OwnedMutexGuard<Followed>);

impl Turn {
    async fn of(followed: Arc<Mutex<Followed>>) -> Result<Self, Undone> {
        let turn = tokio::time::timeout(TURN_WAIT, followed.lock_owned()).await;
        turn.map(Self).map_err(|_| Undone::Busy)
    }
}

/// An upload for a version under way.
pub struct Upload<'a> {
    rollout: &'a Rollout,
    version: Version,
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        self.rollout.uploads().remove(&self.version);
    }
}

impl Rollout {
    /// Begins an upload, one for each version at a time; fails where one is under way, or a change.
    ///
    /// It has no turn: a slow line does not keep operators from switching a version off, nor the host from following the others.
    pub async fn upload(&self, version: &Version) -> Result<Upload<'_>, Undone> {
        drop(self.turn(version).await?);
        if self.uploads().insert(version.clone()) {
            Ok(Upload {
                rollout: self,
                version: version.clone(),
            })
        } else {
            Err(Undone::Busy)
        }
    }

    fn uploads(&self) -> MutexGuard<'_, BTreeSet<Version>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn to change a version; fails where another change has it.
    pub async fn turn(&self, version: &Version) -> Result<Turn, Undone> {
        Turn::of(self.followed(version)).await
    }

    /// Takes the turn to change a version, if it is free now: what the host does by itself can wait for its next look.
    pub(super) fn turn_now(&self, version: &Version) -> Result<Turn, Undone> {
        let followed = self.followed(version).try_lock_owned();
        followed.map(Turn).map_err(|_| Undone::Busy)
    }

    /// Does anything else with a version.
    pub async fn act(
        &self,
        turn: Turn,
        version: &Version,
        action: Action,
        by: &str,
    ) -> Result<Outcome, Undone> {
        let counted = match action {
            Action::Promote => Some(SwapResult::Promoted),
            Action::Abort => Some(SwapResult::Aborted),
            Action::Rollback => Some(SwapResult::RolledBack),
            Action::Push | Action::Grant | Action::Disable | Action::Enable | Action::Remove => {
                None
            }
        };
        self.change(turn, version, action, by, Value::Null, counted)
            .await
    }

    pub(super) async fn change(
        &self,
        mut turn: Turn,
        version: &Version,
        action: Action,
        by: &str,
        evidence: Value,
        counted: Option<SwapResult>,
    ) -> Result<Outcome, Undone> {
        let stored = self.stored(version).await?;
        let stored = stored.ok_or_else(|| Undone::Unknown(version.clone()))?;
        let before = &stored.desired;
        let now = domain::now();
        let desired = match action {
            Action::Push | Action::Grant => Err(desired::Refusal::NothingLive),
            Action::Promote => before.promote(now, by),
            Action::Abort => before.abort(),
            Action::Rollback => before.roll_back(now, by),
            Action::Disable => before.enable(false),
            Action::Enable => before.enable(true),
            Action::Remove => before.retire(),
        }?;
        // Before anything is committed: what is to be live has to be at hand.
        let Turn(followed) = &mut turn;
        let ready = self.obtain(followed, &stored, &desired.live.digest).await?;
        let mut audit = self.line(version, action, by, evidence);
        audit.to = Some(match (action, &before.candidate) {
            (Action::Abort, Some(candidate)) => candidate.placed.digest.revision(),
            _ => desired.live.digest.revision(),
        });
        let change = Change {
            version: version.clone(),
            after: stored.epoch,
            desired,
            component: None,
            audit,
        };
        let (stored, ready) = (Some(&stored), Some(ready));
        self.commit(&mut turn, stored, change, action, ready, counted)
            .await
    }

    /// Commits a change and has this host run it.
    pub(super) async fn commit(
        &self,
        Turn(followed): &mut Turn,
        stored: Option<&Stored>,
        mut change: Change,
        action: Action,
        ready: Option<Arc<Revision>>,
        counted: Option<SwapResult>,
    ) -> Result<Outcome, Undone> {
        change.audit.from = stored.map(|stored| stored.desired.live.digest.revision());
        let committing = Instant::now();
        let epoch = self.means.backends.database.save_strategy(&change).await?;
        let epoch = epoch.ok_or(Undone::Busy)?;
        Step::Commit.done();
        let committed = Done::new(Step::Commit, committing.elapsed());
        let stored = Stored {
            version: change.version,
            epoch,
            desired: change.desired,
        };
        let swapping = Instant::now();
        let old = self.apply(followed, &stored, ready).await;
        Step::Swap.done();
        if let (Some(result), Some(strategy)) =
            (counted, self.registry.get(stored.version.as_str()))
        {
            strategy.metrics.swapped(result);
        }
        let candidate = stored.desired.candidate.as_ref();
        Ok(Outcome {
            version: stored.version.to_string(),
            action,
            host: self.host.clone(),
            epoch,
            live: stored.desired.live.digest.revision(),
            candidate: candidate.map(|it| (it.placed.digest.revision(), it.share)),
            steps: vec![committed, Done::new(Step::Swap, swapping.elapsed())],
            probe: Value::Null,
            finished_on_old: old.as_ref().map(|old| old.running()),
            drained: old.is_none(),
            behind: followed.behind.as_ref().map(|(why, _)| why.clone()),
            old,
        })
    }

    /// Tells log, metric and audit what was refused.
    pub(super) async fn tell_refused(
        &self,
        version: &Version,
        line: AuditLine,
        refused: &NotProven,
    ) -> Result<(), BackendError> {
        let revision = line.to.as_ref().map(|revision| revision.0.as_str());
        tracing::error!(%version, revision, by = line.by, step = refused.step.name(), "refused: {refused}");
        if let Some(strategy) = self.registry.get(version.as_str()) {
            strategy.metrics.swapped(SwapResult::Refused);
        }
        let line = AuditLine {
            result: "refused".to_owned(),
            ..line
        };
        self.means.backends.database.write_audit(&line).await
    }

    pub(super) async fn stored(&self, version: &Version) -> Result<Option<Stored>, BackendError> {
        let all = self.means.backends.database.strategies().await?;
        Ok(all.into_iter().find(|stored| stored.version == *version))
    }

    pub(super) fn line(
        &self,
        version: &Version,
        action: Action,
        by: &str,
        evidence: Value,
    ) -> AuditLine {
        AuditLine {
            at: domain::now(),
            by: by.to_owned(),
            host: self.host.clone(),
            version: version.to_string(),
            action: action.name().to_owned(),
            result: "done".to_owned(),
            from: None,
            to: None,
            evidence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_waits_for_a_look_and_not_for_another_change() {
        let followed = Arc::<Mutex<Followed>>::default();
        let held_for = async |time: Duration| {
            let held = Arc::clone(&followed).lock_owned().await;
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                drop(held);
            });
            Turn::of(Arc::clone(&followed)).await
        };
        assert!(held_for(TURN_WAIT / 2).await.is_ok());
        assert!(matches!(held_for(TURN_WAIT * 2).await, Err(Undone::Busy)));
    }
}
