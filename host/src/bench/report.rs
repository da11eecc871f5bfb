//! What was measured, for people and for machines: medians over the rounds, and no figure at all where a ledger was wrong.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Plan, Verdict, host::Scrape, load::Tally};
use crate::config::VERSION;

/// Latencies are kept to three digits, up to so many microseconds: more than an answer is waited for.
const DIGITS: u8 = 3;
const LATENCY_MAX_MICROS: u64 = 600_000_000;

/// What `timesale bench` measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    build: &'static str,
    buyers: u32,
    sales: u32,
    stock: u32,
    /// Purchases offered a second; null in the closed loop.
    rate: Option<u32>,
    seconds: u32,
    /// One for each version.
    pub rows: Vec<Row>,
}

/// A version.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its name.
    pub version: String,
    /// Medians over the rounds; null where a ledger was wrong.
    pub median: Option<Figures>,
    /// The rounds, in their order.
    pub runs: Vec<Run>,
}

/// A version in one round.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Whether its ledger was right.
    pub verdict: Verdict,
    /// How fast it was; null where the ledger was wrong.
    pub figures: Option<Figures>,
}

/// Figures of a measurement; a latency is null where nobody got that answer.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Purchases answered with 201 or 202, a second.
    pub accepted_per_second: f64,
    /// Purchases whose order was committed, a second.
    pub completed_per_second: f64,
    /// Purchases answered at all, whatever the answer, a second.
    pub answered_per_second: f64,
    /// How long a yes takes: half of them at most so long, in milliseconds; and so on.
    pub p50_ms: Option<f64>,
    /// The same of 95 %.
    pub p95_ms: Option<f64>,
    /// The same of 99 %.
    pub p99_ms: Option<f64>,
    /// The same of 99.9 %.
    pub p999_ms: Option<f64>,
    /// How long 99 % of refusals take at most, in milliseconds.
    pub refused_p99_ms: Option<f64>,
    /// How long 99 % of those take at most that are told to come again, in milliseconds.
    pub turned_away_p99_ms: Option<f64>,
    /// Yeses: 201 or 202.
    pub accepted: f64,
    /// Business noes.
    pub refused: f64,
    /// Answers to come again: 503.
    pub turned_away: f64,
    /// Other answers, and none.
    pub failed: f64,
    /// Processor time that the host used for each answer, in microseconds.
    pub cpu_micros_per_answer: Option<f64>,
}

impl Report {
    pub(super) fn new(plan: &Plan, mut rows: Vec<Row>) -> Self {
        for row in &mut rows {
            row.median = row.find_median();
        }
        Self {
            build: VERSION,
            buyers: plan.buyers,
            sales: plan.sales,
            stock: plan.stock,
            rate: plan.rate.map(u32::from),
            seconds: plan.seconds,
            rows,
        }
    }

    /// The medians of a version; none where one of its ledgers was wrong.
    pub fn figures(&self, version: &str) -> Option<&Figures> {
        self.row(version)?.median.as_ref()
    }

    /// How many times one version's figure is another's: the median over the rounds, in each of which both were measured.
    pub fn ratio(&self, [over, under]: [&str; 2], figure: fn(&Figures) -> f64) -> Option<f64> {
        let rounds = self.row(over)?.runs.iter().zip(&self.row(under)?.runs);
        let ratios: Option<Vec<f64>> = rounds
            .map(|(over, under)| Some(figure(&over.figures?) / figure(&under.figures?)))
            .collect();
        median(ratios?.into_iter())
    }

    /// What was wrong with ledgers, a line for each.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        self.rows.iter().flat_map(|row| {
            let wrong = row.runs.iter().filter(|run| !run.verdict.is_right());
            wrong.map(|run| format!("{}: {}", row.version, run.verdict))
        })
    }

    fn row(&self, version: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.version == version)
    }

    /// Whether every ledger was right.
    pub fn is_right(&self) -> bool {
        let mut runs = self.rows.iter().flat_map(|row| &row.runs);
        runs.all(|run| run.verdict.is_right())
    }
}

impl Row {
    pub(super) fn new(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            median: None,
            runs: Vec::new(),
        }
    }

    /// The median of each figure over the rounds; none where one of them has none.
    fn find_median(&self) -> Option<Figures> {
        let runs: Option<Vec<Figures>> = self.runs.iter().map(|run| run.figures).collect();
        let runs = runs?;
        let of = |figure: fn(&Figures) -> f64| median(runs.iter().map(figure));
        let some = |figure: fn(&Figures) -> Option<f64>| median(runs.iter().filter_map(figure));
        Some(Figures {
            accepted_per_second: of(|run| run.accepted_per_second)?,
            completed_per_second: of(|run| run.completed_per_second)?,
            answered_per_second: of(|run| run.answered_per_second)?,
            p50_ms: some(|run| run.p50_ms),
            p95_ms: some(|run| run.p95_ms),
            p99_ms: some(|run| run.p99_ms),
            p999_ms: some(|run| run.p999_ms),
            refused_p99_ms: some(|run| run.refused_p99_ms),
            turned_away_p99_ms: some(|run| run.turned_away_p99_ms),
            accepted: of(|run| run.accepted)?,
            refused: of(|run| run.refused)?,
            turned_away: of(|run| run.turned_away)?,
            failed: of(|run| run.failed)?,
            cpu_micros_per_answer: some(|run| run.cpu_micros_per_answer),
        })
    }
}

