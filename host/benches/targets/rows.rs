//! The rows of the table, one after the other: which hosts, which load, which figure.
//!
//! TIMESALE_BENCH_SECONDS says how long a version is measured in a round (2), TIMESALE_BENCH_ROUNDS how many rounds there are (3).
//! Ratios near 1 are measured in more rounds: for each of those three against a twin, of a second each, three of peak and flood, and eight with metrics and without.
//! There are 64 buyers, as `timesale bench` has them; 256 (`HOT_ROW_BUYERS`) where v1, v4 and the references are compared on a hot row; 1,000 for the memory, 2,000 in the flood and 5,000 at the opening.

use std::{
    env, fs,
    hint::{black_box, spin_loop},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser;
use indicatif::ProgressBar;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use timesale::bench::{self, Figures, Host, Plan, Report, median};

use super::{
    reference::{Commit, HOT_ROW_BUYERS, Reference, Way},
    scene::Scene,
    table::{Measured, Table},
};

/// Where `make bench-plugins` puts the components.
const COMPONENTS: &str = "target/strategies-bench";
/// Those of them that sell nothing, or from a counter: no probe would let them serve.
const UNPROBED: &str = "noop,native-noop,take,native-take";
/// Where the raw data goes: `targets.json` where all rows were measured.
const DATA: &str = "host/benches/data";
/// The backends that rows of PostgreSQL need.
const BACKENDS: [&str; 3] = ["DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS"];

/// Calls in flight, of 1,000 buyers', from which the memory of each is judged.
const NEARLY_ALL: f64 = 900.0;

/// A `timesale bench` by its flags, of which the last counts.
#[derive(Parser)]
#[command(args_override_self = true)]
struct Line {
    #[command(flatten)]
    plan: Plan,
}

/// What 1,000 buyers at once cost a host in memory, twice; in bytes.
struct Memory {
    idle: f64,
    /// For each call in flight, the first time; none where they were never seen.
    each: Option<f64>,
    rested: f64,
    after: f64,
    reports: [Report; 2],
}

/// What all rows share.
struct Targets {
    /// Components, and each once more for its twin.
    strategies: TempDir,
    seconds: u32,
    rounds: u32,
    table: Table,
}

/// Measures the rows that were asked for, or all of them; false where a ledger was wrong.
pub async fn measure(asked: &[String]) -> anyhow::Result<bool> {
    const GROUPS: [&str; 6] = [
        "calls", "embedded", "redis", "metrics", "memory", "postgres",
    ];
    let number = |name: &str, default| match env::var(name) {
        Ok(text) => text.parse().with_context(|| name.to_owned()),
        Err(_) => Ok(default),
    };
    let mut targets = Targets {
        strategies: strategies()?,
        seconds: number("TIMESALE_BENCH_SECONDS", 2)?,
        rounds: number("TIMESALE_BENCH_ROUNDS", 3)?,
        table: Table::default(),
    };
    let groups: Vec<&str> = match asked {
        [] => GROUPS.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    for group in groups {
        match group {
            "calls" => targets.calls().await?,
            "embedded" => targets.embedded().await?,
            "redis" => targets.redis().await?,
            "metrics" => targets.metrics().await?,
            "memory" => targets.memory().await?,
            "postgres" => targets.postgres().await?,
            other => anyhow::bail!("there are no rows {other}; there are {}", GROUPS.join(", ")),
        }
    }
    let file = if asked.is_empty() {
        "targets".to_owned()
    } else {
        asked.join("-")
    };
    targets.table.finish(&Path::new(DATA).join(file + ".json"))
}

/// Has a host of the benchmark record or not.
fn record(host: &Host, on: bool) -> anyhow::Result<()> {
    let process = host
        .process()
        .and_then(|id| Pid::from_raw(id.cast_signed()));
    let process = process.context("the host is no child of this program")?;
    let signal = if on { Signal::USR2 } else { Signal::USR1 };
    Ok(kill_process(process, signal)?)
}

/// A folder with every component of the benchmark, and a copy of each under the name of its twin.
fn strategies() -> anyhow::Result<TempDir> {
    let folder = TempDir::with_prefix("timesale-targets-")?;
    let entries = fs::read_dir(COMPONENTS)
        .with_context(|| format!("{COMPONENTS}: run `make bench-plugins`"))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        fs::copy(entry.path(), folder.path().join(&*name))?;
        let twin = format!("native-{name}");
        fs::copy(entry.path(), folder.path().join(twin))?;
    }
    Ok(folder)
}

impl Targets {
    /// Starts a host with these of the backends, in a corner of them that is its own, and with this in its environment.
    async fn host(&self, backends: &[&str], also: &[(&str, &str)]) -> anyhow::Result<Host> {
        let folder = self.strategies.path().display().to_string();
        let mut environment = vec![
            ("TIMESALE_STRATEGIES", folder),
            ("TIMESALE_UNPROBED", UNPROBED.to_owned()),
            ("RUST_LOG", "error".to_owned()),
        ];
        for name in backends {
            let value = env::var(name).with_context(|| format!("{name} is not set"))?;
            environment.push((name, value));
        }
        let corner = format!("bench_{}", std::process::id());
        environment.push(("TIMESALE_REDIS_PREFIX", format!("{corner}:")));
        environment.push(("TIMESALE_KAFKA_PREFIX", format!("{corner}-")));
        environment.push(("TIMESALE_DATABASE_SCHEMA", corner));
        environment.extend(
            also.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        Host::start(&environment).await
    }

    /// Runs a `timesale bench` with these flags on a host.
    async fn load(&self, host: &Host, flags: &str) -> anyhow::Result<Report> {
        eprintln!("timesale bench {flags}");
        let common = format!("bench --seconds {} --rounds {}", self.seconds, self.rounds);
        let words = common.split(' ').chain(flags.split(' '));
        let plan = Line::try_parse_from(words)?.plan;
        bench::measure(host, &plan, &ProgressBar::hidden()).await
    }

    /// A row that is the ratio of a component to its twin.
    async fn against_twin(
        &mut self,
        host: &Host,
        [measure, target]: [&'static str; 2],
        version: &str,
        flags: &str,
    ) -> anyhow::Result<()> {
        let rounds = 3 * self.rounds;
        let flags =
            format!("--versions {version},native-{version} --seconds 1 --rounds {rounds} {flags}");
        let report = self.load(host, &flags).await?;
        let ours = |reports: &[Report]| {
            let report = reports.first()?;
            let twin = format!("native-{version}");
            let rate = |figures: &Figures| figures.answered_per_second;
            let ratio = report.ratio([version, &twin], rate)?;
            let [own, native] = [version, &twin].map(|it| report.figures(it).map(rate));
            Some(format!("{ratio:.2} ({:.0}/s of {:.0}/s)", own?, native?))
        };
        let row = Measured::of_load(measure, target, ours, vec![report]);
        self.table.add(row);
        Ok(())
    }

    async fn calls(&mut self) -> anyhow::Result<()> {
        const ROUNDS: usize = 15;
        const CALLS: u32 = 10_000;
        let scene = Scene::open(Path::new(COMPONENTS)).await?;
        let call = move || scene.call(4);
        // What two threads are worth on this machine, to work that shares nothing at all.
        let count = || {
            black_box((0..10_000_u64).fold(0, |sum, n| sum ^ black_box(n)));
        };
        let timed = tokio::task::spawn_blocking(move || {
            let rounds: Vec<[f64; 4]> = (0..ROUNDS)
                .map(|_| {
                    let [one, two] = [1, 2].map(|threads| micros_each(threads, CALLS, &call));
                    let [alone, both] = [1, 2].map(|threads| micros_each(threads, CALLS, count));
                    [one, one / two, alone / both, nanos_to_pass()]
                })
                .collect();
            let column =
                |place: usize| median(rounds.iter().filter_map(|it| it.get(place).copied()));
            Some((column(0)?, column(1)?, column(2)?, column(3)?))
        });
        if let Some((one, gain, possible, passed)) = timed.await? {
            self.table.add(Measured::apart(
                "fresh instance + call, 4 host calls ready at once",
                "≤ 8 µs, 0 system calls, ≥ 1.8 × on 2 threads",
                format!("{one:.1} µs, {gain:.2} × on 2 threads (a loop that shares nothing {possible:.2} ×; what is shared goes from core to core in {passed:.0} ns)"),
            ));
        }
        Ok(())
    }

    async fn embedded(&mut self) -> anyhow::Result<()> {
        let host = self.host(&[], &[]).await?;
        let names = ["no-op strategy over HTTP, fresh / native twin", "≥ 0.90"];
        self.against_twin(&host, names, "noop", "--sold-out-by v1")
            .await?;
        let flags = format!("--versions v1,v4,native-v4 --buyers {HOT_ROW_BUYERS}");
        let report = self.load(&host, &flags).await?;
        let ours = |reports: &[Report]| {
            let report = reports.first()?;
            let ours = ratio_of_completed(report, ["v4", "v1"])?;
            let twin = report.ratio(["native-v4", "v1"], |it| it.completed_per_second)?;
            Some(ours + &without_wasm(twin))
        };
        self.table.add(Measured::of_load(
            "embedded default, durable, hot row: v4 / one transaction each (v1)",
            "≥ 10",
            ours,
            vec![report],
        ));
        host.stop().await;
        Ok(())
    }

    async fn redis(&mut self) -> anyhow::Result<()> {
        let host = self.host(&["REDIS_URL"], &[]).await?;
        let names = [
            "Redis take-if-enough strategy, fresh / native twin",
            "≥ 0.85",
        ];
        self.against_twin(&host, names, "take", "--sold-out-by v1")
            .await?;
        host.stop().await;
        Ok(())
    }

    /// A host that records and does not, in turn for a second each; another in each round.
    ///
    /// Not two hosts beside each other: those of one program may differ by as much as this is about.
    async fn metrics(&mut self) -> anyhow::Result<()> {
        let mut reports = Vec::new();
        for _ in 0..self.rounds {
            let host = self.host(&[], &[]).await?;
            for turn in 0..8 {
                // Each host is warmed up once.
                let warmup = u32::from(turn == 0);
                let flags = format!(
                    "--versions noop --sold-out-by v1 --seconds 1 --rounds 1 --warmup-seconds {warmup}"
                );
                let on_first = turn % 2 == 0;
                let mut pair = Vec::new();
                for on in [on_first, !on_first] {
                    record(&host, on)?;
                    pair.push(self.load(&host, &flags).await?);
                }
                if !on_first {
                    pair.reverse();
                }
                reports.extend(pair);
            }
            host.stop().await;
        }
        let ours = |reports: &[Report]| {
            let rate = |report: &Report| Some(report.figures("noop")?.answered_per_second);
            let ratios = reports.chunks_exact(2).filter_map(|pair| match pair {
                [on, off] => Some(rate(on)? / rate(off)?),
                _ => None,
            });
            Some(format!("{:.3}", median(ratios)?))
        };
        let row = Measured::of_load(
            "cost of all metrics on / off, no-op",
            "≥ 0.97",
            ours,
            reports,
        );
        self.table.add(row);
        Ok(())
    }

    /// What an instance takes is what a call of v1 takes beyond one of its twin, each on a host that has served nobody.
    async fn memory(&mut self) -> anyhow::Result<()> {
        let own = self.memory_of_calls("v1").await?;
        let twin = self.memory_of_calls("native-v1").await?;
        let kib = |each: Option<f64>| each.map(|bytes| bytes / 1024.0);
        let each = match (kib(own.each), kib(twin.each)) {
            (Some(own), Some(twin)) => format!(
                "{:.0} KiB ({own:.0} KiB for a call with its connection, {twin:.0} KiB for its twin's)",
                own - twin
            ),
            _ => "not seen".to_owned(),
        };
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let ours = |_: &[Report]| {
            Some(format!(
                "{each}; idle {:.0} MiB; after 1,000 calls {:.0} MiB, and again {:.0} MiB ({:+.0} %)",
                mib(own.idle),
                mib(own.rested),
                mib(own.after),
                (own.after / own.rested - 1.0) * 100.0
            ))
        };
        let row = Measured::of_load(
            "memory per live instance; host idle; after 1,000 concurrent calls",
            "≤ 64 KiB; report; back to within 10 %",
            ours,
            own.reports.into_iter().chain(twin.reports).collect(),
        );
        self.table.add(row);
        Ok(())
    }

    async fn memory_of_calls(&self, version: &str) -> anyhow::Result<Memory> {
        let calls = [
            ("TIMESALE_CALLS_MAX", "1000"),
            ("TIMESALE_PERMIT_WAIT_MS", "5000"),
            ("TIMESALE_CALL_DEADLINE_MS", "30000"),
            ("TIMESALE_ROW_LOCK_WAIT_MS", "20000"),
            ("TIMESALE_HTTP_TIMEOUT_MS", "60000"),
        ];
        let host = self.host(&[], &calls).await?;
        let idle = host.resident_bytes().await?;
        let flags = format!("--versions {version} --buyers 1000 --rounds 1 --warmup-seconds 0");
        let sampled = async {
            loop {
                if let Ok((calls, bytes)) = host.calls_and_resident_bytes().await
                    && calls >= NEARLY_ALL
                {
                    return (bytes - idle) / calls;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (first, each) = tokio::join!(
            self.load(&host, &flags),
            tokio::time::timeout(Duration::from_secs(30), sampled)
        );
        let rested = host.resident_bytes().await?;
        // What the first calls left warm is there already: what rises now leaks.
        let second = self.load(&host, &flags).await?;
        let after = host.resident_bytes().await?;
        host.stop().await;
        Ok(Memory {
            idle,
            each: each.ok(),
            rested,
            after,
            reports: [first?, second],
        })
    }

    async fn postgres(&mut self) -> anyhow::Result<()> {
        let url = env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
        let reference = Reference::open(&url).await?;
        let host = self.host(&BACKENDS, &[]).await?;
        let names = [
            "v1 on PostgreSQL spread over 1,000 sales, fresh / native twin",
            "≥ 0.95",
        ];
        self.against_twin(&host, names, "v1", "--sales 1000")
            .await?;
        let names = [
            "v2 on Redis + PostgreSQL, 1,000 sales, fresh / native twin",
            "≥ 0.85",
        ];
        self.against_twin(&host, names, "v2", "--sales 1000")
            .await?;
        self.hot_row(&host, &reference).await?;
        self.asynchronous(&host).await?;
        self.opening(&host).await?;
        self.overload(&host).await?;
        self.open_loop(&host).await?;
        host.stop().await;
        reference.close().await
    }

    /// One hot sale beside the native references, round by round.
    async fn hot_row(&mut self, host: &Host, reference: &Reference) -> anyhow::Result<()> {
        let lasts = Duration::from_secs(self.seconds.into());
        let flags = format!("--versions v1,v4,native-v4 --buyers {HOT_ROW_BUYERS} --rounds 1");
        let mut reports = Vec::new();
        // Each way's rates with commits that are waited for, and without.
        let (mut four, mut one) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let mut two = Vec::new();
        for _ in 0..self.rounds {
            reports.push(self.load(host, &flags).await?);
            let (way, commit) = (Way::TwoRoundTrips, Commit::Synchronous);
            two.push(reference.sell(way, commit, lasts).await?);
            for (way, rates) in [
                (Way::FourRoundTrips, &mut four),
                (Way::OneStatement, &mut one),
            ] {
                let commits = [Commit::Synchronous, Commit::Asynchronous];
                for (commit, rates) in commits.into_iter().zip(rates) {
                    rates.push(reference.sell(way, commit, lasts).await?);
                }
            }
        }
        let ratio = |version: &str, references: &[f64]| {
            let rates = reports.iter().zip(references);
            median(rates.filter_map(|(report, reference)| {
                Some(report.figures(version)?.completed_per_second / reference)
            }))
        };
        let against = |version: &str, [references, asynchronous]: &[Vec<f64>; 2]| {
            let rate = |report: &Report| Some(report.figures(version)?.completed_per_second);
            let own = median(reports.iter().filter_map(rate))?;
            let native = median(references.iter().copied())?;
            let unsafely = median(asynchronous.iter().copied())?;
            Some(format!(
                "{:.2} ({own:.0}/s to {native:.0}/s; with asynchronous commit, which no host allows, to {unsafely:.0}/s)",
                ratio(version, references)?
            ))
        };
        let [four_at_once, _] = &four;
        let [one_at_once, _] = &one;
        // What is the server's and the disk's of a transaction for each order, with nothing of the host's.
        let natively = |rates: &[f64]| {
            median(
                rates
                    .iter()
                    .zip(four_at_once)
                    .map(|(rate, four)| rate / four),
            )
        };
        let beside_v1 = natively(&two).zip(natively(one_at_once)).map(|(two, one)| {
            format!("; natively in the two trips of v1 {two:.2}, in one statement {one:.2}")
        });
        let beside_v1 = beside_v1.unwrap_or_default();
        let beside_v4 = ratio("native-v4", four_at_once).map(without_wasm);
        let beside_v4 = beside_v4.unwrap_or_default();
        let rows = [
            (
                "hot row on PostgreSQL: v1 / the native four-round-trip transaction",
                "≥ 1.5",
                against("v1", &four).map(|ours| ours + &beside_v1),
            ),
            (
                "hot row: v4 / the native four-round-trip transaction",
                "≥ 10",
                against("v4", &four).map(|ours| ours + &beside_v4),
            ),
            (
                "hot row: v4 / one statement per order, native",
                "≥ 2",
                against("v4", &one),
            ),
        ];
        let mut reports = Some(reports);
        for (measure, target, ours) in rows {
            // The raw data stand with the first of them.
            let reports = reports.take().unwrap_or_default();
            let row = Measured::of_load(measure, target, |_| ours, reports);
            self.table.add(row);
        }
        Ok(())
    }

    async fn asynchronous(&mut self, host: &Host) -> anyhow::Result<()> {
        let report = self.load(host, "--versions v1,v3").await?;
        let ours = |reports: &[Report]| ratio_of_completed(reports.first()?, ["v3", "v1"]);
        self.table.add(Measured::of_load(
            "hot row: v3 completed orders/s / v1 completed orders/s",
            "≥ 3",
            ours,
            vec![report],
        ));
        Ok(())
    }

    async fn opening(&mut self, host: &Host) -> anyhow::Result<()> {
        let flags = "--versions v1,v4 --buyers 5000 --stock 1000 --purchases-max 20000 --warmup-seconds 0 --seconds 60 --rounds 1";
        let report = self.load(host, flags).await?;
        let ours = |reports: &[Report]| {
            let report = reports.first()?;
            let each = ["v1", "v4"].map(|version| {
                let figures = report.figures(version)?;
                Some(format!(
                    "{version}: {} sold, {} refused (p99 {:.0} ms), {} × 503, {} other",
                    figures.accepted,
                    figures.refused,
                    figures.refused_p99_ms?,
                    figures.turned_away,
                    figures.failed
                ))
            });
            let each: Option<Vec<_>> = each.into_iter().collect();
            Some(each?.join("; "))
        };
        self.table.add(Measured::of_load(
            "5,000 connections at the opening, demand 20 × stock",
            "sold out exactly; refusals' p99 reported; no error but 409 and 503",
            ours,
            vec![report],
        ));
        Ok(())
    }

    /// Each round has a peak of its own, since the speed of a machine is not steady.
    async fn overload(&mut self, host: &Host) -> anyhow::Result<()> {
        let completed = |report: &Report| Some(report.figures("v1")?.completed_per_second);
        let mut reports = Vec::new();
        let mut offered = 0;
        for _ in 0..3 * self.rounds {
            let peak = self.load(host, "--versions v1 --rounds 1").await?;
            offered = ten_times(completed(&peak).unwrap_or(1.0));
            let flood =
                format!("--versions v1 --buyers 2000 --rate {offered} --seconds 5 --rounds 1");
            let flooded = self.load(host, &flood).await?;
            reports.extend([peak, flooded]);
        }
        let ours = |reports: &[Report]| {
            let pairs = reports.chunks_exact(2).filter_map(|pair| match pair {
                [peak, flooded] => Some((completed(peak)?, flooded.figures("v1")?)),
                _ => None,
            });
            let pairs: Vec<_> = pairs.collect();
            let of_pairs = |figure: fn(&(f64, &Figures)) -> f64| median(pairs.iter().map(figure));
            let goodput = of_pairs(|(peak, flooded)| flooded.completed_per_second / peak)?;
            let answered = of_pairs(|(_, flooded)| flooded.answered_per_second)?;
            let failed = of_pairs(|(_, flooded)| flooded.failed)?;
            let away = median(
                pairs
                    .iter()
                    .filter_map(|(_, flooded)| flooded.turned_away_p99_ms),
            );
            let away = away.map_or("–".to_owned(), |ms| format!("{ms:.0} ms"));
            Some(format!(
                "{goodput:.2} ({offered}/s asked, {answered:.0}/s answered; 503 after {away} at the p99; {failed} other)"
            ))
        };
        self.table.add(Measured::of_load(
            "offered 10 × capacity: goodput / peak (v1)",
            "≥ 0.9, the rest 503 at once",
            ours,
            reports,
        ));
        Ok(())
    }

    async fn open_loop(&mut self, host: &Host) -> anyhow::Result<()> {
        let peaks = self.load(host, "--versions v1,v2,v3 --rounds 1").await?;
        let mut reports = vec![peaks];
        for version in ["v1", "v2", "v3"] {
            let peak = reports.first().and_then(|peaks| peaks.figures(version));
            let rate = peak.map_or(1.0, |it| it.completed_per_second * 0.7);
            let flags = format!("--versions {version} --rate {}", whole(rate));
            reports.push(self.load(host, &flags).await?);
        }
        let ours = |reports: &[Report]| {
            let each = ["v1", "v2", "v3"].iter().zip(reports.iter().skip(1));
            let each = each.map(|(version, report)| {
                let figures = report.figures(version)?;
                let wrong = (figures.failed + figures.turned_away) * 100.0;
                let all = figures.accepted + figures.failed + figures.turned_away;
                Some(format!(
                    "{version} {:.1} ms at {:.0}/s, {:.2} % errors",
                    figures.p99_ms?,
                    figures.accepted_per_second,
                    wrong / all
                ))
            });
            Some(each.collect::<Option<Vec<_>>>()?.join("; "))
        };
        self.table.add(Measured::of_load(
            "open loop at 70 % of capacity, hot row: p99 of v1 / v2 / v3, errors",
            "≤ 120 / 40 / 20 ms; ≤ 0.1 %",
            ours,
            reports,
        ));
        Ok(())
    }
}

/// The ratio of what two versions completed, with both rates.
fn ratio_of_completed(report: &Report, versions: [&str; 2]) -> Option<String> {
    let rate = |figures: &Figures| figures.completed_per_second;
    let ratio = report.ratio(versions, rate)?;
    let [over, under] = versions.map(|version| report.figures(version).map(rate));
    Some(format!("{ratio:.2} ({:.0}/s to {:.0}/s)", over?, under?))
}

/// What stands beside a ratio of a version: that of its twin.
fn without_wasm(twin: f64) -> String {
    format!("; without Wasm, by its native twin, {twin:.2}")
}

/// Ten times a rate, as a rate that can be asked for.
fn ten_times(rate: f64) -> u32 {
    whole(rate * 10.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate lies far below the bounds of the type, and above 0"
)]
fn whole(rate: f64) -> u32 {
    rate.clamp(1.0, 1e6) as u32
}

/// How long something takes that so many threads do so many times each, for all of them together; in microseconds.
fn micros_each(threads: u32, times: u32, what: impl Fn() + Sync) -> f64 {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..times).for_each(|_| what()));
        }
    });
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(times * threads)
}

/// How long a thread waits until it sees what another has written, where both write in turn; in nanoseconds.
fn nanos_to_pass() -> f64 {
    /// Passes each way that are timed together, and how often they are: the fastest count, for at times both threads have one core.
    const PASSES: u32 = 100;
    const TIMES: u32 = 300;
    /// Spins before a thread gives way, for the case that both have one core.
    const PATIENCE: u32 = 10_000;
    let turn = AtomicU32::new(0);
    let take = |own| {
        let mut spins = 0;
        while turn.load(Ordering::Acquire) != own {
            spins += 1;
            if spins < PATIENCE {
                spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        turn.store(own + 1, Ordering::Release);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| (0..PASSES * TIMES).for_each(|n| take(2 * n + 1)));
        let timed = (0..TIMES).map(|time| {
            let begun = Instant::now();
            (0..PASSES).for_each(|n| take(2 * (PASSES * time + n)));
            begun.elapsed().as_secs_f64() * 1e9 / f64::from(2 * PASSES)
        });
        timed.fold(f64::INFINITY, f64::min)
    })
}
