//! The topic of requests and its consumer group, written, read and turned back beside the host and without it.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    message::{Header, Headers as _, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord},
};
use tokio::task::block_in_place;

use super::{PATIENCE, Setup, eventually, letters};

const REQUESTS: &str = "time-sale-requests";
const GROUP: &str = "time-sale-group";

/// The requests of one world. It blocks, and so belongs into tests of several threads.
pub struct Topic {
    brokers: String,
    name: String,
    /// Speaks for the group and never joins it.
    group: BaseConsumer,
    producer: FutureProducer,
}

/// What a record says; absent is not empty.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Topic {
    pub fn of(setup: &Setup) -> Self {
        let (brokers, name) = setup.world().kafka(REQUESTS).unwrap();
        let (_, group) = setup.world().kafka(GROUP).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &brokers);
        // As much as the brokers take, and where the host itself would put it.
        let producer = config
            .clone()
            .set("message.max.bytes", "1048588")
            .set("partitioner", "murmur2_random")
            .create();
        let group = config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .create();
        Self {
            brokers,
            name,
            group: group.unwrap(),
            producer: producer.unwrap(),
        }
    }

    /// Appends a record.
    pub async fn put(&self, message: &Message) {
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.name);
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        if !message.headers.is_empty() {
            let none = OwnedHeaders::new();
            let headers = message.headers.iter().fold(none, |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(value),
                })
            });
            record = record.headers(headers);
        }
        self.producer.send(record, Duration::ZERO).await.unwrap();
    }

    /// Every record so far.
    pub fn messages(&self) -> Vec<Message> {
        let read = block_in_place(|| letters::read(&self.brokers, &self.name));
        read.iter().map(Message::of).collect()
    }

    /// Appends a copy of every record so far; hands back of how many.
    pub async fn repeat(&self) -> usize {
        let messages = self.messages();
        for message in &messages {
            self.put(message).await;
        }
        messages.len()
    }

    /// Has the group, which no host may be in, begin again.
    pub fn rewind(&self) {
        block_in_place(|| {
            let mut beginning = TopicPartitionList::new();
            for (partition, _) in self.ends() {
                beginning
                    .add_partition_offset(&self.name, partition, Offset::Offset(0))
                    .unwrap();
            }
            self.group.commit(&beginning, CommitMode::Sync).unwrap();
        });
    }

    /// Waits until the group has settled every record so far.
    pub async fn settled(&self) {
        let ends = block_in_place(|| self.ends());
        eventually("the log is settled", async || {
            let committed = block_in_place(|| self.committed(&ends));
            if committed == ends {
                Ok(())
            } else {
                Err((committed, ends.clone()))
            }
        })
        .await;
    }

    /// Partitions that have records, and where they end.
    fn ends(&self) -> Vec<(i32, i64)> {
        let metadata = self.group.fetch_metadata(Some(&self.name), PATIENCE);
        let metadata = metadata.unwrap();
        let partitions = metadata.topics()[0].partitions().iter();
        let end = |partition: i32| {
            let marks = self.group.fetch_watermarks(&self.name, partition, PATIENCE);
            (partition, marks.unwrap().1)
        };
        let ends = partitions.map(|partition| end(partition.id()));
        ends.filter(|(_, end)| *end > 0).collect()
    }

    /// How far the group has committed these partitions; 0 where it has not.
    fn committed(&self, partitions: &[(i32, i64)]) -> Vec<(i32, i64)> {
        let mut list = TopicPartitionList::new();
        for (partition, _) in partitions {
            list.add_partition(&self.name, *partition);
        }
        let committed = self.group.committed_offsets(list, PATIENCE).unwrap();
        let elements = committed.elements();
        let offset = |offset: Offset| match offset {
            Offset::Offset(offset) => offset,
            _ => 0,
        };
        elements
            .iter()
            .map(|element| (element.partition(), offset(element.offset())))
            .collect()
    }
}

impl Message {
    fn of(message: &OwnedMessage) -> Self {
        let headers = message.headers().into_iter();
        Self {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers
                .flat_map(|headers| headers.iter())
                .map(|header| (header.key.to_owned(), header.value.unwrap().to_vec()))
                .collect(),
        }
    }
}
