//! The rollout: makes this host run what operators want, and makes of what they ask for a wish that all hosts follow.
//!
//! The wish is in the database, and each host compiles, links and probes for itself; one that cannot run it stays on what it runs and says so.
//! A change is proven here first, then committed, then swapped in: a host that stops in between comes back with the old or the new, wholly.
//! `app` starts it and lets it run; `http/admin` asks for changes, `settlement` whether a version may come to run; the strategies folder is another way in.

mod changes;
mod folder;
mod following;
mod grants;
mod hosts;
mod outcome;
mod pushing;
mod trials;

pub use self::{
    hosts::Running,
    outcome::{Action, Component, Outcome, Undone},
};

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{folder::Folder, following::Followed};
use super::{Means, pipeline::Pipeline, registry::Registry};
use crate::{backend::BackendError, config::grants::FILE_NAME, domain::Version};

/// How often the database and the folder are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Makes this host run what operators want.
pub struct Rollout {
    /// What runs.
    pub registry: Arc<Registry>,
    /// Names this host among those that share a database.
    pub host: String,
    means: Arc<Means>,
    pipeline: Pipeline,
    watch: Duration,
    followed: Mutex<BTreeMap<Version, Arc<tokio::sync::Mutex<Followed>>>>,
    uploads: Mutex<BTreeSet<Version>>,
    folder: tokio::sync::Mutex<Folder>,
    /// The file of grants beside the components, which need not be there.
    grants_file: PathBuf,
    reported: Mutex<hosts::Reported>,
    alarm: Arc<Notify>,
    /// While the host starts: what the database names was proven before.
    coming_back: AtomicBool,
}

/// What an operator sets of a rollout.
pub struct RolloutOptions {
    /// The strategies folder.
    pub folder: PathBuf,
    /// How long a revision is watched after a straight swap.
    pub watch: Duration,
    /// Versions whose components go live without a probe.
    pub unprobed: Vec<Version>,
}

impl Rollout {
    /// A rollout that runs nothing yet.
    pub fn new(means: Arc<Means>, host: String, options: RolloutOptions) -> Self {
        Self {
            registry: Arc::default(),
            pipeline: Pipeline::new(Arc::clone(&means), options.unprobed),
            means,
            host,
            watch: options.watch,
            followed: Mutex::default(),
            uploads: Mutex::default(),
            grants_file: options.folder.join(FILE_NAME),
            folder: tokio::sync::Mutex::new(Folder::new(options.folder)),
            coming_back: AtomicBool::new(true),
            reported: Mutex::default(),
            alarm: Arc::default(),
        }
    }

    /// Comes back with what was live, and takes what is new in the folder; fails only where the database or the folder cannot be read, or its grants are not to be understood.
    pub async fn begin(&self) -> anyhow::Result<()> {
        // What the operator wrote is not a component's fault: it stops the start.
        self.check_grants().await?;
        self.follow().await?;
        self.coming_back.store(false, Ordering::Relaxed);
        self.look_into_folder(true).await?;
        // What another host was quicker to push.
        self.follow().await?;
        Ok(())
    }

    /// Follows the wish, the folder and the trials until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let next = async {
                tokio::select! {
                    () = tokio::time::sleep(TICK) => {}
                    () = self.alarm.notified() => {}
                }
            };
            if stop.run_until_cancelled(next).await.is_none() {
                return;
            }
            self.end_failed_trials().await;
            self.end_watches();
            if let Err(error) = self.follow().await {
                tracing::warn!("what operators want is not known: {error}");
            }
            if let Err(error) = self.look_into_folder(false).await {
                tracing::warn!("{error:#}");
            }
            if let Err(error) = self.report().await {
                tracing::warn!("this host's report was not written: {error}");
            }
        }
    }

    /// Makes this host run every wish that it does not run yet.
    async fn follow(&self) -> Result<(), BackendError> {
        for stored in self.means.backends.database.strategies().await? {
            let followed = self.followed(&stored.version);
            // Whoever changes it now makes this host run it, too.
            let Ok(mut followed) = followed.try_lock_owned() else {
                continue;
            };
            if followed.is_due(&stored) {
                self.apply(&mut followed, &stored, None).await;
            }
        }
        Ok(())
    }

    /// Whether anybody has ever wanted something of this version.
    pub fn knows(&self, version: &Version) -> bool {
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.contains_key(version)
    }

    /// Whether this host may yet come to run a version that it does not run: there is a wish for it, and nothing stands against it that lasts.
    pub async fn may_come_to_run(&self, version: &Version) -> Result<bool, BackendError> {
        let Some(stored) = self.stored(version).await? else {
            return Ok(false);
        };
        // Whoever changes it now makes this host run it, or finds out why it cannot.
        let Ok(followed) = self.followed(version).try_lock_owned() else {
            return Ok(true);
        };
        let attempts = self.means.limits.settle_attempts_max;
        Ok(followed.epoch < stored.epoch || followed.refused < attempts)
    }

    fn followed(&self, version: &Version) -> Arc<tokio::sync::Mutex<Followed>> {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(followed.entry(version.clone()).or_default())
    }
}
