//! The names that dashboards and alerts rely on: each family with its kind and labels, written out once more and never derived.

use super::support::world::World;

/// A family as operators know it; every series has the label `application` besides.
pub struct Family {
    pub name: &'static str,
    pub shape: Shape,
    pub labels: &'static [&'static str],
}

#[derive(Clone, Copy)]
pub enum Shape {
    Counter,
    Gauge,
    Histogram,
}

impl Shape {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The operations of the versions, as their strategies name them.
pub const OPERATIONS: [(&str, &str); 6] = [
    ("v1", "purchaseTimeSale"),
    ("v2", "purchaseTimeSaleWithRedis"),
    ("v3", "purchaseTimeSaleAsync"),
    ("v4", "purchaseTimeSaleTogether"),
    ("v9", "purchaseTimeSaleTogether"),
    ("faulty", "purchaseFaultily"),
];

/// The values of `error`.
pub const ERRORS: [&str; 14] = [
    "LockAcquisitionException",
    "LockLostException",
    "RowLockTimeoutException",
    "DatabaseException",
    "RedisException",
    "KafkaException",
    "QueueFullException",
    "DeadlineExceededException",
    "TrapException",
    "OutOfMemoryException",
    "BudgetExceededException",
    "OverloadException",
    "CancelledException",
    "StrategyException",
];

/// The values of `reason` for purchases that were refused.
pub const REASONS: [&str; 6] = [
    "sold_out",
    "not_open",
    "limit_exceeded",
    "not_found",
    "duplicate",
    "other",
];

const fn counter(name: &'static str, labels: &'static [&'static str]) -> Family {
    Family {
        name,
        shape: Shape::Counter,
        labels,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str]) -> Family {
    Family {
        name,
        shape: Shape::Gauge,
        labels,
    }
}

const fn histogram(name: &'static str, labels: &'static [&'static str]) -> Family {
    Family {
        name,
        shape: Shape::Histogram,
        labels,
    }
}

/// Every family that a host exports after some load on whatever backends, save those of the process itself.
const FAMILIES: &[Family] = &[
    counter(
        "time_sale_operation_success_total",
        &["version", "operation"],
    ),
    counter(
        "time_sale_operation_failure_total",
        &["version", "operation", "error"],
    ),
    counter(
        "time_sale_operation_rejected_total",
        &["version", "operation", "reason"],
    ),
    histogram(
        "time_sale_operation_duration_seconds",
        &["version", "operation", "outcome"],
    ),
    counter(
        "time_sale_settlement_success_total",
        &["version", "operation"],
    ),
    counter(
        "time_sale_settlement_failure_total",
        &["version", "operation", "error"],
    ),
    counter(
        "time_sale_settlement_rejected_total",
        &["version", "operation", "reason"],
    ),
    histogram(
        "time_sale_settlement_duration_seconds",
        &["version", "operation", "outcome"],
    ),
    histogram("time_sale_settlement_records_per_call", &["version"]),
    counter(
        "time_sale_purchases_total",
        &["version", "result", "reason"],
    ),
    histogram("time_sale_purchase_completion_seconds", &["version"]),
    histogram("time_sale_purchase_quantity", &["version"]),
    gauge("time_sale_active_buyers", &[]),
    gauge("time_sale_repeat_buyers", &[]),
    gauge("time_sale_calls_in_flight", &["version"]),
    histogram("time_sale_permit_wait_seconds", &["version"]),
    histogram("time_sale_guest_seconds", &["version"]),
    histogram(
        "time_sale_host_call_seconds",
        &["version", "capability", "function", "outcome"],
    ),
    gauge("time_sale_strategy_info", &["version", "slot", "revision"]),
    counter("time_sale_strategy_swaps_total", &["version", "result"]),
    gauge("time_sale_strategy_revisions_loaded", &[]),
    gauge("time_sale_limit_used_ratio", &["version", "limit"]),
    gauge("time_sale_stock_remaining", &["sale", "product"]),
    gauge("time_sale_stock_sold", &["sale", "product"]),
    counter("time_sale_cache_requests_total", &["result"]),
    gauge("time_sale_queue_length", &[]),
    gauge("time_sale_oldest_pending_seconds", &[]),
    gauge("time_sale_stuck_pending", &[]),
    gauge("time_sale_leaked_stock", &[]),
    gauge("time_sale_ledger_drift", &["kind"]),
    gauge("time_sale_reconciliation_age_seconds", &[]),
    gauge("time_sale_backend_up", &["backend"]),
    counter("time_sale_dead_letters_total", &["reason"]),
    gauge("kafka_consumer_group_lag", &["group", "topic", "partition"]),
    histogram("time_sale_kafka_producer_send_seconds", &[]),
    gauge("time_sale_kafka_producer_send_max_seconds", &[]),
    histogram("time_sale_kafka_consumer_processing_seconds", &[]),
    gauge("time_sale_kafka_consumer_processing_max_seconds", &[]),
    histogram(
        "http_server_requests_seconds",
        &["method", "uri", "status", "outcome"],
    ),
    gauge("time_sale_db_connections", &["pool", "state"]),
    gauge("time_sale_wasm_instances", &[]),
    gauge("time_sale_wasm_memories", &["state"]),
    gauge("time_sale_wasm_resident_bytes", &[]),
    gauge("tokio_alive_tasks", &[]),
    gauge("tokio_global_queue_depth", &[]),
    gauge("tokio_workers", &[]),
    gauge("time_sale_build_info", &["version", "contract", "commit"]),
];

/// Those of the embedded backends.
const EMBEDDED: &[Family] = &[gauge("time_sale_redis_entries", &[])];

/// Those of the real ones.
const REAL: &[Family] = &[
    gauge("redis_connected_clients", &[]),
    gauge("redis_memory_used_bytes", &[]),
    counter("redis_keyspace_hits_total", &[]),
    counter("redis_keyspace_misses_total", &[]),
    counter("time_sale_db_pool_wait_seconds_total", &[]),
    gauge(
        "time_sale_kafka_client_latency_seconds",
        &["client", "stage", "statistic"],
    ),
];

/// Every family that a host exports after some load on these backends.
pub fn families(on: &World) -> impl Iterator<Item = &'static Family> {
    let own = if on.is_real() { REAL } else { EMBEDDED };
    FAMILIES.iter().chain(own)
}

/// The labels of a family on whatever backends; none where there is no such family.
pub fn labels(name: &str) -> Option<&'static [&'static str]> {
    let mut all = FAMILIES.iter().chain(EMBEDDED).chain(REAL);
    all.find(|family| family.name == name)
        .map(|family| family.labels)
}
