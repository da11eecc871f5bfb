//! Hosts to test: started on a data folder of their own, stopped in every way there is, started again.
//!
//! `setup` starts a host, `world` is what hosts share, `shop` is what a client can do, `answer` what it hears, `ledger` what the database says, `letters` what the dead letters, `metrics` what operators see and `operator` what they can do, `monitoring` and `query` what dashboards and rules ask, `crowd` many buyers at once, `load` buyers who outlast faults, `topic` what lies in the log, `commands` what Redis is asked, `strays` what should not; `services` and `clock` are there to be harmed, `proxy` is the way to services, and `watchers` are Prometheus and Alertmanager.

pub mod answer;
#[cfg(feature = "services")]
pub mod clock;
pub mod commands;
pub mod corpus;
pub mod crowd;
pub mod ledger;
pub mod letters;
#[cfg(feature = "services")]
pub mod load;
pub mod metrics;
pub mod monitoring;
pub mod operator;
pub mod process;
#[cfg(feature = "services")]
pub mod proxy;
pub mod query;
#[cfg(feature = "services")]
pub mod services;
pub mod setup;
pub mod shop;
#[cfg(feature = "services")]
pub mod strays;
#[cfg(feature = "services")]
pub mod topic;
#[cfg(feature = "services")]
pub mod watchers;
pub mod world;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

pub use self::setup::Setup;
use self::{answer::Reply, ledger::Ledger, metrics::Metrics, process::Process, shop::Shop};

/// The versions that behave: what every version must do is tested for each of these.
///
/// v9 is v4 staged under a name that the host has never heard of.
pub const VERSIONS: [&str; 5] = ["v1", "v2", "v3", "v4", "v9"];
/// The one among them that answers before it sells.
pub const ASYNCHRONOUS: &str = "v3";
/// The version that misbehaves on request.
pub const FAULTY: &str = "faulty";

/// How long anything may take that has to happen; far beyond what it takes, so that only a hang meets it.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A host that serves; killed when dropped.
pub struct Host {
    pub shop: Shop,
    management: String,
    process: Process,
    setup: Setup,
}

impl Host {
    /// A host with the defaults.
    pub async fn start() -> Self {
        Setup::new().start().await
    }

    /// What it was started with.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// What it has said on standard output, once it has said how to ask for a result.
    pub async fn greeting(&self) -> String {
        within(
            "the greeting",
            self.process.stdout.wait_for("/purchase/result/"),
        )
        .await;
        self.process.stdout.now().join("\n")
    }

    /// What it has logged so far.
    pub fn log(&self) -> Vec<String> {
        self.process.stderr.now()
    }

    /// Waits for a line of the log that holds this text.
    pub async fn logged(&self, text: &str) -> String {
        let line = within(text, self.process.stderr.wait_for(text)).await;
        line.unwrap_or_else(|| panic!("the host stopped before it logged {text:?}"))
    }

    /// Waits for an entry of the log, of one line or many, that begins with a line with one text and goes on to one with another; hands back all of it.
    pub async fn log_of(&self, begins: &str, ends: &str) -> String {
        eventually(begins, async || {
            let log = self.log();
            let begin = log.iter().position(|line| line.contains(begins));
            let entry = begin.map_or(&[][..], |begin| &log[begin..]);
            match entry.iter().position(|line| line.contains(ends)) {
                Some(end) => Ok(entry[..=end].join("\n")),
                None => Err(log),
            }
        })
        .await
    }

    /// Kills it on the spot, as a power cut would, and hands back what a restart needs.
    pub async fn kill(self) -> Setup {
        self.process.kill();
        within("the end of the host", self.process.wait()).await;
        self.setup
    }

    /// Asks it to stop, waits until it has, and says whether it was content with itself.
    pub async fn terminate(self) -> (Setup, bool) {
        self.ask_to_stop();
        self.stopped().await
    }

    /// Waits until it has stopped, and says whether it was content with itself.
    pub async fn stopped(self) -> (Setup, bool) {
        let success = within("the end of the host", self.process.wait()).await;
        (self.setup, success)
    }

    /// Asks it to stop and does not wait.
    pub fn ask_to_stop(&self) {
        self.process.terminate();
    }

    /// What the database says of a sale.
    pub async fn ledger(&self, sale: u64) -> Ledger {
        Ledger::read(&self.setup, sale).await
    }

    /// A request to the management listener.
    pub fn management_request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.management);
        self.shop.client().request(method, url)
    }

    /// Host and port of the management listener.
    pub fn management_address(&self) -> &str {
        self.management.strip_prefix("http://").unwrap()
    }

    /// Reads a path of the management listener.
    pub async fn manage(&self, path: &str) -> (StatusCode, String) {
        let reply = self.manage_reply(path).await;
        (reply.status, reply.body)
    }

    /// The same with its headers.
    pub async fn manage_reply(&self, path: &str) -> Reply {
        let request = self.management_request(Method::GET, path);
        Reply::read(request.send().await.unwrap()).await
    }

    /// The same as JSON.
    pub async fn manage_json(&self, path: &str) -> (StatusCode, Value) {
        let (status, body) = self.manage(path).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    /// What Prometheus would scrape now.
    pub async fn metrics(&self) -> Metrics {
        let (status, body) = self.manage("/actuator/prometheus").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        Metrics::parse(body)
    }

    /// Waits until a call of a version runs.
    pub async fn in_flight(&self, version: &str) {
        eventually("a call in flight", async || {
            let metrics = self.metrics().await;
            match metrics.sum("time_sale_calls_in_flight", &[("version", version)]) {
                0.0 => Err("none"),
                _ => Ok(()),
            }
        })
        .await;
    }

    /// Waits until nothing runs, nothing is held and nothing waits to be settled.
    pub async fn at_rest(&self) -> Metrics {
        eventually("the host is at rest", async || {
            let metrics = self.metrics().await;
            let busy = metrics.busy();
            if busy.is_empty() {
                Ok(metrics)
            } else {
                Err(busy)
            }
        })
        .await
    }
}

/// The folder of the staged components.
pub fn staged() -> PathBuf {
    let folder = repository().join("target/strategies-test");
    for version in VERSIONS.iter().chain([&FAULTY]) {
        let file = folder.join(format!("{version}.wasm"));
        assert!(
            file.is_file(),
            "{} is missing: run `make test-plugins`",
            file.display()
        );
    }
    folder
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Asks again and again until the answer is good; fails with the last one that was not.
pub async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(good) => return good,
            Err(last) if began.elapsed() > PATIENCE => {
                panic!("never came: {what}; last: {last:#?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Waits for what has to happen.
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    let Ok(happened) = tokio::time::timeout(PATIENCE, event).await else {
        panic!("never came: {what}");
    };
    happened
}
