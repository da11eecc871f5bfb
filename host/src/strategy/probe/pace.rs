//! How fast a candidate is, beside the live revision: the same purchases in turn, so that what slows the machine slows both.
//!
//! A candidate is too slow where its median is above four times the live one's and two milliseconds, and is so again when it is measured a second time.
//! Host functions are counted, and so need no second look: too many are more than four times the live one's and eight.

use std::time::Duration;

use serde::Serialize;

use super::{Finding, finding::LIMITS, subject::Subject};
use crate::{backend::BackendError, domain::SaleId};

/// Purchases that are timed in one measurement.
const PURCHASES: i64 = 24;
/// Purchases after which those are settled that were accepted.
const SETTLED_AT_ONCE: i64 = 2;
/// How much slower than the live revision a candidate may be.
const TIMES: u32 = 4;
/// What is not worth speaking of, however much slower it is.
const MARGIN: Duration = Duration::from_millis(2);
/// Host functions that a candidate may always use more.
const HOST_CALLS_MARGIN: u32 = 8;

/// How fast a revision is, in medians.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pace {
    /// Time of a purchase call, in microseconds.
    pub purchase_us: u64,
    /// Host functions that a purchase call uses.
    pub purchase_host_calls: u32,
    /// Time in which two accepted requests are settled, in microseconds; absent where it accepts none.
    pub settle_us: Option<u64>,
}

/// What was measured of a revision.
#[derive(Default)]
struct Samples {
    purchases: Vec<Duration>,
    host_calls: Vec<u32>,
    settles: Vec<Duration>,
}

impl Samples {
    fn pace(&mut self) -> Pace {
        let settle = median(&mut self.settles);
        Pace {
            purchase_us: microseconds(median(&mut self.purchases)),
            purchase_host_calls: median(&mut self.host_calls),
            settle_us: (!settle.is_zero()).then(|| microseconds(settle)),
        }
    }

    async fn take(
        &mut self,
        subject: &mut Subject,
        sale: SaleId,
        number: i64,
    ) -> Result<(), BackendError> {
        let request = subject.request(sale);
        let bought = subject.buy(request).await;
        self.purchases.push(bought.took);
        self.host_calls.push(bought.host_calls);
        if number % SETTLED_AT_ONCE == 0 {
            self.settles.push(subject.settle().await?);
        }
        Ok(())
    }
}

/// Measures a candidate, beside the live revision where there is one, and notes where it is too slow.
pub async fn compare(
    subject: &mut Subject,
    rival: Option<&mut Subject>,
) -> Result<(), BackendError> {
    let Some(rival) = rival else {
        let mut samples = Samples::default();
        let sale = subject.sale(PURCHASES, None).await?.id;
        for number in 1..=PURCHASES {
            samples.take(subject, sale, number).await?;
        }
        subject.pace = Some(samples.pace());
        return Ok(());
    };
    for last in [false, true] {
        let (pace, of_live) = measure(subject, rival).await?;
        (subject.pace, rival.pace) = (Some(pace), Some(of_live));
        if subject.is_faulty() {
            return Ok(());
        }
        let slow = slower(&pace, &of_live);
        if last {
            slow.into_iter().for_each(|finding| subject.note(finding));
        } else if slow.is_none() {
            break;
        }
    }
    if let (Some(pace), Some(of_live)) = (subject.pace, rival.pace)
        && let Some(finding) = busier(&pace, &of_live)
    {
        subject.note(finding);
    }
    Ok(())
}

async fn measure(subject: &mut Subject, rival: &mut Subject) -> Result<(Pace, Pace), BackendError> {
    let (mut own, mut rivals) = (Samples::default(), Samples::default());
    let sales = (
        subject.sale(PURCHASES, None).await?.id,
        rival.sale(PURCHASES, None).await?.id,
    );
    for number in 1..=PURCHASES {
        own.take(subject, sales.0, number).await?;
        rivals.take(rival, sales.1, number).await?;
    }
    Ok((own.pace(), rivals.pace()))
}

fn slower(pace: &Pace, of_live: &Pace) -> Option<Finding> {
    let calls = [
        (
            "purchase",
            Some(pace.purchase_us),
            Some(of_live.purchase_us),
        ),
        ("settle", pace.settle_us, of_live.settle_us),
    ];
    let (export, took, bound) = calls.into_iter().find_map(|(export, took, of_live)| {
        let bound = microseconds(MARGIN).saturating_add(of_live? * u64::from(TIMES));
        (took? > bound).then_some((export, took?, bound))
    })?;
    Some(Finding::new(
        format!(
            "`{export}` takes at most {TIMES} times as long as the live revision beside it, and {MARGIN:?}: {bound} µs"
        ),
        format!("its median was {took} µs, in two measurements"),
        LIMITS,
    ))
}

fn busier(pace: &Pace, of_live: &Pace) -> Option<Finding> {
    let bound = of_live.purchase_host_calls * TIMES + HOST_CALLS_MARGIN;
    (pace.purchase_host_calls > bound).then(|| {
        Finding::new(
            format!("`purchase` uses at most {TIMES} times the host functions of the live revision, and {HOST_CALLS_MARGIN}: {bound}"),
            format!("its median was {}", pace.purchase_host_calls),
            LIMITS,
        )
    })
}

fn median<T: Copy + Default + Ord>(samples: &mut [T]) -> T {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Pace, busier, slower};

    const LIVE: Pace = Pace {
        purchase_us: 500,
        purchase_host_calls: 3,
        settle_us: Some(1_000),
    };

    #[test]
    fn four_times_the_live_one_and_two_milliseconds_are_allowed_and_no_more() {
        for (purchase_us, allowed) in [(4_000, true), (4_001, false)] {
            let pace = Pace {
                purchase_us,
                ..LIVE
            };
            assert_eq!(slower(&pace, &LIVE).is_none(), allowed, "{purchase_us}");
        }
        for (settle_us, allowed) in [(6_000, true), (6_001, false)] {
            let settle_us = Some(settle_us);
            let pace = Pace { settle_us, ..LIVE };
            assert_eq!(slower(&pace, &LIVE).is_none(), allowed, "{settle_us:?}");
        }
    }

    #[test]
    fn what_only_one_of_the_two_does_is_not_compared() {
        let sells_at_once = Pace {
            settle_us: None,
            ..LIVE
        };
        let settles_slowly = Pace {
            settle_us: Some(1_000_000),
            ..LIVE
        };
        assert_eq!(slower(&settles_slowly, &sells_at_once), None);
        assert_eq!(slower(&sells_at_once, &settles_slowly), None);
    }

    #[test]
    fn four_times_the_live_ones_host_functions_and_eight_are_allowed_and_no_more() {
        for (purchase_host_calls, allowed) in [(20, true), (21, false)] {
            let pace = Pace {
                purchase_host_calls,
                ..LIVE
            };
            assert_eq!(busier(&pace, &LIVE).is_none(), allowed);
        }
    }
}
