//! What operators want to run: the revisions of a version in their slots, and how one wish follows another.
//!
//! A leaf: the database keeps it, `strategy/rollout` makes it so on each host, and nothing here does anything.
//! A wish is replaced as a whole, so that a host that stops at any moment finds the old one or the new one.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::{RevisionId, Version};

/// Revisions that are kept to go back to.
pub const KEPT_MAX: usize = 3;

/// Names a component by its bytes: their SHA-256, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(String);

impl Digest {
    /// The digest of a component.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(bytes)))
    }

    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that clients and metrics see.
    pub fn revision(&self) -> RevisionId {
        RevisionId(self.0.chars().take(12).collect())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A component in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placed {
    /// The component.
    pub digest: Digest,
    /// Since when it is there.
    pub since: Timestamp,
    /// Who put it there.
    pub by: String,
}

/// A candidate and its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The component.
    #[serde(flatten)]
    pub placed: Placed,
    /// Of all purchases, in percent.
    pub share: u8,
}

/// What is wanted of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The operation of its calls, the same for all its revisions.
    pub operation: String,
    /// What sells, and settles.
    pub live: Placed,
    /// What the live one replaced by a straight swap, and is watched against; none where it came by other ways.
    pub replaced: Option<Digest>,
    /// What takes a share of the purchases.
    pub candidate: Option<Candidate>,
    /// What each of its revisions may do: its section of `grants.toml` as canonical text, empty where it has none.
    #[serde(default)]
    pub grants: String,
    /// What was live before, the last first.
    pub kept: Vec<Placed>,
    /// Whether it sells; a version that does not still settles what it accepted.
    pub enabled: bool,
    /// Whether it was removed: to buyers there is no such version, and what it accepted is settled.
    pub retired: bool,
    /// The component that was last taken over from a strategies folder.
    pub folder: Option<Digest>,
}

/// Why one wish cannot follow another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A canary is under way.
    #[error("a candidate is on trial: promote or abort it first")]
    CandidateOnTrial,
    /// There is none.
    #[error("there is no candidate")]
    NoCandidate,
    /// There is nothing to go back to.
    #[error("no earlier revision is kept")]
    NothingKept,
    /// It is live already.
    #[error("this component is live already")]
    AlreadyLive,
    /// There is no live revision to try a candidate beside.
    #[error("nothing of this version is live yet: push it without a share first")]
    NothingLive,
    /// It was removed.
    #[error("the version was removed: push a component to bring it back")]
    Retired,
}

impl Desired {
    /// The wish for a version that nobody knows yet.
    pub const fn first(operation: String, live: Placed) -> Self {
        Self {
            operation,
            live,
            replaced: None,
            candidate: None,
            grants: String::new(),
            kept: Vec::new(),
            enabled: true,
            retired: false,
            folder: None,
        }
    }

    /// Makes a component live; what was live is kept.
    pub fn swap(&self, new: Placed) -> Result<Self, Refusal> {
        self.may_take(&new)?;
        let mut next = self.clone();
        next.replaced = (!self.retired).then(|| self.live.digest.clone());
        next.retired = false;
        next.make_live(new);
        Ok(next)
    }

    /// Gives a component a share of the purchases.
    pub fn canary(&self, new: Placed, share: u8) -> Result<Self, Refusal> {
        self.may_take(&new)?;
        if self.retired {
            return Err(Refusal::Retired);
        }
        let mut next = self.clone();
        next.candidate = Some(Candidate { placed: new, share });
        Ok(next)
    }

    /// Makes the candidate live; what was live is kept.
    pub fn promote(&self, now: Timestamp, by: &str) -> Result<Self, Refusal> {
        let mut next = self.clone();
        let candidate = next.candidate.take().ok_or(Refusal::NoCandidate)?;
        next.replaced = None;
        next.make_live(Placed {
            digest: candidate.placed.digest,
            since: now,
            by: by.to_owned(),
        });
        Ok(next)
    }

    /// Takes the candidate away.
    pub fn abort(&self) -> Result<Self, Refusal> {
        let mut next = self.clone();
        next.candidate.take().ok_or(Refusal::NoCandidate)?;
        Ok(next)
    }

