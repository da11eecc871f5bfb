//! The words of a change: what is asked for, what came of it, and why it was not made.
//!
//! `changes` makes them; `http/admin` and the audit tell of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::following::Behind;
use crate::{
    backend::BackendError,
    desired,
    domain::{RevisionId, Version},
    strategy::{
        pipeline::{Done, NotProven, Step},
        registry::Full,
        revision::Revision,
    },
};

/// What can be done with a version besides pushing a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A component is made live, or a candidate.
    Push,
    /// The version runs under other grants.
    Grant,
    /// The candidate becomes live.
    Promote,
    /// The candidate is taken away.
    Abort,
    /// What was live before becomes live.
    Rollback,
    /// It sells no longer.
    Disable,
    /// It sells again.
    Enable,
    /// It is removed.
    Remove,
}

/// A component that is pushed.
pub struct Component {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The share of the purchases that it gets as a candidate, in percent; none where it is to be live.
    pub share: Option<u8>,
    /// Whether it comes from the strategies folder.
    pub from_folder: bool,
}

/// What came of a change.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The version.
    pub version: String,
    /// What was asked for.
    pub action: Action,
    /// The host that did it; others follow.
    pub host: String,
    /// The epoch of the wish.
    pub epoch: i64,
    /// The revision that is live no longer.
    #[serde(serialize_with = "by_id")]
    pub old: Option<Arc<Revision>>,
    /// The revision that is live now.
    pub live: RevisionId,
    /// The candidate and its share, if there is one.
    pub candidate: Option<(RevisionId, u8)>,
    /// How long each step took.
    pub steps: Vec<Done>,
    /// What the probe saw.
    pub probe: Value,
    /// Calls that ended on the old revision after the swap; none where the live revision stayed.
    pub finished_on_old: Option<usize>,
    /// Whether all of them have ended.
    pub drained: bool,
    /// Why this host does not run it yet, where that is so.
    pub behind: Option<String>,
}

/// Why a change was not made; what ran still runs.
#[derive(Debug, thiserror::Error)]
pub enum Undone {
    /// There is no such version.
    #[error("there is no strategy version {0}")]
    Unknown(Version),
    /// Another change of this version is under way.
    #[error("another change of this version is under way")]
    Busy,
    /// It does not follow from what is wanted now.
    #[error("{0}")]
    Unfit(#[from] desired::Refusal),
    /// The component was refused.
    #[error("{0}")]
    NotProven(#[from] NotProven),
    /// There are too many versions.
    #[error("{0}")]
    Full(#[from] Full),
    /// The database failed.
    #[error("{0}")]
    Backend(#[from] BackendError),
    /// The revision to go back to cannot be had.
    #[error("{0}")]
    Behind(String),
}

impl Action {
    /// The word for it in the audit and in paths.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Grant => "grant",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Remove => "remove",
        }
    }
}

impl Outcome {
    /// Waits, for so long at most, until the last call on the old revision has ended.
    pub async fn drain(&mut self, wait: Duration) {
        let Some(old) = &self.old else { return };
        let draining = Instant::now();
        let drained = tokio::time::timeout(wait, old.drain()).await;
        self.drained = drained.is_ok();
        Step::Drain.done();
        self.steps.push(Done::new(Step::Drain, draining.elapsed()));
    }
}

impl From<Behind> for Undone {
    fn from(behind: Behind) -> Self {
        match behind {
            Behind::Backend(error) => Self::Backend(error),
            Behind::NotProven(refused) => Self::NotProven(refused),
            Behind::Full(full) => Self::Full(full),
            Behind::NoComponent(_) => Self::Behind(behind.to_string()),
        }
    }
}

fn by_id<S: Serializer>(
    revision: &Option<Arc<Revision>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    revision
        .as_ref()
        .map(|revision| &revision.id.0)
        .serialize(serializer)
}
