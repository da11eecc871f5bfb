//! Which revisions of a version run: the live one, and the one that is on trial beside it.
//!
//! `rollout` sets them as a whole; `strategy` looks at them once for each call, and the call ends on the revision that it was given.

use std::sync::Arc;

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    revision::Revision,
    trial::{Kind, Trial},
};
use crate::{desired::Digest, domain::UserId};

/// What a version runs now; replaced as a whole, never changed.
#[derive(Clone)]
pub struct Slots {
    /// Sells, and settles.
    pub live: Arc<Revision>,
    /// What is held against what: a canary against the live revision, or the live one against the one that it replaced.
    pub trial: Option<Arc<Trial>>,
    /// Whether it sells at all.
    pub selling: Selling,
}

/// Whether a version sells; it settles what it accepted in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selling {
    /// It does.
    Open,
    /// An operator has switched it off.
    Disabled,
    /// It was removed: to buyers there is no such version.
    Retired,
}

/// The revision that a call was given, which ends on it and is waited for before it is drained.
pub struct Chosen {
    /// The revision.
    pub revision: Arc<Revision>,
    /// The trial that the call is part of.
    pub trial: Option<Arc<Trial>>,
    /// Whether the version sold at that moment.
    pub selling: Selling,
    _running: TaskTrackerToken,
}

impl Slots {
    /// The revision for a purchase of this user: always the same one while the trial lasts, on every host.
    pub fn for_purchase(&self, user: UserId) -> Chosen {
        let revision = match &self.trial {
            Some(trial) => trial.revision_for(user),
            None => &self.live,
        };
        self.chosen(revision)
    }

    /// The revision for a purchase of whichever user; none while a trial lasts, since then it is the user who decides.
    pub fn for_anyone(&self) -> Option<Chosen> {
        self.trial.is_none().then(|| self.chosen(&self.live))
    }

    /// The revision that settles.
    pub fn for_settle(&self) -> Chosen {
        let revision = match &self.trial {
            Some(trial) => trial.revision_that_settles(),
            None => &self.live,
        };
        self.chosen(revision)
    }

    /// The revision of a component under these grants that runs now, or did a moment ago and is still at hand.
    pub fn find(&self, digest: &Digest, grants: &str) -> Option<&Arc<Revision>> {
        let trial = self.trial.iter();
        let trial = trial.flat_map(|trial| [&trial.challenger, &trial.baseline]);
        [&self.live]
            .into_iter()
            .chain(trial)
            .find(|revision| revision.is(digest, grants))
    }

    /// The canary that is under way.
    pub fn canary(&self) -> Option<&Arc<Trial>> {
        let canary = |trial: &&Arc<Trial>| matches!(trial.kind, Kind::Canary(_));
        self.trial.as_ref().filter(canary)
    }

    /// Every revision that runs, by the slot that operators know it by.
    pub fn named(&self) -> Vec<(&'static str, &Arc<Revision>)> {
        let beside = self.trial.as_ref().map(|trial| match trial.kind {
            Kind::Canary(_) => ("candidate", &trial.challenger),
            Kind::Watch(_) => ("previous", &trial.baseline),
        });
        [("live", &self.live)].into_iter().chain(beside).collect()
    }

    fn chosen(&self, revision: &Arc<Revision>) -> Chosen {
        Chosen {
            _running: revision.begin(),
            revision: Arc::clone(revision),
            trial: self.trial.clone(),
            selling: self.selling,
        }
    }
}
