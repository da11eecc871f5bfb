//! What an operator sets: addresses, folders, secrets and limits, from flags or the environment.
//!
//! Every flag has an environment variable.
//! `validate` holds the relations between the limits; a fault here stops the process before it listens.

pub mod grants;

use std::{ffi::OsString, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{
    Args, CommandFactory as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{bench, domain::Version, plugin::PluginCommand, strategy::compiler::Compile};

/// The build: package version, contract version and commit.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (contract timesale:strategy@0.1.1, commit ",
    env!("TIMESALE_COMMIT"),
    ")"
);

/// The version of the contract that this host runs.
pub const CONTRACT_VERSION: &str = "0.1.1";

/// Runs flash-sale strategies written as WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "timesale", version = VERSION, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `serve` where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve where no command is given.
    #[command(flatten)]
    pub config: Config,
}

/// What the binary does.
#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process makes one, and takes it apart at once"
)]
pub enum Command {
    /// Serves purchases until a signal ends it.
    Serve(Config),
    /// Buys from a host on this machine as fast as asked, and prints how fast it sold, if it sold rightly.
    Bench(bench::Plan),
    /// Works on strategies.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Compiles the component on its standard input into the cache of the host that started it.
    #[command(hide = true)]
    Compile(Compile),
}

/// What an operator sets.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address of the public listener.
    #[arg(long, env = "TIMESALE_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Address of the listener for health and metrics, which no buyer may reach.
    #[arg(
        long,
        env = "TIMESALE_MANAGEMENT_LISTEN",
        default_value = "127.0.0.1:8081"
    )]
    pub management_listen: SocketAddr,
    /// Folder of the components, `v1.wasm` and so on.
    #[arg(long, env = "TIMESALE_STRATEGIES", default_value = "strategies")]
    pub strategies: PathBuf,
    /// Versions, with commas between, whose components go live without a probe: those that sell by rules of their own, which a probe does not know.
    #[arg(
        long,
        env = "TIMESALE_UNPROBED",
        value_delimiter = ',',
        value_parser = version
    )]
    pub unprobed: Vec<Version>,
    /// Folder of the embedded database and log, of the ticket key where none is given, and of uploads.
    #[arg(long, env = "TIMESALE_DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Token that sellers must show to write products and sales; without one anyone may.
    #[arg(long, env = "TIMESALE_SELLER_TOKEN", hide_env_values = true)]
    pub seller_token: Option<Hidden>,
    /// File with the sellers' token; a change takes effect within a second.
    #[arg(
        long,
        env = "TIMESALE_SELLER_TOKEN_FILE",
        conflicts_with = "seller_token"
    )]
    pub seller_token_file: Option<PathBuf>,
    /// Token that operators must show to change strategies; without one nobody may.
    #[arg(long, env = "TIMESALE_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<Hidden>,
    /// File with the operators' token; a change takes effect within a second.
    #[arg(
        long,
        env = "TIMESALE_ADMIN_TOKEN_FILE",
        conflicts_with = "admin_token"
    )]
    pub admin_token_file: Option<PathBuf>,
    /// Key that signs request ids, shared by all hosts; without one it is made, and kept in the database server or the data folder.
    #[arg(long, env = "TIMESALE_TICKET_KEY", hide_env_values = true)]
    pub ticket_key: Option<Hidden>,
    /// File with the ticket key, one key a line: the first signs, all verify.
    #[arg(long, env = "TIMESALE_TICKET_KEY_FILE", conflicts_with = "ticket_key")]
    pub ticket_key_file: Option<PathBuf>,
    /// Database server, `postgres://user:password@host:port/database`; without one, a file in the data folder.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<Hidden>,
    /// Schema of the tables on the server, made where it is missing; the user's own where absent.
    #[arg(long, env = "TIMESALE_DATABASE_SCHEMA")]
    pub database_schema: Option<String>,
    /// Connections to the database server.
    #[arg(long, env = "TIMESALE_DATABASE_POOL", default_value_t = 16)]
    pub database_pool: u32,
    /// Redis server, `redis://` or with TLS `rediss://`; without one, a table in this process.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<Hidden>,
    /// What every key on the Redis server begins with.
    #[arg(long, env = "TIMESALE_REDIS_PREFIX", default_value = "timesale:")]
    pub redis_prefix: String,
    /// Kafka brokers, `host:port` with commas between; without any, a file in the data folder.
    #[arg(long, env = "KAFKA_BROKERS")]
    pub kafka_brokers: Option<String>,
    /// File of librdkafka properties, `name=value` a line, for TLS and SASL.
    #[arg(long, env = "KAFKA_PROPERTIES")]
    pub kafka_properties: Option<PathBuf>,
    /// What the names of topics and of the consumer group begin with.
    #[arg(long, env = "TIMESALE_KAFKA_PREFIX", default_value = "")]
    pub kafka_prefix: String,
    /// Partitions of topics that are made because they are missing.
    #[arg(long, env = "TIMESALE_KAFKA_PARTITIONS", default_value_t = 4)]
    pub kafka_partitions: u32,
    /// The bounds.
    #[command(flatten)]
    pub limits: Limits,
}

