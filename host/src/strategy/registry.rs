//! The strategies of this process, by version.
//!
//! One that was added stays: what runs of it changes, and whether it sells, but its series and its operation are the same for as long as the process lives.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use arc_swap::ArcSwap;

use super::Strategy;
use crate::domain::Version;

/// Versions that one process ever serves, which bounds the series that carry them as a label.
pub const VERSIONS_MAX: usize = 64;
/// What is said of a file that cannot be a strategy's.
pub const NO_VERSION: &str = "the name of the file is no version: [a-z][a-z0-9-]{0,31}.wasm";
/// Bytes of a component.
pub const COMPONENT_MAX_BYTES: u64 = 64 << 20;

/// The strategies, by version.
#[derive(Default)]
pub struct Registry {
    strategies: ArcSwap<BTreeMap<Version, &'static Strategy>>,
    adding: Mutex<()>,
}

/// Too many versions.
#[derive(Debug, thiserror::Error)]
#[error(
    "{VERSIONS_MAX} versions are known to this process already, and a name that it has seen stays"
)]
pub struct Full;

impl Registry {
    /// The strategy of a version.
    pub fn get(&self, version: &str) -> Option<&'static Strategy> {
        let version = Version::parse(version)?;
        self.strategies.load().get(&version).copied()
    }

    /// Every strategy, by version.
    pub fn all(&self) -> Vec<&'static Strategy> {
        self.strategies.load().values().copied().collect()
    }

    /// Whether there is room for a version.
    pub fn has_room_for(&self, version: &Version) -> bool {
        let strategies = self.strategies.load();
        strategies.len() < VERSIONS_MAX || strategies.contains_key(version)
    }

    /// Adds a strategy, from now on and for good.
    pub fn add(&self, strategy: Strategy) -> Result<&'static Strategy, Full> {
        let _one_at_a_time = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has_room_for(&strategy.version) {
            return Err(Full);
        }
        // So few that they need not be counted, and one that is not counted is nothing that threads meet at.
        let strategy: &'static Strategy = Box::leak(Box::new(strategy));
        let mut strategies = BTreeMap::clone(&self.strategies.load());
        strategies.insert(strategy.version.clone(), strategy);
        self.strategies.store(Arc::new(strategies));
        Ok(strategy)
    }
}

/// Reads a component; fails where the file cannot be read, is no regular file or has too many bytes.
pub async fn read_component(file: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable = || format!("cannot read {}", file.display());
    let metadata = tokio::fs::metadata(file).await.with_context(unreadable)?;
    // A pipe would be waited for, and a device never ends.
    anyhow::ensure!(metadata.is_file(), "it is no regular file");
    let size = metadata.len();
    anyhow::ensure!(
        size <= COMPONENT_MAX_BYTES,
        "it has {size} bytes, and a component may have {COMPONENT_MAX_BYTES}"
    );
    tokio::fs::read(file).await.with_context(unreadable)
}

/// The version that a file holds, which is its name.
pub fn version_of(file: &Path) -> Option<Version> {
    Version::parse(file.file_stem()?.to_str()?)
}
