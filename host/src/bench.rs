//! `timesale bench`: buys from a running host as fast as asked, and prints how fast it sold, if it sold rightly.
//!
//! A client, from outside: it speaks to the two listeners and to nothing else of the host, so that whatever it measures a buyer could.
//! Not for microbenchmarks (`benches`), and not for load on a host that others use.
//! `main` calls `bench`; the program behind `make bench` calls `measure`.

mod client;
mod host;
mod ledger;
mod load;
mod report;

use std::{num::NonZeroU32, time::Duration};

use ::http::Uri;
use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use self::load::Market;
pub use self::{
    host::Host,
    ledger::Verdict,
    report::{Figures, Report, Row, Run, median},
};

/// What is measured, and for how long.
#[derive(Debug, Clone, Args)]
pub struct Plan {
    /// Public listener of a host that runs, on this machine; without one, a host with embedded backends is started on an empty folder.
    #[arg(long, requires = "management_url")]
    pub url: Option<Uri>,
    /// Management listener of that host.
    #[arg(long, requires = "url")]
    pub management_url: Option<Uri>,
    /// Versions to compare, with commas between; all that the host serves where none is named.
    #[arg(long, value_delimiter = ',')]
    pub versions: Vec<String>,
    /// Buyers at once, each with a connection of its own.
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub buyers: u32,
    /// Sales that they buy from in turn.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub sales: u32,
    /// Pieces of each sale.
    #[arg(long, default_value = "1000000", value_parser = clap::value_parser!(u32).range(1..))]
    pub stock: u32,
    /// Purchases offered a second, whether or not the host keeps up (open loop); without it each buyer asks as soon as it is answered (closed loop).
    #[arg(long)]
    pub rate: Option<NonZeroU32>,
    /// Rounds; each measures every version once, every other one in the opposite order.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// How long each version is measured in a round.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// How long each version is bought from first, without being measured.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(0..=600))]
    pub warmup_seconds: u32,
    /// Purchases at which a measurement ends before its time.
    #[arg(long, default_value = "200000", value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    pub purchases_max: u32,
    /// A version that sells the stock out before the clock starts, so that refusals are measured.
    #[arg(long)]
    pub sold_out_by: Option<String>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Measures, prints, and says whether every ledger was right.
#[expect(
    clippy::print_stdout,
    reason = "the figures are what standard output is for"
)]
pub async fn bench(plan: Plan) -> anyhow::Result<bool> {
    let measured = async {
        let host = match (&plan.url, &plan.management_url) {
            (Some(url), Some(management)) => Host::at(url, management).await?,
            _ => Host::start(&[]).await?,
        };
        let progress = progress();
        let report = measure(&host, &plan, &progress).await;
        progress.finish_and_clear();
        host.stop().await;
        report
    };
    // A host that was started ends with this future, and its folder goes too.
    let report = tokio::select! {
        report = measured => report?,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
    };
    if plan.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(report.is_right())
}

/// Measures the versions side by side on one host.
pub async fn measure(host: &Host, plan: &Plan, progress: &ProgressBar) -> anyhow::Result<Report> {
    let served = host.versions().await?;
    let versions = if plan.versions.is_empty() {
        served.clone()
    } else {
        plan.versions.clone()
    };
    for version in versions.iter().chain(&plan.sold_out_by) {
        anyhow::ensure!(
            served.contains(version),
            "the host does not serve {version}; it serves {}",
            served.join(", ")
        );
    }
    anyhow::ensure!(!versions.is_empty(), "the host serves no strategy");
    let warmups = usize::from(plan.warmup_seconds > 0);
    let rounds = plan.rounds as usize;
    progress.set_length((versions.len() * (warmups + rounds)) as u64);
    let mut market = Market::open(host, plan).await?;
    let mut rows: Vec<Row> = versions.iter().map(|version| Row::new(version)).collect();
    if plan.warmup_seconds > 0 {
        let warmup = Duration::from_secs(plan.warmup_seconds.into());
        for version in &versions {
            progress.set_message(format!("warm-up {version}"));
            let run = run(&mut market, version, warmup).await?;
            anyhow::ensure!(
                run.verdict.is_right(),
                "the ledger of {version}'s warm-up: {}",
                run.verdict
            );
            progress.inc(1);
        }
    }
    let seconds = Duration::from_secs(plan.seconds.into());
    for round in 0..plan.rounds {
        // Crossed, so that none is always measured after the same other.
        let mut turns: Vec<&mut Row> = rows.iter_mut().collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for row in turns {
            progress.set_message(format!(
                "round {} of {} {}",
                round + 1,
                plan.rounds,
                row.version
            ));
            let run = run(&mut market, &row.version, seconds)
                .await
                .with_context(|| format!("round {} of {}", round + 1, row.version))?;
            row.runs.push(run);
            progress.inc(1);
        }
    }
    Ok(Report::new(plan, rows))
}

/// Measures one version once: on sales of its own, and until nothing of it waits any more.
async fn run(market: &mut Market<'_>, version: &str, lasts: Duration) -> anyhow::Result<Run> {
    let mut stalls = market.stalls(version).await?;
    let before = market.host.scrape().await?;
    let tally = stalls.sell(lasts).await?;
    let after = market.host.scrape().await?;
    let last = market.host.at_rest().await;
    let books = stalls.books(&tally, &before, last.as_ref().ok()).await?;
    let verdict = ledger::judge(&books);
    Ok(Run::new(version, verdict, &tally, [&before, &after]))
}

/// A bar on standard error, where that is a terminal; its length is known once the host serves.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
