//! The grants in the strategies folder: a section of `grants.toml` that differs from what is wanted of its version is a push.
//!
//! A file that is there says everything: a version that it does not name has no section.
//! One that is not there says nothing, so that a host with a bare folder does not loosen what the file of another restricts.

use std::io::ErrorKind;

use anyhow::Context as _;
use serde_json::json;

use super::{
    Rollout,
    changes::Turn,
    folder::{Folder, State},
    outcome::{Action, Undone},
};
use crate::{
    config::grants::{File, Grants, as_json},
    desired::{AuditLine, Change, Stored},
    domain::Version,
    strategy::pipeline::Proven,
};

impl Rollout {
    /// What this host's folder grants; none where it has no such file.
    pub(super) async fn granted_here(&self) -> anyhow::Result<Option<File>> {
        let file = tokio::fs::metadata(&self.grants_file).await;
        if file.is_ok_and(|file| !file.is_file()) {
            anyhow::bail!("{} is no regular file", self.grants_file.display());
        }
        match tokio::fs::read_to_string(&self.grants_file).await {
            Ok(text) => File::parse(&text).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("cannot read {}", self.grants_file.display()))
            }
        }
    }

    /// Fails where the file is not to be understood, or what it grants to a version of the folder or of the database.
    pub(super) async fn check_grants(&self) -> anyhow::Result<()> {
        let Some(file) = self.granted_here().await? else {
            return Ok(());
        };
        let mut versions = self.folder.lock().await.versions().await?;
        versions.extend(self.wishes().await?.into_iter().map(|it| it.version));
        for version in &versions {
            Grants::read(file.section(version), version, &self.means.limits)?;
        }
        Ok(())
    }

    /// Reads a file that is new or has changed: what of it is to be pushed.
    pub(super) async fn read_grants(&self, folder: &mut Folder) -> anyhow::Result<()> {
        let read = self.granted_here().await;
        let wishes = self.wishes().await?;
        folder.note(&self.grants_file, State::Taken);
        folder.granted.clear();
        let file = match read {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::error!(file = %self.grants_file.display(), "refused: {error:#}");
                return Ok(());
            }
        };
        let beside = folder.versions().await?;
        let is_known = |version: &Version| {
            beside.contains(version) || wishes.iter().any(|stored| stored.version == *version)
        };
        for version in file.versions().filter(|version| !is_known(version)) {
            tracing::warn!(file = %self.grants_file.display(), "[{version}] is a section of no version that is known");
        }
        // A component of the folder that is not live yet comes with its section.
        let differs = |stored: &Stored| file.section(&stored.version) != stored.desired.grants;
        folder.granted = wishes
            .into_iter()
            .filter(differs)
            .map(|stored| {
                let section = file.section(&stored.version).to_owned();
                (stored.version, section)
            })
            .collect();
        Ok(())
    }

    /// Pushes the sections that are not settled yet; fails only where the database does.
    pub(super) async fn push_grants(&self, folder: &mut Folder) -> anyhow::Result<()> {
        for (version, section) in folder.granted.clone() {
            // What is being written beside it comes together with it.
            if folder.is_being_written(&version) {
                continue;
            }
            let Ok(turn) = self.turn_now(&version) else {
                continue;
            };
            match self.grant(turn, &version, &section).await {
                // What was refused is told of already.
                Ok(()) | Err(Undone::NotProven(_)) => {
                    folder.granted.remove(&version);
                }
                // Another change comes first, or the end of a trial.
                Err(Undone::Busy | Undone::Unfit(_)) => {}
                Err(undone) => return Err(undone.into()),
            }
        }
        Ok(())
    }

    /// Has a version run under other grants, if its live component passes every step with them.
    async fn grant(&self, turn: Turn, version: &Version, section: &str) -> Result<(), Undone> {
        let Some(stored) = self.stored(version).await? else {
            return Ok(());
        };
        if stored.desired.grants == section {
            return Ok(());
        }
        let by = format!("the file {}", self.grants_file.display());
        let undone = match self.try_grant(turn, &stored, section, &by).await {
            Ok(()) => return Ok(()),
            Err(undone) => undone,
        };
        if let Undone::NotProven(refused) = &undone {
            let evidence = json!({
                "before": as_json(&stored.desired.grants),
                "after": as_json(section),
                "step": refused.step,
                "finding": refused.finding,
                "probe": refused.probe,
            });
            let live = stored.desired.live.digest.revision();
            let line = AuditLine {
                from: Some(live.clone()),
                to: Some(live),
                ..self.line(version, Action::Grant, &by, evidence)
            };
            self.tell_refused(version, line, refused).await?;
        }
        Err(undone)
    }

    async fn try_grant(
        &self,
        mut turn: Turn,
        stored: &Stored,
        section: &str,
        by: &str,
    ) -> Result<(), Undone> {
        let (version, before) = (&stored.version, &stored.desired);
        // Before anything is compiled.
        let desired = before.grant(section)?;
        let digest = &desired.live.digest;
        let bytes = self.component(version, digest).await?;
        let operation = Some(before.operation.as_str());
        let Turn(followed) = &mut turn;
        let proven = self.prove(followed, version, bytes, section, operation);
        let Proven {
            revision, probe, ..
        } = proven.await?;
        let evidence = json!({
            "before": as_json(&before.grants),
            "after": as_json(section),
            "probe": probe,
        });
        let change = Change {
            version: version.clone(),
            after: stored.epoch,
            component: None,
            audit: AuditLine {
                to: Some(digest.revision()),
                ..self.line(version, Action::Grant, by, evidence)
            },
            desired,
        };
        self.commit(
            &mut turn,
            Some(stored),
            change,
            Action::Grant,
            Some(revision),
            None,
        )
        .await?;
        Ok(())
    }
}
