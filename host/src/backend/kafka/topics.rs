//! Topics, made where they are missing.
//!
//! `Cluster` names every topic through it, so that all have the prefix.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::settings::{self, REQUEST_TIMEOUT, Settings, Voice};
use super::{message, unavailable};
use crate::backend::BackendError;

/// The cluster's own number of replicas.
const REPLICAS: TopicReplication<'static> = TopicReplication::Fixed(-1);
const OPERATION: &str = "make the topic";

/// The topics of a cluster, by the names that the host knows them by.
pub struct Topics {
    admin: Arc<AdminClient<Voice>>,
    prefix: String,
    partitions: u32,
    known: Mutex<HashSet<String>>,
}

impl Topics {
    /// Starts the client that makes topics.
    pub fn open(
        settings: &Settings,
        prefix: String,
        partitions: u32,
    ) -> Result<Self, BackendError> {
        let admin = settings::open(&settings.admin(), Voice, "connect to Kafka")?;
        Ok(Self {
            admin: Arc::new(admin),
            prefix,
            partitions,
            known: Mutex::default(),
        })
    }

    /// The name that the cluster knows a topic by.
    pub fn name(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// Makes a topic if the cluster has none of that name; asks the cluster once for each.
    pub async fn ensure(&self, topic: &str) -> Result<(), BackendError> {
        let known = |known: &mut HashSet<String>| known.contains(topic);
        if self.known(known) {
            return Ok(());
        }
        let admin = Arc::clone(&self.admin);
        let (name, partitions) = (self.name(topic), self.partitions);
        spawn_blocking(move || make(&admin, &name, partitions))
            .await
            .map_err(unavailable(OPERATION))??;
        self.known(|known| known.insert(topic.to_owned()));
        Ok(())
    }

    fn known<T>(&self, look: impl FnOnce(&mut HashSet<String>) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Asks the cluster for a topic, and for a new one where it has none; blocks.
fn make(admin: &AdminClient<Voice>, name: &str, partitions: u32) -> Result<(), BackendError> {
    let metadata = admin
        .inner()
        .fetch_metadata(Some(name), REQUEST_TIMEOUT)
        .map_err(unavailable(OPERATION))?;
    let there = |topic: &rdkafka::metadata::MetadataTopic| {
        topic.name() == name && topic.error().is_none() && !topic.partitions().is_empty()
    };
    if metadata.topics().iter().any(there) {
        return Ok(());
    }
    let topic = NewTopic::new(name, message::partition(partitions), REPLICAS);
    let options = AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT));
    let made = Handle::current()
        .block_on(admin.create_topics([&topic], &options))
        .map_err(unavailable(OPERATION))?;
    for result in made {
        match result {
            Ok(_) => tracing::info!(topic = name, partitions, "made a topic"),
            // Another host was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(unavailable(OPERATION)(code)),
        }
    }
    Ok(())
}
