//! How a wish becomes what runs: revisions are fetched and proven, and the slots of the version are swapped at once.
//!
//! A host that cannot run a wish keeps what it runs, says why, and tries again later.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use super::Rollout;
use crate::{
    backend::BackendError,
    desired::{Desired, Digest, Stored},
    domain::Version,
    strategy::{
        Strategy,
        pipeline::{NotProven, Proven, Step},
        registry::Full,
        revision::Revision,
        slots::{Selling, Slots},
    },
    telemetry::labels::SwapResult,
};

/// How long a host waits before it tries again what it could not run.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What a host has made of a version's wish.
#[derive(Default)]
pub struct Followed {
    /// The epoch that it runs, or has tried to.
    pub epoch: i64,
    /// Why it does not run it, and since when.
    pub behind: Option<(String, Instant)>,
    /// How often in turn its component was refused here; as often as can be where no other try can change it.
    pub refused: u32,
    /// The components of the wish that were proven on this host, or before it started, each with the grants under which it was.
    proven: Vec<(Digest, String)>,
}

/// Why a host does not run a wish.
#[derive(Debug, thiserror::Error)]
pub(super) enum Behind {
    /// The database failed.
    #[error("{0}")]
    Backend(#[from] BackendError),
    /// Its component was refused here.
    #[error("{0}")]
    NotProven(#[from] NotProven),
    /// There are too many versions.
    #[error("{0}")]
    Full(#[from] Full),
    /// Nothing names it any more, or never did.
    #[error("the database has no component {0}")]
    NoComponent(Digest),
}

impl Behind {
    /// How often the wish was refused with this one, where it was so often before.
    const fn refused(&self, before: u32) -> u32 {
        match self {
            // The database may answer next time.
            Self::Backend(_) => before,
            // What it imports and what it is granted are the same next time.
            Self::NotProven(NotProven {
                step: Step::Link, ..
            }) => u32::MAX,
            // A machine that was busy, perhaps: the next try tells.
            Self::NotProven(_) | Self::Full(_) | Self::NoComponent(_) => before.saturating_add(1),
        }
    }
}

impl Followed {
    /// Notes that a component was proven on this host, under these grants.
    fn note_proven(&mut self, digest: &Digest, grants: &str) {
        self.proven.push((digest.clone(), grants.to_owned()));
    }

    fn is_proven(&self, digest: &Digest, grants: &str) -> bool {
        let is = |(proven, under): &(Digest, String)| proven == digest && under == grants;
        self.proven.iter().any(is)
    }

    /// Whether there is something to do; a wish that was read before a change of this host's is not followed back.
    pub fn is_due(&self, stored: &Stored) -> bool {
        let retried = |(_, since): &(String, Instant)| since.elapsed() >= RETRY_AFTER;
        let again = self.epoch == stored.epoch && self.behind.as_ref().is_some_and(retried);
        self.epoch < stored.epoch || again
    }
}

impl Rollout {
    /// Has this host run a wish; `ready` is a revision of it that is proven already.
    ///
    /// Returns the revision that is live no longer, if there is one.
    pub(super) async fn apply(
        &self,
        followed: &mut Followed,
        stored: &Stored,
        ready: Option<Arc<Revision>>,
    ) -> Option<Arc<Revision>> {
        if followed.epoch == 0 && self.coming_back.load(Ordering::Relaxed) {
            for digest in stored.desired.components() {
                followed.note_proven(digest, &stored.desired.grants);
            }
        }
        if followed.epoch != stored.epoch {
            followed.refused = 0;
        }
        followed.epoch = stored.epoch;
        let strategy = self.registry.get(stored.version.as_str());
        let applied = self.try_apply(followed, stored, strategy, ready);
        match applied.await {
            Ok(old) => {
                followed.behind = None;
                followed.refused = 0;
                let (named, grants) = (stored.desired.components(), &stored.desired.grants);
                followed
                    .proven
                    .retain(|(digest, under)| named.contains(&digest) && under == grants);
                old
            }
            Err(behind) => {
                tracing::error!(
                    version = %stored.version,
                    revision = %stored.desired.live.digest.revision(),
                    "this host does not run what is wanted: {behind}"
                );
                if let Some(strategy) = strategy {
                    strategy.metrics.swapped(SwapResult::Failed);
                }
                followed.refused = behind.refused(followed.refused);
                followed.behind = Some((behind.to_string(), Instant::now()));
                None
            }
        }
    }

    async fn try_apply(
        &self,
        followed: &mut Followed,
        stored: &Stored,
        strategy: Option<&Strategy>,
        ready: Option<Arc<Revision>>,
    ) -> Result<Option<Arc<Revision>>, Behind> {
        let desired = &stored.desired;
        let now = strategy.map(Strategy::slots);
        let live = match &ready {
            Some(ready) if ready.is(&desired.live.digest, &desired.grants) => Arc::clone(ready),
            _ => {
                let digest = &desired.live.digest;
                self.obtain(followed, stored, digest).await?
            }
        };
        let candidate = match (&desired.candidate, ready) {
            (None, _) => None,
            (Some(candidate), Some(ready))
                if ready.is(&candidate.placed.digest, &desired.grants) =>
            {
                Some((ready, candidate.share))
            }
            (Some(candidate), _) => {
                let digest = &candidate.placed.digest;
                let revision = self.obtain(followed, stored, digest).await?;
                Some((revision, candidate.share))
            }
        };
        let slots = Slots {
            trial: self.trial(desired, now.as_deref(), &live, candidate),
            selling: selling(desired),
            live: Arc::clone(&live),
        };
        live.reopen();
        let Some(strategy) = strategy else {
            let added = Strategy::new(slots, Arc::clone(&self.means));
            let added = self.registry.add(added)?;
            tracing::info!(version = %added.version, revision = %live.id, operation = added.operation, "runs a strategy");
            return Ok(None);
        };
        let before = strategy.swap(slots);
        if Arc::ptr_eq(&before.live, &live) {
            return Ok(None);
        }
        strategy.metrics.swapped(SwapResult::Swapped);
        if before.live.digest == live.digest {
            tracing::info!(
                version = %stored.version,
                revision = %live.id,
                epoch = stored.epoch,
                "runs the live revision under other grants"
            );
            return Ok(Some(Arc::clone(&before.live)));
        }
        tracing::info!(
            version = %stored.version,
            revision = %live.id,
            before = %before.live.id,
            epoch = stored.epoch,
            by = desired.live.by,
            "swapped the live revision"
        );
        Ok(Some(Arc::clone(&before.live)))
    }

    /// A revision of this digest under the grants of the wish: one that runs here, or the database's component, proven here unless it was before.
    pub(super) async fn obtain(
        &self,
        followed: &mut Followed,
        stored: &Stored,
        digest: &Digest,
    ) -> Result<Arc<Revision>, Behind> {
        let version = &stored.version;
        let grants = &stored.desired.grants;
        if let Some(strategy) = self.registry.get(version.as_str())
            && let Some(revision) = strategy.slots().find(digest, grants)
        {
            return Ok(Arc::clone(revision));
        }
        let bytes = self.component(version, digest).await?;
        let operation = Some(stored.desired.operation.as_str());
        let proven = if followed.is_proven(digest, grants) {
            self.pipeline.load(version, bytes, grants, operation).await
        } else {
            self.prove(followed, version, bytes, grants, operation)
                .await
        };
        Ok(proven?.revision)
    }

    /// The bytes of a component that a wish names.
    pub(super) async fn component(
        &self,
        version: &Version,
        digest: &Digest,
    ) -> Result<Vec<u8>, Behind> {
        let bytes = self.means.backends.database.component(version, digest);
        bytes
            .await?
            .ok_or_else(|| Behind::NoComponent(digest.clone()))
    }

    /// Proves a component under these grants, beside what is live here, and notes that it was.
    pub(super) async fn prove(
        &self,
        followed: &mut Followed,
        version: &Version,
        bytes: Vec<u8>,
        grants: &str,
        operation: Option<&str>,
    ) -> Result<Proven, NotProven> {
        let strategy = self.registry.get(version.as_str());
        let live = strategy.map(|strategy| Arc::clone(&strategy.slots().live));
        let proven = self
            .pipeline
            .prove(version, bytes, grants, operation, live.as_ref())
            .await?;
        followed.note_proven(&proven.revision.digest, grants);
        Ok(proven)
    }

    /// Every version, with why this host does not run its wish, where that is so.
    pub(super) fn behind(&self) -> Vec<(String, i64, Option<String>)> {
        let all = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter_map(|(version, followed)| {
                // One that is being changed now is told of next time.
                let followed = followed.try_lock().ok()?;
                // Nor is one that was only ever asked for in vain.
                if followed.epoch == 0 {
                    return None;
                }
                let behind = followed.behind.as_ref().map(|(why, _)| why.clone());
                Some((version.to_string(), followed.epoch, behind))
            })
            .collect()
    }
}

const fn selling(desired: &Desired) -> Selling {
    if desired.retired {
        Selling::Retired
    } else if desired.enabled {
        Selling::Open
    } else {
        Selling::Disabled
    }
}
