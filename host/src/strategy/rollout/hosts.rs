//! What this host says that it runs, and what the others said: the admin interface shows both.

use std::{
    collections::BTreeMap,
    sync::PoisonError,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::Rollout;
use crate::{
    backend::BackendError,
    desired::{AuditLine, HostReport, Stored},
    domain::{self, RevisionId},
    strategy::{Strategy, numbers::Figures, revision::Revision, traps::Trap},
    telemetry::recorders::Export,
};

/// How often a host says that it is there, where nothing has changed.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// After how long a host that says nothing is forgotten.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// What was last written of this host.
pub type Reported = Option<(Instant, BTreeMap<String, (i64, Option<String>)>)>;

/// What a host runs of a version.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// The epoch of the wish that it follows.
    pub epoch: i64,
    /// Why it does not run that wish, where it does not.
    pub behind: Option<String>,
    /// What is live here.
    pub live: Option<Numbered>,
    /// What is on trial here.
    pub candidate: Option<Numbered>,
    /// What is still here of what was live before: until its last call has ended, and for as long as the live one is watched against it.
    pub previous: Option<Numbered>,
    /// The last traps.
    pub traps: Vec<Trap>,
}

/// A revision with what its calls on this host came to since it was loaded.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Numbered {
    /// The revision.
    pub revision: RevisionId,
    /// Calls that run now.
    pub running: usize,
    /// Purchases.
    pub purchases: Figures,
    /// The time below which 99 of 100 purchases stayed, in microseconds.
    pub p99_us: Option<u128>,
    /// Settle calls.
    pub settles: Figures,
}

impl Rollout {
    /// What operators want of each version.
    pub async fn wishes(&self) -> Result<Vec<Stored>, BackendError> {
        self.means.backends.database.strategies().await
    }

    /// The last lines of the audit, of one version or of all, the last first.
    pub async fn audit(
        &self,
        version: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AuditLine>, BackendError> {
        self.means.backends.database.audit(version, limit).await
    }

    /// What the other hosts of the database said of late.
    pub async fn other_hosts(&self) -> Result<Vec<HostReport>, BackendError> {
        let since = domain::now() - FORGOTTEN_AFTER;
        let mut hosts = self.means.backends.database.hosts(since).await?;
        hosts.retain(|report| report.host != self.host);
        Ok(hosts)
    }

    /// What this host runs, by version.
    pub fn running(&self) -> BTreeMap<String, Running> {
        let behind = self.behind().into_iter();
        behind
            .map(|(version, epoch, behind)| {
                let strategy = self.registry.get(&version);
                let running = running(strategy, epoch, behind);
                (version, running)
            })
            .collect()
    }

    /// Says what this host runs, where that has changed or was not said for a while.
    pub(super) async fn report(&self) -> Result<(), BackendError> {
        let running = self.running();
        let state: BTreeMap<_, _> = running
            .iter()
            .map(|(version, running)| (version.clone(), (running.epoch, running.behind.clone())))
            .collect();
        let is_new = {
            let reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            !matches!(&*reported, Some((at, last)) if *last == state && at.elapsed() < REPORT_EVERY)
        };
        if !is_new {
            return Ok(());
        }
        let now: Timestamp = domain::now();
        let report = HostReport {
            host: self.host.clone(),
            seen_at: now,
            report: serde_json::to_value(&running).unwrap_or_default(),
        };
        let database = &self.means.backends.database;
        database.report_host(&report, now - FORGOTTEN_AFTER).await?;
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        *reported = Some((Instant::now(), state));
        Ok(())
    }
}

fn running(strategy: Option<&Strategy>, epoch: i64, behind: Option<String>) -> Running {
    let slots = strategy.map(Strategy::slots);
    let numbered = |revision: &Revision| {
        let purchases = revision.numbers.figures(Export::Purchase);
        Numbered {
            revision: revision.id.clone(),
            running: revision.running(),
            p99_us: purchases.p99().map(|p99| p99.as_micros()),
            purchases,
            settles: revision.numbers.figures(Export::Settle),
        }
    };
    let in_slot = |wanted: &str| {
        let named = slots.as_ref()?.named();
        let found = named.into_iter().find(|(slot, _)| *slot == wanted);
        found.map(|(_, revision)| numbered(revision))
    };
    Running {
        epoch,
        behind,
        live: in_slot("live"),
        candidate: in_slot("candidate"),
        previous: in_slot("previous"),
        traps: strategy
            .map(|strategy| strategy.traps.all())
            .unwrap_or_default(),
    }
}
