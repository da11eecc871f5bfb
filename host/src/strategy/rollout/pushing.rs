//! A component is pushed: proven here under the grants that it will have, and committed with them.

use serde_json::json;

use super::{
    Rollout,
    changes::Turn,
    outcome::{Action, Component, Outcome, Undone},
};
use crate::{
    desired::{self, AuditLine, Change, Desired, Digest, Placed, Stored},
    domain::{self, Version},
    strategy::{
        pipeline::{NotProven, Proven, Step},
        registry::Full,
    },
    telemetry::labels::SwapResult,
};

impl Rollout {
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
            let evidence = json!({
                "step": refused.step,
                "finding": refused.finding,
                "probe": refused.probe,
            });
            let line = AuditLine {
                from: stored.map(|stored| stored.desired.live.digest.revision()),
                to: Some(digest.revision()),
                ..self.line(version, Action::Push, by, evidence)
            };
            self.tell_refused(version, line, refused).await?;
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
        let is_live = |stored: &Stored| {
            stored.desired.live.digest == placed.digest && !stored.desired.retired
        };
        if let Some(stored) = stored.filter(|stored| component.from_folder && is_live(stored)) {
            return self.note_file(turn, version, stored, placed, by).await;
        }
        let grants = match stored {
            Some(stored) if !component.from_folder => stored.desired.grants.clone(),
            _ => self.section_of(version, stored).await?,
        };
        let wish = |operation: &str| -> Result<Desired, desired::Refusal> {
            let mut next = match (stored, component.share) {
                (None, None) => Desired::first(operation.to_owned(), placed.clone()),
                (None, Some(_)) => return Err(desired::Refusal::NothingLive),
                (Some(stored), None) => stored.desired.swap(placed.clone())?,
                (Some(stored), Some(share)) => stored.desired.canary(placed.clone(), share)?,
            };
            next.grants.clone_from(&grants);
            if component.from_folder {
                next.folder = Some(placed.digest.clone());
            }
            Ok(next)
        };
        // Before anything is compiled.
        wish("")?;
        let known = stored.map(|stored| stored.desired.operation.as_str());
        let bytes = component.bytes.clone();
        let Turn(followed) = turn;
        let Proven {
            revision,
            steps,
            probe,
        } = self.prove(followed, version, bytes, &grants, known).await?;
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

    /// Notes that the folder has what another way in has made live, and leaves alone what runs.
    async fn note_file(
        &self,
        turn: &mut Turn,
        version: &Version,
        stored: &Stored,
        placed: Placed,
        by: &str,
    ) -> Result<Outcome, Undone> {
        let mut audit = self.line(version, Action::Push, by, json!({ "noted": true }));
        audit.to = Some(placed.digest.revision());
        let change = Change {
            version: version.clone(),
            after: stored.epoch,
            desired: Desired {
                folder: Some(placed.digest),
                ..stored.desired.clone()
            },
            component: None,
            audit,
        };
        self.commit(turn, Some(stored), change, Action::Push, None, None)
            .await
    }

    /// The grants that a component of the folder comes with, or one of a version that nobody knows yet: those beside it, or without a file what the version has.
    async fn section_of(
        &self,
        version: &Version,
        stored: Option<&Stored>,
    ) -> Result<String, NotProven> {
        let here = self.granted_here().await;
        let here = here.map_err(|error| NotProven::at(Step::Link, format!("{error:#}")))?;
        Ok(match (here, stored) {
            (Some(file), _) => file.section(version).to_owned(),
            (None, Some(stored)) => stored.desired.grants.clone(),
            (None, None) => String::new(),
        })
    }
}
