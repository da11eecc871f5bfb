//! The idempotent producer.
//!
//! `Cluster` sends through it. A producer that librdkafka declares dead, as it does when the cluster has forgotten its sequence, is replaced.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use tokio::task::spawn_blocking;

use super::message;
use super::settings::{self, REQUEST_TIMEOUT, Settings, Voice};
use super::unavailable;
use crate::backend::BackendError;
use crate::backend::log::NewRecord;
use crate::domain::Place;

/// Sends records, one future for each.
pub struct Sender {
    settings: Settings,
    /// None once it is closed.
    producer: Mutex<Option<FutureProducer<Voice>>>,
}

impl Sender {
    /// Starts a producer, which connects by itself.
    pub fn open(settings: Settings) -> Result<Self, BackendError> {
        let producer = start(&settings)?;
        Ok(Self {
            settings,
            producer: Mutex::new(Some(producer)),
        })
    }

    /// Sends a record, and returns once all in-sync replicas have it.
    pub async fn send(
        &self,
        topic: &str,
        record: &NewRecord,
        operation: &'static str,
    ) -> Result<Place, BackendError> {
        let producer = self.current().clone();
        let producer = producer.ok_or_else(|| unavailable(operation)("the log is closed"))?;
        let mut message = FutureRecord::to(topic)
            .payload(&record.value)
            .headers(message::headers(record));
        if !record.key.is_empty() {
            message = message.key(&record.key);
        }
        match producer.send(message, Duration::ZERO).await {
            Ok(delivery) => message::place(delivery.partition, delivery.offset)
                .ok_or_else(|| unavailable(operation)("the cluster named no place")),
            Err((error, _)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
                    return Err(BackendError::Full {
                        what: "the producer",
                    });
                }
                self.replace_if_dead(&producer);
                Err(unavailable(operation)(error))
            }
        }
    }

    /// Waits for what is being sent, and stops the producer.
    pub async fn close(&self) {
        let Some(producer) = self.current().take() else {
            return;
        };
        // Nothing is left to be told: whoever sent has the answer.
        let stopped = spawn_blocking(move || producer.flush(REQUEST_TIMEOUT)).await;
        if let Ok(Err(error)) = stopped {
            tracing::warn!("records were not acknowledged before the close: {error}");
        }
    }

    /// Starts another producer in the place of one that cannot go on.
    fn replace_if_dead(&self, producer: &FutureProducer<Voice>) {
        let Some((_, reason)) = producer.client().fatal_error() else {
            return;
        };
        let mut current = self.current();
        let same = |other: &FutureProducer<Voice>| {
            std::ptr::eq(other.client().native_ptr(), producer.client().native_ptr())
        };
        // Many records fail together; the first to get here replaces it.
        if !current.as_ref().is_some_and(same) {
            return;
        }
        match start(&self.settings) {
            Ok(another) => {
                tracing::warn!("the producer is replaced: {reason}");
                *current = Some(another);
            }
            Err(error) => tracing::error!("the producer is dead and cannot be replaced: {error}"),
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<FutureProducer<Voice>>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(settings: &Settings) -> Result<FutureProducer<Voice>, BackendError> {
    settings::open(&settings.producer(), Voice, "start the producer")
}
