//! A trial: one revision held against another by what their calls come to, until it is ended or has failed.
//!
//! A canary is a candidate that takes a share of the purchases beside the live revision; a watch is a revision that has just gone live, against the one that it replaced.
//! The rules need a minimum of calls on both sides, can only end a trial, and never fire for want of data.
//! `strategy` tells each call of it as it ends; once it has failed the baseline takes every call at once, and `rollout` writes down what that was decided by.

mod rules;

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

pub use self::rules::Rule;
use self::rules::{OF_CANARY, OF_WATCH, worse};
use super::{
    numbers::{Figures, Numbers},
    revision::Revision,
};
use crate::{domain::UserId, telemetry::recorders::Export};

/// Calls of the challenger between two judgements.
const JUDGED_EVERY: u64 = 10;
/// Purchases that each side must have run before it is judged.
const PURCHASES_MIN: u64 = 50;
/// Settle calls, which are fewer, that each side must have run.
const SETTLES_MIN: u64 = 10;
/// How long a window of a canary is before a new one begins.
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// What kind of trial it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The challenger takes this share of the purchases, in percent.
    Canary(u8),
    /// The challenger is live, and watched until then.
    Watch(Instant),
}

/// One revision held against another.
pub struct Trial {
    /// The revision that has to prove itself.
    pub challenger: Arc<Revision>,
    /// The one that it is held against, and that takes over where it fails.
    pub baseline: Arc<Revision>,
    /// What kind of trial it is.
    pub kind: Kind,
    at_start: Sides,
    window: Mutex<(Instant, Sides)>,
    judged: AtomicU64,
    failed: OnceLock<Evidence>,
    alarm: Arc<Notify>,
}

/// The figures of both sides at one moment.
#[derive(Debug, Clone)]
struct Sides {
    challenger: [Figures; 2],
    baseline: [Figures; 2],
}

/// Why a trial was ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The rule that decided.
    pub rule: Rule,
    /// The export whose calls it looked at.
    pub export: &'static str,
    /// The challenger's figures in the window.
    pub challenger: Figures,
    /// The baseline's.
    pub baseline: Figures,
    /// Time below which 99 of 100 of the challenger's calls stayed, in microseconds.
    pub challenger_p99_us: Option<u128>,
    /// The same of the baseline.
    pub baseline_p99_us: Option<u128>,
}

const EXPORTS: [(Export, &str, u64); 2] = [
    (Export::Purchase, "purchase", PURCHASES_MIN),
    (Export::Settle, "settle", SETTLES_MIN),
];

impl Trial {
    /// A trial that begins now; `alarm` is rung when it fails.
    pub fn new(
        challenger: Arc<Revision>,
        baseline: Arc<Revision>,
        kind: Kind,
        alarm: Arc<Notify>,
    ) -> Self {
        let challenger_now = both(&challenger.numbers);
        let at_start = Sides {
            challenger: challenger_now,
            baseline: match kind {
                Kind::Canary(_) => both(&baseline.numbers),
                // Its calls are over: all that it ever did is what the new one has to live up to.
                Kind::Watch(_) => [Figures::NONE, Figures::NONE],
            },
        };
        Self {
            challenger,
            baseline,
            kind,
            window: Mutex::new((Instant::now(), at_start.clone())),
            at_start,
            judged: AtomicU64::new(0),
            failed: OnceLock::new(),
            alarm,
        }
    }

    /// The revision that a user's purchases run on.
    pub fn revision_for(&self, user: UserId) -> &Arc<Revision> {
        let challenged = match self.kind {
            Kind::Canary(share) => takes(&self.challenger, share, user),
            Kind::Watch(_) => true,
        };
        if challenged && self.failed.get().is_none() {
            &self.challenger
        } else {
            &self.baseline
        }
    }

    /// The revision that settles: the live one, so that no batch mixes two.
    pub fn revision_that_settles(&self) -> &Arc<Revision> {
        match self.kind {
            Kind::Watch(_) if self.failed.get().is_none() => &self.challenger,
            _ => &self.baseline,
        }
    }

    /// Notes that a call of `revision` has ended, and judges the trial now and then.
    pub fn call_ended(&self, revision: &Arc<Revision>) {
        if !Arc::ptr_eq(revision, &self.challenger) {
            return;
        }
        let calls = self.judged.fetch_add(1, Ordering::Relaxed) + 1;
        if calls.is_multiple_of(JUDGED_EVERY)
            && self.failed.get().is_none()
            && let Some(evidence) = self.judge()
            && self.failed.set(evidence).is_ok()
        {
            self.alarm.notify_one();
        }
    }

    /// Why it has failed, if it has.
    pub fn failed(&self) -> Option<&Evidence> {
        self.failed.get()
    }

    /// Whether a watch is over.
    pub fn is_over(&self) -> bool {
        match self.kind {
            Kind::Canary(_) => false,
            Kind::Watch(until) => Instant::now() >= until,
        }
    }

    /// The purchases of the challenger and of the baseline since it began.
    pub fn figures(&self) -> (Figures, Figures) {
        let of = |revision: &Revision, start: &[Figures; 2]| {
            let [start, _] = start;
            revision.numbers.figures(Export::Purchase).since(start)
        };
        (
            of(&self.challenger, &self.at_start.challenger),
            of(&self.baseline, &self.at_start.baseline),
        )
    }

    fn judge(&self) -> Option<Evidence> {
        let now = Sides {
            challenger: both(&self.challenger.numbers),
            baseline: both(&self.baseline.numbers),
        };
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, start) = &mut *window;
        let terms = match self.kind {
            Kind::Canary(_) => &OF_CANARY,
            Kind::Watch(_) => &OF_WATCH,
        };
        let sides = now.challenger.iter().zip(&now.baseline);
        let starts = start.challenger.iter().zip(&start.baseline);
        let evidence = EXPORTS.iter().zip(sides.zip(starts)).find_map(
            |((_, export, calls_min), ((challenger, baseline), (from, baseline_from)))| {
                let challenger = challenger.since(from);
                let baseline = baseline.since(baseline_from);
                let rule = worse(&challenger, &baseline, *calls_min, terms)?;
                let micros = |p99: Option<Duration>| p99.map(|p99| p99.as_micros());
                Some(Evidence {
                    rule,
                    export,
                    challenger_p99_us: micros(challenger.p99()),
                    baseline_p99_us: micros(baseline.p99()),
                    challenger,
                    baseline,
                })
            },
        );
        if matches!(self.kind, Kind::Canary(_)) && began.elapsed() >= WINDOW {
            (*began, *start) = (Instant::now(), now);
        }
        evidence
    }
}

fn both(numbers: &Numbers) -> [Figures; 2] {
    EXPORTS.map(|(export, _, _)| numbers.figures(export))
}

/// Whether a candidate takes a user's purchases: by a hash of version, user and digest, so that all hosts say the same.
fn takes(candidate: &Revision, share: u8, user: UserId) -> bool {
    let mut hash = Sha256::new();
    hash.update(candidate.version.as_str());
    hash.update([0]);
    hash.update(user.to_be_bytes());
    hash.update(candidate.digest.as_str());
    let hash = hash.finalize();
    let first = hash.iter().take(8).fold(0, |place: u64, byte| {
        place.wrapping_mul(256).wrapping_add(u64::from(*byte))
    });
    first % 100 < u64::from(share)
}
