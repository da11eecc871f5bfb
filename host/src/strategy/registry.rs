//! The strategies that are served: one for each component in a folder.
//!
//! A component that is refused is told of and left out; the others serve.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Context as _;

use super::{Means, Strategy, revision::Revision};
use crate::{
    config::grants::{self, Grants},
    domain::Version,
};

/// Versions that one process ever serves, which bounds the series that carry them as a label.
const VERSIONS_MAX: usize = 64;
/// What is said of a file that cannot be a strategy's.
pub const NO_VERSION: &str = "the name of the file is no version: [a-z][a-z0-9-]{0,31}.wasm";
/// Bytes of a component.
pub const COMPONENT_MAX_BYTES: u64 = 64 << 20;

/// The strategies, by version.
pub struct Registry {
    strategies: BTreeMap<Version, Arc<Strategy>>,
}

impl Registry {
    /// Loads every `<version>.wasm` of a folder; fails only where the folder cannot be read, or its grants are not to be understood.
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
        let granted = read_grants(folder).await?;
        for file in files {
            if strategies.len() == VERSIONS_MAX {
                tracing::error!(file = %file.display(), "not loaded: {VERSIONS_MAX} versions are served already");
                continue;
            }
            let Some(version) = version_of(&file) else {
                tracing::error!(file = %file.display(), "refused: {NO_VERSION}");
                continue;
            };
            // What the operator wrote is not the component's fault: it stops the start.
            let grants = Grants::read(&granted, &version, &means.limits)?;
            match Self::load_file(&file, version, grants, means).await {
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

    async fn load_file(
        file: &Path,
        version: Version,
        grants: Grants,
        means: &Arc<Means>,
    ) -> anyhow::Result<Strategy> {
        let size = tokio::fs::metadata(file).await?.len();
        anyhow::ensure!(
            size <= COMPONENT_MAX_BYTES,
            "it has {size} bytes, and a component may have {COMPONENT_MAX_BYTES}"
        );
        let bytes = tokio::fs::read(file).await?;
        let (revision, operation) = Revision::load(version, bytes, grants, means).await?;
        Ok(Strategy::new(revision, operation, Arc::clone(means)))
    }
}

/// The version that a file holds, which is its name.
pub fn version_of(file: &Path) -> Option<Version> {
    Version::parse(file.file_stem()?.to_str()?)
}

/// The text of a folder's grants; empty where it has none.
pub async fn read_grants(folder: &Path) -> anyhow::Result<String> {
    let file = folder.join(grants::FILE);
    match tokio::fs::read_to_string(&file).await {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}
