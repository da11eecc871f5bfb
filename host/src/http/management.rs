//! The management listener: metrics in Prometheus's text and in Actuator's JSON, `health` and `admin`; for operators, never public.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json as Reply, Router,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
    routing::get,
};
use metrics::gauge;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    App, Path, Query, admin,
    error::{Code, Problem},
    health, status,
};
use crate::{
    backend::log::REQUESTS,
    domain::{self, Sale},
    settlement::GROUP,
    strategy::{
        numbers::Figures,
        slots::{Selling, Slots},
    },
    telemetry::{
        catalogue::{self, CATALOGUE, Kind, Metric},
        exposition::{self, Distribution, Exposition, Labels},
        labels::SALES_SHOWN,
    },
};

/// Open sales that are looked at for the gauges.
const SALES_READ: u32 = 1_000;

pub(super) fn routes(app: &App) -> Router<App> {
    Router::new()
        .merge(health::routes())
        .merge(status::routes())
        .merge(admin::routes(app))
        .route("/actuator/prometheus", get(prometheus))
        .route("/actuator/metrics", get(metric_names))
        .route("/actuator/metrics/{name}", get(metric))
        .method_not_allowed_fallback(async || {
            Problem::new(Code::MethodNotAllowed, "the path does not take this method")
        })
        .fallback(async || Problem::new(Code::NotFound, "there is no such path"))
}

