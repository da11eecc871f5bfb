//! What needs the cluster of `KAFKA_BROKERS`: the edge around the committed offsets, and partitions that go and come back.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Outcome;
use crate::backend::kafka::{Cluster, KafkaOptions};
use crate::backend::log::{DEAD_LETTERS, NewRecord, REQUESTS};
use crate::domain::RequestId;

/// Two partitions in a corner of the cluster that is the test's own.
fn corner() -> Result<KafkaOptions, std::env::VarError> {
    Ok(KafkaOptions {
        brokers: std::env::var("KAFKA_BROKERS")?,
        properties_file: None,
        group: "test".to_owned(),
        topic_prefix: format!("test_{:016x}.", rand::random::<u64>()),
        partitions: 2,
        backlog_max: 10_000,
        produce_timeout: Duration::from_secs(30),
    })
}

fn request(number: u32, sale: u8) -> NewRecord {
    NewRecord {
        key: vec![sale],
        value: b"value".to_vec(),
        headers: Vec::new(),
        request_id: Some(RequestId(format!("request {number}").into())),
    }
}

async fn clear(corner: &KafkaOptions) -> Outcome {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &corner.brokers)
        .create()?;
    let topics = [REQUESTS, DEAD_LETTERS].map(|topic| format!("{}{topic}", corner.topic_prefix));
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    admin.delete_topics(&topics, &AdminOptions::new()).await?;
    Ok(())
}

#[tokio::test]
async fn the_edge_is_what_is_settled_last_and_what_waits() -> Outcome {
    let corner = corner()?;
    let cluster = Cluster::open(&corner).await?;
    let empty = cluster.edge(Timestamp::MAX, 10).await?;
    assert_eq!(
        (empty.settled.len(), empty.oldest, empty.late),
        (0, None, 0)
    );
    for sale in 0..8 {
        cluster.submit(request(sale.into(), sale)).await?;
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
    clear(&corner).await
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_were_full_when_another_host_took_them_are_fetched_again() -> Outcome {
    /// So many fill the lines of both partitions, whichever sales each of them has.
    const REQUESTS: u32 = 6_400;
    /// What two full lines hold.
    const FULL: usize = 2 * 2_048;
    let corner = corner()?;
    let first = Arc::new(Cluster::open(&corner).await?);
    let mut submits = JoinSet::new();
    for (number, sale) in (0..REQUESTS).zip((0..=u8::MAX).cycle()) {
        let first = Arc::clone(&first);
        submits.spawn(async move { first.submit(request(number, sale)).await });
    }
    while let Some(submitted) = submits.join_next().await {
        submitted??;
    }
    while first.next_batch(FULL).await.records.len() < FULL {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = Cluster::open(&corner).await?;
    assert!(!second.next_batch(1).await.records.is_empty());
    second.close().await;
    let all_settled = async {
        while first.lags().iter().any(|(_, lag)| *lag > 0) {
            let batch = first.next_batch(256).await;
            // While partitions move, a commit may come too late: the batch is given again.
            let _ = first.commit(&batch).await;
        }
    };
    timeout(Duration::from_secs(60), all_settled).await?;
    first.close().await;
    clear(&corner).await
}
