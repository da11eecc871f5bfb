//! How things are done: the host's clients of outside systems, or their embedded stand-ins.
//!
//! The only rooms that know SQL, Kafka, Redis and the files of the embedded stand-ins.
//! `capability` calls them for strategies, `http` and `settlement` for the host itself.
//! Whoever calls awaits a future to its end, so that nobody has to guess what was done; one that is dropped all the same leaves no connection inside a transaction.

pub mod database;
pub mod group_commit;
pub mod kafka;
mod keyed;
pub mod log;
pub mod memory;
mod once;
pub mod places;
pub mod postgres;
pub mod probe;
pub mod queue;
pub mod record;
pub mod redis;
pub mod shared_memory;
pub mod shared_reads;
pub mod sold_out;
pub mod sqlite;
mod turns;

use std::{
    error::Error,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use self::database::Denial;
use crate::{
    domain::{Order, Place, Refusal, Request, RequestId, RevisionId, Sale, SaleId, Ticket},
    telemetry::queue::QueueMetrics,
};

/// Every backend of a host.
pub struct Backends {
    /// The database: the truth of what is final.
    pub database: Arc<database::Database>,
    /// Purchases that share a commit.
    pub group_commit: group_commit::GroupCommit,
    /// The shared memory: copies, and locks.
    pub redis: shared_memory::SharedMemory,
    /// The log: the truth of what is pending.
    pub kafka: queue::Queue,
    /// Where recent requests stand in the log.
    pub places: places::Places,
    /// What is known to be sold out for ever.
    pub sold_out: Arc<sold_out::SoldOut>,
    /// Sales that are being read, by several at once.
    pub sale_reads: shared_reads::SharedReads,
    /// What is recorded of the log and the caches.
    pub queue_metrics: QueueMetrics,
}

impl Backends {
    /// Makes a request durable in the log, to be settled later.
    ///
    /// Its idempotency key is claimed before and gets the place after, so that a host that stops in between leaves a claim without a place: whoever meets it hands the request in again, which has no second effect.
    pub async fn accept(&self, request: &Request) -> Result<Ticket, BackendError> {
        self.database.claim_key(request).await?;
        let accepted = self.hand_in(request).await;
        // What has just been claimed and found no room is in no log. A claim that was met may be in it.
        if let (Err(BackendError::Full { .. }), Some(key)) = (&accepted, &request.key) {
            self.database.release_key(key).await?;
        }
        accepted
    }

    /// Publishes a request whose key is claimed; a second copy has no effect, since a request is settled once.
    pub async fn hand_in(&self, request: &Request) -> Result<Ticket, BackendError> {
        let record = record::encode(request).map_err(|error| {
            BackendError::unavailable(System::Kafka, "encode the request", error)
        })?;
        let sent = Instant::now();
        let ticket = self.kafka.submit(record).await?;
        self.queue_metrics.sent(sent.elapsed());
        self.places.note(&request.id, ticket.place);
        if let Err(error) = self.database.place_key(request, &ticket).await {
            tracing::warn!(request.id = %request.id, "the key's place is not recorded: {error}");
        }
        Ok(ticket)
    }

    /// Places the order for a request whose buyer waits, in a commit that it may share with others; as `GroupCommit::purchase`.
    ///
    /// One without a key that is known to be refused for ever costs nothing; one with a key may have been sold to before.
    pub async fn purchase(
        &self,
        request: &Request,
        settling: &RevisionId,
        leave: impl Future<Output = ()>,
    ) -> Result<Option<Result<Order, Denial>>, BackendError> {
        if request.key.is_none()
            && let Some(sale) = self.sold_out.get(request.sale_id)
            && let Some(rejection) = request.refused_by(Some(&sale))
        {
            return Ok(Some(Err(Denial::Refused(Refusal::Rejected(rejection)))));
        }
        self.group_commit.purchase(request, settling, leave).await
    }

    /// The sale as last committed; one that is known to be sold out for ever costs no read, and one that many ask for at once is read once for all of them.
    pub async fn find_sale(&self, id: SaleId) -> Result<Option<Sale>, BackendError> {
        if let Some(sale) = self.sold_out.get(id) {
            return Ok(Some(sale));
        }
        // Large, and for one of many who ask: it is made where it is.
        let read = async || Box::pin(self.database.sale(id)).await;
        let sale = self.sale_reads.read(id, read).await?;
        if let Some(sale) = &sale {
            self.sold_out.note(sale);
        }
        Ok(sale)
    }

    /// Where a request stands among those that wait, and how many do; none when it does not wait.
    pub async fn standing(
        &self,
        request: &RequestId,
        place: Option<Place>,
    ) -> Result<Option<(u64, u64)>, BackendError> {
        let known = place.or_else(|| self.places.get(request));
        let place = match known {
            Some(place) => Some(place),
            None => self.kafka.find(request).await?,
        };
        match place {
            Some(place) => self.kafka.standing(place).await,
            None => Ok(None),
        }
    }
}

/// How long the shared memory keeps a value at most.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The outside systems that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum System {
    /// The database.
    Database,
    /// The shared memory.
    Redis,
    /// The log.
    Kafka,
}

impl System {
    /// Its name among the capabilities, in health and in the metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Database => "db",
            Self::Redis => "redis",
            Self::Kafka => "kafka",
        }
    }
}

/// Why a backend did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackendError {
    /// A lock was not had in time: a row's, the database's one writer, a connection of the pool.
    #[error("{operation}: the lock was not had in time")]
    LockTimeout {
        /// What was tried.
        operation: &'static str,
    },
    /// A later holder of the lock has written to the sale.
    #[error("a later holder of the lock has written to the sale")]
    LockLost,
    /// The request, or its idempotency key, is decided or taken by another call.
    #[error("the request is decided or taken by another call")]
    Duplicate,
    /// A bound of the backend is reached: the queue's length, the memory's size.
    #[error("{what} is full")]
    Full {
        /// Whose bound it is.
        what: &'static str,
    },
    /// The value under this key is not of the kind that the operation wants.
    #[error("the value is not {wanted}")]
    WrongValue {
        /// The kind wanted.
        wanted: &'static str,
    },
    /// The system did not answer, or answered with a fault of its own.
    #[error("{operation}: {cause}")]
    Unavailable {
        /// Which system.
        system: System,
        /// What was tried.
        operation: &'static str,
        /// What it said; logged, never sent.
        cause: Arc<dyn Error + Send + Sync>,
    },
}

impl BackendError {
    /// That a system did not do what was tried, and what it said.
    pub fn unavailable(
        system: System,
        operation: &'static str,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable {
            system,
            operation,
            cause: Arc::from(cause.into()),
        }
    }
}
