//! What an operator grants to a version: capabilities, keys, topics and bounds, as `grants.toml` beside the components says.
//!
//! A version without a section has what it imports, within the host's own bounds.
//! From text to grants and nothing else: who reads the text and who keeps it is `strategy`'s, who asks for a grant is `capability`.

mod file;
#[cfg(test)]
mod tests;

pub use self::file::{File, as_json};

use serde::Deserialize;

use super::Limits;
use crate::domain::Version;

/// The file's name.
pub const FILE_NAME: &str = "grants.toml";
/// The topic that every strategy may publish to which is granted no other.
const EVENTS: &str = "time-sale-events";
/// What the names of topics begin with that are the host's alone.
const HOST_TOPICS: &str = "time-sale-requests";

/// An interface of the contract that is granted by name; `log` is granted to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// The database.
    Db,
    /// The shared memory.
    Redis,
    /// The log.
    Kafka,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 3] = [Self::Db, Self::Redis, Self::Kafka];

    /// Its name, as in `wit/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Db => "db",
            Self::Redis => "redis",
            Self::Kafka => "kafka",
        }
    }
}

/// What a version may do, and within which bounds.
#[derive(Debug, Clone)]
pub struct Grants {
    /// The bounds of its calls.
    pub limits: Limits,
    /// The section that they were made of, as `File::section` gives it.
    pub section: String,
    capabilities: Option<Vec<Capability>>,
    redis_key_prefixes: Option<Vec<String>>,
    kafka_topics: Vec<String>,
}

/// A version's section of the file; what it leaves out is as without a section.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    capabilities: Option<Vec<Capability>>,
    redis_key_prefixes: Option<Vec<String>>,
    kafka_topics: Option<Vec<String>>,
    calls_max: Option<u32>,
    call_deadline_ms: Option<u64>,
    transaction_hold_ms: Option<u64>,
    lock_wait_ms: Option<u64>,
    lock_hold_ms: Option<u64>,
    memory_max_bytes: Option<usize>,
    host_calls_max: Option<u32>,
}

impl Grants {
    /// What a version has that the file does not name.
    pub fn without_a_section(host: &Limits) -> Self {
        Self {
            limits: host.clone(),
            section: String::new(),
            capabilities: None,
            redis_key_prefixes: None,
            kafka_topics: vec![EVENTS.to_owned()],
        }
    }

    /// What a section grants to a version; an error is one line with file, version and key.
    pub fn read(section: &str, version: &Version, host: &Limits) -> anyhow::Result<Self> {
        toml::from_str(section)
            .map_err(|error| anyhow::anyhow!("{}", error.message()))
            .and_then(|read: Section| Self::of(read, section, host))
            .map_err(|error| anyhow::anyhow!("{FILE_NAME}: [{version}]: {error}"))
    }

    /// Whether it may import a capability.
    pub fn allows(&self, capability: Capability) -> bool {
        let granted = self.capabilities.as_ref();
        granted.is_none_or(|granted| granted.contains(&capability))
    }

    /// Whether it may use a key of the shared memory, for a value or for a lock.
    pub fn allows_key(&self, key: &str) -> bool {
        let granted = self.redis_key_prefixes.as_ref();
        granted.is_none_or(|granted| granted.iter().any(|prefix| key.starts_with(prefix)))
    }

    /// Whether it may publish to a topic.
    pub fn allows_topic(&self, topic: &str) -> bool {
        self.kafka_topics.iter().any(|granted| granted == topic)
    }

