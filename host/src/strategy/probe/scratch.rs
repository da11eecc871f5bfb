//! Backends that serve one probe and are thrown away: embedded, bounded, recorded nowhere.
//!
//! The probe sells on them, and `timesale plugin check` has components describe themselves beside them.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;

use super::NotProbed;
use crate::{
    backend::{
        BackendError, Backends, TTL_MAX,
        database::Database,
        group_commit::GroupCommit,
        log::{Log, LogOptions},
        memory::{Memory, MemoryOptions},
        places::Places,
        queue::Queue,
        shared_memory::SharedMemory,
        shared_reads::SharedReads,
        sold_out::SoldOut,
        sqlite::{Keeping, Sqlite, SqliteOptions},
    },
    config::Limits,
    strategy::{Means, engine::Engine},
    telemetry::queue::QueueMetrics,
};

/// Connections that read.
const READERS: u32 = 2;
/// Requests that may wait to be settled: more than a probe makes.
const BACKLOG_MAX: u64 = 1_000;
/// What the stand-in for Redis keeps.
const REDIS_BOUNDS: MemoryOptions = MemoryOptions {
    entries_max: 10_000,
    bytes_max: 16 << 20,
    ttl_max: TTL_MAX,
};

/// What calls need to run beside the real backends.
pub struct Scratch {
    /// The means, on scratch backends.
    pub means: Arc<Means>,
    folder: TempDir,
}

impl Scratch {
    /// Makes backends in a folder of their own, below the one for temporary files.
    pub async fn open(engine: &Arc<Engine>, limits: &Arc<Limits>) -> Result<Self, NotProbed> {
        let not_made = |cause: Box<dyn std::error::Error + Send + Sync>| NotProbed {
            folder: std::env::temp_dir().display().to_string(),
            cause,
        };
        let folder =
            TempDir::with_prefix("timesale-probe-").map_err(|error| not_made(error.into()))?;
        let backends = backends(&folder, limits).await;
        Ok(Self {
            means: Arc::new(Means {
                engine: Arc::clone(engine),
                backends: Arc::new(backends.map_err(|error| not_made(error.into()))?),
                limits: Arc::clone(limits),
            }),
            folder,
        })
    }

    /// Closes the backends and removes what they kept.
    pub async fn close(self) {
        self.means.backends.kafka.close().await;
        self.means.backends.database.close().await;
        if let Err(error) = self.folder.close() {
            tracing::warn!("what a probe left is not removed: {error}");
        }
    }
}

async fn backends(folder: &TempDir, limits: &Limits) -> Result<Backends, BackendError> {
    let database = SqliteOptions {
        path: folder.path().join("timesale.db"),
        readers: READERS,
        writer_wait: Duration::from_millis(limits.row_lock_wait_ms),
        keeping: Keeping::Scratch,
    };
    let log = LogOptions {
        path: folder.path().join("log.db"),
        backlog_max: BACKLOG_MAX,
        keeping: Keeping::Scratch,
    };
    let database = Arc::new(Database::Sqlite(Sqlite::open(&database).await?));
    let sold_out = Arc::new(SoldOut::default());
    Ok(Backends {
        group_commit: GroupCommit::new(Arc::clone(&database), Arc::clone(&sold_out)),
        database,
        kafka: Queue::Log(Log::open(&log).await?),
        redis: SharedMemory::Memory(Memory::new(1, REDIS_BOUNDS)),
        places: Places::default(),
        sale_reads: SharedReads::default(),
        sold_out,
        queue_metrics: QueueMetrics::unrecorded(),
    })
}
