//! Real services that a test may harm: started for it alone by `.ci/services`, stopped when dropped.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use super::{repository, world::Urls};

/// A set of services in a folder of its own.
pub struct Services {
    folder: TempDir,
    /// Where Kafka's clients are sent, if not to its own port.
    advertised: Option<u16>,
}

/// One of them, by the name that the script knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Postgres,
    Redis,
    Kafka,
}

impl Service {
    const ALL: [Self; 3] = [Self::Postgres, Self::Redis, Self::Kafka];

    const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Kafka => "kafka",
        }
    }
}

impl Services {
    /// All of them.
    pub async fn start() -> Self {
        Self::start_some(&Service::ALL).await
    }

    /// All of them, with a broker that sends its clients to this port.
    pub async fn start_advertising(port: u16) -> Self {
        Self::start_these(&Service::ALL, Some(port)).await
    }

    /// These of them.
    pub async fn start_some(some: &[Service]) -> Self {
        Self::start_these(some, None).await
    }

    async fn start_these(these: &[Service], advertised: Option<u16>) -> Self {
        let services = Self {
            folder: TempDir::new().unwrap(),
            advertised,
        };
        for service in these {
            services.tell("start", *service).await;
        }
        services
    }

    /// Starts one again: on the same port, with what it keeps on disk, which for Redis is nothing.
    pub async fn start_again(&self, service: Service) {
        self.tell("start", service).await;
    }

    /// Asks one to stop, and starts it again.
    pub async fn restart(&self, service: Service) {
        self.tell("restart", service).await;
    }

    /// Ends one on the spot, as a crash of its machine would.
    pub async fn kill(&self, service: Service) {
        self.tell("kill", service).await;
    }

    /// How to reach those that run.
    pub fn urls(&self) -> Urls {
        let output = Self::run(self.folder.path(), None, &["env"]);
        let lines = String::from_utf8(output.stdout).unwrap();
        let of = |name: &str| {
            let mut pairs = lines.lines().filter_map(|line| line.split_once('='));
            let found = pairs.find(|(variable, _)| *variable == name);
            found.map(|(_, url)| url.to_owned())
        };
        Urls {
            database: of("DATABASE_URL"),
            redis: of("REDIS_URL"),
            kafka: of("KAFKA_BROKERS"),
        }
    }

    async fn tell(&self, command: &'static str, service: Service) {
        let folder = self.folder.path().to_owned();
        let advertised = self.advertised;
        let told = tokio::task::spawn_blocking(move || {
            Self::run(&folder, advertised, &[command, service.name()])
        });
        told.await.unwrap();
    }

    fn run(folder: &Path, advertised: Option<u16>, arguments: &[&str]) -> Output {
        let advertised = advertised.map(|port| ("KAFKA_ADVERTISED_PORT", port.to_string()));
        let output = Command::new(repository().join(".ci/services"))
            .args(arguments)
            .env("SERVICES_DIR", folder)
            .envs(advertised)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // At once: nothing of it is kept.
        let killed = Command::new(repository().join(".ci/services"))
            .arg("kill")
            .env("SERVICES_DIR", self.folder.path())
            .stdin(Stdio::null())
            .output();
        if !killed.is_ok_and(|output| output.status.success()) {
            eprintln!(
                "services are left running in {}",
                self.folder.path().display()
            );
        }
    }
}
