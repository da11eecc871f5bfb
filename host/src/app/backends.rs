//! Opens the backends: a server where the configuration names one, the embedded stand-in where not.
//!
//! A fault is an error that begins with the variable that is wrong; `app` stops at it before it listens.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;

use crate::{
    backend::{
        Backends, TTL_MAX,
        database::Database,
        group_commit::GroupCommit,
        kafka::{Cluster, KafkaOptions},
        log::{Log, LogOptions},
        memory::{Memory, MemoryOptions},
        places::Places,
        postgres::{Postgres, PostgresOptions},
        queue::Queue,
        redis::{Redis, RedisOptions},
        shared_memory::SharedMemory,
        shared_reads::SharedReads,
        sold_out::SoldOut,
        sqlite::{Keeping, Sqlite, SqliteOptions},
    },
    config::{Config, Hidden},
    secret::{self, Secret},
    settlement::GROUP,
    telemetry::queue::QueueMetrics,
    ticket::TicketKeys,
};

/// How much longer than a lock's wait the database server may take for a statement, and than a transaction's hold it leaves one open.
const SERVER_MARGIN: Duration = Duration::from_secs(1);
/// How long Kafka may take to acknowledge a record.
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the Redis server may take to answer.
const REDIS_ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Connections that read the embedded database.
const DATABASE_READERS: u32 = 4;
/// Keys and bytes that the embedded stand-in for Redis keeps.
const REDIS_BOUNDS: MemoryOptions = MemoryOptions {
    entries_max: 100_000,
    bytes_max: 256 << 20,
    ttl_max: TTL_MAX,
};
/// How far above the highest token in the database the fencing tokens of a new start begin.
const FENCE_MARGIN: u64 = 1_000_000;

/// Opens every backend that the configuration names, or its embedded stand-in.
pub async fn open(config: &Config) -> anyhow::Result<Backends> {
    warn_of_a_mixture(config);
    let database = Arc::new(open_database(config).await?);
    let sold_out = Arc::new(SoldOut::default());
    let kafka = open_queue(config).await?;
    let redis = open_shared_memory(config, &database).await?;
    Ok(Backends {
        group_commit: GroupCommit::new(Arc::clone(&database), Arc::clone(&sold_out)),
        database,
        redis,
        kafka,
        sold_out,
        places: Places::default(),
        sale_reads: SharedReads::default(),
        queue_metrics: QueueMetrics::default(),
    })
}

/// The ticket keys that the operator gave, or those that all hosts of the database share.
pub async fn ticket_keys(
    config: &Config,
    database: &Database,
) -> anyhow::Result<Arc<Secret<TicketKeys>>> {
    let given = config.ticket_key.is_some() || config.ticket_key_file.is_some();
    let kept = match database {
        Database::Postgres(database) if !given => {
            let kept = database.ticket_key(&secret::new_key()).await;
            Some(Hidden(kept.context("cannot read the ticket key")?))
        }
        Database::Postgres(_) | Database::Sqlite(_) => None,
    };
    secret::ticket_keys(
        config.ticket_key.as_ref().or(kept.as_ref()),
        config.ticket_key_file.as_deref(),
        &config.data_dir,
    )
}

async fn open_database(config: &Config) -> anyhow::Result<Database> {
    let row_lock_wait = Duration::from_millis(config.limits.row_lock_wait_ms);
    if let Some(Hidden(url)) = &config.database_url {
        let options = PostgresOptions {
            url: url.clone(),
            pool_max: config.database_pool,
            row_lock_wait,
            statement_timeout: row_lock_wait + SERVER_MARGIN,
            // The host ends it first, and keeps the connection.
            transaction_hold: config.limits.transaction_hold() + SERVER_MARGIN,
            schema: config.database_schema.clone(),
        };
        let database = Postgres::open(&options).await;
        return Ok(Database::Postgres(database.context("DATABASE_URL")?));
    }
    let folder = &config.data_dir;
    let options = SqliteOptions {
        path: folder.join("timesale.db"),
        readers: DATABASE_READERS,
        writer_wait: row_lock_wait,
        keeping: Keeping::Durable,
    };
    let database = Sqlite::open(&options).await;
    let database =
        database.with_context(|| format!("cannot open the database in {}", folder.display()))?;
    Ok(Database::Sqlite(database))
}

async fn open_queue(config: &Config) -> anyhow::Result<Queue> {
    let backlog_max = config.limits.backlog_max;
    if let Some(brokers) = &config.kafka_brokers {
        if let Some(file) = &config.kafka_properties {
            tokio::fs::metadata(file)
                .await
                .with_context(|| format!("KAFKA_PROPERTIES: cannot read {}", file.display()))?;
        }
        let options = KafkaOptions {
            brokers: brokers.clone(),
            properties_file: config.kafka_properties.clone(),
            group: GROUP.to_owned(),
            topic_prefix: config.kafka_prefix.clone(),
            partitions: config.kafka_partitions,
            backlog_max,
            produce_timeout: PRODUCE_TIMEOUT,
        };
        let cluster = Cluster::open(&options).await;
        return Ok(Queue::Cluster(Box::new(cluster.context("KAFKA_BROKERS")?)));
    }
    let folder = &config.data_dir;
    let options = LogOptions {
        path: folder.join("log.db"),
        backlog_max,
        keeping: Keeping::Durable,
    };
    let log = Log::open(&options).await;
    let log = log.with_context(|| format!("cannot open the log in {}", folder.display()))?;
    Ok(Queue::Log(log))
}

async fn open_shared_memory(config: &Config, database: &Database) -> anyhow::Result<SharedMemory> {
    if let Some(Hidden(url)) = &config.redis_url {
        let options = RedisOptions {
            url: url.clone(),
            prefix: config.redis_prefix.clone(),
            ttl_max: TTL_MAX,
            answer_wait: REDIS_ANSWER_WAIT,
        };
        let redis = Redis::open(&options).await;
        return Ok(SharedMemory::Redis(redis.context("REDIS_URL")?));
    }
    let highest = database
        .max_fence()
        .await
        .context("cannot read the fencing tokens")?;
    let first_token = highest.saturating_add(FENCE_MARGIN);
    Ok(SharedMemory::Memory(Memory::new(first_token, REDIS_BOUNDS)))
}

/// Hosts that share a database share what is pending and what is locked, too, or they misjudge each other.
fn warn_of_a_mixture(config: &Config) {
    let shared = [config.redis_url.is_some(), config.kafka_brokers.is_some()];
    if config.database_url.is_some() && shared != [true, true] {
        tracing::warn!(
            "the database is a server, and Redis or Kafka is embedded: run one host alone on it"
        );
    }
}
