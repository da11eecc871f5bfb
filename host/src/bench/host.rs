//! The host under load: one that runs, or a child on a folder of its own; and what its metrics say.

use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, Instant},
};

use ::http::Uri;
use anyhow::Context as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::client::{Address, Client};
use crate::telemetry::{
    catalogue::{CALLS_IN_FLIGHT, PROCESS_CPU, PURCHASES, QUEUE_LENGTH, STRATEGY_INFO},
    exposition,
};

/// How long a child may take until it serves.
const START_WAIT: Duration = Duration::from_secs(60);
/// How long what was accepted may take to be settled once nobody buys any more.
const SETTLE_WAIT: Duration = Duration::from_secs(300);
/// How often a host is asked whether it rests.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// What would have a child sell on somebody's real backends.
const BACKENDS: [&str; 3] = ["DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS"];

/// A host that serves.
pub struct Host {
    /// Its public listener.
    pub(super) public: Address,
    management: Address,
    child: Option<(Child, TempDir)>,
}

impl Host {
    /// A host that runs already.
    pub async fn at(public: &Uri, management: &Uri) -> anyhow::Result<Self> {
        Ok(Self {
            public: Address::of(public).await?,
            management: Address::of(management).await?,
            child: None,
        })
    }

    /// Starts this program as a host with this in its environment, on an empty folder and free ports; backends that are not named there are embedded.
    pub async fn start(environment: &[(&str, String)]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let folder = TempDir::with_prefix("timesale-bench-").context("cannot make a folder")?;
        let mut command = Command::new(program);
        command.arg("serve");
        for backend in BACKENDS {
            command.env_remove(backend);
        }
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        let mut child = command
            .env("TIMESALE_LISTEN", "127.0.0.1:0")
            .env("TIMESALE_MANAGEMENT_LISTEN", "127.0.0.1:0")
            .env("TIMESALE_DATA_DIR", folder.path())
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a host")?;
        let stdout = child.stdout.take().context("the host has no output")?;
        let greeting = tokio::time::timeout(START_WAIT, greeting(stdout)).await;
        let (public, management) =
            greeting.with_context(|| format!("the host does not serve after {START_WAIT:?}"))??;
        Ok(Self {
            child: Some((child, folder)),
            ..Self::at(&public, &management).await?
        })
    }

    /// The child's process, if it is one.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().and_then(|(child, _)| child.id())
    }

    /// Ends the child, if it is one; its folder goes with it.
    pub async fn stop(self) {
        if let Some((mut child, _folder)) = self.child {
            // Nothing that it still has to write is wanted.
            if let Err(error) = child.kill().await {
                tracing::warn!("the host did not end: {error}");
            }
        }
    }

    /// The versions that it serves.
    pub async fn versions(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.scrape().await?.versions())
    }

    /// Memory that the host has in use, in bytes.
    pub async fn resident_bytes(&self) -> anyhow::Result<f64> {
        Ok(self.calls_and_resident_bytes().await?.1)
    }

    /// Calls in flight, and the host's memory with them, in bytes.
    pub async fn calls_and_resident_bytes(&self) -> anyhow::Result<(f64, f64)> {
        let scrape = self.scrape().await?;
        let sum = |name: &str| scrape.sum(name, &[]).with_context(|| format!("no {name}"));
        Ok((
            sum(CALLS_IN_FLIGHT.name)?,
            sum("process_resident_memory_bytes")?,
        ))
    }

    /// What its metrics say now.
    pub(super) async fn scrape(&self) -> anyhow::Result<Scrape> {
        let mut client = Client::new(self.management);
        let page = client.read("/actuator/prometheus").await?;
        let text = String::from_utf8(page.to_vec()).context("the metrics are no text")?;
        Ok(Scrape {
            at: Instant::now(),
            text,
        })
    }

    /// Waits until nothing runs and nothing waits to be settled, and returns what its metrics say then.
    pub(super) async fn at_rest(&self) -> anyhow::Result<Scrape> {
        let began = Instant::now();
        loop {
            let scrape = self.scrape().await?;
            // A queue whose length is not known is not known to be empty.
            let queue = scrape.sum(QUEUE_LENGTH.name, &[]);
            let calls = scrape.sum(CALLS_IN_FLIGHT.name, &[]).unwrap_or_default();
            if queue == Some(0.0) && calls == 0.0 {
                return Ok(scrape);
            }
            anyhow::ensure!(
                began.elapsed() < SETTLE_WAIT,
                "requests still wait {SETTLE_WAIT:?} after the last purchase"
            );
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

/// Reads a child's greeting for where it listens; the rest of its output is read on and dropped.
async fn greeting(
    stdout: impl tokio::io::AsyncRead + Unpin + Send + 'static,
) -> anyhow::Result<(Uri, Uri)> {
    let mut lines = BufReader::new(stdout).lines();
    let mut found = Vec::new();
    while found.len() < 2 {
        let line = lines.next_line().await?;
        let line = line.context("the host stopped before it served")?;
        if let Some((_, rest)) = line.split_once("http://") {
            let authority = rest.split(['/', ' ']).next().unwrap_or_default();
            found.push(format!("http://{authority}").parse::<Uri>()?);
        }
    }
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    match <[Uri; 2]>::try_from(found) {
        Ok([public, management]) => Ok((public, management)),
        Err(_) => anyhow::bail!("the host said where it listens in another way"),
    }
}

/// A page of metrics.
pub struct Scrape {
    /// When it came.
    pub at: Instant,
    text: String,
}

impl Scrape {
    /// The versions that are served.
    pub fn versions(&self) -> Vec<String> {
        let versions: BTreeSet<String> = exposition::samples(&self.text)
            .filter(|sample| sample.name == STRATEGY_INFO.name)
            .flat_map(|sample| sample.labels)
            .filter_map(|(name, value)| (name == "version").then_some(value))
            .collect();
        versions.into_iter().collect()
    }

    /// Purchases of a version whose order is committed.
    pub fn completed(&self, version: &str) -> f64 {
        let labels = [("version", version), ("result", "success")];
        self.sum(PURCHASES.name, &labels).unwrap_or_default()
    }

    /// Share of all cores that the host has used since the scrape before, from 0 to 1.
    pub fn cpu_usage(&self) -> Option<f64> {
        self.sum(PROCESS_CPU.name, &[])
    }

    /// The sum of the series with this name and these labels, if there are any.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let values = exposition::samples(&self.text)
            .filter(|sample| sample.name == name)
            .filter(|sample| {
                labels.iter().all(|(label, wanted)| {
                    let mut own = sample.labels.iter();
                    own.any(|(name, value)| name == label && value == wanted)
                })
            })
            .map(|sample| sample.value);
        values.reduce(|sum, value| sum + value)
    }
}
