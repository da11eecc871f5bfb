//! Counters and histograms that are kept in parts, so that threads do not meet where they record.
//!
//! A line of the cache that two cores write costs more than all else of recording.
//! The exporter keeps a counter on one line for all, and of a histogram every value until it is told to fold them into buckets: megabytes, at tens of thousands of calls a second, that push what calls need out of the caches.
//! Here a call is an addition to a counter and two to a histogram, whose buckets the catalogue knows from the start, each to a part that the thread shares with few others.
//! Gauges stay the exporter's, but for the one that each call changes twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
    SharedString, Unit,
};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::{
    catalogue::{CALLS_IN_FLIGHT, CATALOGUE, Kind, Metric},
    exposition::{Distribution, Exposition, Labels},
};
use crate::parts::Parts;

/// The recorder of the process: the exporter's, but for what is kept in parts.
pub struct Recorder {
    /// Keeps all else.
    pub exporter: PrometheusRecorder,
    /// Keeps what calls record.
    pub parted: Arc<Parted>,
}

/// The catalogue's counters and histograms, and its calls in flight.
#[derive(Default)]
pub struct Parted {
    tallies: Series<Tally>,
    histograms: Series<Buckets>,
}

/// The series of one kind, by name and labels.
type Series<T> = Mutex<BTreeMap<Key, Arc<T>>>;

/// Buckets of a histogram at most, that of the values above every bound among them: with their sum they fill two lines of the cache.
const BUCKETS_MAX: usize = 15;

/// A whole number that threads add to.
#[derive(Default)]
struct Tally(Parts<Line>);

/// What some of the threads added, on lines of the cache that no other part is on.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicI64);

impl Tally {
    fn add(&self, value: i64) {
        self.0.own().0.fetch_add(value, Ordering::Relaxed);
    }

    /// All together; a call may be seen to end on one thread that was not yet seen to begin on another.
    fn total(&self) -> i64 {
        let parts = self.0.iter().map(|line| line.0.load(Ordering::Relaxed));
        parts.sum::<i64>().max(0)
    }
}

impl CounterFn for Tally {
    fn increment(&self, value: u64) {
        self.add(value.cast_signed());
    }

    fn absolute(&self, value: u64) {
        self.add(value.cast_signed() - self.total());
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "calls are counted, in whole numbers"
)]
impl GaugeFn for Tally {
    fn increment(&self, value: f64) {
        self.add(value as i64);
    }

    fn decrement(&self, value: f64) {
        self.add(-value as i64);
    }

    fn set(&self, value: f64) {
        self.add(value as i64 - self.total());
    }
}

/// The values of one histogram.
struct Buckets {
    bounds: &'static [f64],
    parts: Parts<Part>,
}

/// The values of some of the threads, on lines of the cache that no other part is on.
#[derive(Default)]
#[repr(align(128))]
struct Part {
    /// Values within each bound and above the one before, and after them those above all.
    counts: [AtomicU64; BUCKETS_MAX],
    /// Their sum in billionths, in which times come.
    billionths: AtomicU64,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            parts: Parts::default(),
        }
    }

    /// What there is now; how many there are is the sum of all buckets, so that the two never differ.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a scrape wants no more than 53 bits"
    )]
    fn distribution(&self) -> Distribution<'static> {
        let mut counts = [0; BUCKETS_MAX];
        let mut billionths = 0;
        for part in self.parts.iter() {
            for (sum, counter) in counts.iter_mut().zip(&part.counts) {
                *sum += counter.load(Ordering::Relaxed);
            }
            billionths += part.billionths.load(Ordering::Relaxed);
        }
        let count: u64 = counts.iter().sum();
        let bounds = self.bounds;
        Distribution {
            within: Box::new(move |bound| {
                let buckets = bounds.partition_point(|it| *it <= bound);
                counts.iter().take(buckets).sum::<u64>() as f64
            }),
            count: count as f64,
            sum: billionths as f64 / 1e9,
        }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        let part = self.parts.own();
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = part.counts.get(place) {
            bucket.fetch_add(count as u64, Ordering::Relaxed);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "times and counts are not negative; what is too large is cut off"
        )]
        let billionths = (value * 1e9).round() as u64;
        let sum = billionths.saturating_mul(count as u64);
        part.billionths.fetch_add(sum, Ordering::Relaxed);
    }
}

