//! `timesale plugin push | canary | promote | abort | rollback | list`: an operator's wishes, told to a running host.
//!
//! It knows the admin interface from outside, as any client does, and says in words what the host answered.

use std::{env, fmt::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use crate::{
    config::{self, Hidden},
    domain::Version,
    strategy::registry::{read_component, version_of},
};

/// What a running host is asked.
#[derive(Debug, Subcommand)]
pub enum RemoteCommand {
    /// Makes a component live, on every host.
    Push {
        /// The component, `<version>.wasm`.
        file: PathBuf,
        /// The version, where the file is not named by it.
        #[arg(long, value_parser = config::version)]
        version: Option<Version>,
        /// The host.
        #[command(flatten)]
        remote: Remote,
    },
    /// Gives a component a share of the purchases, beside the live revision.
    Canary {
        /// The component, `<version>.wasm`.
        file: PathBuf,
        /// The share, in percent.
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=99), default_value_t = 10)]
        share: u8,
        /// The version, where the file is not named by it.
        #[arg(long, value_parser = config::version)]
        version: Option<Version>,
        /// The host.
        #[command(flatten)]
        remote: Remote,
    },
    /// Makes the candidate live.
    Promote(Named),
    /// Takes the candidate away.
    Abort(Named),
    /// Goes back to what was live before.
    Rollback(Named),
    /// Shows what is wanted of each version, and what each host makes of it.
    List(Remote),
}

/// A version, on a host.
#[derive(Debug, Args)]
pub struct Named {
    /// The version.
    #[arg(value_parser = config::version)]
    pub version: Version,
    /// The host.
    #[command(flatten)]
    pub remote: Remote,
}

/// A running host, and what it asks for.
#[derive(Debug, Args)]
pub struct Remote {
    /// Management listener of any host.
    #[arg(
        long,
        env = "TIMESALE_MANAGEMENT_URL",
        default_value = "http://127.0.0.1:8081"
    )]
    pub url: String,
    /// The operators' token.
    #[arg(long, env = "TIMESALE_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<Hidden>,
    /// File with the operators' token.
    #[arg(
        long,
        env = "TIMESALE_ADMIN_TOKEN_FILE",
        conflicts_with = "admin_token"
    )]
    pub admin_token_file: Option<PathBuf>,
}

impl RemoteCommand {
    /// Asks, and returns what is to be shown; an error is what the host refused, or why it could not be asked.
    pub async fn ask(&self) -> anyhow::Result<String> {
        match self {
            Self::Push {
                file,
                version,
                remote,
            } => push(remote, file, version.as_ref(), None).await,
            Self::Canary {
                file,
                share,
                version,
                remote,
            } => push(remote, file, version.as_ref(), Some(*share)).await,
            Self::Promote(named) => act(named, "promote").await,
            Self::Abort(named) => act(named, "abort").await,
            Self::Rollback(named) => act(named, "rollback").await,
            Self::List(remote) => {
                let answer = answered(remote.request(Method::GET, "/strategies")?).await?;
                Ok(listed(&answer))
            }
        }
    }
}

impl Remote {
    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let token = match (&self.admin_token, &self.admin_token_file) {
            (Some(Hidden(token)), _) => token.clone(),
            (None, Some(file)) => std::fs::read_to_string(file).with_context(|| {
                format!("TIMESALE_ADMIN_TOKEN_FILE: cannot read {}", file.display())
            })?,
            (None, None) => anyhow::bail!(
                "the host asks for the operators' token: give --admin-token-file or TIMESALE_ADMIN_TOKEN"
            ),
        };
        let url = format!("{}/admin{path}", self.url.trim_end_matches('/'));
        let request = Client::new().request(method, url).bearer_auth(token.trim());
        // So that the audit names a person, where the machine knows one.
        Ok(match env::var("USER") {
            Ok(user) => request.header("operator", user),
            Err(_) => request,
        })
    }
}

