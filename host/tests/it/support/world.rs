//! Where hosts keep what they share: the embedded backends in their data folders, or a corner of real services that is theirs alone.
//!
//! `TIMESALE_TEST_BACKENDS` says which: `embedded`, or `real` for the services of `DATABASE_URL`, `REDIS_URL` and `KAFKA_BROKERS`.

use std::{env, error::Error, thread};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use redis::Commands as _;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _,
    postgres::{PgConnectOptions, PgConnection},
};

use super::commands::Commands;

/// The real services; what is absent is embedded.
#[derive(Debug, Clone, Default)]
pub struct Urls {
    pub database: Option<String>,
    pub redis: Option<String>,
    pub kafka: Option<String>,
}

impl Urls {
    /// Those that `TIMESALE_TEST_BACKENDS` asks for.
    fn asked_for() -> Self {
        let required = |name| {
            Some(env::var(name).unwrap_or_else(|_| {
                panic!("{name} is missing: run `make test`, or `export $(.ci/services env)` after `.ci/services start`")
            }))
        };
        match env::var("TIMESALE_TEST_BACKENDS").as_deref() {
            Err(_) | Ok("embedded") => Self::default(),
            Ok("real") => Self {
                database: required("DATABASE_URL"),
                redis: required("REDIS_URL"),
                kafka: required("KAFKA_BROKERS"),
            },
            Ok(other) => panic!("TIMESALE_TEST_BACKENDS is embedded or real, not {other}"),
        }
    }
}

/// What the hosts of one test share and no other test sees; cleared when dropped.
#[derive(Debug)]
pub struct World {
    urls: Urls,
    /// The schema, and what the names of keys, topics and the group begin with.
    name: String,
    /// Whether the services outlive the test.
    lasting: bool,
}

impl World {
    /// On the backends that this run is about.
    pub fn new() -> Self {
        Self::on(Urls::asked_for(), true)
    }

    #[cfg(feature = "services")]
    /// On these services, which the test throws away afterwards.
    pub fn on_throw_away(urls: Urls) -> Self {
        Self::on(urls, false)
    }

    fn on(urls: Urls, lasting: bool) -> Self {
        let name = format!("it_{:016x}", rand::random::<u64>());
        Self {
            urls,
            name,
            lasting,
        }
    }

    /// Whether every backend is a real one, so that several hosts can share them.
    pub fn is_real(&self) -> bool {
        self.urls.database.is_some() && self.urls.redis.is_some() && self.urls.kafka.is_some()
    }

    /// What a host has to be told.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = Vec::new();
        if let Some(url) = &self.urls.database {
            environment.push(("DATABASE_URL", url.clone()));
            environment.push(("TIMESALE_DATABASE_SCHEMA", self.name.clone()));
        }
        if let Some(url) = &self.urls.redis {
            environment.push(("REDIS_URL", url.clone()));
            environment.push(("TIMESALE_REDIS_PREFIX", self.redis_prefix()));
        }
        if let Some(brokers) = &self.urls.kafka {
            environment.push(("KAFKA_BROKERS", brokers.clone()));
            environment.push(("TIMESALE_KAFKA_PREFIX", self.topic("")));
        }
        environment
    }

    /// A connection past the host; none where the database is embedded.
    pub async fn postgres(&self) -> Option<PgConnection> {
        let options: PgConnectOptions = self.urls.database.as_ref()?.parse().unwrap();
        let options = options.options([("search_path", &self.name)]);
        Some(PgConnection::connect_with(&options).await.unwrap())
    }

    /// What is asked of Redis from now on; none where it is embedded.
    pub fn commands(&self) -> Option<Commands> {
        Some(Commands::follow(
            self.urls.redis.as_ref()?,
            self.redis_prefix(),
        ))
    }

    /// The brokers, and how they know a topic; none where the log is embedded.
    pub fn kafka(&self, topic: &str) -> Option<(String, String)> {
        Some((self.urls.kafka.clone()?, self.topic(topic)))
    }

    fn topic(&self, topic: &str) -> String {
        format!("{}.{topic}", self.name)
    }

    fn redis_prefix(&self) -> String {
        format!("{}:", self.name)
    }

    async fn drop_schema(&self, url: &str) -> Result<(), Box<dyn Error>> {
        let mut connection = PgConnection::connect(url).await?;
        let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name);
        connection.execute(AssertSqlSafe(drop)).await?;
        Ok(connection.close().await?)
    }

    fn delete_keys(&self, url: &str) -> Result<(), Box<dyn Error>> {
        let mut connection = redis::Client::open(url)?.get_connection()?;
        let pattern = format!("{}*", self.redis_prefix());
        let found = connection.scan_match::<_, String>(pattern)?;
        let keys = found.collect::<Result<Vec<_>, _>>()?;
        if !keys.is_empty() {
            connection.del::<_, ()>(keys)?;
        }
        Ok(())
    }

    async fn delete_topics(&self, brokers: &str) -> Result<(), Box<dyn Error>> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .create()?;
        let metadata = admin.inner().fetch_metadata(None, super::PATIENCE)?;
        let names = metadata.topics().iter().map(|topic| topic.name());
        let ours: Vec<&str> = names
            .filter(|name| name.starts_with(&self.topic("")))
            .collect();
        if !ours.is_empty() {
            admin.delete_topics(&ours, &AdminOptions::new()).await?;
        }
        Ok(())
    }

    fn clear(&self) -> Result<(), Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            if let Some(url) = &self.urls.database {
                self.drop_schema(url).await?;
            }
            if let Some(url) = &self.urls.redis {
                self.delete_keys(url)?;
            }
            if let Some(brokers) = &self.urls.kafka {
                self.delete_topics(brokers).await?;
            }
            Ok(())
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.lasting {
            return;
        }
        // On a thread of its own, since the runtime of the test is about to end.
        let cleared = thread::scope(|scope| {
            let clearing = scope.spawn(|| self.clear().map_err(|error| error.to_string()));
            clearing.join()
        });
        match cleared {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("{} is left behind: {error}", self.name),
            Err(_) => eprintln!("{} is left behind", self.name),
        }
    }
}