    /// Makes the revision live again that was live before; the one that it takes the place of is not kept.
    pub fn roll_back(&self, now: Timestamp, by: &str) -> Result<Self, Refusal> {
        if self.candidate.is_some() {
            return Err(Refusal::CandidateOnTrial);
        }
        let mut next = self.clone();
        if next.kept.is_empty() {
            return Err(Refusal::NothingKept);
        }
        let earlier = next.kept.remove(0);
        next.replaced = None;
        next.live = Placed {
            digest: earlier.digest,
            since: now,
            by: by.to_owned(),
        };
        Ok(next)
    }

    /// Has the version run under other grants; the live component stays, so there is nothing to watch it against.
    pub fn grant(&self, grants: &str) -> Result<Self, Refusal> {
        if self.candidate.is_some() {
            return Err(Refusal::CandidateOnTrial);
        }
        Ok(Self {
            grants: grants.to_owned(),
            replaced: None,
            ..self.clone()
        })
    }

    /// Switches the version off or on.
    pub fn enable(&self, enabled: bool) -> Result<Self, Refusal> {
        if self.retired {
            return Err(Refusal::Retired);
        }
        Ok(Self {
            enabled,
            ..self.clone()
        })
    }

    /// Removes the version; what it accepted is settled.
    pub fn retire(&self) -> Result<Self, Refusal> {
        if self.retired {
            return Err(Refusal::Retired);
        }
        let mut next = self.clone();
        next.candidate = None;
        next.retired = true;
        Ok(next)
    }

    /// Every component that it names.
    pub fn components(&self) -> Vec<&Digest> {
        let candidate = self.candidate.iter().map(|candidate| &candidate.placed);
        let placed = [&self.live].into_iter().chain(candidate).chain(&self.kept);
        placed.map(|placed| &placed.digest).collect()
    }

    fn may_take(&self, new: &Placed) -> Result<(), Refusal> {
        if self.candidate.is_some() {
            return Err(Refusal::CandidateOnTrial);
        }
        if self.live.digest == new.digest && !self.retired {
            return Err(Refusal::AlreadyLive);
        }
        Ok(())
    }

    fn make_live(&mut self, new: Placed) {
        let before = std::mem::replace(&mut self.live, new);
        self.kept.insert(0, before);
        self.kept.retain(|kept| kept.digest != self.live.digest);
        self.kept.truncate(KEPT_MAX);
    }
}

/// A wish as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Whose it is.
    pub version: Version,
    /// Rises with each change, from 1.
    pub epoch: i64,
    /// The wish.
    pub desired: Desired,
}

/// A change of a wish, all of which is committed together or not at all.
#[derive(Debug)]
pub struct Change {
    /// The version.
    pub version: Version,
    /// The epoch that it follows; 0 where nobody knows the version yet.
    pub after: i64,
    /// The new wish; the components that it does not name are forgotten.
    pub desired: Desired,
    /// The component that comes with it.
    pub component: Option<(Digest, Vec<u8>)>,
    /// What is written down of it.
    pub audit: AuditLine,
}

/// A line of the audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditLine {
    /// When.
    pub at: Timestamp,
    /// Who asked for it.
    pub by: String,
    /// The host that did it.
    pub host: String,
    /// The version.
    pub version: String,
    /// What was asked for.
    pub action: String,
    /// `done` or `refused`.
    pub result: String,
    /// The live revision before.
    pub from: Option<RevisionId>,
    /// The revision that it is about.
    pub to: Option<RevisionId>,
    /// What it was decided by.
    pub evidence: serde_json::Value,
}

