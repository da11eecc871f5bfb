//! A component of `plugins/bench`, loaded as the host loads it, for benchmarks and a test that need no HTTP.
//!
//! Its backends are the embedded ones, of which it asks only the table that stands in for Redis: that answers at once, so a call never waits.

use std::{
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context as Task, Poll, Waker},
};

use anyhow::Context as _;
use clap::Parser as _;
use tempfile::TempDir;
use timesale::{
    app::backends,
    capability::{Hangup, Operation, Reach, Task as CallTask},
    config::{Cli, grants::Grants},
    domain::{Request, RequestId, Version, now},
    parts::Parts,
    strategy::{Means, engine::Engine, revision::Revision},
    telemetry::recorders::StrategyMetrics,
};

/// The component, and what a call of it needs.
pub struct Scene {
    pub means: Arc<Means>,
    pub revision: Arc<Revision>,
    pub reach: Parts<Arc<Reach>>,
    _folder: TempDir,
}

impl Scene {
    /// Loads `noop.wasm` of a folder.
    pub async fn open(strategies: &Path) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("timesale-scene-")?;
        let mut config = Cli::try_parse_from(["timesale"])?.config;
        config.data_dir = folder.path().to_owned();
        (config.database_url, config.redis_url, config.kafka_brokers) = (None, None, None);
        let limits = Arc::new(config.limits.clone());
        let means = Arc::new(Means {
            engine: Arc::new(Engine::new(&limits, None)?),
            backends: Arc::new(backends::open(&config).await?),
            limits,
        });
        let file = strategies.join("noop.wasm");
        let bytes = std::fs::read(&file)
            .with_context(|| format!("{}: run `make bench-plugins`", file.display()))?;
        let version = Version::parse("noop").context("no version")?;
        let grants = Grants::without_a_section(&means.limits);
        let revision = Revision::load(version.clone(), bytes, grants, &means).await?;
        let metrics = Arc::new(StrategyMetrics::new(&version, &revision.operation));
        Ok(Self {
            reach: Parts::new(|| means.reach(Some(Arc::clone(&metrics)))),
            means,
            revision: Arc::new(revision),
            _folder: folder,
        })
    }

    /// What a purchase that asks the host so often is given.
    pub fn task(&self, host_calls: u32) -> CallTask {
        let request = Request {
            id: RequestId("00".repeat(32).into()),
            key: None,
            sale_id: 1,
            user_id: 1,
            quantity: host_calls + 1,
            accepted_at: now(),
            version: self.revision.version.clone(),
            revision: self.revision.id.clone(),
        };
        let hangup = Hangup::default();
        self.revision
            .task(Operation::Purchase, vec![request], hangup)
    }

    /// One call in a fresh instance, as a purchase makes it.
    pub fn call(&self, host_calls: u32) {
        let (task, reach) = (self.task(host_calls), Arc::clone(self.reach.own()));
        at_once(self.revision.call(task, &self.means.engine, reach));
    }
}

/// Runs a future that waits for nothing; where an epoch makes it yield, it goes on at once.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut task = Task::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut task) {
            return done;
        }
    }
}
