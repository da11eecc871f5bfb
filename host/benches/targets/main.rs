//! `make bench`: measures what is promised of the host's speed, and prints each target with ours beside it and the ledger's verdict.
//!
//! Run as `timesale-targets`, from the root of the repository, with DATABASE_URL, REDIS_URL and KAFKA_BROKERS set.
//! Arguments choose groups of rows: calls, embedded, redis, metrics, memory, postgres.
//! Run as `timesale-targets serve` it is a host, with the native twins in it, and as `timesale-targets compile` that host's compiler; it starts itself so.
//! Every row of load is a `timesale bench` whose flags stand in `rows.rs`.

mod reference;
mod rows;
#[path = "../scene/mod.rs"]
mod scene;
mod table;

use std::process::ExitCode;

use clap::Parser as _;
use timesale::{
    app,
    config::{Cli, Command},
    strategy::compiler,
};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let done = match asked.first().map(String::as_str) {
        Some("serve" | "compile") => match Cli::parse().command {
            Some(Command::Serve(config)) => app::serve(config).await.map(|()| true),
            Some(Command::Compile(told)) => compiler::compile(&told).map(|()| true),
            _ => Ok(false),
        },
        _ => rows::measure(&asked).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("timesale-targets stops: {error:#}");
            ExitCode::FAILURE
        }
    }
}
