//! Series are bounded: nobody outside can add one, and those of sales go with their sales.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;
use timesale::telemetry::catalogue::{self, CATALOGUE, Kind, Metric};

use super::{
    families::OPERATIONS,
    support::{
        FAULTY, Host, VERSIONS, eventually,
        metrics::{Metrics, Series},
    },
};

/// How long a sale of a crowd of sales is open.
const OPEN_FOR: Duration = Duration::from_secs(3);

/// Requests of every kind that a client can invent; another `seed` invents others of the same kinds.
async fn hostile(host: &Host, seed: u64) {
    let sale = host.shop.sale(1_000).await;
    let word = format!("x{seed}\\\"}}%0A");
    for path in [
        format!("/{word}"),
        format!("/api/{word}/time-sales/1"),
        format!("/api/v1/time-sales/{word}"),
        format!("/api/v1/time-sales?status={word}&{word}={word}"),
        format!("/api/v1/orders/{seed}000"),
        format!("/api/v1/time-sales/purchase/result/{sale}/{word}"),
    ] {
        host.shop.get(&path).await;
        let method = Method::from_bytes(format!("BREW{seed}").as_bytes()).unwrap();
        host.shop.request(method, &path).send().await.unwrap();
    }
    let buy = |version: &str, user| host.shop.buy(version, sale, user, 1);
    buy(&format!("v{seed}00"), 42).send().await;
    buy("v1", 42 + seed).key(&format!("key{seed}")).send().await;
    buy("v1", 42 + seed).key(&"k".repeat(300)).send().await;
    for misdeed in [2, 8, 9, 23, 28, 29, 51, 56] {
        buy(FAULTY, 100 * seed + misdeed).follow().await;
    }
    host.manage(&format!("/actuator/metrics/x{seed}")).await;
    host.manage(&format!(
        "/actuator/metrics/process_cpu_usage?tag=x{seed}:y"
    ))
    .await;
}

fn identities(metrics: &Metrics) -> BTreeSet<String> {
    // Sales come and go with the sellers, who are trusted with that, and are bounded in number.
    let of_clients = |series: &&Series| !series.name.starts_with("time_sale_stock_");
    let kept = metrics.series.iter().filter(of_clients);
    kept.map(|series| format!("{}{:?}", series.name, series.labels))
        .collect()
}

#[tokio::test]
async fn hostile_input_adds_no_series() {
    let host = Host::start().await;
    // The first round of the reconciler brings its families.
    eventually("the first round", async || {
        let metrics = host.metrics().await;
        let reconciled = metrics.of("time_sale_active_buyers", &[]).next();
        reconciled.map(drop).ok_or(())
    })
    .await;
    hostile(&host, 1).await;
    let before = identities(&host.at_rest().await);
    for seed in 2..5 {
        hostile(&host, seed).await;
    }
    let after = identities(&host.at_rest().await);
    let added: Vec<_> = after.difference(&before).collect();
    assert!(added.is_empty(), "{added:#?}");
    assert!(
        !after
            .iter()
            .any(|series| series.contains("x2") || series.contains("BREW"))
    );
}

#[tokio::test]
async fn stock_is_shown_for_open_sales_alone_and_for_fifty_of_them() {
    let host = Host::start().await;
    let sale = host.shop.sale(10).await;
    let ended = host
        .shop
        .sale_with(1, json!({ "endAt": "2020-01-02T00:00:00Z" }))
        .await;
    host.shop.buy("v1", sale, 42, 3).send().await.order_id();
    let (sale, ended) = (sale.to_string(), ended.to_string());
    let metrics = host.metrics().await;
    assert_eq!(
        metrics.sum("time_sale_stock_remaining", &[("sale", &sale)]),
        7.0
    );
    assert_eq!(metrics.sum("time_sale_stock_sold", &[("sale", &sale)]), 3.0);
    assert_eq!(
        metrics
            .of("time_sale_stock_remaining", &[("sale", &ended)])
            .count(),
        0
    );
    for _ in 0..54 {
        host.shop.sale(1).await;
    }
    let metrics = host.metrics().await;
    assert_eq!(metrics.of("time_sale_stock_remaining", &[]).count(), 51);
    assert_eq!(
        metrics.sum("time_sale_stock_remaining", &[("sale", "other")]),
        5.0
    );
    assert_eq!(metrics.sum("time_sale_stock_sold", &[("sale", &sale)]), 3.0);
}

/// The family of each name under which series of the catalogue stand.
fn names() -> BTreeMap<String, &'static Metric> {
    let names = |metric: &'static Metric| {
        let parts: &[&str] = match metric.kind {
            Kind::Counter | Kind::Gauge => &[""],
            Kind::Histogram(_) => &["_bucket", "_sum", "_count"],
        };
        let named = parts.iter().map(|part| format!("{}{part}", metric.name));
        named.map(move |name| (name, metric)).collect::<Vec<_>>()
    };
    CATALOGUE.iter().flat_map(names).collect()
}

/// Fails if a family has more series than the catalogue says, or other labels.
fn assert_bounded(metrics: &Metrics) {
    let names = names();
    let mut counted = BTreeMap::<&str, usize>::new();
    for series in &metrics.series {
        let Some(metric) = names.get(&series.name) else {
            // What the process says of itself has no labels that anybody could move.
            assert!(series.name.starts_with("process_"), "{series:?}");
            continue;
        };
        *counted.entry(metric.name).or_default() += 1;
        let mut labels: BTreeSet<&str> = metric.labels.iter().map(|label| label.name()).collect();
        labels.insert("application");
        if series.name.ends_with("_bucket") {
            labels.insert("le");
        }
        let found: BTreeSet<&str> = series.labels.keys().map(String::as_str).collect();
        assert_eq!(
            found, labels,
            "{}: the catalogue names its labels",
            series.name
        );
    }
    let versions = OPERATIONS.len();
    for metric in CATALOGUE {
        let (count, max) = (counted.get(metric.name), metric.series_max(versions));
        assert!(
            count.is_none_or(|count| *count <= max),
            "{}: {count:?} series, and the catalogue says {max}",
            metric.name
        );
    }
    assert!(counted.values().sum::<usize>() <= catalogue::series_max(versions));
}

#[tokio::test]
async fn hostile_guests_and_clients_and_a_thousand_sales_stay_within_the_bound_of_the_catalogue() {
    let host = Host::start().await;
    hostile(&host, 1).await;
    let open_for_ever = host.metrics().await;
    let open_for_ever = open_for_ever.of("time_sale_stock_sold", &[]).count();
    let product = host.shop.product().await;
    for batch in 0..20 {
        for place in 0..50 {
            let sale = json!({
                "productId": product,
                "quantity": 10,
                "discountPrice": 1,
                "startAt": "2020-01-01T00:00:00Z",
                "endAt": Timestamp::now() + OPEN_FOR,
            });
            let sale = host.shop.post("/api/v1/time-sales", &sale).await.created();
            if place % 10 == 0 {
                let version = VERSIONS[batch % VERSIONS.len()];
                host.shop.buy(version, sale, 42, 1).send().await;
            }
        }
        let metrics = host.metrics().await;
        assert!(metrics.of("time_sale_stock_sold", &[]).count() > open_for_ever);
        assert_bounded(&metrics);
    }
    hostile(&host, 2).await;
    eventually("the end of the sales", async || {
        let metrics = host.metrics().await;
        match metrics.of("time_sale_stock_sold", &[]).count() {
            // One more for the sale of the second hostility.
            left if left == open_for_ever + 1 => Ok(()),
            left => Err(left),
        }
    })
    .await;
    assert_bounded(&host.at_rest().await);
}