    fn of(section: Section, text: &str, host: &Limits) -> anyhow::Result<Self> {
        let lacks = |capability: Capability| {
            let granted = section.capabilities.as_ref();
            granted.is_some_and(|granted| !granted.contains(&capability))
        };
        anyhow::ensure!(
            section.redis_key_prefixes.is_none() || !lacks(Capability::Redis),
            "redis_key_prefixes are granted, and capabilities leave out \"redis\""
        );
        anyhow::ensure!(
            section.kafka_topics.is_none() || !lacks(Capability::Kafka),
            "kafka_topics are granted, and capabilities leave out \"kafka\""
        );
        let mut prefixes = section.redis_key_prefixes.iter().flatten();
        anyhow::ensure!(
            prefixes.all(|prefix| !prefix.is_empty()),
            "redis_key_prefixes: \"\" is the beginning of every key; leave redis_key_prefixes out to grant them all"
        );
        let topics = section
            .kafka_topics
            .clone()
            .unwrap_or_else(|| vec![EVENTS.to_owned()]);
        for topic in &topics {
            anyhow::ensure!(
                is_topic(topic),
                "kafka_topics: {topic:?} is no topic: [A-Za-z0-9._-]{{1,200}}"
            );
            anyhow::ensure!(
                !topic.starts_with(HOST_TOPICS),
                "kafka_topics: {topic:?} is the host's own and never granted"
            );
        }
        Ok(Self {
            limits: section.limits(host)?,
            section: text.to_owned(),
            capabilities: section.capabilities,
            redis_key_prefixes: section.redis_key_prefixes,
            kafka_topics: topics,
        })
    }
}

impl Section {
    /// The host's limits with those of the section in their place, and the relations between them checked again.
    fn limits(&self, host: &Limits) -> anyhow::Result<Limits> {
        let limits = Limits {
            calls_max: self.calls_max.unwrap_or(host.calls_max),
            call_deadline_ms: self.call_deadline_ms.unwrap_or(host.call_deadline_ms),
            transaction_hold_ms: self.transaction_hold_ms.unwrap_or(host.transaction_hold_ms),
            lock_wait_ms: self.lock_wait_ms.unwrap_or(host.lock_wait_ms),
            lock_hold_ms: self.lock_hold_ms.unwrap_or(host.lock_hold_ms),
            memory_max_bytes: self.memory_max_bytes.unwrap_or(host.memory_max_bytes),
            host_calls_max: self.host_calls_max.unwrap_or(host.host_calls_max),
            ..host.clone()
        };
        // The pool of instances is made, and the database server told, for the host's own.
        anyhow::ensure!(
            limits.memory_max_bytes <= host.memory_max_bytes,
            "memory_max_bytes ({}) must be at most TIMESALE_MEMORY_MAX_BYTES ({})",
            limits.memory_max_bytes,
            host.memory_max_bytes
        );
        anyhow::ensure!(
            limits.transaction_hold_ms <= host.transaction_hold_ms,
            "transaction_hold_ms ({}) must be at most TIMESALE_TRANSACTION_HOLD_MS ({})",
            limits.transaction_hold_ms,
            host.transaction_hold_ms
        );
        let here = [
            ("CALLS_MAX", self.calls_max.is_some()),
            ("CALL_DEADLINE_MS", self.call_deadline_ms.is_some()),
            ("TRANSACTION_HOLD_MS", self.transaction_hold_ms.is_some()),
            ("LOCK_WAIT_MS", self.lock_wait_ms.is_some()),
            ("LOCK_HOLD_MS", self.lock_hold_ms.is_some()),
            ("MEMORY_MAX_BYTES", self.memory_max_bytes.is_some()),
            ("HOST_CALLS_MAX", self.host_calls_max.is_some()),
        ];
        limits.validate().map_err(|error| {
            // What the section sets is named as it stands there, what it does not as the host has it.
            let set = here.iter().filter(|(_, set)| *set);
            let line = set.fold(error.to_string(), |line, (name, _)| {
                line.replace(&format!("TIMESALE_{name}"), &name.to_ascii_lowercase())
            });
            anyhow::anyhow!(line)
        })?;
        Ok(limits)
    }
}

fn is_topic(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=200).contains(&name.len()) && name.bytes().all(allowed)
}
