//! Recording that can be stopped and begun again while the host runs: the other side of the benchmark that says what metrics cost.
//!
//! SIGUSR1 stops it and SIGUSR2 begins it again; it is to be sent while no call runs, or what the call began to count is never counted down.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tokio::signal::unix::{SignalKind, signal};

static RECORDS: AtomicBool = AtomicBool::new(true);

/// A recorder, or a handle of it, that does nothing while recording is stopped.
pub struct Switched<T>(T);

/// Has a recorder do as the signals say; must be called within a runtime.
pub fn switched<R: Recorder>(recorder: R) -> io::Result<Switched<R>> {
    for (kind, records) in [
        (SignalKind::user_defined1(), false),
        (SignalKind::user_defined2(), true),
    ] {
        let mut signals = signal(kind)?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                RECORDS.store(records, Ordering::Relaxed);
            }
        });
    }
    Ok(Switched(recorder))
}

impl<T> Switched<T> {
    fn with(&self, record: impl FnOnce(&T)) {
        if RECORDS.load(Ordering::Relaxed) {
            record(&self.0);
        }
    }
}

impl CounterFn for Switched<Counter> {
    fn increment(&self, value: u64) {
        self.with(|counter| counter.increment(value));
    }

    fn absolute(&self, value: u64) {
        self.with(|counter| counter.absolute(value));
    }
}

impl GaugeFn for Switched<Gauge> {
    fn increment(&self, value: f64) {
        self.with(|gauge| gauge.increment(value));
    }

    fn decrement(&self, value: f64) {
        self.with(|gauge| gauge.decrement(value));
    }

    fn set(&self, value: f64) {
        self.with(|gauge| gauge.set(value));
    }
}

impl HistogramFn for Switched<Histogram> {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        self.with(|histogram| histogram.record_many(value, count));
    }
}

impl<R: Recorder> Recorder for Switched<R> {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.0.describe_counter(key, unit, help);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.0.describe_gauge(key, unit, help);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.0.describe_histogram(key, unit, help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Switched(self.0.register_counter(key, metadata))))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Switched(self.0.register_gauge(key, metadata))))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Switched(self.0.register_histogram(key, metadata))))
    }
}
