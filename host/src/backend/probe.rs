//! Whether each backend answers now.
//!
//! `http/health` asks it for whoever looks, `reconciler` for the metrics; what follows from the answers is theirs.

use std::time::Duration;

use super::{BackendError, Backends, System};

/// How long a backend may take to answer before it counts as down.
const PATIENCE: Duration = Duration::from_secs(2);

/// A backend, and whether it answers.
#[derive(Debug, Clone, Copy)]
pub struct Probed {
    /// Which.
    pub system: System,
    /// What it is on this host, as operators call it.
    pub implementation: &'static str,
    /// Whether it answered in time.
    pub up: bool,
}

impl Backends {
    /// Asks every backend for a sign of life, all at once.
    pub async fn probe(&self) -> [Probed; 3] {
        let (database, redis, kafka) = tokio::join!(
            answers(self.database.ping()),
            answers(self.redis.ping()),
            answers(self.kafka.ping()),
        );
        [
            (System::Database, self.database.name(), database),
            (System::Redis, self.redis.name(), redis),
            (System::Kafka, self.kafka.name(), kafka),
        ]
        .map(|(system, implementation, up)| Probed {
            system,
            implementation,
            up,
        })
    }
}

async fn answers(ping: impl Future<Output = Result<(), BackendError>>) -> bool {
    match tokio::time::timeout(PATIENCE, ping).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!("a backend does not answer: {error}");
            false
        }
        Err(_) => {
            tracing::warn!("a backend does not answer within {PATIENCE:?}");
            false
        }
    }
}
