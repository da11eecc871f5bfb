//! The strategies that are served: one for each component in a folder.
//!
//! A component that is refused is told of and left out; the others serve.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Context as _;

use super::{Means, Strategy, revision::Revision};
use crate::domain::Version;

/// Versions that one process ever serves, which bounds the series that carry them as a label.
const VERSIONS_MAX: usize = 64;
/// Bytes of a component.
pub const COMPONENT_MAX_BYTES: u64 = 64 << 20;

/// The strategies, by version.
pub struct Registry {
    strategies: BTreeMap<Version, Arc<Strategy>>,
}

impl Registry {
    /// Loads every `<version>.wasm` of a folder; fails only where the folder cannot be read.
    pub async fn load(folder: &Path, means: &Arc<Means>) -> anyhow::Result<Self> {
        let unreadable = || format!("cannot read the strategies folder {}", folder.display());
        let mut strategies = BTreeMap::new();
        let mut entries = tokio::fs::read_dir(folder).await.with_context(unreadable)?;
        let mut files = Vec::new();
        while let Some(entry) = entries.next_entry().await.with_context(unreadable)? {
            let path = entry.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "wasm")
            {
                files.push(path);
            }
        }
        files.sort();
        for file in files {
            if strategies.len() == VERSIONS_MAX {
                tracing::error!(file = %file.display(), "not loaded: {VERSIONS_MAX} versions are served already");
                continue;
            }
            match Self::load_file(&file, means).await {
                Ok(strategy) => {
                    tracing::info!(
                        version = %strategy.version(),
                        revision = %strategy.live.id,
                        operation = strategy.operation,
                        "loaded a strategy"
                    );
                    strategies.insert(strategy.version().clone(), Arc::new(strategy));
                }
                Err(refusal) => {
                    tracing::error!(file = %file.display(), "refused: {refusal:#}");
                }
            }
        }
        Ok(Self { strategies })
    }

    /// The strategy of a version.
    pub fn get(&self, version: &str) -> Option<&Arc<Strategy>> {
        self.strategies.get(&Version::parse(version)?)
    }

    /// Every strategy, by version.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Strategy>> {
        self.strategies.values()
    }

    async fn load_file(file: &Path, means: &Arc<Means>) -> anyhow::Result<Strategy> {
        let version = file
            .file_stem()
            .and_then(|stem| Version::parse(stem.to_str()?))
            .context("the name of the file is no version: [a-z][a-z0-9-]{0,31}.wasm")?;
        let size = tokio::fs::metadata(file).await?.len();
        anyhow::ensure!(
            size <= COMPONENT_MAX_BYTES,
            "it has {size} bytes, and a component may have {COMPONENT_MAX_BYTES}"
        );
        let bytes = tokio::fs::read(file).await?;
        let (revision, operation) = Revision::load(version, bytes, means).await?;
        Ok(Strategy::new(revision, operation, Arc::clone(means)))
    }
}
