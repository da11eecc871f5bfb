//! Tells the binary which commit it was built from.

use std::{env, process::Command};

fn main() {
    let commit = env::var("TIMESALE_COMMIT").ok().or_else(ask_git);
    let commit = commit.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=TIMESALE_COMMIT={commit}");
    println!("cargo::rerun-if-changed=../.git/logs/HEAD");
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-env-changed=TIMESALE_COMMIT");
}

fn ask_git() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}