impl Parted {
    /// Adds every series to a page.
    pub fn show(&self, page: &mut Exposition) {
        for metric in CATALOGUE {
            if let Kind::Histogram(_) = metric.kind {
                let series = of(metric, &self.histograms);
                page.histogram(
                    metric,
                    series.map(|(labels, it)| (labels, it.distribution())),
                );
            } else {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a scrape wants no more than 53 bits"
                )]
                let series =
                    of(metric, &self.tallies).map(|(labels, it)| (labels, it.total() as f64));
                page.family(metric, series);
            }
        }
    }
}

/// The series with this name and these labels, which is there from now on.
fn series<T>(all: &Series<T>, key: &Key, new: impl FnOnce() -> T) -> Arc<T> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    let series = all.entry(key.clone()).or_insert_with(|| Arc::new(new()));
    Arc::clone(series)
}

/// The series of a metric there are.
fn of<T>(metric: &Metric, all: &Series<T>) -> impl Iterator<Item = (Labels, Arc<T>)> + use<T> {
    let all = all.lock().unwrap_or_else(PoisonError::into_inner);
    let found: Vec<_> = all
        .iter()
        .filter(|(key, _)| key.name() == metric.name)
        .map(|(key, series)| (labels(metric, key), Arc::clone(series)))
        .collect();
    found.into_iter()
}

/// The kind of a metric of the catalogue.
fn kind(key: &Key) -> Option<Kind> {
    let metric = CATALOGUE.iter().find(|metric| metric.name == key.name());
    metric.map(|metric| metric.kind)
}

