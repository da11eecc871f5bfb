//! The text of `grants.toml`, parted into the sections of the versions.
//!
//! A section is kept and compared as canonical text: the order of its keys and what was written beside them make no other section of it.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::FILE_NAME;
use crate::domain::Version;

/// The file, by version; what a section says is not looked at yet.
#[derive(Debug)]
pub struct File {
    sections: BTreeMap<Version, String>,
}

impl File {
    /// Parts a text; an error is one line with the file and the line or the section.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let file: Table = text
            .parse()
            .map_err(|error: toml::de::Error| at(text, &error))?;
        let section = |(name, section): (String, Value)| {
            let version = Version::parse(&name);
            let version = version.ok_or_else(|| {
                anyhow::anyhow!("{FILE_NAME}: [{name}] is no version: [a-z][a-z0-9-]{{0,31}}")
            })?;
            let Value::Table(section) = section else {
                anyhow::bail!("{FILE_NAME}: [{name}] is no section");
            };
            Ok((version, canonical(section)?))
        };
        Ok(Self {
            sections: file.into_iter().map(section).collect::<Result<_, _>>()?,
        })
    }

    /// The section of a version as canonical text; empty where there is none.
    pub fn section(&self, version: &Version) -> &str {
        self.sections.get(version).map_or("", String::as_str)
    }

    /// The versions that it has sections of.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.sections.keys()
    }
}

/// A section as operators are shown it.
pub fn as_json(section: &str) -> serde_json::Value {
    let table: Table = section.parse().unwrap_or_default();
    serde_json::to_value(table).unwrap_or_default()
}

fn canonical(section: Table) -> anyhow::Result<String> {
    // Whether a table keeps the order of the text is up to the features that others ask of the library.
    let sorted: BTreeMap<String, Value> = section.into_iter().collect();
    Ok(toml::to_string(&sorted)?)
}

/// A fault of the text itself, with its line.
fn at(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    anyhow::anyhow!(
        "{FILE_NAME}: line {line}: {}",
        error.message().replace('\n', " ")
    )
}
