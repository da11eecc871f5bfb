//! The rules by which one revision is worse than another: pure judgements of two spans of calls.
//!
//! Each needs a minimum of calls on both sides and of calls gone wrong, so that none fires for want of data or by accident.

use std::time::Duration;

use serde::Serialize;

use crate::strategy::numbers::Figures;

/// Calls that must have gone wrong, so that no rule hangs on an accident.
const WRONG_MIN: u64 = 5;
/// Standard errors by which a share must lie above the baseline's: once in a thousand trials by chance.
const SIGMAS: f64 = 3.0;
/// The share by which it must lie above in any case.
const MARGIN: f64 = 0.02;
/// The percentiles of the baseline's times that a call is called slow by: the usual call, and the slowest of a hundred.
const PERCENTILES: [(Rule, u64); 2] = [(Rule::Median, 50), (Rule::P99, 99)];

/// What a canary is judged by: both sides run at the same time, and so meet the same load and the same faults.
pub const OF_CANARY: Terms = Terms {
    slow_times: 2,
    slow_above: Duration::from_millis(10),
    hindered_counts: true,
};
/// What a watch is judged by, whose sides ran one after the other: a backend that fails now is not the challenger's fault.
pub const OF_WATCH: Terms = Terms {
    slow_times: 4,
    slow_above: Duration::from_millis(100),
    hindered_counts: false,
};

/// What a trial can fail by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// More calls trapped.
    Traps,
    /// More missed their deadline.
    DeadlineMisses,
    /// More failed.
    Failures,
    /// More were far slower than the baseline's usual call.
    Median,
    /// More were far slower than the slowest of a hundred of the baseline's.
    P99,
}

/// What differs between the kinds of trial.
pub struct Terms {
    /// A call is slow above this many times a percentile of the baseline's times.
    slow_times: u32,
    /// And no less than this much above it.
    slow_above: Duration,
    /// Whether calls count as failures that a backend or a lock kept from their end.
    hindered_counts: bool,
}

/// By which rule the challenger is worse than the baseline, if by any.
pub fn worse(
    challenger: &Figures,
    baseline: &Figures,
    calls_min: u64,
    terms: &Terms,
) -> Option<Rule> {
    if challenger.calls < calls_min || baseline.calls < calls_min {
        return None;
    }
    let failures = |figures: &Figures| {
        figures.failed
            + if terms.hindered_counts {
                figures.hindered
            } else {
                0
            }
    };
    let wrongs = [
        (Rule::Traps, challenger.trapped, baseline.trapped),
        (
            Rule::DeadlineMisses,
            challenger.timed_out,
            baseline.timed_out,
        ),
        (Rule::Failures, failures(challenger), failures(baseline)),
    ];
    let more = wrongs.into_iter().find(|(_, wrong, before)| {
        *wrong >= WRONG_MIN && exceeds(*wrong, challenger.calls, *before, baseline.calls)
    });
    if let Some((rule, _, _)) = more {
        return Some(rule);
    }
    // Both sides are held against the same bound, so that a machine that stutters for both tells against neither.
    PERCENTILES.into_iter().find_map(|(rule, percent)| {
        let usual = baseline.percentile(percent)?;
        let bound = (usual * terms.slow_times).max(usual + terms.slow_above);
        let (slow, before) = (challenger.slower_than(bound), baseline.slower_than(bound));
        let more = exceeds(slow, challenger.calls, before, baseline.calls);
        (slow >= WRONG_MIN && more).then_some(rule)
    })
}

