//! Prometheus and Alertmanager, started for one test on loopback, and who is told by them; killed when dropped.
//!
//! Both are given the repository's own files; what is changed in them is said where it is done.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum::{Json, Router, extract::State, routing::post};
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::{eventually, repository, within};

/// How often Prometheus scrapes and evaluates.
pub const SCRAPE_EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// A program that runs until it is dropped.
struct Program {
    child: Child,
    log: PathBuf,
    base: String,
}

impl Program {
    /// Starts what `make tools` staged, or what the machine has, and waits until it is ready.
    async fn start(name: &str, folder: &Path, arguments: &[String]) -> Self {
        let staged = repository().join("target/tools").join(name);
        let program = if staged.is_file() {
            staged
        } else {
            name.into()
        };
        let port = free_port();
        let log = folder.join("log");
        let output = fs::File::create(&log).unwrap();
        let child = Command::new(&program)
            .args(arguments)
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn();
        let started = Self {
            child: child.unwrap_or_else(|error| panic!("{name}: {error}: run `make tools`")),
            log,
            base: format!("http://127.0.0.1:{port}"),
        };
        let ready = format!("{}/-/ready", started.base);
        eventually(name, async || match client().get(&ready).send().await {
            Ok(answer) if answer.status() == 200 => Ok(()),
            Ok(answer) => Err(answer.status().to_string()),
            Err(error) => Err(format!("{error}; {}", started.end_of_log())),
        })
        .await;
        started
    }

    /// Host and port.
    fn address(&self) -> &str {
        self.base.strip_prefix("http://").unwrap()
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().rev().take(5).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and need not be.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn client() -> Client {
    Client::builder().timeout(ANSWER_WAIT).build().unwrap()
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A file of the repository, with replacements each of which must be possible.
fn changed(file: &Path, replacements: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(file).unwrap();
    for (from, to) in replacements {
        assert!(text.contains(from), "{}: no {from:?}", file.display());
        text = text.replace(from, to);
    }
    text
}

/// A Prometheus that scrapes every second and has the repository's rules.
pub struct Prometheus {
    program: Program,
    client: Client,
    _folder: TempDir,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    data: Value,
}

impl Prometheus {
    /// Starts one that scrapes this management listener.
    ///
    /// The rules are those of `prometheus/rules`, save that no alert waits before it fires: how long each waits is what `promtool` tests.
    pub async fn start(host: &str, alertmanager: &Alertmanager) -> Self {
        let folder = TempDir::new().unwrap();
        let rules = folder.path().join("rules");
        fs::create_dir(&rules).unwrap();
        let mut waits = 0;
        for entry in fs::read_dir(repository().join("prometheus/rules")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| match line.split_once("for: ") {
                Some((before, _)) if before.trim().is_empty() => {
                    waits += 1;
                    format!("{before}for: 0s\n")
                }
                _ => format!("{line}\n"),
            });
            let text: String = lines.collect();
            fs::write(rules.join(path.file_name().unwrap()), text).unwrap();
        }
        assert!(waits > 0, "no alert waits");
        let every = format!("{}s", SCRAPE_EVERY.as_secs());
        let config = serde_json::json!({
            "global": { "scrape_interval": every, "evaluation_interval": every },
            "rule_files": ["rules/*.yml"],
            "alerting": { "alertmanagers": [
                { "static_configs": [{ "targets": [alertmanager.program.address()] }] },
            ] },
            "scrape_configs": [{
                "job_name": "time-sale-service",
                "metrics_path": "/actuator/prometheus",
                "static_configs": [{ "targets": [host] }],
            }],
        });
        // JSON is YAML.
        fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data"];
        let arguments = arguments.map(str::to_owned);
        Self {
            program: Program::start("prometheus", folder.path(), &arguments).await,
            client: client(),
            _folder: folder,
        }
    }

    /// Asks an expression now: the values of its series, those that are no number apart; fails with what Prometheus says of one that it does not take.
    pub async fn ask(&self, expression: &str) -> Result<Vec<f64>, String> {
        let data = self.get("/api/v1/query", &[("query", expression)]).await?;
        let samples = match data["resultType"].as_str() {
            Some("vector") => data["result"].as_array().cloned().unwrap(),
            // A scalar is one sample.
            _ => vec![serde_json::json!({ "value": data["result"] })],
        };
        let values = samples.iter().map(|sample| &sample["value"][1]);
        let values = values.map(|value| value.as_str().unwrap().parse::<f64>().unwrap());
        Ok(values.filter(|value| value.is_finite()).collect())
    }

    /// Fails if a rule could not be evaluated.
    pub async fn assert_rules_are_healthy(&self) {
        let data = self.get("/api/v1/rules", &[]).await.unwrap();
        let groups = data["groups"].as_array().unwrap();
        for rule in groups
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap())
        {
            assert_eq!(rule["lastError"].as_str().unwrap_or(""), "", "{rule:#}");
        }
    }

    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("{}{path}", self.program.base);
        let url = Url::parse_with_params(&url, parameters).unwrap();
        let response = self.client.get(url).send().await;
        let answer: Answer = response
            .map_err(|error| format!("{error}; {}", self.program.end_of_log()))?
            .json()
            .await
            .map_err(|error| error.to_string())?;
        match answer.status.as_str() {
            "success" => Ok(answer.data),
            _ => Err(answer.error),
        }
    }
}