impl Config {
    /// Checks what the parser cannot; the error is one line.
    pub fn validate(&self) -> anyhow::Result<()> {
        let positive = [
            ("TIMESALE_DATABASE_POOL", self.database_pool),
            ("TIMESALE_KAFKA_PARTITIONS", self.kafka_partitions),
        ];
        for (name, value) in positive {
            anyhow::ensure!(value > 0, "{name} must be above 0");
        }
        let schemes = [
            (
                "DATABASE_URL",
                &self.database_url,
                ["postgres://", "postgresql://"],
            ),
            ("REDIS_URL", &self.redis_url, ["redis://", "rediss://"]),
        ];
        for (name, url, [one, other]) in schemes {
            let fits = |Hidden(url): &Hidden| url.starts_with(one) || url.starts_with(other);
            anyhow::ensure!(
                url.as_ref().is_none_or(fits),
                "{name} must begin with {one} or {other}"
            );
        }
        // Of a parameter that it does not know, the client would log the value.
        let told = |Hidden(url): &Hidden| {
            url.rsplit_once('?')
                .is_some_and(|(_, query)| query.contains("password"))
        };
        anyhow::ensure!(
            !self.database_url.as_ref().is_some_and(told),
            "DATABASE_URL: the password stands before the @, not among the parameters"
        );
        anyhow::ensure!(
            self.kafka_brokers
                .as_ref()
                .is_none_or(|brokers| !brokers.is_empty()),
            "KAFKA_BROKERS is set and empty"
        );
        self.limits.validate()
    }
}

impl Cli {
    /// Reads the command line and the environment; ends the process with what is wrong, and where it stands.
    pub fn read() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            match variable_of(&error) {
                Some(variable) => {
                    let named = format!("error: {variable}: ");
                    eprint!("{}", error.to_string().replacen("error: ", &named, 1));
                }
                // Where even this cannot be written there is nobody to tell.
                None => drop(error.print()),
            }
            std::process::exit(error.exit_code())
        })
    }
}

/// The variable of the environment that holds what is wrong, if it is not on the command line.
fn variable_of(error: &clap::Error) -> Option<String> {
    let mut command = Cli::command();
    command.build();
    let subcommands = command
        .get_subcommands()
        .flat_map(clap::Command::get_arguments);
    let mut all = command.get_arguments().chain(subcommands);
    let value = |arg: &clap::Arg| std::env::var_os(arg.get_env()?);
    let arg = if error.kind() == ErrorKind::InvalidUtf8 {
        all.find(|arg| value(arg).is_some_and(|value| value.to_str().is_none()))?
    } else {
        let ContextValue::String(named) = error.get(ContextKind::InvalidArg)? else {
            return None;
        };
        let arg = all.find(|arg| value(arg).is_some() && arg.to_string() == *named)?;
        let flag = format!("--{}", arg.get_long()?);
        let is_given = |word: OsString| word.to_string_lossy().split('=').next() == Some(&*flag);
        if std::env::args_os().any(is_given) {
            return None;
        }
        arg
    };
    Some(arg.get_env()?.to_string_lossy().into_owned())
}

/// Reads a version that is given by an operator.
pub fn version(text: &str) -> Result<Version, &'static str> {
    Version::parse(text).ok_or("a version has the form [a-z][a-z0-9-]{0,31}")
}

