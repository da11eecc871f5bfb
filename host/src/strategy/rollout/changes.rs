//! What operators may ask for: each change is proven, committed with its line of the audit, swapped in, and told of.
//!
//! One change of a version at a time, on this host by a lock and among hosts by the epoch.

use std::{sync::Arc, time::Instant};

use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use super::{
    Rollout,
    following::Followed,
    outcome::{Action, Component, Outcome, Undone},
};
use crate::{
    backend::BackendError,
    desired::{self, AuditLine, Change, Desired, Digest, Placed, Stored},
    domain::{self, Version},
    strategy::{
        Strategy,
        pipeline::{Done, Proven, Step},
        registry::Full,
        revision::Revision,
        trial::{Kind, Trial},
    },
    telemetry::labels::SwapResult,
};

/// A change of a version under way: nobody else changes it meanwhile.
pub struct Turn(OwnedMutexGuard<Followed>);

impl Rollout {
    /// Takes the turn to change a version.
    pub fn take_turn(&self, version: &Version) -> Result<Turn, Undone> {
        let followed = self.followed(version).try_lock_owned();
        followed.map(Turn).map_err(|_| Undone::Busy)
    }

    /// Makes a component live, or a candidate.
    pub async fn push(
        &self,
        mut turn: Turn,
        version: &Version,
        component: Component,
        by: &str,
    ) -> Result<Outcome, Undone> {
        let stored = self.stored(version).await?;
        let digest = Digest::of(&component.bytes);
        let pushed = self.try_push(&mut turn, version, stored.as_ref(), component, by);
        let undone = match pushed.await {
            Ok(outcome) => return Ok(outcome),
            Err(undone) => undone,
        };
        if let Undone::NotProven(refused) = &undone {
            tracing::error!(%version, revision = %digest.revision(), by, step = refused.step.name(), "refused: {refused}");
            if let Some(strategy) = self.registry.get(version.as_str()) {
                strategy.metrics.swapped(SwapResult::Refused);
            }
            let evidence = json!({
                "step": refused.step,
                "finding": refused.finding,
                "probe": refused.probe,
            });
            let line = AuditLine {
                result: "refused".to_owned(),
                from: stored.map(|stored| stored.desired.live.digest.revision()),
                to: Some(digest.revision()),
                ..self.line(version, Action::Push, by, evidence)
            };
            self.means.backends.database.write_audit(&line).await?;
        }
        Err(undone)
    }

    async fn try_push(
        &self,
        turn: &mut Turn,
        version: &Version,
        stored: Option<&Stored>,
        component: Component,
        by: &str,
    ) -> Result<Outcome, Undone> {
        if !self.registry.has_room_for(version) {
            return Err(Full.into());
        }
        let placed = Placed {
            digest: Digest::of(&component.bytes),
            since: domain::now(),
            by: by.to_owned(),
        };
        let wish = |operation: &str| -> Result<Desired, desired::Refusal> {
            let is_live = |stored: &Stored| {
                stored.desired.live.digest == placed.digest && !stored.desired.retired
            };
            let mut next = match (stored, component.share) {
                // The file is what another way in has made live: it is only noted.
                (Some(stored), None) if component.from_folder && is_live(stored) => {
                    stored.desired.clone()
                }
                (None, None) => Desired::first(operation.to_owned(), placed.clone()),
                (None, Some(_)) => return Err(desired::Refusal::NothingLive),
                (Some(stored), None) => stored.desired.swap(placed.clone())?,
                (Some(stored), Some(share)) => stored.desired.canary(placed.clone(), share)?,
            };
            if component.from_folder {
                next.folder = Some(placed.digest.clone());
            }
            Ok(next)
        };
        // Before anything is compiled.
        wish("")?;
        let known = stored.map(|stored| stored.desired.operation.as_str());
        let bytes = component.bytes.clone();
        let slots = self.registry.get(version.as_str());
        let slots = slots.map(|strategy| strategy.slots());
        let live = slots.as_ref().map(|slots| &slots.live);
        let Proven {
            revision,
            steps,
            probe,
        } = self.pipeline.prove(version, bytes, known, live).await?;
        let Turn(followed) = turn;
        followed.note_proven(&placed.digest);
        let desired = wish(&revision.operation)?;
        let mut evidence = self.line(version, Action::Push, by, json!({ "probe": probe }));
        evidence.to = Some(placed.digest.revision());
        let change = Change {
            version: version.clone(),
            after: stored.map_or(0, |stored| stored.epoch),
            desired,
            component: Some((placed.digest, component.bytes)),
            audit: evidence,
        };
        let counted = component.share.map(|_| SwapResult::CanaryBegun);
        let change = self.commit(turn, stored, change, Action::Push, Some(revision), counted);
        let mut outcome = change.await?;
        outcome.steps.splice(0..0, steps);
        outcome.probe = probe;
        Ok(outcome)
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
            Action::Push | Action::Disable | Action::Enable | Action::Remove => None,
        };
        self.change(turn, version, action, by, Value::Null, counted)
            .await
    }

    /// Ends a trial that has failed, unless operators have already.
    pub(super) async fn go_back(
        &self,
        strategy: &Strategy,
        trial: &Trial,
        evidence: Value,
    ) -> Result<(), Undone> {
        let version = &strategy.version;
        let turn = self.take_turn(version)?;
        let Some(stored) = self.stored(version).await? else {
            return Ok(());
        };
        let challenger = &trial.challenger.digest;
        let is_challenger = |placed: &Placed| placed.digest == *challenger;
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

    async fn change(
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
            Action::Push => Err(desired::Refusal::NothingLive),
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
    async fn commit(
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
            finished_on_old: old.as_ref().map(|old| old.running.len()),
            drained: old.is_none(),
            behind: followed.behind.as_ref().map(|(why, _)| why.clone()),
            old,
        })
    }

    pub(super) async fn stored(&self, version: &Version) -> Result<Option<Stored>, BackendError> {
        let all = self.means.backends.database.strategies().await?;
        Ok(all.into_iter().find(|stored| stored.version == *version))
    }

    fn line(&self, version: &Version, action: Action, by: &str, evidence: Value) -> AuditLine {
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
