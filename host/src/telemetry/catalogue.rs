//! The metric catalogue: every family that the host exports, once.
//!
//! A metric is added here and nowhere else; whoever records or renders it names it by its constant.
//! A family names its labels, and so the series that it can have: `series_max` is the bound on all of them, which no guest, client or sale can pass.

use super::labels::Label;

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only rises while the process lives.
    Counter,
    /// A present value.
    Gauge,
    /// A distribution with these upper bounds.
    Histogram(&'static [f64]),
}

/// A family of series.
#[derive(Debug)]
pub struct Metric {
    /// The name, with its unit last.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, beside `application`.
    pub labels: &'static [Label],
    /// What it counts or measures, in a sentence.
    pub help: &'static str,
}

impl Metric {
    /// The most series of it, in a host that has so many versions.
    pub fn series_max(&self, versions: usize) -> usize {
        // A histogram has its buckets, that of all values, the sum and the count.
        let parts = match self.kind {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram(buckets) => buckets.len() + 3,
        };
        let sets = self.labels.iter().map(|label| label.values_max(versions));
        sets.product::<usize>() * parts
    }
}

/// The most series that a host exports that has so many versions, those of the process itself apart.
pub fn series_max(versions: usize) -> usize {
    let families = CATALOGUE.iter();
    families.map(|metric| metric.series_max(versions)).sum()
}

const CALL: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const SHORT: &[f64] = &[
    0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0,
];
const LONG: &[f64] = &[
    0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];
const PIECES: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0];
/// Bounds among those that revisions are compared by, so that what is rendered is exact.
const CANARY: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];
const COUNT: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

macro_rules! catalogue {
    ($($constant:ident = $name:literal, $kind:expr, $([$($label:ident),+],)? $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric {
                name: $name,
                kind: $kind,
                labels: &[$($(Label::$label),+)?],
                help: $help,
            };
        )+
        /// Every family that the host exports by itself.
        pub const CATALOGUE: &[Metric] = &[$($constant,)+];
    };
}

