//! What is recorded of the log's two ends and of the strategies' caches.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::{catalogue, labels::DeadLetter, peak::Peak};

/// What is recorded of the log's two ends and of the strategies' caches.
pub struct QueueMetrics {
    send: Histogram,
    send_max: (Peak, Gauge),
    processing: Histogram,
    processing_max: (Peak, Gauge),
    dead_letters: Vec<Counter>,
    cache: [Counter; 2],
}

impl Default for QueueMetrics {
    /// Looks up every handle, and so exports the counters at 0.
    fn default() -> Self {
        let cache =
            |result: &'static str| counter!(catalogue::CACHE_REQUESTS.name, "result" => result);
        Self {
            send: histogram!(catalogue::PRODUCER_SEND.name),
            send_max: (Peak::default(), gauge!(catalogue::PRODUCER_SEND_MAX.name)),
            processing: histogram!(catalogue::CONSUMER_PROCESSING.name),
            processing_max: (
                Peak::default(),
                gauge!(catalogue::CONSUMER_PROCESSING_MAX.name),
            ),
            dead_letters: DeadLetter::ALL
                .iter()
                .map(|reason| counter!(catalogue::DEAD_LETTERS.name, "reason" => reason.label()))
                .collect(),
            cache: [cache("hit"), cache("miss")],
        }
    }
}

/// A client of the cluster that is measured from inside.
#[derive(Debug, Clone, Copy)]
pub enum KafkaClient {
    /// The one that sends.
    Producer,
    /// The member of the group; its round trips include the brokers' wait for records.
    Consumer,
}

/// Where a record or request spent its time within a client.
#[derive(Debug, Clone, Copy)]
pub enum KafkaStage {
    /// A record in the producer's queue.
    Queue,
    /// A request before it was on the wire.
    Send,
    /// A request until its answer.
    RoundTrip,
}

/// Shows what a client of the cluster measured of a stage over its last interval.
pub fn kafka_client(client: KafkaClient, stage: KafkaStage, mean: Duration, longest: Duration) {
    let client = match client {
        KafkaClient::Producer => "producer",
        KafkaClient::Consumer => "consumer",
    };
    let stage = match stage {
        KafkaStage::Queue => "queue",
        KafkaStage::Send => "send",
        KafkaStage::RoundTrip => "round_trip",
    };
    for (statistic, value) in [("avg", mean), ("max", longest)] {
        gauge!(
            catalogue::KAFKA_CLIENT_LATENCY.name,
            "client" => client,
            "stage" => stage,
            "statistic" => statistic
        )
        .set(value);
    }
}

impl QueueMetrics {
    /// For backends of a probe, of which nothing is exported.
    pub fn unrecorded() -> Self {
        Self {
            send: Histogram::noop(),
            send_max: (Peak::default(), Gauge::noop()),
            processing: Histogram::noop(),
            processing_max: (Peak::default(), Gauge::noop()),
            dead_letters: Vec::new(),
            cache: [Counter::noop(), Counter::noop()],
        }
    }

    /// Records a send that the log acknowledged.
    pub fn sent(&self, took: Duration) {
        self.send.record(took);
        self.send_max.0.note(took.as_secs_f64());
    }

    /// Records a batch that was settled, once for each of its records.
    pub fn processed(&self, records: usize, took: Duration) {
        self.processing.record_many(took, records);
        self.processing_max.0.note(took.as_secs_f64());
    }

    /// Records a record that went to the dead letters.
    pub fn dead_letter(&self, reason: DeadLetter) {
        if let Some(counter) = self.dead_letters.get(reason as usize) {
            counter.increment(1);
        }
    }

    /// Records a read of a cache.
    pub fn cache_read(&self, hit: bool) {
        let [hits, misses] = &self.cache;
        (if hit { hits } else { misses }).increment(1);
    }

    /// Shows the peaks of the last minute.
    pub fn show_peaks(&self) {
        for (peak, shown) in [&self.send_max, &self.processing_max] {
            shown.set(peak.get());
        }
    }

    /// Begins a new half minute of peaks.
    pub fn rotate_peaks(&self) {
        for (peak, _) in [&self.send_max, &self.processing_max] {
            peak.rotate();
        }
    }
}