/// A secret that no message shows.
#[derive(Clone)]
pub struct Hidden(pub String);

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Every bound of the host.
#[derive(Debug, Clone, Args)]
pub struct Limits {
    /// Pieces that one request may ask for.
    #[arg(long, env = "TIMESALE_MAX_QUANTITY", default_value_t = 10)]
    pub max_quantity: u32,
    /// Calls of one version that may run at once.
    #[arg(long, env = "TIMESALE_CALLS_MAX", default_value_t = 256)]
    pub calls_max: u32,
    /// How long a purchase waits for its turn to run, in milliseconds; one that would most likely wait in vain is turned away at once.
    #[arg(long, env = "TIMESALE_PERMIT_WAIT_MS", default_value_t = 1_000)]
    pub permit_wait_ms: u64,
    /// How long a call may take once it runs, in milliseconds.
    #[arg(long, env = "TIMESALE_CALL_DEADLINE_MS", default_value_t = 6_000)]
    pub call_deadline_ms: u64,
    /// How long a client waits for any answer, in milliseconds.
    #[arg(long, env = "TIMESALE_HTTP_TIMEOUT_MS", default_value_t = 12_000)]
    pub http_timeout_ms: u64,
    /// How long a transaction may stay open once its first statement was answered, in milliseconds.
    #[arg(long, env = "TIMESALE_TRANSACTION_HOLD_MS", default_value_t = 1_000)]
    pub transaction_hold_ms: u64,
    /// How long a transaction waits for its row, and anyone for a connection to the database, in milliseconds.
    #[arg(long, env = "TIMESALE_ROW_LOCK_WAIT_MS", default_value_t = 3_000)]
    pub row_lock_wait_ms: u64,
    /// How long a call waits for a Redis lock, in milliseconds.
    #[arg(long, env = "TIMESALE_LOCK_WAIT_MS", default_value_t = 3_000)]
    pub lock_wait_ms: u64,
    /// How long a Redis lock lives when nobody releases it, in milliseconds.
    #[arg(long, env = "TIMESALE_LOCK_LEASE_MS", default_value_t = 3_000)]
    pub lock_lease_ms: u64,
    /// The longest from the grant of a Redis lock to the commit under it, in milliseconds; 0 is no bound.
    #[arg(long, env = "TIMESALE_LOCK_HOLD_MS", default_value_t = 2_500)]
    pub lock_hold_ms: u64,
    /// Linear memory that one call may take, in bytes.
    #[arg(long, env = "TIMESALE_MEMORY_MAX_BYTES", default_value_t = 32 << 20)]
    pub memory_max_bytes: usize,
    /// Host functions that one call may use.
    #[arg(long, env = "TIMESALE_HOST_CALLS_MAX", default_value_t = 1_000)]
    pub host_calls_max: u32,
    /// Accepted requests that may wait to be settled.
    #[arg(long, env = "TIMESALE_BACKLOG_MAX", default_value_t = 100_000)]
    pub backlog_max: u64,
    /// Requests that one settle call decides.
    #[arg(long, env = "TIMESALE_SETTLE_BATCH_MAX", default_value_t = 256)]
    pub settle_batch_max: u32,
    /// How often a strategy may fail at a single request, and a host to run a version that is wanted, before the requests go to the dead letters.
    #[arg(long, env = "TIMESALE_SETTLE_ATTEMPTS_MAX", default_value_t = 3)]
    pub settle_attempts_max: u32,
    /// How long idempotency keys outlive their sale, in hours.
    #[arg(long, env = "TIMESALE_KEY_RETENTION_HOURS", default_value_t = 24)]
    pub key_retention_hours: u32,
    /// How long a revision is watched after a straight swap, in milliseconds; 0 is not at all.
    #[arg(long, env = "TIMESALE_SWAP_WATCH_MS", default_value_t = 300_000)]
    pub swap_watch_ms: u64,
    /// How long a stopping host waits for what is under way, in milliseconds.
    #[arg(long, env = "TIMESALE_DRAIN_MS", default_value_t = 20_000)]
    pub drain_ms: u64,
}

