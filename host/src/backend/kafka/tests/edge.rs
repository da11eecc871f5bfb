//! What is read on both sides of the committed offsets, on the cluster of `KAFKA_BROKERS`.

use std::time::Duration;

use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::Outcome;
use crate::backend::kafka::{Cluster, KafkaOptions};
use crate::backend::log::{DEAD_LETTERS, NewRecord, REQUESTS};
use crate::domain::RequestId;

#[tokio::test]
async fn the_edge_is_what_is_settled_last_and_what_waits() -> Outcome {
    let brokers = std::env::var("KAFKA_BROKERS")?;
    let topic_prefix = format!("test_{:016x}.", rand::random::<u64>());
    let options = KafkaOptions {
        brokers: brokers.clone(),
        properties_file: None,
        group: "edge".to_owned(),
        topic_prefix: topic_prefix.clone(),
        partitions: 2,
        backlog_max: 100,
        produce_timeout: Duration::from_secs(30),
    };
    let cluster = Cluster::open(&options).await?;
    let empty = cluster.edge(Timestamp::MAX, 10).await?;
    assert_eq!(
        (empty.settled.len(), empty.oldest, empty.late),
        (0, None, 0)
    );
    for sale in 0..8 {
        let record = NewRecord {
            key: vec![sale],
            value: b"value".to_vec(),
            headers: Vec::new(),
            request_id: Some(RequestId(format!("request {sale}"))),
        };
        cluster.submit(record).await?;
    }
    let later = Timestamp::now() + Duration::from_secs(3_600);
    let all_wait = cluster.edge(later, 10).await?;
    assert_eq!((all_wait.settled.len(), all_wait.late), (0, 8));
    let oldest = all_wait.oldest.ok_or("none is the oldest")?;
    assert_eq!(cluster.edge(oldest, 10).await?.late, 0);
    let mut settled = 0;
    while settled < 8 {
        let batch = cluster.next_batch(100).await;
        settled += batch.records.len();
        cluster.commit(&batch).await?;
    }
    let none_waits = cluster.edge(later, 100).await?;
    let read = (none_waits.settled.len(), none_waits.oldest, none_waits.late);
    assert_eq!(read, (8, None, 0));
    // The last of each partition.
    assert_eq!(cluster.edge(later, 2).await?.settled.len(), 2);
    cluster.close().await;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .create()?;
    let topics = [REQUESTS, DEAD_LETTERS].map(|topic| format!("{topic_prefix}{topic}"));
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    admin.delete_topics(&topics, &AdminOptions::new()).await?;
    Ok(())
}
