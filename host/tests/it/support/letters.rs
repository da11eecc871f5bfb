//! The dead letters, read beside the host and without it.

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{Headers as _, OwnedMessage},
};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{PATIENCE, Setup, ledger};

const TOPIC: &str = "time-sale-requests.DLT";
const REASON: &str = "dead-letter-reason";

/// A record among the dead letters.
#[derive(Debug, PartialEq)]
pub struct DeadLetter {
    /// Empty where the record did not say.
    pub request_id: String,
    pub reason: String,
}

/// Every dead letter, in the order of each partition.
pub async fn dead_letters(setup: &Setup) -> Vec<DeadLetter> {
    match setup.world().kafka(TOPIC) {
        None => in_the_log(setup).await,
        Some((brokers, topic)) => {
            let read = tokio::task::spawn_blocking(move || read(&brokers, &topic));
            read.await.unwrap().iter().map(letter).collect()
        }
    }
}

async fn in_the_log(setup: &Setup) -> Vec<DeadLetter> {
    let mut log = ledger::open(setup.data(), "log.db").await;
    let letters =
        sqlx::query("SELECT request_id, headers FROM records WHERE topic = $1 ORDER BY log_offset");
    let rows = letters.bind(TOPIC).fetch_all(&mut log).await.unwrap();
    let letter = |row: &SqliteRow| {
        let headers: Vec<(String, Vec<u8>)> = serde_json::from_str(row.get("headers")).unwrap();
        let reason = headers.into_iter().find(|(name, _)| name == REASON);
        DeadLetter {
            request_id: row.get::<Option<_>, _>("request_id").unwrap_or_default(),
            reason: String::from_utf8(reason.unwrap().1).unwrap(),
        }
    };
    rows.iter().map(letter).collect()
}

/// Reads a topic from its beginning to the end that it has now; joins no group.
pub fn read(brokers: &str, topic: &str) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "nobody")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut assigned = TopicPartitionList::new();
    let mut records = 0;
    for partition in metadata.topics()[0].partitions() {
        let (first, end) = consumer
            .fetch_watermarks(topic, partition.id(), PATIENCE)
            .unwrap();
        records += end - first;
        assigned
            .add_partition_offset(topic, partition.id(), Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&assigned).unwrap();
    drop(assigned);
    let next = |_| consumer.poll(PATIENCE).unwrap().unwrap().detach();
    (0..records).map(next).collect()
}

fn letter(message: &OwnedMessage) -> DeadLetter {
    let header = |name| {
        let mut headers = message.headers().unwrap().iter();
        let header = headers.find(|header| header.key == name)?;
        Some(String::from_utf8(header.value.unwrap().to_vec()).unwrap())
    };
    DeadLetter {
        request_id: header("requestId").unwrap_or_default(),
        reason: header(REASON).unwrap(),
    }
}