/// What a host said that it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct HostReport {
    /// The host.
    pub host: String,
    /// When it said so.
    pub seen_at: Timestamp,
    /// What it said, for each version.
    pub report: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{Desired, Digest, KEPT_MAX, Placed, Refusal};

    fn placed(name: &str) -> Placed {
        Placed {
            digest: Digest::of(name.as_bytes()),
            since: Timestamp::UNIX_EPOCH,
            by: "a test".to_owned(),
        }
    }

    fn with_live(name: &str) -> Desired {
        Desired::first("sell".to_owned(), placed(name))
    }

    fn live_and_kept(desired: &Desired) -> Vec<&Digest> {
        desired.components()
    }

    #[test]
    fn a_swap_keeps_what_it_replaced_and_no_more_than_a_few() {
        let mut desired = with_live("0");
        for name in ["1", "2", "3", "4"] {
            desired = desired.swap(placed(name)).unwrap();
        }
        let names = ["4", "3", "2", "1"].map(|name| Digest::of(name.as_bytes()));
        assert_eq!(live_and_kept(&desired), names.iter().collect::<Vec<_>>());
        assert_eq!(desired.kept.len(), KEPT_MAX);
        assert_eq!(desired.replaced, Some(Digest::of(b"3")));
    }

    #[test]
    fn a_kept_revision_that_is_live_again_is_not_kept_twice() {
        let desired = with_live("a").swap(placed("b")).unwrap();
        let desired = desired.swap(placed("a")).unwrap();
        assert_eq!(
            live_and_kept(&desired),
            [&Digest::of(b"a"), &Digest::of(b"b")]
        );
    }

    #[test]
    fn a_roll_back_goes_one_step_back_and_then_further() {
        let now = Timestamp::UNIX_EPOCH;
        let desired = with_live("a").swap(placed("b")).unwrap();
        let desired = desired.swap(placed("c")).unwrap();
        let back = desired.roll_back(now, "a test").unwrap();
        assert_eq!(live_and_kept(&back), [&Digest::of(b"b"), &Digest::of(b"a")]);
        let back = back.roll_back(now, "a test").unwrap();
        assert_eq!(live_and_kept(&back), [&Digest::of(b"a")]);
        assert_eq!(back.roll_back(now, "a test"), Err(Refusal::NothingKept));
    }

    #[test]
    fn a_candidate_is_promoted_or_aborted_before_anything_else_is_tried() {
        let now = Timestamp::UNIX_EPOCH;
        let on_trial = with_live("a").canary(placed("b"), 10).unwrap();
        assert_eq!(on_trial.swap(placed("c")), Err(Refusal::CandidateOnTrial));
        assert_eq!(
            on_trial.canary(placed("c"), 10),
            Err(Refusal::CandidateOnTrial)
        );
        assert_eq!(
            on_trial.roll_back(now, "a test"),
            Err(Refusal::CandidateOnTrial)
        );
        assert_eq!(on_trial.abort().unwrap(), with_live("a"));
        let promoted = on_trial.promote(now, "a test").unwrap();
        assert_eq!(
            live_and_kept(&promoted),
            [&Digest::of(b"b"), &Digest::of(b"a")]
        );
        assert_eq!(promoted.abort(), Err(Refusal::NoCandidate));
    }

    #[test]
    fn other_grants_change_nothing_else_and_wait_for_the_end_of_a_trial() {
        let desired = with_live("a").swap(placed("b")).unwrap();
        let granted = desired.grant("calls_max = 1\n").unwrap();
        assert_eq!(granted.grants, "calls_max = 1\n");
        assert_eq!(granted.components(), desired.components());
        assert_eq!(granted.replaced, None);
        // They are the version's, whatever of it is live.
        let back = granted.roll_back(Timestamp::UNIX_EPOCH, "a test").unwrap();
        assert_eq!(back.grants, granted.grants);
        let on_trial = granted.canary(placed("c"), 10).unwrap();
        assert_eq!(on_trial.grants, granted.grants);
        assert_eq!(on_trial.grant(""), Err(Refusal::CandidateOnTrial));
    }

    #[test]
    fn a_wish_of_before_there_were_grants_has_none() {
        let mut document = serde_json::to_value(with_live("a")).unwrap();
        document.as_object_mut().unwrap().remove("grants").unwrap();
        let read: Desired = serde_json::from_value(document).unwrap();
        assert_eq!(read, with_live("a"));
    }

    #[test]
    fn a_version_that_was_removed_comes_back_with_a_push_alone() {
        let retired = with_live("a").retire().unwrap();
        assert_eq!(retired.canary(placed("b"), 10), Err(Refusal::Retired));
        assert_eq!(retired.enable(false), Err(Refusal::Retired));
        let back = retired.swap(placed("a")).unwrap();
        assert!(!back.retired);
        // Nothing of before is there to be watched against.
        assert_eq!(back.replaced, None);
    }
}