async fn push(
    remote: &Remote,
    file: &std::path::Path,
    version: Option<&Version>,
    share: Option<u8>,
) -> anyhow::Result<String> {
    let version = version.cloned().or_else(|| version_of(file));
    let version = version.context("the name of the file is no version: give --version")?;
    let bytes = read_component(file).await?;
    let query = share.map_or_else(String::new, |share| format!("?share={share}"));
    let path = format!("/strategies/{version}{query}");
    let answer = answered(remote.request(Method::PUT, &path)?.body(bytes)).await?;
    Ok(changed(&answer))
}

async fn act(named: &Named, action: &str) -> anyhow::Result<String> {
    let path = format!("/strategies/{}/{action}", named.version);
    let answer = answered(named.remote.request(Method::POST, &path)?).await?;
    Ok(changed(&answer))
}

/// The host's answer; a problem is an error in its words.
async fn answered(request: RequestBuilder) -> anyhow::Result<Value> {
    let response = request.send().await.context("the host does not answer")?;
    let status = response.status();
    let answer: Value = response
        .json()
        .await
        .with_context(|| format!("{status}, and the answer is not the host's"))?;
    if status.is_success() {
        return Ok(answer);
    }
    let step = match text(&answer, "/step") {
        "" => String::new(),
        step => format!(" at {step}"),
    };
    anyhow::bail!(
        "{}{step}: {}",
        text(&answer, "/code"),
        text(&answer, "/detail")
    )
}

/// What a change came to, in lines.
fn changed(answer: &Value) -> String {
    let mut shown = format!(
        "{} of {}: {} is live",
        text(answer, "/action"),
        text(answer, "/version"),
        text(answer, "/live")
    );
    // Writing into a string cannot fail.
    if let (old, true) = (text(answer, "/old"), !answer["old"].is_null()) {
        let finished = &answer["finishedOnOld"];
        let drained = if answer["drained"] == true {
            "and it has drained"
        } else {
            "and some have not ended yet"
        };
        let _ = write!(
            shown,
            "\nbefore: {old}; {finished} calls ended on it, {drained}"
        );
    }
    if let Some([candidate, share]) = answer["candidate"].as_array().map(Vec::as_slice) {
        let candidate = candidate.as_str().unwrap_or_default();
        let _ = write!(
            shown,
            "\ncandidate: {candidate} takes {share} % of the users"
        );
    }
    for step in answer["steps"].as_array().into_iter().flatten() {
        let ms = step["ms"].as_f64().unwrap_or_default();
        let _ = write!(shown, "\n  {:<9} {ms:>9.1} ms", text(step, "/step"));
    }
    if let Some(behind) = answer["behind"].as_str() {
        let _ = write!(shown, "\nthe host itself does not run it yet: {behind}");
    }
    shown
}

/// Every version, in lines.
fn listed(answer: &Value) -> String {
    let mut lines = Vec::new();
    for strategy in answer["strategies"].as_array().into_iter().flatten() {
        let state = match (&strategy["removed"], &strategy["enabled"]) {
            (Value::Bool(true), _) => ", removed",
            (_, Value::Bool(false)) => ", switched off",
            _ => "",
        };
        lines.push(format!(
            "{}  live {} since {} by {}{state}",
            text(strategy, "/version"),
            text(strategy, "/live/revision"),
            text(strategy, "/live/since"),
            text(strategy, "/live/by"),
        ));
        if !strategy["candidate"].is_null() {
            lines.push(format!(
                "    candidate {} with {} %",
                text(strategy, "/candidate/revision"),
                strategy["share"]
            ));
        }
        for kept in strategy["kept"].as_array().into_iter().flatten() {
            lines.push(format!("    kept {}", text(kept, "/revision")));
        }
        for host in strategy["hosts"].as_array().into_iter().flatten() {
            let behind = match text(host, "/runs/behind") {
                "" => String::new(),
                why => format!(", and not what is wanted: {why}"),
            };
            lines.push(format!(
                "    {} runs {}{behind}",
                text(host, "/host"),
                text(host, "/runs/live/revision")
            ));
        }
    }
    lines.join("\n")
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}
