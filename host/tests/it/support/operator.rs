//! What an operator can do: push components, change what runs, look at it and at the audit.

use reqwest::{Body, Method, RequestBuilder};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Host, Setup, answer::Reply, eventually, staged};

/// The token of the hosts that these tests start.
pub const TOKEN: &str = "operators only";

impl Setup {
    /// The same with an operators' token, and without a watch after a swap, so that what is replaced is freed at once.
    pub fn with_operator(&self) -> Self {
        self.set("TIMESALE_ADMIN_TOKEN", TOKEN)
            .set("TIMESALE_SWAP_WATCH_MS", 0)
    }
}

impl Host {
    /// A request to the admin interface, with the token.
    pub fn operate(&self, method: Method, path: &str) -> RequestBuilder {
        self.management_request(method, &format!("/admin{path}"))
            .bearer_auth(TOKEN)
    }

    /// Pushes a component; `query` is empty or `?share=…`.
    pub async fn push(&self, version: &str, query: &str, component: impl Into<Body>) -> Reply {
        let path = format!("/strategies/{version}{query}");
        let request = self.operate(Method::PUT, &path).body(component);
        Reply::read(request.send().await.unwrap()).await
    }

    /// Pushes a component that must go live, or become a candidate; hands back what the host reports.
    pub async fn push_well(&self, version: &str, query: &str, component: Vec<u8>) -> Value {
        self.push(version, query, component).await.done()
    }

    /// Does something with a version.
    pub async fn act(&self, version: &str, action: &str) -> Reply {
        let path = format!("/strategies/{version}/{action}");
        let request = self.operate(Method::POST, &path);
        Reply::read(request.send().await.unwrap()).await
    }

    /// Does something with a version that must be done; hands back what the host reports.
    pub async fn act_well(&self, version: &str, action: &str) -> Value {
        self.act(version, action).await.done()
    }

    /// What the host shows of a version.
    pub async fn shown(&self, version: &str) -> Value {
        let path = format!("/strategies/{version}");
        let response = self.operate(Method::GET, &path).send().await.unwrap();
        Reply::read(response).await.done()
    }

    /// The last line of the audit of a version.
    pub async fn last_audit(&self, version: &str) -> Value {
        let path = format!("/audit?version={version}&limit=1");
        let response = self.operate(Method::GET, &path).send().await.unwrap();
        Reply::read(response).await.json()["lines"][0].clone()
    }

    /// Waits until this host runs a version under these grants; hands back what it shows of it.
    pub async fn runs_under(&self, version: &str, grants: Value) -> Value {
        eventually("the host runs under the grants", async || {
            let shown = self.shown(version).await;
            let runs = &shown["hosts"][0]["runs"];
            let follows = runs["epoch"] == shown["epoch"] && runs["behind"].is_null();
            if shown["grants"] == grants && follows {
                Ok(shown)
            } else {
                Err(shown)
            }
        })
        .await
    }

    /// Waits until this host runs a revision as the live one of a version.
    pub async fn runs(&self, version: &str, revision: &str) {
        eventually("the host runs the revision", async || {
            let live = self.shown(version).await["hosts"][0]["runs"]["live"]["revision"].clone();
            if live == revision { Ok(()) } else { Err(live) }
        })
        .await;
    }
}

/// A build of a staged component: the same code under another digest for each number; 0 is the staged one.
pub fn build(version: &str, number: u32) -> Vec<u8> {
    let mut bytes = std::fs::read(staged().join(format!("{version}.wasm"))).unwrap();
    if number > 0 {
        // A custom section: its id, its size, the length of its name, its name, its content.
        let content = number.to_be_bytes();
        let section = [&[0, 10, 5][..], b"build", &content].concat();
        bytes.extend(section);
    }
    bytes
}

/// The revision of a component, as headers and metrics name it.
pub fn revision(component: &[u8]) -> String {
    hex::encode(Sha256::digest(component))[..12].to_owned()
}

/// Whether a candidate takes a user's purchases, by the rule that all hosts keep.
pub fn is_taken(version: &str, candidate: &[u8], share: u64, user: u64) -> bool {
    let digest = hex::encode(Sha256::digest(candidate));
    let rule = [
        version.as_bytes(),
        &[0],
        &user.to_be_bytes(),
        digest.as_bytes(),
    ];
    let hash = Sha256::digest(rule.concat());
    u64::from_be_bytes(hash[..8].try_into().unwrap()) % 100 < share
}