async fn prometheus(State(app): State<App>) -> Response {
    let text = scrape(&app).await;
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// Everything that the host exports, as of now.
async fn scrape(app: &App) -> String {
    for strategy in app.rollout.registry.all() {
        strategy.metrics.show_peaks();
    }
    app.backends.queue_metrics.show_peaks();
    present_gauges(app);
    let mut page = Exposition::default();
    strategy_families(app, &mut page);
    queue_gauges(app, &mut page);
    redis_gauges(app, &mut page).await;
    if let Some(waited) = app.backends.database.pool_wait() {
        page.family(
            &catalogue::DB_POOL_WAIT,
            [(Vec::new(), waited.as_secs_f64())],
        );
    }
    app.reconciler.show(&mut page);
    let now = domain::now();
    match app.backends.database.open_sales(now, now, SALES_READ).await {
        Ok(sales) => stock_gauges(sales, &mut page),
        // Absent, never 0, while unknown.
        Err(error) => tracing::warn!("the stock of open sales is unknown: {error}"),
    }
    app.telemetry.render() + &page.finish()
}

/// Which revisions run, and how those on trial do: these series come and go with them.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of calls and their times stay far below 2^53"
)]
fn strategy_families(app: &App, page: &mut Exposition) {
    let strategies = app.rollout.registry.all();
    let strategies = strategies
        .iter()
        .map(|strategy| (&strategy.version, strategy.slots()));
    let strategies: Vec<_> = strategies.collect();
    // What was removed is live to nobody.
    let served = |(_, slots): &&(_, Arc<Slots>)| slots.selling != Selling::Retired;
    let info = strategies
        .iter()
        .filter(served)
        .flat_map(|(version, slots)| {
            slots.named().into_iter().map(move |(slot, revision)| {
                let labels = vec![
                    ("version", version.to_string()),
                    ("slot", slot.to_owned()),
                    ("revision", revision.id.to_string()),
                ];
                (labels, 1.0)
            })
        });
    page.family(&catalogue::STRATEGY_INFO, info);
    let tracks: Vec<(Labels, Figures)> = strategies
        .iter()
        .filter_map(|(version, slots)| Some((version, slots.canary()?.figures())))
        .flat_map(|(version, (candidate, live))| {
            [("candidate", candidate), ("live", live)].map(|(track, figures)| {
                let version = ("version", version.to_string());
                (vec![version, ("track", track.to_owned())], figures)
            })
        })
        .collect();
    let calls = tracks.iter().flat_map(|(labels, figures)| {
        figures.by_outcome().map(|(outcome, calls)| {
            let mut labels = labels.clone();
            labels.push(("outcome", outcome.label().to_owned()));
            (labels, calls as f64)
        })
    });
    page.family(&catalogue::CANARY_CALLS, calls);
    let times = tracks.iter().map(|(labels, figures)| {
        let values = Distribution {
            within: Box::new(|bound| figures.within(Duration::from_secs_f64(bound)) as f64),
            count: figures.calls as f64,
            sum: figures.micros as f64 / 1e6,
        };
        (labels.clone(), values)
    });
    page.histogram(&catalogue::CANARY_DURATION, times);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of connections and slots are small"
)]
fn present_gauges(app: &App) {
    if let Some(pool) = app.means.engine.wasm().pooling_allocator_metrics() {
        gauge!(catalogue::WASM_INSTANCES.name).set(pool.component_instances() as f64);
        gauge!(catalogue::WASM_MEMORIES.name, "state" => "used").set(pool.memories() as f64);
        gauge!(catalogue::WASM_MEMORIES.name, "state" => "warm")
            .set(f64::from(pool.unused_warm_memories()));
        gauge!(catalogue::WASM_RESIDENT.name).set(pool.unused_memory_bytes_resident() as f64);
    }
    for (name, used, idle) in app.backends.database.connections() {
        for (state, count) in [("used", used), ("idle", idle)] {
            gauge!(catalogue::DB_CONNECTIONS.name, "pool" => name, "state" => state)
                .set(f64::from(count));
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "keys, clients and bytes stay far below 2^53"
)]
async fn redis_gauges(app: &App, page: &mut Exposition) {
    let stats = app.backends.redis.stats().await;
    for (metric, value) in [
        (&catalogue::REDIS_ENTRIES, stats.entries),
        (&catalogue::REDIS_CLIENTS, stats.connected_clients),
        (&catalogue::REDIS_MEMORY, stats.used_memory),
        (&catalogue::REDIS_HITS, stats.keyspace.map(|(hits, _)| hits)),
        (
            &catalogue::REDIS_MISSES,
            stats.keyspace.map(|(_, misses)| misses),
        ),
    ] {
        page.family(metric, value.map(|value| (Vec::new(), value as f64)));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a queue stays far below 2^53")]
fn queue_gauges(app: &App, page: &mut Exposition) {
    let lags = app.backends.kafka.lags();
    let length = lags.iter().map(|(_, lag)| *lag).reduce(u64::saturating_add);
    page.family(
        &catalogue::QUEUE_LENGTH,
        length.map(|length| (Vec::new(), length as f64)),
    );
    let partitions = lags.iter().map(|(partition, lag)| {
        let labels = vec![
            ("group", GROUP.to_owned()),
            ("topic", REQUESTS.to_owned()),
            ("partition", partition.to_string()),
        ];
        (labels, *lag as f64)
    });
    page.family(&catalogue::CONSUMER_LAG, partitions);
}

#[expect(clippy::cast_precision_loss, reason = "stock stays far below 2^53")]
fn stock_gauges(mut sales: Vec<Sale>, page: &mut Exposition) {
    sales.sort_by_key(|sale| sale.remaining - sale.quantity);
    let rest = sales.split_off(sales.len().min(SALES_SHOWN));
    let mut family = |metric: &Metric, value: fn(&Sale) -> i64| {
        let shown = sales.iter().map(|sale| {
            let labels = vec![
                ("sale", sale.id.to_string()),
                ("product", sale.product_id.to_string()),
            ];
            (labels, value(sale) as f64)
        });
        let other = (!rest.is_empty()).then(|| {
            let labels = ["sale", "product"].map(|label| (label, "other".to_owned()));
            (labels.to_vec(), rest.iter().map(value).sum::<i64>() as f64)
        });
        page.family(metric, shown.chain(other));
    };
    family(&catalogue::STOCK_REMAINING, |sale| sale.remaining);
    family(&catalogue::STOCK_SOLD, |sale| {
        sale.quantity - sale.remaining
    });
}

/// The metrics that have a series now.
async fn metric_names(State(app): State<App>) -> Reply<Value> {
    let text = scrape(&app).await;
    let series: BTreeSet<&str> = exposition::samples(&text)
        .map(|sample| sample.name)
        .collect();
    let names = CATALOGUE
        .iter()
        .map(|metric| metric.name)
        .filter(|name| series.contains(name) || series.contains(format!("{name}_count").as_str()));
    Reply(json!({ "names": names.collect::<BTreeSet<_>>() }))
}

/// Which series of a metric to sum.
#[derive(Deserialize)]
struct MetricQuery {
    /// `label:value`, repeated.
    #[serde(default)]
    tag: Vec<String>,
}

/// One metric, summed over the series that have the tags asked for.
async fn metric(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<MetricQuery>,
) -> Result<Reply<Value>, Problem> {
    let metric = CATALOGUE
        .iter()
        .find(|metric| metric.name == name)
        .ok_or_else(|| Problem::not_found("metric", name.escape_debug()))?;
    let wanted = query
        .tag
        .iter()
        .map(|tag| {
            tag.split_once(':')
                .ok_or_else(|| Problem::malformed("tag: label:value"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let text = scrape(&app).await;
    let mut tags = BTreeMap::<&str, BTreeSet<String>>::new();
    let mut sum = |series: &str| {
        let mut total = None;
        for sample in exposition::samples(&text).filter(|sample| sample.name == series) {
            let has = |(label, value): &(&str, &str)| {
                sample
                    .labels
                    .iter()
                    .any(|(name, text)| name == label && text == value)
            };
            if wanted.iter().all(has) {
                *total.get_or_insert(0.0) += sample.value;
                for (label, value) in sample.labels {
                    tags.entry(label).or_default().insert(value);
                }
            }
        }
        total
    };
    let statistics = match metric.kind {
        Kind::Counter => vec![("COUNT", sum(&name))],
        Kind::Gauge => vec![("VALUE", sum(&name))],
        Kind::Histogram(_) => vec![
            ("COUNT", sum(&format!("{name}_count"))),
            (total_of(metric), sum(&format!("{name}_sum"))),
        ],
    };
    let measurements: Vec<Value> = statistics
        .into_iter()
        .filter_map(|(statistic, value)| Some(json!({ "statistic": statistic, "value": value? })))
        .collect();
    if measurements.is_empty() {
        return Err(Problem::not_found("series of", name.escape_debug()));
    }
    let available: Vec<Value> = tags
        .into_iter()
        .filter(|(tag, _)| wanted.iter().all(|(label, _)| label != tag))
        .map(|(tag, values)| json!({ "tag": tag, "values": values }))
        .collect();
    Ok(Reply(json!({
        "name": metric.name,
        "description": metric.help,
        "baseUnit": is_time(metric).then_some("seconds"),
        "measurements": measurements,
        "availableTags": available,
    })))
}

fn is_time(metric: &Metric) -> bool {
    metric.name.ends_with("_seconds")
}

/// What Actuator calls the sum of a histogram's values.
fn total_of(metric: &Metric) -> &'static str {
    match is_time(metric) {
        true => "TOTAL_TIME",
        false => "TOTAL",
    }
}
