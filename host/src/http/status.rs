//! The status page at `/` of the management listener, and the figures that it asks for.
//!
//! One file, `status.html`, with nothing from outside and nothing to build; it is for whoever has no dashboard at hand.
//!
//! The page polls: each answer is whole, so one that is lost costs nothing, and no connection stays open that a drain would have to wait for.
//! Its figures are those of the scrape and of health; rates are the page's own, from what rose between two answers.

use axum::{
    Json as Reply, Router,
    extract::State,
    http::{HeaderName, header},
    response::IntoResponse,
    routing::get,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{App, health};
use crate::{
    backend::BackendError,
    config::VERSION,
    domain::{self, SaleId},
    strategy::Strategy,
    telemetry::{
        catalogue,
        exposition::{self, Exposition, Sample},
        labels::PurchaseResult,
    },
};

/// The page; `{nonce}` stands where its script and its style have to show that they are its own.
const PAGE: &str = include_str!("status.html");
/// Open sales that are counted, and those of them that are shown, the busiest first.
const SALES_READ: u32 = 1_000;
const SALES_SHOWN: usize = 12;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/", get(page)).route(
        "/status",
        get(async |State(app): State<App>| Reply(status(&app).await)),
    )
}

/// The page, under a policy by which nothing runs in it but what came with it.
async fn page() -> impl IntoResponse {
    let nonce = hex::encode(rand::random::<[u8; 16]>());
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers: [(HeaderName, String); 5] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, PAGE.replace("{nonce}", &nonce))
}

/// What the page shows; what is not known is null.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    at: Timestamp,
    build: &'static str,
    /// As `/actuator/health` has it: the state, the backends, the versions with their live revisions.
    health: Value,
    strategies: Vec<StrategyFigures>,
    sales: Option<Sales>,
    waiting: Option<u64>,
    oldest_waits_seconds: Option<f64>,
    stuck: Option<f64>,
    buyers: Option<f64>,
    leaked: Option<f64>,
    /// By kind.
    drift: Vec<(String, f64)>,
}

/// What a version has done since the host started.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StrategyFigures {
    version: String,
    /// Purchases that ended in an order, and in a no.
    sold: f64,
    rejected: f64,
    /// Calls that broke.
    failed: f64,
    calls: f64,
    /// What these calls took together.
    seconds: f64,
    in_flight: f64,
}

#[derive(Serialize)]
struct Sales {
    open: usize,
    shown: Vec<OpenSale>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OpenSale {
    id: SaleId,
    product: String,
    quantity: i64,
    remaining: i64,
    end_at: Timestamp,
}

async fn status(app: &App) -> Status {
    let ((_, health), sales) = tokio::join!(health::look(app), sales(app));
    let mut page = Exposition::default();
    app.reconciler.show(&mut page);
    let text = app.telemetry.recorded() + &page.finish();
    let samples: Vec<_> = exposition::samples(&text).collect();
    let figure = |name: &str| {
        let found = samples.iter().find(|sample| sample.name == name);
        found.map(|sample| sample.value)
    };
    let drift = samples
        .iter()
        .filter(|sample| sample.name == catalogue::LEDGER_DRIFT.name)
        .map(|sample| (label(sample, "kind").to_owned(), sample.value));
    let lags = app.backends.kafka.lags();
    Status {
        at: domain::now(),
        build: VERSION,
        health,
        strategies: app
            .rollout
            .registry
            .all()
            .iter()
            .map(|strategy| figures(strategy, &samples))
            .collect(),
        sales: sales
            .inspect_err(|error| tracing::warn!("the open sales are unknown: {error}"))
            .ok(),
        waiting: lags
            .into_iter()
            .map(|(_, lag)| lag)
            .reduce(u64::saturating_add),
        oldest_waits_seconds: figure(catalogue::OLDEST_PENDING.name),
        stuck: figure(catalogue::STUCK_PENDING.name),
        buyers: figure(catalogue::ACTIVE_BUYERS.name),
        leaked: figure(catalogue::LEAKED_STOCK.name),
        drift: drift.collect(),
    }
}

fn figures(strategy: &Strategy, samples: &[Sample<'_>]) -> StrategyFigures {
    let version = strategy.version.as_str();
    let sum = |name: &str, result: Option<PurchaseResult>| {
        let counted = samples.iter().filter(|sample| {
            sample.name == name
                && label(sample, "version") == version
                && result.is_none_or(|result| label(sample, "result") == result.label())
        });
        counted.map(|sample| sample.value).sum()
    };
    let duration = catalogue::OPERATION_DURATION.name;
    StrategyFigures {
        version: version.to_owned(),
        sold: sum(catalogue::PURCHASES.name, Some(PurchaseResult::Success)),
        rejected: sum(catalogue::PURCHASES.name, Some(PurchaseResult::Rejected)),
        failed: sum(catalogue::OPERATION_FAILURE.name, None)
            + sum(catalogue::SETTLEMENT_FAILURE.name, None),
        calls: sum(&format!("{duration}_count"), None),
        seconds: sum(&format!("{duration}_sum"), None),
        in_flight: sum(catalogue::CALLS_IN_FLIGHT.name, None),
    }
}

fn label<'a>(sample: &'a Sample<'_>, name: &str) -> &'a str {
    let mut labels = sample.labels.iter();
    let found = labels.find(|(label, _)| *label == name);
    found.map_or("", |(_, value)| value)
}

async fn sales(app: &App) -> Result<Sales, BackendError> {
    let (database, now) = (&app.backends.database, domain::now());
    let open = database.open_sales(now, now, SALES_READ).await?;
    let mut shown = Vec::new();
    for sale in open.iter().take(SALES_SHOWN) {
        let product = database.product(sale.product_id).await?;
        shown.push(OpenSale {
            id: sale.id,
            product: product.map_or_else(String::new, |product| product.name),
            quantity: sale.quantity,
            remaining: sale.remaining,
            end_at: sale.end_at,
        });
    }
    Ok(Sales {
        open: open.len(),
        shown,
    })
}
