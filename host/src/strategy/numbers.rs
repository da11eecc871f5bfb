//! What a revision's calls came to: the figures by which one revision is held against another.
//!
//! They live as long as their revision and are no metrics: a recorder cannot forget a revision, and a rule may not wait for a scrape.
//! `strategy` records each call; `trial` and `rollout` read.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::ending::is_backend;
use crate::telemetry::{
    labels::{ErrorKind, Outcome, TrialOutcome},
    recorders::Export,
};

/// Upper bounds of the times of calls, in microseconds: each a fifth to a half above the last, so that a quantile is told as exactly as a rule needs it.
pub const BOUNDS_US: [u64; 31] = [
    100, 150, 200, 300, 400, 500, 750, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 7_500, 10_000,
    15_000, 20_000, 30_000, 40_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 500_000,
    1_000_000, 2_000_000, 3_000_000, 5_000_000, 10_000_000,
];

/// The calls of one revision since it was loaded.
#[derive(Debug, Default)]
pub struct Numbers {
    purchase: Counts,
    settle: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    failed: AtomicU64,
    hindered: AtomicU64,
    trapped: AtomicU64,
    timed_out: AtomicU64,
    micros: AtomicU64,
    /// Calls by time; the last are those above every bound.
    times: [AtomicU64; BOUNDS_US.len() + 1],
}

/// Calls of one export in some span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Calls that ran, whatever became of them.
    pub calls: u64,
    /// Of them, those that the strategy failed at by itself.
    pub failed: u64,
    /// Those that a backend or a lock kept from their end.
    pub hindered: u64,
    /// Those that trapped, or wanted too much memory.
    pub trapped: u64,
    /// Those that missed their deadline or a hold bound.
    pub timed_out: u64,
    /// Their times together, in microseconds.
    pub micros: u64,
    /// Calls by time, a place for each of `BOUNDS_US` and one for those above.
    #[serde(skip)]
    pub times: [u64; BOUNDS_US.len() + 1],
}

impl Numbers {
    /// Records a call; one that never ran, or whose client went away, says nothing of the revision.
    pub fn record(
        &self,
        export: Export,
        outcome: Outcome,
        error: Option<ErrorKind>,
        took: Duration,
    ) {
        let counts = self.of(export);
        let broke = match outcome {
            Outcome::Overloaded | Outcome::Cancelled => return,
            Outcome::Completed | Outcome::Accepted | Outcome::Rejected => None,
            Outcome::Trapped | Outcome::OutOfMemory => Some(&counts.trapped),
            Outcome::TimedOut => Some(&counts.timed_out),
            Outcome::Failed => Some(match error {
                Some(kind) if is_backend(kind) || kind == ErrorKind::LockAcquisition => {
                    &counts.hindered
                }
                _ => &counts.failed,
            }),
        };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counts.calls.fetch_add(1, Ordering::Relaxed);
        counts.micros.fetch_add(micros, Ordering::Relaxed);
        if let Some(broke) = broke {
            broke.fetch_add(1, Ordering::Relaxed);
        }
        let place = BOUNDS_US.partition_point(|bound| *bound < micros);
        if let Some(time) = counts.times.get(place) {
            time.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The calls of an export so far.
    pub fn figures(&self, export: Export) -> Figures {
        let counts = self.of(export);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut times = [0; BOUNDS_US.len() + 1];
        for (time, counter) in times.iter_mut().zip(&counts.times) {
            *time = read(counter);
        }
        Figures {
            calls: read(&counts.calls),
            failed: read(&counts.failed),
            hindered: read(&counts.hindered),
            trapped: read(&counts.trapped),
            timed_out: read(&counts.timed_out),
            micros: read(&counts.micros),
            times,
        }
    }

    fn of(&self, export: Export) -> &Counts {
        match export {
            Export::Purchase => &self.purchase,
            Export::Settle => &self.settle,
        }
    }
}

impl Figures {
    /// No calls.
    pub const NONE: Self = Self {
        calls: 0,
        failed: 0,
        hindered: 0,
        trapped: 0,
        timed_out: 0,
        micros: 0,
        times: [0; BOUNDS_US.len() + 1],
    };

    /// The calls that came after `earlier` was read.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut times = self.times;
        for (time, before) in times.iter_mut().zip(&earlier.times) {
            *time = time.saturating_sub(*before);
        }
        Self {
            calls: self.calls.saturating_sub(earlier.calls),
            failed: self.failed.saturating_sub(earlier.failed),
            hindered: self.hindered.saturating_sub(earlier.hindered),
            trapped: self.trapped.saturating_sub(earlier.trapped),
            timed_out: self.timed_out.saturating_sub(earlier.timed_out),
            micros: self.micros.saturating_sub(earlier.micros),
            times,
        }
    }

    /// The calls by what they ended in.
    pub fn by_outcome(&self) -> [(TrialOutcome, u64); 5] {
        let wrong = self.failed + self.hindered + self.trapped + self.timed_out;
        [
            (TrialOutcome::Good, self.calls.saturating_sub(wrong)),
            (TrialOutcome::Failed, self.failed),
            (TrialOutcome::Hindered, self.hindered),
            (TrialOutcome::Trapped, self.trapped),
            (TrialOutcome::TimedOut, self.timed_out),
        ]
    }

    /// Calls that took no longer than a bound, which must be one of `BOUNDS_US`.
    pub fn within(&self, bound: Duration) -> u64 {
        let times = BOUNDS_US.iter().zip(&self.times);
        let within = times.take_while(|(of, _)| u128::from(**of) <= bound.as_micros());
        within.map(|(_, calls)| calls).sum()
    }

    /// The time below which 99 of 100 calls stayed.
    pub fn p99(&self) -> Option<Duration> {
        self.percentile(99)
    }

    /// The time below which so many of 100 calls stayed, as the bound above it; none without calls, and the last bound where it is above all.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let all: u64 = self.times.iter().sum();
        // The smallest place at or below which so many of the calls lie.
        let wanted = (all * percent).div_ceil(100);
        let mut seen = 0;
        let place = self.times.iter().position(|calls| {
            seen += calls;
            seen >= wanted
        })?;
        let bound = BOUNDS_US.get(place).or(BOUNDS_US.last())?;
        (all > 0).then(|| Duration::from_micros(*bound))
    }

