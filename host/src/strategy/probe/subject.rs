//! A revision on scratch backends of its own: buyers buy from it, it settles what it accepted, and what is seen is kept.
//!
//! It does what `Strategy` and `Settlement` do around a call, without metrics, dead letters and retries without end.
//! The stages say what is bought, and what has to come of it.

mod buying;
mod settling;
mod shop;

pub use self::buying::End;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Figures, Finding, NotProbed, Pace, Report, Scratch,
    finding::{self, Stage},
};
use crate::{
    capability::{Hangup, Operation},
    domain::{Request, UserId},
    strategy::{
        Means,
        revision::{Ran, Revision},
    },
    ticket::TicketKeys,
};

/// Findings that are kept: a strategy that is wrong is wrong all over.
const FINDINGS_MAX: usize = 8;
/// The probe's buyers are those above.
const USERS_ABOVE: UserId = 900_000_000;

/// A revision that is probed.
pub struct Subject {
    /// The part of the probe that runs.
    pub stage: Stage,
    /// What was measured of it.
    pub pace: Option<Pace>,
    revision: Arc<Revision>,
    scratch: Scratch,
    hangup: Hangup,
    keys: TicketKeys,
    users: UserId,
    findings: Vec<Finding>,
    calls: u32,
    host_calls: BTreeMap<String, u32>,
    memory_peak_bytes: usize,
}

impl Subject {
    /// Prepares to probe a revision; its calls end when `hangup` is set.
    pub async fn open(
        revision: &Arc<Revision>,
        means: &Means,
        hangup: Hangup,
    ) -> Result<Self, NotProbed> {
        Ok(Self {
            stage: Stage::FirstBuyer,
            pace: None,
            revision: Arc::clone(revision),
            scratch: Scratch::open(&means.engine, &means.limits).await?,
            hangup,
            keys: TicketKeys::fresh(),
            users: USERS_ABOVE,
            findings: Vec::new(),
            calls: 0,
            host_calls: BTreeMap::new(),
            memory_peak_bytes: 0,
        })
    }

    /// Ends the probe, and says what was seen.
    pub async fn close(self) -> Report {
        self.scratch.close().await;
        Report {
            findings: self.findings,
            figures: Figures {
                took_ms: 0,
                calls: self.calls,
                host_calls: self.host_calls,
                memory_peak_bytes: self.memory_peak_bytes,
                candidate: self.pace,
                live: None,
            },
        }
    }

    /// Keeps a finding of the stage that runs.
    pub fn note(&mut self, finding: Finding) {
        let finding = Finding {
            stage: self.stage,
            ..finding
        };
        if self.findings.len() < FINDINGS_MAX && !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Whether anything was found.
    pub const fn is_faulty(&self) -> bool {
        !self.findings.is_empty()
    }

    /// The revision.
    pub const fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    fn call(
        &self,
        operation: Operation,
        requests: Vec<Request>,
    ) -> impl Future<Output = (Ran, Duration)> + Send + 'static {
        let revision = Arc::clone(&self.revision);
        let means = Arc::clone(&self.scratch.means);
        let task = revision.task(operation, requests, self.hangup.clone());
        async move {
            let began = Instant::now();
            let ran = revision.call(task, &means.engine, means.reach(None)).await;
            (ran, began.elapsed())
        }
    }

    fn count(&mut self, ran: &Ran) {
        self.calls += 1;
        self.memory_peak_bytes = self.memory_peak_bytes.max(ran.conduct.memory_bytes);
        for (function, times) in ran.conduct.host_calls() {
            *self.host_calls.entry(finding::name(function)).or_default() += times;
        }
    }

    fn host_calls_max(&self) -> u32 {
        self.revision.grants().limits.host_calls_max
    }
}
