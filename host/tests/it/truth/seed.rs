//! What the course asks for, as data: its queries (section 4), its panels (section 5.2) and its alerts (section 6.1), each with where it stands here.
//!
//! `truth` asks all of it of a real Prometheus. Texts in Korean are the course's own headings.

/// A query of section 4.
pub struct Asked {
    pub heading: &'static str,
    pub published: &'static str,
    pub answer: Answer,
    pub stands: Stands,
}

/// Whether a query works as it was published.
pub enum Answer {
    /// It returns what its author meant.
    AsPublished,
    /// It finds nothing, for this reason; the other one does.
    FindsNothing {
        why: &'static str,
        mended: &'static str,
    },
    /// It finds something else than its author meant, for this reason; the other one is what was meant.
    Misleads {
        why: &'static str,
        mended: &'static str,
    },
}

/// Where an answer stands for good.
pub enum Stands {
    /// On this panel of this dashboard.
    Panel(&'static str, &'static str),
    /// In this rule.
    Rule(&'static str),
}

use Answer::{AsPublished, FindsNothing, Misleads};
use Stands::{Panel, Rule};

const SYSTEM: &str = "Time sale / System";
const SERVICE: &str = "Time sale / Service";
const BUSINESS: &str = "Time sale / Business";
const REDIS: &str = "Time sale / Redis";
const KAFKA: &str = "Time sale / Kafka";
const STRATEGIES: &str = "Time sale / Strategies";

/// The queries of section 4, in their order.
pub const QUERIES: &[Asked] = &[
    Asked {
        heading: "4.1 CPU 사용률",
        published: "rate(process_cpu_usage[1m])",
        answer: Misleads {
            why: "a gauge has no rate",
            mended: "process_cpu_usage",
        },
        stands: Panel(SYSTEM, "Processor"),
    },
    Asked {
        heading: "4.1 메모리 사용량",
        published: r#"jvm_memory_used_bytes{area="heap"}"#,
        answer: FindsNothing {
            why: "there is no JVM",
            mended: "process_resident_memory_bytes",
        },
        stands: Panel(SYSTEM, "Memory"),
    },
    Asked {
        heading: "4.1 GC 현황",
        published: "rate(jvm_gc_pause_seconds_count[1m])",
        answer: FindsNothing {
            why: "there is no JVM, and nothing is collected",
            mended: "time_sale_wasm_resident_bytes",
        },
        stands: Panel(SYSTEM, "Memory kept by unused slots"),
    },
    Asked {
        heading: "4.1 Thread 상태",
        published: r#"jvm_threads_states_threads{state="RUNNABLE"}"#,
        answer: FindsNothing {
            why: "there is no JVM, and the label was lower-case",
            mended: "tokio_global_queue_depth",
        },
        stands: Panel(SYSTEM, "Worker threads"),
    },
    Asked {
        heading: "4.2 타임세일 처리 TPS",
        published: r#"rate(time_sale_operation_success_total{operation="purchaseTimeSale"}[1m])"#,
        answer: Misleads {
            why: "that operation is v1's alone",
            mended: "sum by (version) (rate(time_sale_operation_success_total[1m]))",
        },
        stands: Panel(STRATEGIES, "Throughput"),
    },
    Asked {
        heading: "4.2 타임세일 처리 실패율",
        published: "rate(time_sale_operation_failure_total[5m]) / rate(time_sale_operation_success_total[5m]) * 100",
        answer: FindsNothing {
            why: "the two sides differ in the label error; and it divides by successes alone",
            mended: "100 * application_version:time_sale_operation_failure:ratio_rate5m",
        },
        stands: Rule("application_version:time_sale_operation_failure:ratio_rate5m"),
    },
    Asked {
        heading: "4.2 평균 처리 시간",
        published: "rate(time_sale_operation_duration_seconds_sum[5m]) / rate(time_sale_operation_duration_seconds_count[5m])",
        answer: AsPublished,
        stands: Panel(SERVICE, "Purchase calls: mean"),
    },
    Asked {
        heading: "4.2 버전별 성능 비교",
        published: "sum(rate(time_sale_operation_success_total[5m])) by (version)",
        answer: AsPublished,
        stands: Panel(STRATEGIES, "Versions side by side"),
    },
    Asked {
        heading: "4.3 Redis 연결 상태",
        published: "redis_connected_clients",
        answer: AsPublished,
        stands: Panel(REDIS, "Clients or keys"),
    },
    Asked {
        heading: "4.3 Redis 메모리 사용량",
        published: "redis_memory_used_bytes",
        answer: AsPublished,
        stands: Panel(REDIS, "Memory"),
    },
    Asked {
        heading: "4.3 Redis 락 획득 실패율",
        published: r#"rate(time_sale_operation_failure_total{error="LockAcquisitionException"}[5m])"#,
        answer: AsPublished,
        stands: Panel(REDIS, "Locks not had"),
    },
    Asked {
        heading: "4.4.1 평균 처리 시간",
        published: r#"rate(spring_kafka_listener_seconds_sum{application="time-sale-service"}[5m]) / rate(spring_kafka_listener_seconds_count{application="time-sale-service"}[5m])"#,
        answer: AsPublished,
        stands: Panel(KAFKA, "Time to process"),
    },
    Asked {
        heading: "4.4.1 최대 처리 시간",
        published: r#"spring_kafka_listener_seconds_max{application="time-sale-service"}"#,
        answer: AsPublished,
        stands: Rule("spring_kafka_listener_seconds_max"),
    },
    Asked {
        heading: "4.4.1 Messages Consumed",
        published: r#"spring_kafka_listener_seconds_count{application="time-sale-service"}"#,
        answer: AsPublished,
        stands: Rule("spring_kafka_listener_seconds_count"),
    },
    Asked {
        heading: "4.4.2 평균 전송 시간",
        published: r#"rate(spring_kafka_template_seconds_sum{application="time-sale-service"}[5m]) / rate(spring_kafka_template_seconds_count{application="time-sale-service"}[5m])"#,
        answer: AsPublished,
        stands: Panel(KAFKA, "Time to send"),
    },
    Asked {
        heading: "4.4.2 최대 전송 시간",
        published: r#"spring_kafka_template_seconds_max{application="time-sale-service"}"#,
        answer: AsPublished,
        stands: Rule("spring_kafka_template_seconds_max"),
    },
    Asked {
        heading: "4.4.2 Messages Produced",
        published: r#"spring_kafka_template_seconds_count{application="time-sale-service"}"#,
        answer: AsPublished,
        stands: Rule("spring_kafka_template_seconds_count"),
    },
];

/// The panels of section 5.2, in their order: what the course calls them, the dashboard, and the panels on it.
pub const BULLETS: &[(&str, &str, &[&str])] = &[
    ("CPU, 메모리 사용량", SYSTEM, &["Processor", "Memory"]),
    (
        "GC 현황",
        SYSTEM,
        &["Instances and memories", "Memory kept by unused slots"],
    ),
    ("Thread Pool 상태", SYSTEM, &["Worker threads", "Tasks"]),
    ("DB Connection Pool 상태", SYSTEM, &["Connections"]),
    ("처리량 (TPS)", SERVICE, &["Purchase calls that sold"]),
    ("응답시간", SERVICE, &["Purchase calls: percentiles"]),
    ("에러율", SERVICE, &["Error rate"]),
    ("재고 상태", SERVICE, &["Pieces left"]),
    ("상품별 판매율", BUSINESS, &["Sell-through by product"]),
    (
        "실패 트랜잭션 분석",
        BUSINESS,
        &["Failed purchases by cause", "Refused calls by reason"],
    ),
    (
        "사용자 패턴 분석",
        BUSINESS,
        &["Buyers", "Share who bought before", "Pieces in a purchase"],
    ),
    ("캐시 히트율", REDIS, &["Hit ratio"]),
    ("메모리 사용량", REDIS, &["Memory"]),
    ("락 획득 실패율", REDIS, &["Locks not had"]),
    ("작업 지연시간", REDIS, &["Time of operations"]),
    ("메시지 처리량", KAFKA, &["Records"]),
    ("Consumer Lag", KAFKA, &["Lag", "Lag by partition"]),
    (
        "실패율",
        KAFKA,
        &["Share of sends that failed", "Dead letters"],
    ),
    ("대기열 길이", KAFKA, &["Queue length"]),
];

/// The alerts of section 6.1, in their order: name and severity, which are kept, and why the expression was not.
pub const ALERTS: &[(&str, &str, &str)] = &[
    (
        "HighErrorRate",
        "critical",
        "matched nothing, divided by successes alone",
    ),
    (
        "SlowResponseTime",
        "warning",
        "the timer exported no buckets, and refusals counted",
    ),
    (
        "HighRedisLockFailure",
        "warning",
        "the error was never thrown",
    ),
    (
        "HighKafkaLag",
        "warning",
        "nobody exported the metric, and partitions counted one by one",
    ),
];