    /// Calls that took longer than a time, counted by whole places: those of the place that holds it are not among them.
    pub fn slower_than(&self, time: Duration) -> u64 {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS_US.partition_point(|bound| *bound < micros);
        self.times.iter().skip(place + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Figures, Numbers};
    use crate::telemetry::{
        labels::{ErrorKind, Outcome},
        recorders::Export,
    };

    const FAST: Duration = Duration::from_micros(900);
    const SLOW: Duration = Duration::from_micros(90_000);

    fn recorded(calls: impl IntoIterator<Item = Duration>) -> Figures {
        let numbers = Numbers::default();
        for took in calls {
            numbers.record(Export::Purchase, Outcome::Completed, None, took);
        }
        numbers.figures(Export::Purchase)
    }

    #[test]
    fn a_quantile_is_the_bound_above_it() {
        assert_eq!(recorded([]).p99(), None);
        let one_of_a_hundred = (0..100).map(|call| if call == 7 { SLOW } else { FAST });
        assert_eq!(
            recorded(one_of_a_hundred).p99(),
            Some(Duration::from_millis(1))
        );
        let two_of_a_hundred = (0..100).map(|call| if call < 2 { SLOW } else { FAST });
        let figures = recorded(two_of_a_hundred);
        assert_eq!(figures.p99(), Some(Duration::from_millis(100)));
        assert_eq!(figures.slower_than(Duration::from_millis(2)), 2);
        assert_eq!(figures.slower_than(SLOW), 0);
    }

    #[test]
    fn each_way_to_break_is_counted_apart_and_those_that_say_nothing_are_not_counted() {
        let numbers = Numbers::default();
        for (outcome, error) in [
            (Outcome::Completed, None),
            (Outcome::Trapped, Some(ErrorKind::Trap)),
            (Outcome::OutOfMemory, Some(ErrorKind::Memory)),
            (Outcome::TimedOut, Some(ErrorKind::Deadline)),
            (Outcome::Failed, Some(ErrorKind::Strategy)),
            (Outcome::Failed, Some(ErrorKind::Database)),
            (Outcome::Overloaded, Some(ErrorKind::Overload)),
            (Outcome::Cancelled, Some(ErrorKind::Cancelled)),
        ] {
            numbers.record(Export::Settle, outcome, error, FAST);
        }
        let figures = numbers.figures(Export::Settle);
        assert_eq!(figures.calls, 6);
        assert_eq!((figures.trapped, figures.timed_out), (2, 1));
        assert_eq!((figures.failed, figures.hindered), (1, 1));
        assert_eq!(numbers.figures(Export::Purchase), Figures::NONE);
        assert_eq!(figures.since(&figures), Figures::NONE);
    }
}
