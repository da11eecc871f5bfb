//! How the clients of a cluster are set up, and where librdkafka's own words go.
//!
//! Each of the other files here opens its client with a configuration from here.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use rdkafka::statistics::{Statistics, Window};

use super::{KafkaOptions, unavailable};
use crate::backend::BackendError;
use crate::telemetry::queue::{KafkaClient, KafkaStage, kafka_client};

/// How long a request to a broker may go unanswered.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a member of the group may be silent before others take its partitions: the least that brokers allow by default.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// How often a member is heard, and hears that partitions are to move.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often the producer and the member of the group say what they measured.
const STATISTICS_EVERY: Duration = Duration::from_secs(5);
/// The longest pause between two tries to reach a broker.
const RECONNECT_MAX: Duration = Duration::from_millis(500);

/// The configurations of one host's clients.
#[derive(Clone)]
pub struct Settings {
    common: ClientConfig,
    group: String,
    produce_timeout: Duration,
}

impl Settings {
    /// Reads the properties file, where there is one.
    pub async fn read(options: &KafkaOptions) -> Result<Self, BackendError> {
        let mut common = ClientConfig::new();
        if let Some(path) = &options.properties_file {
            let text = tokio::fs::read_to_string(path)
                .await
                .map_err(unavailable("read the Kafka properties"))?;
            for (name, value) in properties(&text) {
                common.set(name, value);
            }
        }
        // After the file, which may not weaken what the log promises.
        common
            .set("bootstrap.servers", &options.brokers)
            .set("client.id", "timesale")
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", milliseconds(REQUEST_TIMEOUT))
            .set("reconnect.backoff.max.ms", milliseconds(RECONNECT_MAX))
            .set_log_level(RDKafkaLogLevel::Warning);
        Ok(Self {
            common,
            group: format!("{}{}", options.topic_prefix, options.group),
            produce_timeout: options.produce_timeout,
        })
    }

    /// For the client that makes topics.
    pub fn admin(&self) -> ClientConfig {
        self.common.clone()
    }

    /// For the producer: acknowledged by all in-sync replicas, never twice, never out of order.
    ///
    /// Records that come within `linger.ms` share a request, by which a broker's work is counted: 5 ms by default, here as with Kafka's own producer.
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.common.clone();
        let timeout = milliseconds(self.produce_timeout);
        config
            .set("statistics.interval.ms", milliseconds(STATISTICS_EVERY))
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", &timeout)
            .set("request.timeout.ms", &timeout)
            // The partitioner of Kafka's own clients, so that whoever else writes finds the same partition.
            .set("partitioner", "murmur2_random");
        config
    }

    /// For the client that joins the group.
    pub fn member(&self) -> ClientConfig {
        let mut config = self.observer();
        config
            .set("statistics.interval.ms", milliseconds(STATISTICS_EVERY))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", milliseconds(SESSION_TIMEOUT))
            .set("heartbeat.interval.ms", milliseconds(HEARTBEAT))
            .set("fetch.error.backoff.ms", "100");
        config
    }

    /// For clients that read what the group has and never join it.
    pub fn observer(&self) -> ClientConfig {
        let mut config = self.common.clone();
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            // A bound on memory; without the second line a reached bound stops the partition for a second.
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.queue.backoff.ms", "10");
        config
    }
}

/// Opens a client; no error names the value of a property, which may be a secret.
pub fn open<C, T>(
    config: &ClientConfig,
    context: C,
    operation: &'static str,
) -> Result<T, BackendError>
where
    C: ClientContext,
    T: FromClientConfigAndContext<C>,
{
    config
        .create_with_context(context)
        .map_err(|error| match error {
            KafkaError::ClientConfig(_, _, name, _) => {
                unavailable(operation)(format!("the property {name} or its value is not known"))
            }
            error => unavailable(operation)(error),
        })
}

/// Takes what librdkafka says of a client, which it says for each broker and each try, to the host's log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Voice;

impl ClientContext for Voice {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::warn!("Kafka {fac}: {message}"),
            _ => tracing::debug!("Kafka {fac}: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The log has said it, and whoever waits for an answer is told.
        tracing::debug!("{error}: {reason}");
    }

    fn stats(&self, statistics: Statistics) {
        measure(&statistics);
    }
}

impl ConsumerContext for Voice {}

/// Hands on how long the slowest broker kept records and requests; of a stage that had none nothing is said.
fn measure(statistics: &Statistics) {
    let client = match statistics.client_type.as_str() {
        "producer" => KafkaClient::Producer,
        _ => KafkaClient::Consumer,
    };
    let brokers = || statistics.brokers.values();
    let queue = brokers().filter_map(|it| it.int_latency.as_ref());
    let send = brokers().filter_map(|it| it.outbuf_latency.as_ref());
    let round_trip = brokers().filter_map(|it| it.rtt.as_ref());
    for (stage, windows) in [
        (KafkaStage::Queue, queue.collect::<Vec<&Window>>()),
        (KafkaStage::Send, send.collect()),
        (KafkaStage::RoundTrip, round_trip.collect()),
    ] {
        let slowest = windows
            .into_iter()
            .filter(|window| window.cnt > 0)
            .max_by_key(|window| window.max);
        if let Some(window) = slowest {
            let [mean, longest] = [window.avg, window.max]
                .map(|micros| Duration::from_micros(micros.max(0).unsigned_abs()));
            kafka_client(client, stage, mean, longest);
        }
    }
}

/// The names and values of a properties file; blank lines and those that begin with `#` say nothing.
pub fn properties(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once('=').unwrap_or((line, "")))
        .map(|(name, value)| (name.trim(), value.trim()))
}

fn milliseconds(duration: Duration) -> String {
    duration.as_millis().to_string()
}