/// An Alertmanager with the repository's routes and inhibitions, and the one whom it tells.
pub struct Alertmanager {
    program: Program,
    told: watch::Receiver<Vec<Value>>,
    _folder: TempDir,
}

impl Alertmanager {
    /// Starts one that tells this test, and does not wait for more to tell at once.
    pub async fn start() -> Self {
        let (told, webhook) = listen().await;
        let folder = TempDir::new().unwrap();
        let receiver = format!(
            "  - name: nobody\n    webhook_configs:\n      - url: {webhook}\n        max_alerts: 0\n"
        );
        let config = changed(
            &repository().join("prometheus/alertmanager.yml"),
            &[
                ("  - name: nobody\n", receiver.as_str()),
                ("group_wait: 10s", "group_wait: 0s"),
                ("group_interval: 1m", "group_interval: 1s"),
            ],
        );
        fs::write(folder.path().join("alertmanager.yml"), config).unwrap();
        let arguments = [
            "--config.file=alertmanager.yml",
            "--storage.path=data",
            "--cluster.listen-address=",
        ];
        let arguments = arguments.map(str::to_owned);
        Self {
            program: Program::start("alertmanager", folder.path(), &arguments).await,
            told,
            _folder: folder,
        }
    }

    /// Waits until it has told of an alert with these labels in this state, `firing` or `resolved`; hands back the alert.
    pub async fn tells(&self, status: &str, labels: &[(&str, &str)]) -> Value {
        let meant = |alert: &&Value| {
            let same = |(name, value): &(&str, &str)| alert["labels"][name] == *value;
            alert["status"] == status && labels.iter().all(same)
        };
        let mut told = self.told.clone();
        let telling = told.wait_for(|alerts| alerts.iter().any(|alert| meant(&alert)));
        let alerts = within(&format!("{status} {labels:?}"), telling)
            .await
            .unwrap();
        alerts.iter().find(meant).cloned().unwrap()
    }
}

/// Listens for what Alertmanager posts; the alerts so far, and where to post.
async fn listen() -> (watch::Receiver<Vec<Value>>, String) {
    let (alerts, told) = watch::channel(Vec::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhook = format!("http://{}/", listener.local_addr().unwrap());
    let note = async |State(alerts): State<watch::Sender<Vec<Value>>>, Json(post): Json<Value>| {
        let new = post["alerts"].as_array().cloned().unwrap();
        alerts.send_modify(|alerts| alerts.extend(new));
    };
    let router = Router::new().route("/", post(note)).with_state(alerts);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (told, webhook)
}