/// The labels of a series, in the words of the catalogue.
fn labels(metric: &Metric, key: &Key) -> Labels {
    let names = metric.labels.iter().map(|label| label.name());
    let value = |name| key.labels().find(|label| label.key() == name);
    names
        .filter_map(|name| Some((name, value(name)?.value().to_owned())))
        .collect()
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.exporter.describe_counter(key, unit, help);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.exporter.describe_gauge(key, unit, help);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.exporter.describe_histogram(key, unit, help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        match kind(key) {
            Some(_) => Counter::from_arc(series(&self.parted.tallies, key, Tally::default)),
            None => self.exporter.register_counter(key, metadata),
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        if key.name() == CALLS_IN_FLIGHT.name {
            Gauge::from_arc(series(&self.parted.tallies, key, Tally::default))
        } else {
            self.exporter.register_gauge(key, metadata)
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match kind(key) {
            Some(Kind::Histogram(bounds)) => {
                let new = || Buckets::new(bounds);
                Histogram::from_arc(series(&self.parted.histograms, key, new))
            }
            _ => self.exporter.register_histogram(key, metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use metrics::{counter, gauge, histogram};
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::{BUCKETS_MAX, Exposition, Parted, Recorder};
    use crate::parts::PARTS;
    use crate::telemetry::{
        catalogue::{CALLS_IN_FLIGHT, CATALOGUE, Kind, PERMIT_WAIT, SWAPS},
        exposition::{Sample, samples},
    };

    /// The samples of a page after this was recorded.
    fn page(record: impl FnOnce()) -> String {
        let parted = Arc::new(Parted::default());
        let recorder = Recorder {
            exporter: PrometheusBuilder::new().build_recorder(),
            parted: Arc::clone(&parted),
        };
        metrics::with_local_recorder(&recorder, record);
        let mut page = Exposition::default();
        parted.show(&mut page);
        page.finish()
    }

    fn value(page: &str, part: &str, version: &str, bound: Option<&str>) -> f64 {
        let name = format!("{}_{part}", PERMIT_WAIT.name);
        let is = |sample: &Sample<'_>, label, text: &str| {
            sample
                .labels
                .iter()
                .any(|it| *it == (label, text.to_owned()))
        };
        let mut found = samples(page).filter(|sample| {
            let bound = bound.is_none_or(|bound| is(sample, "le", bound));
            sample.name == name && is(sample, "version", version) && bound
        });
        let value = found.next().map(|sample| sample.value);
        assert!(found.next().is_none(), "{name} stands twice: {page}");
        value.unwrap_or_else(|| panic!("{name} is not there: {page}"))
    }

    #[test]
    fn a_value_counts_within_its_bound_and_all_above_and_every_handle_of_a_series_is_the_same() {
        let page = page(|| {
            for millis in [1, 2, 9_000] {
                let wait = histogram!(PERMIT_WAIT.name, "version" => "v1");
                wait.record(Duration::from_millis(millis));
            }
            histogram!(PERMIT_WAIT.name, "version" => "v2").record_many(0.25, 4);
        });
        let v1 = |part, bound| value(&page, part, "v1", bound);
        assert_eq!(v1("bucket", Some("0.0005")), 0.0);
        assert_eq!(v1("bucket", Some("0.001")), 1.0);
        assert_eq!(v1("bucket", Some("0.005")), 2.0);
        assert_eq!(v1("bucket", Some("3")), 2.0);
        assert_eq!(v1("bucket", Some("+Inf")), 3.0);
        assert_eq!(v1("count", None), 3.0);
        assert_eq!(v1("sum", None), 9.003);
        assert_eq!(value(&page, "bucket", "v2", Some("0.5")), 4.0);
        assert_eq!(value(&page, "sum", "v2", None), 1.0);
    }

    #[test]
    fn every_histogram_that_is_recorded_has_room_for_its_buckets() {
        for metric in CATALOGUE {
            if let Kind::Histogram(bounds) = metric.kind {
                assert!(bounds.len() < BUCKETS_MAX, "{}", metric.name);
            }
        }
    }

    #[test]
    fn what_threads_record_is_one_series() {
        let page = page(|| {
            let wait = histogram!(PERMIT_WAIT.name, "version" => "v1");
            let swaps = counter!(SWAPS.name, "version" => "v1", "result" => "loaded");
            let calls = gauge!(CALLS_IN_FLIGHT.name, "version" => "v1");
            calls.increment(3.0);
            std::thread::scope(|scope| {
                for _ in 0..2 * PARTS {
                    scope.spawn(|| {
                        wait.record(0.5);
                        swaps.increment(2);
                        calls.increment(1.0);
                    });
                }
                scope.spawn(|| calls.decrement(10.0));
            });
        });
        assert_eq!(value(&page, "count", "v1", None), 8.0);
        assert_eq!(value(&page, "bucket", "v1", Some("0.5")), 8.0);
        assert_eq!(value(&page, "sum", "v1", None), 4.0);
        let swaps = "time_sale_strategy_swaps_total{application=\"time-sale-service\",version=\"v1\",result=\"loaded\"} 16\n";
        assert!(page.contains(swaps), "{page}");
        let calls =
            "time_sale_calls_in_flight{application=\"time-sale-service\",version=\"v1\"} 1\n";
        assert!(page.contains(calls), "{page}");
    }

    #[test]
    fn a_series_stands_at_0_before_its_first_value() {
        let page = page(|| {
            drop(histogram!(PERMIT_WAIT.name, "version" => "v1"));
            drop(counter!(SWAPS.name, "version" => "v1", "result" => "loaded"));
        });
        assert_eq!(value(&page, "count", "v1", None), 0.0);
        assert!(page.contains("result=\"loaded\"} 0\n"), "{page}");
        assert!(
            page.starts_with("# HELP time_sale_permit_wait_seconds "),
            "{page}"
        );
    }
}
