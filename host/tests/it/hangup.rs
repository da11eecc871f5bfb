//! Clients that hang up in the middle of a call: it is recorded once, and wholly done or wholly undone.

use std::time::Duration;

use tokio::task::JoinSet;

use super::support::{FAULTY, Host, Setup, VERSIONS, crowd, metrics::Metrics};

const PURCHASE: &str = "/api/{v}/time-sales/{id}/purchase";
const CLIENTS: u64 = 400;

/// Purchase calls that were recorded, of this version and with this outcome where one is named.
fn recorded(metrics: &Metrics, labels: &[(&str, &str)]) -> f64 {
    metrics.sum("time_sale_operation_duration_seconds_count", labels)
}

/// Purchase requests that reached the host, answered or not.
fn arrived(metrics: &Metrics) -> f64 {
    let arrived = metrics.of("http_server_requests_seconds_count", &[("uri", PURCHASE)]);
    arrived.map(|series| series.value).sum()
}

/// Sends a purchase from each of the clients, each of which hangs up some milliseconds later if it has no answer by then.
async fn storm(host: &Host, sale: u64) {
    let mut clients = JoinSet::new();
    for (user, version) in (1..=CLIENTS).zip(VERSIONS.iter().cycle()) {
        let purchase = host.shop.buy(version, sale, user, 1).key("rush");
        let patience = Duration::from_millis(user % 50);
        clients.spawn(tokio::time::timeout(patience, purchase.try_send()));
    }
    let hung_up = clients
        .join_all()
        .await
        .iter()
        .filter(|answer| answer.is_err())
        .count();
    assert!(hung_up > 0, "everybody waited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_client_hangs_up_is_recorded_once_and_wholly_done_or_undone() {
    let host = Host::start().await;
    let sale = host.shop.sale(CLIENTS).await;
    storm(&host, sale).await;

    let metrics = host.at_rest().await;
    assert_eq!(recorded(&metrics, &[]), arrived(&metrics));
    let counted: f64 = ["success", "failure", "rejected"]
        .iter()
        .map(|family| metrics.sum(&format!("time_sale_operation_{family}_total"), &[]))
        .sum();
    assert_eq!(counted, arrived(&metrics));
    let ledger = host.ledger(sale).await;
    for version in VERSIONS {
        let done = metrics.sum("time_sale_operation_success_total", &[("version", version)]);
        let ordered = ledger
            .orders
            .iter()
            .filter(|order| order.version == version);
        assert_eq!(ordered.count() as f64, done, "{version}");
    }

    // Everybody comes back with the same key and hears the truth.
    let mut crowd = JoinSet::new();
    for (user, version) in (1..=CLIENTS).zip(VERSIONS.iter().cycle()) {
        crowd.spawn(crowd::visit(
            host.shop.clone(),
            (*version).to_owned(),
            sale,
            user,
            1,
        ));
    }
    let buyers = crowd.join_all().await;
    let ledger = host.ledger(sale).await;
    crowd::judge(&buyers, &ledger);
    assert_eq!(ledger.remaining, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_spins_for_a_client_who_left_is_stopped_and_lets_go() {
    let host = Setup::new().start().await;
    let sale = host.shop.sale(10).await;
    let (spins, spins_with_the_row_locked) = (3, 12);
    for user in [spins, spins_with_the_row_locked] {
        let before = host.at_rest().await;
        let purchase = host.shop.buy(FAULTY, sale, user, 1).send();
        tokio::select! {
            answer = purchase => panic!("it does not spin: {answer:#?}"),
            _ = host.in_flight(FAULTY) => {}
        }
        let after = host.at_rest().await;
        let cancelled = [("version", FAULTY), ("outcome", "cancelled")];
        assert_eq!(
            recorded(&after, &cancelled) - recorded(&before, &cancelled),
            1.0
        );
        assert_eq!(arrived(&after) - arrived(&before), 1.0);
        for version in VERSIONS {
            let next = host.shop.buy(version, sale, 42, 1).follow().await;
            assert_eq!(next.refusal(), None, "{version}");
        }
    }
    assert_eq!(host.ledger(sale).await.sold(), 2 * VERSIONS.len() as u64);
}
