//! Buying: what is sold, to whom, at what price, and never more than there is.

use serde_json::json;

use super::support::{ASYNCHRONOUS, Host, VERSIONS, answer::Outcome, crowd, shop::DISCOUNT_PRICE};

const STOCK: u64 = 100;

async fn five_hundred_buyers(versions: &[&str]) {
    let host = Host::start().await;
    let sale = host.shop.sale(STOCK).await;
    let buyers = crowd::rush(&host.shop, sale, versions).await;

    let ledger = host.ledger(sale).await;
    assert_eq!(ledger.sold(), STOCK);
    assert_eq!(ledger.remaining, 0);
    crowd::judge(&buyers, &ledger);
    let charged = buyers
        .iter()
        .filter(|buyer| buyer.answer.refusal().is_none());
    assert_eq!(charged.map(|buyer| buyer.quantity).sum::<u64>(), STOCK);
    for version in versions {
        let of_version = buyers.iter().filter(|buyer| buyer.version == *version);
        let accepted =
            of_version.filter(|buyer| matches!(buyer.answer.outcome, Outcome::Accepted(_)));
        assert_eq!(accepted.count() > 0, *version == ASYNCHRONOUS, "{version}");
    }

    let metrics = host.at_rest().await;
    assert_eq!(metrics.sum("kafka_consumer_group_lag", &[]), 0.0);
    let sold = metrics.sum("time_sale_purchases_total", &[("result", "success")]);
    assert_eq!(sold, ledger.orders.len() as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_buyers_get_exactly_the_hundred_pieces_whatever_the_version() {
    for version in VERSIONS {
        five_hundred_buyers(&[version]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_buyers_get_exactly_the_hundred_pieces_through_all_versions_at_once() {
    five_hundred_buyers(&VERSIONS).await;
}

#[tokio::test]
async fn an_order_holds_what_the_host_knows() {
    let host = Host::start().await;
    for version in VERSIONS {
        let sale = host.shop.sale(STOCK).await;
        let planned = host
            .shop
            .get(&format!("/api/{version}/time-sales/{sale}"))
            .await
            .json();
        let answer = host.shop.buy(version, sale, 42, 3).follow().await;

        assert_eq!(answer.version.as_deref(), Some(version));
        let order = host
            .shop
            .get(&format!("/api/v1/orders/{}", answer.order_id()))
            .await
            .json();
        assert_eq!(order["requestId"], json!(answer.request_id()));
        assert_eq!(order["timeSaleId"], json!(sale));
        assert_eq!(order["productId"], planned["productId"]);
        assert_eq!(order["userId"], json!(42));
        assert_eq!(order["quantity"], json!(3));
        assert_eq!(order["discountPrice"], json!(DISCOUNT_PRICE));
        assert_eq!(order["version"], json!(version));
        assert_eq!(order["acceptingRevision"], json!(answer.revision));
        assert_eq!(order["settlingRevision"], json!(answer.revision));
        if let Outcome::Completed(said) = &answer.outcome {
            assert_eq!(
                (
                    said.time_sale_id,
                    said.user_id,
                    said.quantity,
                    said.discount_price
                ),
                (sale, 42, 3, DISCOUNT_PRICE)
            );
            assert_eq!(json!(said.product_id), order["productId"]);
            assert_eq!(json!(said.purchased_at), order["createdAt"]);
        }
        let ledger = host.ledger(sale).await;
        assert_eq!(
            (ledger.sold_to(42), ledger.remaining),
            (3, STOCK - 3),
            "{version}"
        );
        assert_eq!(ledger.orders[0].discount_price, DISCOUNT_PRICE);
    }
}

#[tokio::test]
async fn a_user_may_buy_up_to_the_limit_over_all_versions_together() {
    let host = Host::start().await;
    let limit = 1 + VERSIONS.len() as u64;
    for last in VERSIONS {
        let sale = host
            .shop
            .sale_with(STOCK, json!({ "limitPerUser": limit }))
            .await;
        for version in VERSIONS {
            let bought = host.shop.buy(version, sale, 7, 1).follow().await;
            assert_eq!(bought.refusal(), None, "{version}");
        }
        let over = host.shop.buy(last, sale, 7, 2).follow().await;
        assert_eq!(over.refusal(), Some("LIMIT_EXCEEDED"), "{last}");
        let fits = host.shop.buy(last, sale, 7, 1).follow().await;
        assert_eq!(fits.refusal(), None, "{last}");
        let other = host.shop.buy(last, sale, 8, limit).follow().await;
        assert_eq!(other.refusal(), None, "{last}");
        assert_eq!(host.ledger(sale).await.sold_to(7), limit);
    }
}

#[tokio::test]
async fn nobody_buys_before_the_window_or_after_it() {
    let host = Host::start().await;
    let scheduled = json!({ "startAt": "2098-01-01T00:00:00Z" });
    let ended = json!({ "endAt": "2020-01-02T00:00:00Z" });
    for window in [scheduled, ended] {
        let sale = host.shop.sale_with(STOCK, window).await;
        for version in VERSIONS {
            let answer = host.shop.buy(version, sale, 42, 1).send().await;
            assert_eq!(answer.brief(), "409 NOT_OPEN", "{version}");
        }
        assert_eq!(host.ledger(sale).await.sold(), 0);
    }
}

#[tokio::test]
async fn a_sale_that_is_not_there_is_not_found() {
    let host = Host::start().await;
    for version in VERSIONS {
        for sale in [4_000, u64::try_from(i64::MAX).unwrap()] {
            let answer = host.shop.buy(version, sale, 42, 1).send().await;
            assert_eq!(answer.brief(), "404 NOT_FOUND", "{version}");
        }
    }
    let sale = host.shop.sale(1).await;
    for version in VERSIONS {
        // Not the sale that the same number without its sign would name.
        let path = format!("/api/{version}/time-sales/-{sale}/purchase");
        let body = json!({ "userId": 42, "quantity": 1 });
        let reply = host.shop.post(&path, &body).await;
        assert_eq!(reply.problem().code, "NOT_FOUND", "{version}");
    }
    let answer = host.shop.buy("v404", sale, 42, 1).send().await;
    assert_eq!(answer.brief(), "404 NOT_FOUND");
}

#[tokio::test]
async fn the_last_pieces_go_to_whom_they_suffice() {
    let host = Host::start().await;
    for version in VERSIONS {
        let sale = host.shop.sale(3).await;
        for (quantity, refusal) in [
            (2, None),
            (2, Some("SOLD_OUT")),
            (1, None),
            (1, Some("SOLD_OUT")),
        ] {
            let answer = host.shop.buy(version, sale, 42, quantity).follow().await;
            assert_eq!(answer.refusal(), refusal, "{version}");
        }
        // Whoever comes after that is refused on the spot, through every version.
        for other in VERSIONS {
            let answer = host.shop.buy(other, sale, 43, 1).send().await;
            assert_eq!(answer.brief(), "409 SOLD_OUT", "{other}");
        }
    }
}

#[tokio::test]
async fn a_sale_says_where_it_stands() {
    let host = Host::start().await;
    let scheduled = host
        .shop
        .sale_with(1, json!({ "startAt": "2098-01-01T00:00:00Z" }))
        .await;
    let ended = host
        .shop
        .sale_with(1, json!({ "endAt": "2020-01-02T00:00:00Z" }))
        .await;
    let active = host.shop.sale(2).await;
    let sold_out = host.shop.sale(2).await;
    host.shop.buy("v1", active, 42, 1).send().await.order_id();
    host.shop.buy("v1", sold_out, 42, 2).send().await.order_id();
    for (sale, status, remaining) in [
        (scheduled, "SCHEDULED", 1),
        (ended, "ENDED", 1),
        (active, "ACTIVE", 1),
        (sold_out, "SOLD_OUT", 0),
    ] {
        for version in VERSIONS {
            let found = host
                .shop
                .get(&format!("/api/{version}/time-sales/{sale}"))
                .await
                .json();
            assert_eq!(found["status"], json!(status), "{version}");
            assert_eq!(found["remainingQuantity"], json!(remaining), "{version}");
        }
    }
}
