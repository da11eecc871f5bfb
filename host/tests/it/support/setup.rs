//! How hosts are started, and how starts fail.

use std::{path::Path, sync::Arc};

use tempfile::TempDir;

use super::{FAULTY, Host, VERSIONS, process::Process, shop::Shop, staged, within, world::World};

/// How a host is started: its data folder, its corner of the backends and its environment, which is all that it keeps over a restart.
#[derive(Clone)]
pub struct Setup {
    data: Arc<TempDir>,
    world: Arc<World>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// A new data folder, a corner of the backends, free ports, the components that `make test-plugins` staged, and bounds that only a hang meets: a slow machine decides nothing.
    pub fn new() -> Self {
        Self::within(World::new())
            .set("TIMESALE_PERMIT_WAIT_MS", 20_000)
            .set("TIMESALE_TRANSACTION_HOLD_MS", 20_000)
            .set("TIMESALE_ROW_LOCK_WAIT_MS", 30_000)
            .set("TIMESALE_LOCK_WAIT_MS", 30_000)
            .set("TIMESALE_LOCK_HOLD_MS", 20_000)
            .set("TIMESALE_LOCK_LEASE_MS", 30_000)
            .set("TIMESALE_CALL_DEADLINE_MS", 60_000)
            .set("TIMESALE_HTTP_TIMEOUT_MS", 120_000)
    }

    #[cfg(feature = "services")]
    /// The host's own bounds, on these services, which the test throws away.
    pub fn on(urls: super::world::Urls) -> Self {
        Self::within(World::on_throw_away(urls))
    }

    fn within(world: World) -> Self {
        let setup = Self {
            data: Arc::new(TempDir::new().unwrap()),
            world: Arc::new(world),
            environment: Vec::new(),
        };
        let shared = setup.world.environment();
        let setup = setup
            .set("TIMESALE_DATA_DIR", setup.data.path().display())
            .set("TIMESALE_LISTEN", "127.0.0.1:0")
            .set("TIMESALE_MANAGEMENT_LISTEN", "127.0.0.1:0")
            .set("TIMESALE_STRATEGIES", staged().display())
            .set("TIMESALE_UNPROBED", unprobed());
        shared
            .into_iter()
            .fold(setup, |setup, (name, value)| setup.set(name, value))
    }

    /// Bounds so short that a test can wait for them, save the lease: a lock that nobody releases stays in the way.
    pub fn impatient() -> Self {
        Self::new()
            .set("TIMESALE_TRANSACTION_HOLD_MS", 1_000)
            .set("TIMESALE_LOCK_WAIT_MS", 1_500)
            .set("TIMESALE_LOCK_HOLD_MS", 1_200)
            .set("TIMESALE_LOCK_LEASE_MS", 60_000)
            .set("TIMESALE_CALL_DEADLINE_MS", 2_000)
    }

    /// The same with all requests in one line, whatever their sale.
    pub fn with_one_line(&self) -> Self {
        self.set("TIMESALE_KAFKA_PARTITIONS", 1)
    }

    #[cfg(feature = "services")]
    /// Another host of the same world: all that hosts share, and a data folder of its own.
    pub fn beside(&self) -> Self {
        assert!(
            self.world.is_real(),
            "embedded backends serve one host: `make test-services` starts the real ones"
        );
        let beside = Self {
            data: Arc::new(TempDir::new().unwrap()),
            ..self.clone()
        };
        beside.set("TIMESALE_DATA_DIR", beside.data.path().display())
    }

    /// The same with this variable.
    pub fn set(&self, name: &str, value: impl ToString) -> Self {
        let mut changed = self.clone();
        changed.environment.retain(|(set, _)| set != name);
        changed
            .environment
            .push((name.to_owned(), value.to_string()));
        changed
    }

    /// The same with a strategies folder that holds only these of the staged components.
    pub fn with_strategies(&self, versions: &[&str]) -> Self {
        let folder = self.data().join("strategies");
        std::fs::create_dir_all(&folder).unwrap();
        for file in versions.iter().map(|version| format!("{version}.wasm")) {
            std::fs::copy(staged().join(&file), folder.join(&file)).unwrap();
        }
        self.set("TIMESALE_STRATEGIES", folder.display())
    }

    /// The folder that the host keeps its data in.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// What the host shares with others.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Starts a host and waits until it serves.
    pub async fn start(&self) -> Host {
        let process = self.launch();
        let address = async |greeting: &str| {
            let line = within("the greeting", process.stdout.wait_for(greeting)).await;
            let line =
                line.unwrap_or_else(|| panic!("it stopped at once: {:#?}", process.stderr.now()));
            let url = line
                .split(' ')
                .find(|word| word.starts_with("http://"))
                .unwrap();
            // Up to the path, if there is one.
            url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
        };
        let public = address("timesale serves http://").await;
        let management = address("timesale is watched at http://").await;
        Host {
            shop: Shop::new(public),
            management,
            process,
            setup: self.clone(),
        }
    }

    /// Starts a host that must stop by itself, and waits until it has.
    pub async fn fail(&self) -> Failure {
        let process = self.launch();
        let (stdout, stderr) = (process.stdout.clone(), process.stderr.clone());
        let success = within("the end of the host", process.wait()).await;
        Failure {
            success,
            stdout: stdout.whole().await,
            stderr: stderr.whole().await,
        }
    }

    fn launch(&self) -> Process {
        Process::launch(&[], &self.environment)
    }
}

/// The staged versions, which are probed by the tests that are about it: at each start that would take longer than most tests.
fn unprobed() -> String {
    [&VERSIONS[..], &[FAULTY]].concat().join(",")
}

/// How a start failed.
#[derive(Debug)]
pub struct Failure {
    pub success: bool,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}