impl Limits {
    /// Checks every bound and the relations between them; the error is one line.
    pub fn validate(&self) -> anyhow::Result<()> {
        let positive = [
            ("TIMESALE_MAX_QUANTITY", u64::from(self.max_quantity)),
            ("TIMESALE_CALLS_MAX", u64::from(self.calls_max)),
            ("TIMESALE_PERMIT_WAIT_MS", self.permit_wait_ms),
            ("TIMESALE_TRANSACTION_HOLD_MS", self.transaction_hold_ms),
            ("TIMESALE_ROW_LOCK_WAIT_MS", self.row_lock_wait_ms),
            ("TIMESALE_LOCK_WAIT_MS", self.lock_wait_ms),
            ("TIMESALE_LOCK_LEASE_MS", self.lock_lease_ms),
            ("TIMESALE_HOST_CALLS_MAX", u64::from(self.host_calls_max)),
            ("TIMESALE_BACKLOG_MAX", self.backlog_max),
            (
                "TIMESALE_SETTLE_BATCH_MAX",
                u64::from(self.settle_batch_max),
            ),
            (
                "TIMESALE_SETTLE_ATTEMPTS_MAX",
                u64::from(self.settle_attempts_max),
            ),
        ];
        for (name, value) in positive {
            anyhow::ensure!(value > 0, "{name} must be above 0");
        }
        let ordered = [
            (
                "TIMESALE_TRANSACTION_HOLD_MS",
                self.transaction_hold_ms,
                "TIMESALE_CALL_DEADLINE_MS",
                self.call_deadline_ms,
            ),
            (
                "TIMESALE_LOCK_WAIT_MS",
                self.lock_wait_ms,
                "TIMESALE_CALL_DEADLINE_MS",
                self.call_deadline_ms,
            ),
            // No bound, 0, is below every lease.
            (
                "TIMESALE_LOCK_HOLD_MS",
                self.lock_hold_ms,
                "TIMESALE_LOCK_LEASE_MS",
                self.lock_lease_ms,
            ),
            (
                "TIMESALE_PERMIT_WAIT_MS + TIMESALE_CALL_DEADLINE_MS + TIMESALE_ROW_LOCK_WAIT_MS",
                self.permit_wait_ms
                    .saturating_add(self.call_deadline_ms)
                    .saturating_add(self.row_lock_wait_ms),
                "TIMESALE_HTTP_TIMEOUT_MS",
                self.http_timeout_ms,
            ),
        ];
        for (less_name, less, more_name, more) in ordered {
            anyhow::ensure!(
                less < more,
                "{less_name} ({less}) must be below {more_name} ({more})"
            );
        }
        let calls = 1..=1_000;
        anyhow::ensure!(
            calls.contains(&self.calls_max),
            "TIMESALE_CALLS_MAX ({}) must be at most 1000",
            self.calls_max
        );
        let memory = (1 << 20)..=(1 << 30);
        anyhow::ensure!(
            memory.contains(&self.memory_max_bytes),
            "TIMESALE_MEMORY_MAX_BYTES ({}) must lie between 1 MiB and 1 GiB",
            self.memory_max_bytes
        );
        Ok(())
    }

    /// How long a call may take once it runs.
    pub const fn call_deadline(&self) -> Duration {
        Duration::from_millis(self.call_deadline_ms)
    }

    /// How long a client waits for its answer.
    pub const fn http_timeout(&self) -> Duration {
        Duration::from_millis(self.http_timeout_ms)
    }

    /// How long a purchase waits for its turn to run.
    pub const fn permit_wait(&self) -> Duration {
        Duration::from_millis(self.permit_wait_ms)
    }

    /// How long a transaction may stay open.
    pub const fn transaction_hold(&self) -> Duration {
        Duration::from_millis(self.transaction_hold_ms)
    }

    /// The longest from the grant of a Redis lock to the commit under it, if that is bounded.
    pub const fn lock_hold(&self) -> Option<Duration> {
        match self.lock_hold_ms {
            0 => None,
            bound => Some(Duration::from_millis(bound)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::Cli;

    fn validate(arguments: &[&str]) -> Result<(), String> {
        let cli = Cli::try_parse_from([&["timesale"], arguments].concat())
            .map_err(|error| error.to_string())?;
        cli.config
            .limits
            .validate()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_hold_together() {
        assert_eq!(validate(&[]), Ok(()));
    }

    #[test]
    fn a_lock_wait_beyond_the_deadline_is_refused_by_both_names() {
        let refusal = validate(&["--lock-wait-ms", "6000"]).unwrap_err();
        assert!(
            refusal.contains("TIMESALE_LOCK_WAIT_MS (6000)"),
            "{refusal}"
        );
        assert!(refusal.contains("TIMESALE_CALL_DEADLINE_MS"), "{refusal}");
    }

    #[test]
    fn a_hold_as_long_as_the_lease_is_refused() {
        let refusal = validate(&["--lock-hold-ms", "3000"]).unwrap_err();
        assert!(refusal.contains("TIMESALE_LOCK_LEASE_MS"), "{refusal}");
    }

    #[test]
    fn a_hold_of_zero_is_no_bound_and_leaves_the_lease_its_own() {
        assert_eq!(
            validate(&["--lock-hold-ms", "0", "--lock-lease-ms", "1"]),
            Ok(())
        );
        let cli = Cli::parse_from(["timesale", "--lock-hold-ms", "0"]);
        assert_eq!(cli.config.limits.lock_hold(), None);
        let refusal = validate(&["--lock-hold-ms", "0", "--lock-lease-ms", "0"]).unwrap_err();
        assert!(refusal.contains("TIMESALE_LOCK_LEASE_MS"), "{refusal}");
    }

    #[test]
    fn a_limit_of_zero_and_a_word_for_a_number_are_refused() {
        assert!(validate(&["--calls-max", "0"]).is_err());
        assert!(validate(&["--calls-max", "many"]).is_err());
    }
}
