//! What the host finds where it holds its stores against each other, and what it says while it does not know.

use super::support::{ASYNCHRONOUS, FAULTY, Host, VERSIONS, eventually, ledger, metrics::Metrics};

const DRIFT: &str = "time_sale_ledger_drift";
const KINDS: [&str; 4] = ["stock", "cache", "queue", "results"];

/// Waits until a figure of the reconciler is as expected, and hands back the page that says so.
async fn until(
    host: &Host,
    name: &str,
    labels: &[(&str, &str)],
    wanted: impl Fn(f64) -> bool,
) -> Metrics {
    eventually(name, async || {
        let metrics = host.metrics().await;
        let found: Vec<f64> = metrics
            .of(name, labels)
            .map(|series| series.value)
            .collect();
        match found[..] {
            [value] if wanted(value) => Ok(metrics),
            _ => Err(found),
        }
    })
    .await
}

#[tokio::test]
async fn stores_that_agree_drift_by_nothing_and_buyers_are_counted() {
    let host = Host::start().await;
    let sale = host.shop.sale(100).await;
    for version in VERSIONS {
        for user in [7, 8] {
            host.shop
                .buy(version, sale, user, 1)
                .follow()
                .await
                .order_id();
        }
    }
    host.shop.buy("v1", sale, 9, 2).send().await.order_id();
    let metrics = until(&host, "time_sale_active_buyers", &[], |buyers| {
        buyers == 3.0
    })
    .await;
    assert_eq!(metrics.sum("time_sale_repeat_buyers", &[]), 2.0);
    for kind in KINDS {
        assert_eq!(metrics.sum(DRIFT, &[("kind", kind)]), 0.0, "{kind}");
    }
    for backend in ["db", "redis", "kafka"] {
        let labels = [("backend", backend)];
        assert_eq!(
            metrics.sum("time_sale_backend_up", &labels),
            1.0,
            "{backend}"
        );
    }
    for name in [
        "time_sale_oldest_pending_seconds",
        "time_sale_stuck_pending",
        "time_sale_leaked_stock",
    ] {
        assert_eq!(metrics.sum(name, &[]), 0.0, "{name}");
    }
    assert!(metrics.sum("time_sale_reconciliation_age_seconds", &[]) >= 0.0);
}

#[tokio::test]
async fn a_hint_that_denies_what_is_left_is_leaked_stock() {
    let host = Host::start().await;
    let sale = host.shop.sale(10).await;
    host.shop.buy("v1", sale, 7, 3).send().await.order_id();
    let writes_a_zero = 31;
    host.shop.buy(FAULTY, sale, writes_a_zero, 1).send().await;
    let metrics = until(&host, "time_sale_leaked_stock", &[], |pieces| pieces == 7.0).await;
    assert_eq!(metrics.sum(DRIFT, &[("kind", "cache")]), 1.0);
    assert_eq!(metrics.sum(DRIFT, &[("kind", "stock")]), 0.0);
}

#[tokio::test]
async fn stores_that_contradict_each_other_are_told() {
    let host = Host::start().await;
    let sale = host.shop.sale(10).await;
    let settled = host.shop.buy(ASYNCHRONOUS, sale, 7, 1).follow().await;
    ledger::contradict(host.setup(), sale, settled.request_id().unwrap()).await;
    until(&host, DRIFT, &[("kind", "stock")], |pieces| pieces == 2.0).await;
    until(&host, DRIFT, &[("kind", "queue")], |requests| {
        requests == 1.0
    })
    .await;
    host.logged("two stores contradict each other").await;
}

#[tokio::test]
async fn a_request_that_cannot_be_settled_is_seen_to_wait() {
    let host = Host::start().await;
    let sale = host.shop.sale(10).await;
    let held = ledger::hold(host.setup(), sale).await;
    host.shop.buy(ASYNCHRONOUS, sale, 7, 1).send().await;
    let waits = "time_sale_oldest_pending_seconds";
    let metrics = until(&host, waits, &[], |seconds| seconds > 0.0).await;
    assert_eq!(metrics.sum("time_sale_stuck_pending", &[]), 0.0);
    drop(held);
    until(&host, waits, &[], |seconds| seconds == 0.0).await;
}