impl Run {
    pub(super) fn new(
        version: &str,
        verdict: Verdict,
        tally: &Tally,
        [before, after]: [&Scrape; 2],
    ) -> Self {
        let figures = verdict
            .is_right()
            .then(|| Figures::new(version, tally, before, after));
        Self { verdict, figures }
    }
}

impl Figures {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a few minutes stay far below 2^53"
    )]
    fn new(version: &str, tally: &Tally, before: &Scrape, after: &Scrape) -> Self {
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        let [accepted, refused, turned_away] =
            [&tally.accepted, &tally.refused, &tally.turned_away].map(|it| it.len() as f64);
        let answered = accepted + refused + turned_away;
        // The host is on this machine, and has its cores.
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let used = after.cpu_usage().filter(|_| answered > 0.0);
        let cpu = used.map(|share| share * cores * seconds * 1e6 / answered);
        let yes = latencies(&tally.accepted);
        Self {
            accepted_per_second: accepted / seconds,
            completed_per_second: (after.completed(version) - before.completed(version)) / seconds,
            answered_per_second: answered / seconds,
            p50_ms: quantile(&yes, 0.5),
            p95_ms: quantile(&yes, 0.95),
            p99_ms: quantile(&yes, 0.99),
            p999_ms: quantile(&yes, 0.999),
            refused_p99_ms: quantile(&latencies(&tally.refused), 0.99),
            turned_away_p99_ms: quantile(&latencies(&tally.turned_away), 0.99),
            accepted,
            refused,
            turned_away,
            failed: tally.failures as f64,
            cpu_micros_per_answer: cpu,
        }
    }
}

/// Latencies in microseconds; none where there are none.
fn latencies(took: &[Duration]) -> Option<Histogram<u64>> {
    let mut histogram = Histogram::new_with_max(LATENCY_MAX_MICROS, DIGITS).ok()?;
    for took in took {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        histogram.saturating_record(micros);
    }
    (!histogram.is_empty()).then_some(histogram)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "three digits are kept of it anyway"
)]
fn quantile(histogram: &Option<Histogram<u64>>, quantile: f64) -> Option<f64> {
    let histogram = histogram.as_ref()?;
    Some(histogram.value_at_quantile(quantile) as f64 / 1_000.0)
}

/// The middle one; of an even number the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let lower = match values.len() % 2 {
        0 => *values.get(middle.checked_sub(1)?)?,
        _ => upper,
    };
    Some(f64::midpoint(lower, upper))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered = match self.rate {
            Some(rate) => format!("open loop, {rate} purchases/s offered"),
            None => "closed loop".to_owned(),
        };
        writeln!(
            f,
            "{} buyers, {} sales of {} pieces, {offered}, {} s a round; medians of the rounds; milliseconds",
            self.buyers, self.sales, self.stock, self.seconds
        )?;
        writeln!(
            f,
            "{:<16} {:>10} {:>11} {:>8} {:>8} {:>8} {:>8} {:>8} {:>11} {:>7} {:>7} {:>7}  ledger",
            "version",
            "accepted/s",
            "completed/s",
            "p50",
            "p95",
            "p99",
            "p99.9",
            "refused",
            "refused p99",
            "503",
            "failed",
            "CPU µs"
        )?;
        for row in &self.rows {
            match row.median {
                Some(figures) => writeln!(f, "{:<16} {figures}  right", row.version)?,
                None => {
                    for run in row.runs.iter().filter(|run| !run.verdict.is_right()) {
                        writeln!(f, "{:<16} {}", row.version, run.verdict)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |figure: Option<f64>, digits: usize| {
            figure.map_or_else(|| "–".to_owned(), |it| format!("{it:.digits$}"))
        };
        write!(
            f,
            "{:>10.0} {:>11.0} {:>8} {:>8} {:>8} {:>8} {:>8.0} {:>11} {:>7.0} {:>7.0} {:>7}",
            self.accepted_per_second,
            self.completed_per_second,
            or_none(self.p50_ms, 2),
            or_none(self.p95_ms, 2),
            or_none(self.p99_ms, 2),
            or_none(self.p999_ms, 2),
            self.refused,
            or_none(self.refused_p99_ms, 2),
            self.turned_away,
            self.failed,
            or_none(self.cpu_micros_per_answer, 1)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Figures, Row, Run, median};
    use crate::bench::Verdict;

    fn run(accepted_per_second: f64) -> Run {
        let figures = Figures {
            accepted_per_second,
            completed_per_second: 1.0,
            answered_per_second: 1.0,
            p50_ms: None,
            p95_ms: None,
            p99_ms: None,
            p999_ms: None,
            refused_p99_ms: None,
            turned_away_p99_ms: None,
            accepted: 1.0,
            refused: 0.0,
            turned_away: 0.0,
            failed: 0.0,
            cpu_micros_per_answer: None,
        };
        Run {
            verdict: Verdict::Right,
            figures: Some(figures),
        }
    }

    #[test]
    fn a_row_has_the_medians_of_its_rounds() {
        let mut row = Row::new("v");
        row.runs = vec![run(30.0), run(10.0), run(20.0)];
        let median = row.find_median().unwrap();
        assert_eq!(median.accepted_per_second, 20.0);
        assert_eq!(median.p50_ms, None);
    }

    #[test]
    fn a_row_with_one_wrong_ledger_has_no_figure() {
        let wrong = Run {
            verdict: Verdict::Wrong(vec!["one is missing".to_owned()]),
            figures: None,
        };
        let mut row = Row::new("v");
        row.runs = vec![run(30.0), wrong];
        assert!(row.find_median().is_none());
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median([4.0, 1.0, 3.0, 2.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