/// Whether `wrong` of `calls` is more than chance and margin allow beside `wrong_before` of `calls_before`.
fn exceeds(wrong: u64, calls: u64, wrong_before: u64, calls_before: u64) -> bool {
    let share = real(wrong) / real(calls);
    let before = real(wrong_before) / real(calls_before);
    let pooled = real(wrong + wrong_before) / real(calls + calls_before);
    let error = (pooled * (1.0 - pooled) * (1.0 / real(calls) + 1.0 / real(calls_before))).sqrt();
    share - before > MARGIN.max(SIGMAS * error)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of calls stay far below 2^53"
)]
const fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{OF_CANARY, OF_WATCH, Rule, worse};
    use crate::{
        strategy::numbers::{Figures, Numbers},
        telemetry::{
            labels::{ErrorKind, Outcome},
            recorders::Export,
        },
    };

    const PURCHASES_MIN: u64 = 50;
    const USUAL: Duration = Duration::from_millis(2);

    /// Calls of which every `nth` ends so.
    fn calls(count: u64, nth: u64, outcome: Outcome, took: Duration) -> Figures {
        let numbers = Numbers::default();
        for call in 1..=count {
            let (outcome, took) = if call % nth == 0 {
                (outcome, took)
            } else {
                (Outcome::Completed, USUAL)
            };
            let error = (outcome == Outcome::Failed).then_some(ErrorKind::Strategy);
            numbers.record(Export::Purchase, outcome, error, took);
        }
        numbers.figures(Export::Purchase)
    }

    fn good(count: u64) -> Figures {
        calls(count, u64::MAX, Outcome::Completed, USUAL)
    }

    fn verdict(challenger: &Figures, baseline: &Figures) -> Option<Rule> {
        worse(challenger, baseline, PURCHASES_MIN, &OF_CANARY)
    }

    #[test]
    fn each_way_to_be_worse_is_found_by_its_rule_within_a_hundred_calls() {
        for (outcome, rule) in [
            (Outcome::Trapped, Rule::Traps),
            (Outcome::TimedOut, Rule::DeadlineMisses),
            (Outcome::Failed, Rule::Failures),
        ] {
            let challenger = calls(100, 10, outcome, USUAL);
            assert_eq!(verdict(&challenger, &good(1_000)), Some(rule));
        }
        let slow = calls(100, 1, Outcome::Completed, USUAL * 10);
        assert_eq!(verdict(&slow, &good(1_000)), Some(Rule::Median));
    }

    #[test]
    fn what_is_as_good_or_as_bad_as_the_baseline_stays() {
        assert_eq!(verdict(&good(10_000), &good(10_000)), None);
        let bad = calls(1_000, 10, Outcome::Trapped, USUAL);
        assert_eq!(verdict(&bad, &bad), None);
        let better = calls(1_000, 100, Outcome::Trapped, USUAL);
        assert_eq!(verdict(&better, &bad), None);
        // One call in a hundred is slow, as may be.
        let tail = calls(1_000, 100, Outcome::Completed, USUAL * 100);
        assert_eq!(verdict(&tail, &good(1_000)), None);
        // A machine that stutters, stutters for both.
        let stutters = calls(1_000, 5, Outcome::Completed, USUAL * 100);
        assert_eq!(verdict(&stutters, &stutters), None);
    }

    #[test]
    fn a_backend_that_fails_counts_against_a_canary_and_not_against_what_is_watched() {
        let numbers = Numbers::default();
        for _ in 0..100 {
            let error = Some(ErrorKind::Database);
            numbers.record(Export::Purchase, Outcome::Failed, error, USUAL);
        }
        let hindered = numbers.figures(Export::Purchase);
        assert_eq!(verdict(&hindered, &good(1_000)), Some(Rule::Failures));
        assert_eq!(
            worse(&hindered, &good(1_000), PURCHASES_MIN, &OF_WATCH),
            None
        );
    }

    #[test]
    fn nothing_is_judged_by_too_few_calls_of_either_side() {
        let bad = calls(PURCHASES_MIN - 1, 1, Outcome::Trapped, USUAL);
        assert_eq!(verdict(&bad, &good(1_000)), None);
        let bad = calls(1_000, 1, Outcome::Trapped, USUAL);
        assert_eq!(verdict(&bad, &good(PURCHASES_MIN - 1)), None);
        assert_eq!(verdict(&bad, &Figures::NONE), None);
        // Four traps are an accident.
        let four = calls(59, 14, Outcome::Trapped, USUAL);
        assert_eq!(verdict(&four, &good(1_000)), None);
    }
}