catalogue! {
    OPERATION_SUCCESS = "time_sale_operation_success_total", Kind::Counter, [Version, Operation], "Purchase calls that completed or were accepted.";
    OPERATION_FAILURE = "time_sale_operation_failure_total", Kind::Counter, [Version, Operation, Error], "Purchase calls that broke, by error.";
    OPERATION_REJECTED = "time_sale_operation_rejected_total", Kind::Counter, [Version, Operation, Reason], "Purchase calls that ended in a business no, by reason.";
    OPERATION_DURATION = "time_sale_operation_duration_seconds", Kind::Histogram(CALL), [Version, Operation, Outcome], "Time of purchase calls, by outcome.";
    SETTLEMENT_SUCCESS = "time_sale_settlement_success_total", Kind::Counter, [Version, Operation], "Settle calls that answered for their whole batch.";
    SETTLEMENT_FAILURE = "time_sale_settlement_failure_total", Kind::Counter, [Version, Operation, Error], "Settle calls that broke, by error.";
    SETTLEMENT_REJECTED = "time_sale_settlement_rejected_total", Kind::Counter, [Version, Operation, Reason], "Requests that a settle call refused, by reason.";
    SETTLEMENT_DURATION = "time_sale_settlement_duration_seconds", Kind::Histogram(CALL), [Version, Operation, Outcome], "Time of settle calls, by outcome.";
    SETTLEMENT_RECORDS = "time_sale_settlement_records_per_call", Kind::Histogram(COUNT), [Version], "Requests that a settle call was given.";
    PURCHASES = "time_sale_purchases_total", Kind::Counter, [Version, Result, Reason], "Purchases whose final state is committed, by result and reason.";
    PURCHASE_COMPLETION = "time_sale_purchase_completion_seconds", Kind::Histogram(LONG), [Version], "Time from the arrival of a request to its committed final state.";
    PURCHASE_QUANTITY = "time_sale_purchase_quantity", Kind::Histogram(PIECES), [Version], "Pieces of committed orders.";
    ACTIVE_BUYERS = "time_sale_active_buyers", Kind::Gauge, "Users with an order in the last minute.";
    REPEAT_BUYERS = "time_sale_repeat_buyers", Kind::Gauge, "Those of them with an earlier order in the same sale.";
    CALLS_IN_FLIGHT = "time_sale_calls_in_flight", Kind::Gauge, [Version], "Guest calls that run or wait for their turn.";
    PERMIT_WAIT = "time_sale_permit_wait_seconds", Kind::Histogram(SHORT), [Version], "How long calls waited for their turn.";
    GUEST_TIME = "time_sale_guest_seconds", Kind::Histogram(SHORT), [Version], "Time of calls spent in the guest, host functions apart.";
    HOST_CALL = "time_sale_host_call_seconds", Kind::Histogram(SHORT), [Version, Capability, Function, HostOutcome], "Time of host functions, by capability, function and outcome.";
    STRATEGY_INFO = "time_sale_strategy_info", Kind::Gauge, [Version, Slot, Revision], "1 for each revision that a version runs, unless it was removed.";
    SWAPS = "time_sale_strategy_swaps_total", Kind::Counter, [Version, Swap], "Changes of the revisions of a version on this host, by what they came to.";
    REVISIONS_LOADED = "time_sale_strategy_revisions_loaded", Kind::Gauge, "Revisions in memory: those that run, and those whose last calls have not ended or that another is watched against.";
    CANARY_CALLS = "time_sale_canary_calls_total", Kind::Counter, [Version, Track, TrialOutcome], "Purchase calls since the canary began, by track and outcome.";
    CANARY_DURATION = "time_sale_canary_duration_seconds", Kind::Histogram(CANARY), [Version, Track], "Time of purchase calls since the canary began, by track.";
    LIMIT_USED = "time_sale_limit_used_ratio", Kind::Gauge, [Version, Limit], "The most that calls of the last minute used of a limit; 1 is the limit.";
    STOCK_REMAINING = "time_sale_stock_remaining", Kind::Gauge, [Sale, Product], "Pieces left in open sales.";
    STOCK_SOLD = "time_sale_stock_sold", Kind::Gauge, [Sale, Product], "Pieces sold in open sales.";
    CACHE_REQUESTS = "time_sale_cache_requests_total", Kind::Counter, [Found], "Reads of the strategies' caches, by result.";
    QUEUE_LENGTH = "time_sale_queue_length", Kind::Gauge, "Accepted requests that wait to be settled.";
    OLDEST_PENDING = "time_sale_oldest_pending_seconds", Kind::Gauge, "How long the oldest accepted request that is not settled has waited.";
    STUCK_PENDING = "time_sale_stuck_pending", Kind::Gauge, "Accepted requests that have waited longer than a minute.";
    LEAKED_STOCK = "time_sale_leaked_stock", Kind::Gauge, "Pieces that the database has left and cached hints deny.";
    LEDGER_DRIFT = "time_sale_ledger_drift", Kind::Gauge, [Drift], "What two stores of the same truth differ by, by kind; 0 is right.";
    RECONCILIATION_AGE = "time_sale_reconciliation_age_seconds", Kind::Gauge, "Time since the stores were last held against each other.";
    BACKEND_UP = "time_sale_backend_up", Kind::Gauge, [Backend], "1 while the backend answers the host, else 0.";
    DEAD_LETTERS = "time_sale_dead_letters_total", Kind::Counter, [DeadLetter], "Records that went to the dead letters, by reason.";
    CONSUMER_LAG = "kafka_consumer_group_lag", Kind::Gauge, [Group, Topic, Partition], "Records of a partition that the group has not settled.";
    PRODUCER_SEND = "time_sale_kafka_producer_send_seconds", Kind::Histogram(SHORT), "Time from handing a record to the log to its acknowledgement.";
    PRODUCER_SEND_MAX = "time_sale_kafka_producer_send_max_seconds", Kind::Gauge, "The longest send of the last minute.";
    CONSUMER_PROCESSING = "time_sale_kafka_consumer_processing_seconds", Kind::Histogram(CALL), "Time that the batch of a record took to be settled, once for each record.";
    CONSUMER_PROCESSING_MAX = "time_sale_kafka_consumer_processing_max_seconds", Kind::Gauge, "The longest batch of the last minute.";
    KAFKA_CLIENT_LATENCY = "time_sale_kafka_client_latency_seconds", Kind::Gauge, [Client, Stage, Statistic], "What librdkafka measured of its requests over its last interval with any, by client, stage and statistic; absent without a cluster.";
    HTTP_REQUESTS = "http_server_requests_seconds", Kind::Histogram(CALL), [Method, Uri, Status, HttpOutcome], "Time of HTTP requests, by method, route, status and outcome.";
    DB_CONNECTIONS = "time_sale_db_connections", Kind::Gauge, [Pool, State], "Connections of the database pools, by state.";
    WASM_INSTANCES = "time_sale_wasm_instances", Kind::Gauge, "Component instances that live now.";
    WASM_MEMORIES = "time_sale_wasm_memories", Kind::Gauge, [State], "Linear memories of the Wasm pool, by state.";
    WASM_RESIDENT = "time_sale_wasm_resident_bytes", Kind::Gauge, "Bytes that unused slots of the Wasm pool keep resident.";
    REDIS_ENTRIES = "time_sale_redis_entries", Kind::Gauge, "Keys in the embedded stand-in for Redis.";
    REDIS_CLIENTS = "redis_connected_clients", Kind::Gauge, "Clients of the Redis server; absent while unknown.";
    REDIS_MEMORY = "redis_memory_used_bytes", Kind::Gauge, "Bytes that the Redis server uses; absent while unknown.";
    REDIS_HITS = "redis_keyspace_hits_total", Kind::Counter, "Reads of the Redis server, whoever's, that found their key; absent while unknown.";
    REDIS_MISSES = "redis_keyspace_misses_total", Kind::Counter, "Reads of the Redis server, whoever's, that found nothing; absent while unknown.";
    DB_POOL_WAIT = "time_sale_db_pool_wait_seconds_total", Kind::Counter, "How long callers have waited for a connection of the database pool.";
    TOKIO_TASKS = "tokio_alive_tasks", Kind::Gauge, "Tasks of the async runtime that live now.";
    TOKIO_QUEUE = "tokio_global_queue_depth", Kind::Gauge, "Tasks that wait in the runtime's global queue.";
    TOKIO_WORKERS = "tokio_workers", Kind::Gauge, "Worker threads of the async runtime.";
    PROCESS_CPU = "process_cpu_usage", Kind::Gauge, "Share of all cores that the process used since the last look, from 0 to 1.";
    BUILD_INFO = "time_sale_build_info", Kind::Gauge, [HostVersion, Contract, Commit], "1, labelled by the build.";
}
