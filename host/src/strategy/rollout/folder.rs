//! The strategies folder: a component that differs from the last one seen there is a push, and so are grants that differ from what is wanted.
//!
//! What is written there at one time goes live as one change: components wait while the grants are written, and grants while the version's component is.
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
    backend::BackendError,
    config::grants::FILE_NAME,
    desired::{Digest, Refusal},
    domain::Version,
    strategy::registry::{NO_VERSION, read_component, version_of},
};

/// The folder, and what was seen in it.
pub struct Folder {
    path: PathBuf,
    seen: BTreeMap<PathBuf, Seen>,
    /// The files that changed since the last look.
    written: Vec<PathBuf>,
    /// What the file of grants says and what is not settled yet.
    pub granted: BTreeMap<Version, String>,
}

/// A file as it was last seen: one that is being written changes from one look to the next.
#[derive(Clone, Copy)]
struct Seen {
    modified: Option<SystemTime>,
    size: u64,
    state: State,
}

/// What became of a file.
#[derive(Clone, Copy)]
pub enum State {
    /// Nothing yet: it is looked at again by and by.
    Waiting,
    /// It is done with until it changes.
    Taken,
    /// It is not tried again until it changes, or what is granted does.
    Refused,
}

impl Folder {
    /// A folder that was not looked into yet.
    pub const fn new(path: PathBuf) -> Self {
        Self {
            path,
            seen: BTreeMap::new(),
            written: Vec::new(),
            granted: BTreeMap::new(),
        }
    }

    /// The versions that it has components of.
    pub async fn versions(&self) -> anyhow::Result<Vec<Version>> {
        let files = self.files().await?.into_iter().filter(|it| !is_grants(it));
        Ok(files.filter_map(|file| version_of(&file)).collect())
    }

    /// Whether a component of the version, or the grants, are on their way into it.
    pub fn is_being_written(&self, version: &Version) -> bool {
        let is_its = |file: &PathBuf| version_of(file).as_ref() == Some(version);
        self.written
            .iter()
            .any(|file| is_grants(file) || is_its(file))
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
            let is_component = path.extension().is_some_and(|it| it == "wasm");
            if is_component || is_grants(&path) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// The files that are new or have changed, and at `once` or since two looks stay as they are.
    async fn changed(&mut self, once: bool) -> anyhow::Result<Vec<PathBuf>> {
        let (mut changed, mut refused) = (Vec::new(), Vec::new());
        self.written.clear();
        for path in self.files().await? {
            // One that has just gone is not there to be taken.
            let Ok(metadata) = tokio::fs::metadata(&path).await else {
                continue;
            };
            let now = Seen {
                modified: metadata.modified().ok(),
                size: metadata.len(),
                state: State::Waiting,
            };
            let before = self.seen.get(&path).copied();
            let before = before.filter(|before| before.is_still(&now));
            match before.map(|before| before.state) {
                Some(State::Taken) => continue,
                Some(State::Refused) => {
                    refused.push(path);
                    continue;
                }
                Some(State::Waiting) => changed.push(path.clone()),
                None if once => changed.push(path.clone()),
                None => self.written.push(path.clone()),
            }
            self.seen.insert(path, now);
        }
        if self.written.iter().any(|file| is_grants(file)) {
            return Ok(Vec::new());
        }
        if changed.iter().any(|file| is_grants(file)) {
            // What was refused may pass under other grants.
            changed.extend(refused);
        }
        Ok(changed)
    }

    /// Notes what became of a file, as it was last seen.
    pub fn note(&mut self, path: &Path, state: State) {
        if let Some(seen) = self.seen.get_mut(path) {
            seen.state = state;
        }
    }
}

impl Seen {
    /// Whether it is the same file, whatever became of it.
    fn is_still(&self, now: &Self) -> bool {
        (self.modified, self.size) == (now.modified, now.size)
    }
}

fn is_grants(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == FILE_NAME)
}

/// Has a component wait for the database, which is no fault of its own.
fn wait(file: &Path, error: &BackendError) -> State {
    tracing::warn!(file = %file.display(), "the component waits: {error}");
    State::Waiting
}

impl Rollout {
    /// Pushes what is new in the folder; fails only where the folder cannot be read, or the grants that wait to be pushed cannot be.
    pub(super) async fn look_into_folder(&self, at_start: bool) -> anyhow::Result<()> {
        let mut folder = self.folder.lock().await;
        let changed = folder.changed(at_start).await?;
        let (grants, components): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|file| is_grants(file));
        for file in components {
            let state = self.take_file(&file).await.unwrap_or_else(|refusal| {
                tracing::error!(file = %file.display(), "refused: {refusal:#}");
                State::Refused
            });
            folder.note(&file, state);
        }
        if !grants.is_empty() {
            self.read_grants(&mut folder).await?;
        }
        self.push_grants(&mut folder).await
    }

    /// Pushes a component unless it was the last one seen.
    async fn take_file(&self, file: &Path) -> anyhow::Result<State> {
        let version = version_of(file).context(NO_VERSION)?;
        let bytes = read_component(file).await?;
        let Ok(turn) = self.turn_now(&version) else {
            return Ok(State::Waiting);
        };
        let stored = match self.stored(&version).await {
            Ok(stored) => stored,
            Err(error) => return Ok(wait(file, &error)),
        };
        let last = stored.and_then(|stored| stored.desired.folder);
        if last == Some(Digest::of(&bytes)) {
            return Ok(State::Taken);
        }
        let component = Component {
            bytes,
            share: None,
            from_folder: true,
        };
        let by = format!("the file {}", file.display());
        match self.push(turn, &version, component, &by).await {
            Ok(_) => Ok(State::Taken),
            // Which is told of already.
            Err(Undone::NotProven(_)) => Ok(State::Refused),
            // Another change comes first.
            Err(Undone::Busy | Undone::Unfit(Refusal::CandidateOnTrial)) => Ok(State::Waiting),
            Err(Undone::Backend(error)) => Ok(wait(file, &error)),
            Err(undone) => Err(undone.into()),
        }
    }
}
