//! Lists of sales: pages in Spring's shape, by status and in order.

use serde_json::{Value, json};

use super::support::Host;

/// The ids of a page, and the page without its content.
async fn page(host: &Host, query: &str) -> (Vec<u64>, Value) {
    let mut page = host
        .shop
        .get(&format!("/api/v2/time-sales{query}"))
        .await
        .json();
    let content = page.as_object_mut().unwrap().remove("content").unwrap();
    let ids = content
        .as_array()
        .unwrap()
        .iter()
        .map(|sale| sale["id"].as_u64().unwrap());
    (ids.collect(), page)
}

#[tokio::test]
async fn sales_are_listed_by_page_status_and_order() {
    let host = Host::start().await;
    let mut sales = Vec::new();
    for price in [30, 10, 20] {
        sales.push(
            host.shop
                .sale_with(2, json!({ "discountPrice": price }))
                .await,
        );
    }
    let scheduled = host
        .shop
        .sale_with(1, json!({ "startAt": "2098-01-01T00:00:00Z" }))
        .await;
    let ended = host
        .shop
        .sale_with(1, json!({ "endAt": "2020-01-02T00:00:00Z" }))
        .await;
    let [first, second, third] = sales[..] else {
        unreachable!()
    };
    host.shop.buy("v1", third, 42, 2).send().await.order_id();

    // Spring's shape of a page, to the letter.
    let (ids, rest) = page(&host, "").await;
    assert_eq!(ids, [first, second, third]);
    let whole = json!({
        "totalElements": 3, "totalPages": 1, "number": 0, "size": 20,
        "first": true, "last": true, "numberOfElements": 3, "empty": false,
    });
    assert_eq!(rest, whole);
    let (ids, rest) = page(&host, "?size=2&page=1").await;
    assert_eq!(ids, [third]);
    let last = json!({
        "totalElements": 3, "totalPages": 2, "number": 1, "size": 2,
        "first": false, "last": true, "numberOfElements": 1, "empty": false,
    });
    assert_eq!(rest, last);
    let (ids, rest) = page(&host, "?size=2&page=9").await;
    assert!(ids.is_empty());
    assert_eq!(
        (&rest["empty"], &rest["last"], &rest["number"]),
        (&json!(true), &json!(true), &json!(9))
    );

    for (query, expected) in [
        ("?sort=discountPrice", vec![second, third, first]),
        ("?sort=discountPrice,desc", vec![first, third, second]),
        ("?sort=id,DESC", vec![third, second, first]),
        ("?sort=remainingQuantity,asc", vec![third, first, second]),
        ("?status=ACTIVE", vec![first, second]),
        ("?status=SOLD_OUT", vec![third]),
        ("?status=SCHEDULED,ENDED", vec![scheduled, ended]),
        ("?status=SCHEDULED&status=SOLD_OUT", vec![third, scheduled]),
        ("?status=ENDED&size=200", vec![ended]),
    ] {
        assert_eq!(page(&host, query).await.0, expected, "{query}");
    }
}
