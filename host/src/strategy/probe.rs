//! The probe: a candidate sells small sales on scratch backends before it meets a buyer.
//!
//! It judges what a strategy did as well as what it said, and compares it with the live revision, run beside it.
//! Not for what a strategy does to some buyers alone, under real load, or once it takes itself for unwatched: that shows in production, in the canary's numbers.
//! `timesale plugin check` runs it for an author, a swap for each candidate.

mod finding;
mod judge;
mod pace;
mod scratch;
mod stages;
mod subject;

pub use self::{finding::Finding, pace::Pace, scratch::Scratch};

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tracing::Instrument as _;

use self::{finding::Stage, subject::Subject};
use super::{Means, revision::Revision};
use crate::{backend::BackendError, capability::Hangup};

/// How long a probe takes at most, save that a call in flight is awaited.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// What a probe saw.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What is wrong with the candidate; it passed where there is nothing.
    pub findings: Vec<Finding>,
    /// What it used.
    pub figures: Figures,
}

impl Report {
    /// Whether the candidate may go live.
    pub const fn passed(&self) -> bool {
        self.findings.is_empty()
    }
}

/// What a candidate used while it was probed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// How long the probe took, in milliseconds.
    pub took_ms: u64,
    /// Calls of the candidate.
    pub calls: u32,
    /// Host functions that it used, as `capability.function`, and how often.
    pub host_calls: BTreeMap<String, u32>,
    /// The most memory that one call took, in bytes.
    pub memory_peak_bytes: usize,
    /// How fast it was; absent where the probe ended before.
    pub candidate: Option<Pace>,
    /// How fast the live revision was beside it.
    pub live: Option<Pace>,
}

/// Why there is no report: the host's own fault, and none of the candidate's.
#[derive(Debug, thiserror::Error)]
#[error("the scratch backends of a probe cannot be made in {folder}: {cause}")]
pub struct NotProbed {
    folder: String,
    cause: Box<dyn std::error::Error + Send + Sync>,
}

/// Probes a candidate, beside the live revision where there is one; must be awaited to its end.
///
/// Each of the two gets backends of its own, which are gone when this returns, and neither is recorded in the metrics.
pub async fn probe(
    candidate: &Arc<Revision>,
    live: Option<&Arc<Revision>>,
    means: &Means,
) -> Result<Report, NotProbed> {
    let began = Instant::now();
    let hangup = Hangup::default();
    let guard = hangup.guard();
    let bound = tokio::spawn(async move {
        tokio::time::sleep(PROBE_MAX).await;
        drop(guard);
    });
    let span = tracing::info_span!("probe", version = %candidate.version, revision = %candidate.id);
    let probed = async {
        let mut subject = Subject::open(candidate, means, hangup.clone()).await?;
        let mut rival = match live {
            Some(live) => match Subject::open(live, means, hangup.clone()).await {
                Ok(rival) => Some(rival),
                Err(error) => {
                    subject.close().await;
                    return Err(error);
                }
            },
            None => None,
        };
        if let Err(error) = stages(&mut subject, rival.as_mut()).await {
            subject.note(Finding::failing_backend(&error.to_string()));
        }
        let report = subject.close().await;
        match rival {
            Some(rival) => Ok((report, rival.close().await.figures.candidate)),
            None => Ok((report, None)),
        }
    };
    let probed = probed.instrument(span).await;
    bound.abort();
    let (mut report, live) = probed?;
    report.figures.live = live;
    report.figures.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

/// Runs the stages in their order, up to the first in which something is found: what comes after it would only repeat it.
async fn stages(
    subject: &mut Subject,
    mut rival: Option<&mut Subject>,
) -> Result<(), BackendError> {
    for stage in Stage::ALL {
        subject.stage = stage;
        match (stage, rival.as_deref_mut()) {
            (Stage::FirstBuyer, _) => stages::first_buyer(subject).await?,
            (Stage::Rules, _) => stages::rules(subject).await?,
            (Stage::AskedAgain, _) => stages::asked_again(subject).await?,
            (Stage::Crowd, _) => stages::crowd(subject).await?,
            (Stage::Inherited, Some(rival)) => stages::inherited(subject, rival).await?,
            (Stage::Inherited, None) => {}
            (Stage::Pace, rival) => pace::compare(subject, rival).await?,
        }
        if subject.is_faulty() {
            break;
        }
    }
    Ok(())
}
