//! Looks for a request among those that wait, by reading them.
//!
//! `Cluster` asks it for who does not know the request's place. It reads apart from the group and moves none of its offsets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::spawn_blocking;

use super::marks::{Mark, Marks};
use super::settings::{self, Settings, Voice};
use super::{message, unavailable};
use crate::backend::BackendError;
use crate::domain::{Place, RequestId};

/// How long a search may take.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// Searches that run or wait for their turn.
const SEARCHES_MAX: usize = 16;
const OPERATION: &str = "find the request";

/// Searches, one at a time.
pub struct Search {
    settings: Settings,
    topic: Arc<str>,
    turn: Arc<Mutex<()>>,
    line: Semaphore,
}

impl Search {
    /// Will search this topic.
    pub fn new(settings: Settings, topic: String) -> Self {
        Self {
            settings,
            topic: topic.into(),
            turn: Arc::default(),
            line: Semaphore::new(SEARCHES_MAX),
        }
    }

    /// The first record of a request among those that wait when its turn comes.
    ///
    /// Fails with `Full` where too many search, and with `Unavailable` when it cannot read them all in some seconds.
    pub async fn find(
        &self,
        request: &RequestId,
        marks: &watch::Sender<Marks>,
    ) -> Result<Option<Place>, BackendError> {
        let _place = self.line.try_acquire().map_err(|_| BackendError::Full {
            what: "the line of searches",
        })?;
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let unsettled = marks.borrow().unsettled();
        if unsettled.is_empty() {
            return Ok(None);
        }
        let (settings, topic) = (self.settings.clone(), Arc::clone(&self.topic));
        let request = request.clone();
        spawn_blocking(move || {
            let _turn = turn;
            let client = settings::open(&settings.observer(), Voice, OPERATION)?;
            search(&client, &topic, &request, unsettled)
        })
        .await
        .map_err(unavailable(OPERATION))?
    }
}

/// Reads between the marks until the request is found or all is read; blocks.
fn search(
    client: &BaseConsumer<Voice>,
    topic: &str,
    request: &RequestId,
    mut unread: BTreeMap<u32, Mark>,
) -> Result<Option<Place>, BackendError> {
    let mut list = TopicPartitionList::new();
    for (partition, mark) in &unread {
        let offset = Offset::Offset(message::offset(mark.committed));
        list.add_partition_offset(topic, message::partition(*partition), offset)
            .map_err(unavailable(OPERATION))?;
    }
    client.assign(&list).map_err(unavailable(OPERATION))?;
    drop(list);
    let began = Instant::now();
    while !unread.is_empty() {
        if began.elapsed() > SEARCH_TIMEOUT {
            return Err(unavailable(OPERATION)("the log was not read in time"));
        }
        // A fault is librdkafka's to get over, in the time that is left.
        let Some(Ok(fetched)) = client.poll(POLL) else {
            continue;
        };
        let Some(record) = message::record(&fetched) else {
            continue;
        };
        let Place { partition, offset } = record.place;
        if record.request_id.as_ref() == Some(request) {
            return Ok(Some(record.place));
        }
        if unread
            .get(&partition)
            .is_some_and(|mark| offset + 1 >= mark.end)
        {
            unread.remove(&partition);
        }
    }
    Ok(None)
}
