//! Series are bounded: nobody outside can add one, and those of sales go with their sales.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use super::support::{
    FAULTY, Host,
    metrics::{Metrics, Series},
};

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
