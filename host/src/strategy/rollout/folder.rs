//! The strategies folder: a component that differs from the last one seen there is a push.
//!
//! Otherwise the database decides what runs, so that a restart comes back with what was live.
//! A file that vanishes removes nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context as _;

use super::{Component, Rollout, Undone};
use crate::{
    desired::{Digest, Refusal},
    domain::Version,
    strategy::registry::{COMPONENT_MAX_BYTES, NO_VERSION, version_of},
};

/// The folder, and what was seen in it.
pub struct Folder {
    path: PathBuf,
    seen: BTreeMap<PathBuf, Seen>,
}

/// A file as it was last seen: one that is being written changes from one look to the next.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    modified: Option<SystemTime>,
    size: u64,
    taken: bool,
}

impl Folder {
    /// A folder that was not looked into yet.
    pub const fn new(path: PathBuf) -> Self {
        Self {
            path,
            seen: BTreeMap::new(),
        }
    }

    /// The versions that it has files of.
    pub async fn versions(&self) -> anyhow::Result<Vec<Version>> {
        let files = self.files().await?;
        Ok(files.iter().filter_map(|file| version_of(file)).collect())
    }

    async fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let shown = self.path.display();
        let unreadable = || format!("cannot read the strategies folder {shown}");
        let mut entries = tokio::fs::read_dir(&self.path)
            .await
            .with_context(unreadable)?;
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
        Ok(files)
    }

    /// The components that are new or have changed, and at `once` or since two looks stay as they are.
    async fn changed(&mut self, once: bool) -> anyhow::Result<Vec<PathBuf>> {
        let mut changed = Vec::new();
        for path in self.files().await? {
            // One that has just gone is not there to be taken.
            let Ok(metadata) = tokio::fs::metadata(&path).await else {
                continue;
            };
            let now = Seen {
                modified: metadata.modified().ok(),
                size: metadata.len(),
                taken: false,
            };
            let before = self.seen.get(&path);
            if before == Some(&Seen { taken: true, ..now }) {
                continue;
            }
            if once || before == Some(&now) {
                changed.push(path.clone());
            }
            self.seen.insert(path, now);
        }
        Ok(changed)
    }

    fn take(&mut self, path: &Path) {
        if let Some(seen) = self.seen.get_mut(path) {
            seen.taken = true;
        }
    }
}

impl Rollout {
    /// Pushes what is new in the folder; fails only where the folder cannot be read.
    pub(super) async fn look_into_folder(&self, at_start: bool) -> anyhow::Result<()> {
        let mut folder = self.folder.lock().await;
        for file in folder.changed(at_start).await? {
            match self.take_file(&file).await {
                Ok(true) => folder.take(&file),
                // Looked at again by and by.
                Ok(false) => {}
                Err(refusal) => {
                    tracing::error!(file = %file.display(), "refused: {refusal:#}");
                    folder.take(&file);
                }
            }
        }
        Ok(())
    }

    /// Pushes a file unless it was the last one seen; says whether that is settled.
    async fn take_file(&self, file: &Path) -> anyhow::Result<bool> {
        let version = version_of(file).context(NO_VERSION)?;
        let size = tokio::fs::metadata(file).await?.len();
        anyhow::ensure!(
            size <= COMPONENT_MAX_BYTES,
            "it has {size} bytes, and a component may have {COMPONENT_MAX_BYTES}"
        );
        let bytes = tokio::fs::read(file).await?;
        let Ok(turn) = self.take_turn(&version) else {
            return Ok(false);
        };
        let stored = self.stored(&version).await?;
        let last = stored.and_then(|stored| stored.desired.folder);
        if last == Some(Digest::of(&bytes)) {
            return Ok(true);
        }
        let component = Component {
            bytes,
            share: None,
            from_folder: true,
        };
        let by = format!("the file {}", file.display());
        match self.push(turn, &version, component, &by).await {
            // What was refused is told of already.
            Ok(_) | Err(Undone::NotProven(_)) => Ok(true),
            // Another change comes first.
            Err(Undone::Busy | Undone::Unfit(Refusal::CandidateOnTrial)) => Ok(false),
            Err(undone) => Err(undone.into()),
        }
    }
}
