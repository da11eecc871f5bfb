//! The steps between the bytes of a component and a revision that may go live: compile, link, describe, probe.
//!
//! Whatever fails is told by its step, and nothing that runs is touched.
//! `rollout` sends through it what is pushed to this host and what another host has made live.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{Means, probe::probe, revision::Revision};
use crate::{config::grants::Grants, domain::Version};

/// A step of a swap, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The bytes become code.
    Compile,
    /// The code is joined to what it imports, and nothing else.
    Link,
    /// It says what it is.
    Describe,
    /// It shows that it sells.
    Probe,
    /// The wish is committed.
    Commit,
    /// Calls begin on it.
    Swap,
    /// The last call on the old one ends.
    Drain,
}

impl Step {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compile => "compile",
            Self::Link => "link",
            Self::Describe => "describe",
            Self::Probe => "probe",
            Self::Commit => "commit",
            Self::Swap => "swap",
            Self::Drain => "drain",
        }
    }

    /// Is told of each step when it is done; a test of crashes has the process killed there.
    pub fn done(self) {
        #[cfg(debug_assertions)]
        if let Some(file) = std::env::var_os("TIMESALE_KILL_AFTER")
            && std::fs::read_to_string(file).is_ok_and(|named| named == self.name())
        {
            let myself = rustix::process::getpid();
            let _gone = rustix::process::kill_process(myself, rustix::process::Signal::KILL);
        }
    }
}

/// A step that was done.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

impl Done {
    /// A step that took so long.
    pub fn new(step: Step, took: Duration) -> Self {
        Self {
            step,
            ms: took.as_secs_f64() * 1e3,
        }
    }
}

/// Why a component does not go live.
#[derive(Debug, thiserror::Error)]
#[error("{finding}")]
pub struct NotProven {
    /// The step that refused it.
    pub step: Step,
    /// What is wrong.
    pub finding: String,
    /// What the probe saw, where it came so far.
    pub probe: Value,
}

impl NotProven {
    /// A refusal before the probe saw anything.
    pub const fn at(step: Step, finding: String) -> Self {
        Self {
            step,
            finding,
            probe: Value::Null,
        }
    }
}

/// A revision that may go live.
pub struct Proven {
    /// The revision.
    pub revision: Arc<Revision>,
    /// How long each step took.
    pub steps: Vec<Done>,
    /// What the probe saw.
    pub probe: Value,
}

/// Proves components, one at a time.
pub struct Pipeline {
    means: Arc<Means>,
    unprobed: Vec<Version>,
    turn: Semaphore,
}

impl Pipeline {
    /// A pipeline that nothing is in; `unprobed` are the versions whose components go live without a probe.
    pub fn new(means: Arc<Means>, unprobed: Vec<Version>) -> Self {
        Self {
            means,
            unprobed,
            turn: Semaphore::new(1),
        }
    }

    /// Takes a component through every step under a section of grants; it is compared with `live`, where there is one.
    pub async fn prove(
        &self,
        version: &Version,
        bytes: Vec<u8>,
        grants: &str,
        operation: Option<&str>,
        live: Option<&Arc<Revision>>,
    ) -> Result<Proven, NotProven> {
        let mut proven = self.load(version, bytes, grants, operation).await?;
        if self.unprobed.contains(version) {
            return Ok(proven);
        }
        let _turn = self.turn.acquire().await;
        let began = Instant::now();
        let report = probe(&proven.revision, live, &self.means)
            .await
            .map_err(|error| NotProven::at(Step::Probe, error.to_string()))?;
        let seen = serde_json::to_value(&report).unwrap_or_default();
        if let Some(finding) = report.findings.first() {
            return Err(NotProven {
                step: Step::Probe,
                finding: finding.to_string(),
                probe: seen,
            });
        }
        Step::Probe.done();
        proven.steps.push(Done::new(Step::Probe, began.elapsed()));
        proven.probe = seen;
        Ok(proven)
    }

    /// Takes a component through every step but the probe; `operation` is what its version is known by, if it is known.
    pub async fn load(
        &self,
        version: &Version,
        bytes: Vec<u8>,
        grants: &str,
        operation: Option<&str>,
    ) -> Result<Proven, NotProven> {
        let refused = NotProven::at;
        let grants = Grants::read(grants, version, &self.means.limits)
            .map_err(|error| refused(Step::Link, error.to_string()))?;
        let turn = self.turn.acquire().await;
        let revision = Revision::load(version.clone(), bytes, grants, &self.means)
            .await
            .map_err(|error| refused(error.step(), error.to_string()))?;
        drop(turn);
        if let Some(operation) = operation
            && operation != revision.operation
        {
            return Err(refused(
                Step::Describe,
                format!(
                    "its operation is `{}`, and that of {version} is `{operation}` and stays so",
                    revision.operation
                ),
            ));
        }
        let revision = Arc::new(revision);
        let [compiling, linking, describing] = revision.loading;
        Ok(Proven {
            steps: vec![
                Done::new(Step::Compile, compiling),
                Done::new(Step::Link, linking),
                Done::new(Step::Describe, describing),
            ],
            probe: Value::Null,
            revision,
        })
    }
}
