//! The metric catalogue: every family that the host exports, once.
//!
//! A metric is added here and nowhere else; whoever records or renders it names it by its constant.

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
    /// What it counts or measures, in a sentence.
    pub help: &'static str,
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
const COUNT: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

macro_rules! catalogue {
    ($($constant:ident = $name:literal, $kind:expr, $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric { name: $name, kind: $kind, help: $help };
        )+
        /// Every family that the host exports by itself.
        pub const CATALOGUE: &[Metric] = &[$($constant,)+];
    };
}

catalogue! {
    OPERATION_SUCCESS = "time_sale_operation_success_total", Kind::Counter, "Purchase calls that completed or were accepted.";
    OPERATION_FAILURE = "time_sale_operation_failure_total", Kind::Counter, "Purchase calls that broke, by error.";
    OPERATION_REJECTED = "time_sale_operation_rejected_total", Kind::Counter, "Purchase calls that ended in a business no, by reason.";
    OPERATION_DURATION = "time_sale_operation_duration_seconds", Kind::Histogram(CALL), "Time of purchase calls, by outcome.";
    SETTLEMENT_SUCCESS = "time_sale_settlement_success_total", Kind::Counter, "Settle calls that answered for their whole batch.";
    SETTLEMENT_FAILURE = "time_sale_settlement_failure_total", Kind::Counter, "Settle calls that broke, by error.";
    SETTLEMENT_REJECTED = "time_sale_settlement_rejected_total", Kind::Counter, "Requests that a settle call refused, by reason.";
    SETTLEMENT_DURATION = "time_sale_settlement_duration_seconds", Kind::Histogram(CALL), "Time of settle calls, by outcome.";
    SETTLEMENT_RECORDS = "time_sale_settlement_records_per_call", Kind::Histogram(COUNT), "Requests that a settle call was given.";
    PURCHASES = "time_sale_purchases_total", Kind::Counter, "Purchases whose final state is committed, by result and reason.";
    PURCHASE_COMPLETION = "time_sale_purchase_completion_seconds", Kind::Histogram(LONG), "Time from the arrival of a request to its committed final state.";
    CALLS_IN_FLIGHT = "time_sale_calls_in_flight", Kind::Gauge, "Guest calls that run or wait for their turn.";
    PERMIT_WAIT = "time_sale_permit_wait_seconds", Kind::Histogram(SHORT), "How long calls waited for their turn.";
    GUEST_TIME = "time_sale_guest_seconds", Kind::Histogram(SHORT), "Time of calls spent in the guest, host functions apart.";
    HOST_CALL = "time_sale_host_call_seconds", Kind::Histogram(SHORT), "Time of host functions, by capability, function and outcome.";
    STRATEGY_INFO = "time_sale_strategy_info", Kind::Gauge, "1 for each revision that a version runs.";
    LIMIT_USED = "time_sale_limit_used_ratio", Kind::Gauge, "The most that calls of the last minute used of a limit; 1 is the limit.";
    STOCK_REMAINING = "time_sale_stock_remaining", Kind::Gauge, "Pieces left in open sales.";
    STOCK_SOLD = "time_sale_stock_sold", Kind::Gauge, "Pieces sold in open sales.";
    CACHE_REQUESTS = "time_sale_cache_requests_total", Kind::Counter, "Reads of the strategies' caches, by result.";
    QUEUE_LENGTH = "time_sale_queue_length", Kind::Gauge, "Accepted requests that wait to be settled.";
    DEAD_LETTERS = "time_sale_dead_letters_total", Kind::Counter, "Records that went to the dead letters, by reason.";
    CONSUMER_LAG = "kafka_consumer_group_lag", Kind::Gauge, "Records of a partition that the group has not settled.";
    PRODUCER_SEND = "time_sale_kafka_producer_send_seconds", Kind::Histogram(SHORT), "Time from handing a record to the log to its acknowledgement.";
    PRODUCER_SEND_MAX = "time_sale_kafka_producer_send_max_seconds", Kind::Gauge, "The longest send of the last minute.";
    CONSUMER_PROCESSING = "time_sale_kafka_consumer_processing_seconds", Kind::Histogram(CALL), "Time that the batch of a record took to be settled, once for each record.";
    CONSUMER_PROCESSING_MAX = "time_sale_kafka_consumer_processing_max_seconds", Kind::Gauge, "The longest batch of the last minute.";
    KAFKA_CLIENT_LATENCY = "time_sale_kafka_client_latency_seconds", Kind::Gauge, "What librdkafka measured of its requests over its last interval with any, by client, stage and statistic; absent without a cluster.";
    HTTP_REQUESTS = "http_server_requests_seconds", Kind::Histogram(CALL), "Time of HTTP requests, by method, route, status and outcome.";
    DB_CONNECTIONS = "time_sale_db_connections", Kind::Gauge, "Connections of the database pools, by state.";
    WASM_INSTANCES = "time_sale_wasm_instances", Kind::Gauge, "Component instances that live now.";
    WASM_MEMORIES = "time_sale_wasm_memories", Kind::Gauge, "Linear memories of the Wasm pool, by state.";
    WASM_RESIDENT = "time_sale_wasm_resident_bytes", Kind::Gauge, "Bytes that unused slots of the Wasm pool keep resident.";
    REDIS_ENTRIES = "time_sale_redis_entries", Kind::Gauge, "Keys in the embedded stand-in for Redis.";
    REDIS_CLIENTS = "redis_connected_clients", Kind::Gauge, "Clients of the Redis server; absent while unknown.";
    REDIS_MEMORY = "redis_memory_used_bytes", Kind::Gauge, "Bytes that the Redis server uses; absent while unknown.";
    DB_POOL_WAIT = "time_sale_db_pool_wait_seconds_total", Kind::Counter, "How long callers have waited for a connection of the database pool.";
    TOKIO_TASKS = "tokio_alive_tasks", Kind::Gauge, "Tasks of the async runtime that live now.";
    TOKIO_QUEUE = "tokio_global_queue_depth", Kind::Gauge, "Tasks that wait in the runtime's global queue.";
    TOKIO_WORKERS = "tokio_workers", Kind::Gauge, "Worker threads of the async runtime.";
    PROCESS_CPU = "process_cpu_usage", Kind::Gauge, "Share of all cores that the process used since the last look, from 0 to 1.";
    BUILD_INFO = "time_sale_build_info", Kind::Gauge, "1, labelled by the build.";
}
