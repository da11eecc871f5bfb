//! What clients are promised besides buying: products, lists, results, the document, and who may write.

use std::collections::BTreeMap;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::support::{Host, VERSIONS, answer::Outcome};

#[tokio::test]
async fn a_product_is_kept_as_it_was_described() {
    let host = Host::start().await;
    let body = json!({ "name": "키보드 ⌨", "price": 129_000, "description": "기계식" });
    let created = host.shop.post("/api/v1/products", &body).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let product = created.json();
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&product[field], value);
    }
    assert!(product["createdAt"].is_string());
    let id = &product["id"];
    assert_eq!(
        host.shop
            .get(&format!("/api/v1/products/{id}"))
            .await
            .json(),
        product
    );
    let listed = host.shop.get("/api/v1/products").await.json();
    assert_eq!(listed, json!([product]));
}

#[tokio::test]
async fn a_sale_is_the_same_through_every_version() {
    let host = Host::start().await;
    let sale = json!({
        "productId": host.shop.product().await,
        "quantity": 7,
        "discountPrice": 9_900,
        "startAt": "2098-03-01T10:00:00+09:00",
        "endAt": "2098-03-01T11:00:00+09:00",
        "limitPerUser": 2,
    });
    let created = host.shop.post("/api/v3/time-sales", &sale).await.json();
    assert_eq!(created["startAt"], json!("2098-03-01T01:00:00Z"));
    assert_eq!(created["endAt"], json!("2098-03-01T02:00:00Z"));
    for field in ["productId", "quantity", "discountPrice", "limitPerUser"] {
        assert_eq!(created[field], sale[field]);
    }
    assert_eq!(created["remainingQuantity"], json!(7));
    assert_eq!(created["status"], json!("SCHEDULED"));
    for version in VERSIONS {
        let path = format!("/api/{version}/time-sales/{}", created["id"]);
        assert_eq!(host.shop.get(&path).await.json(), created);
    }
}

#[tokio::test]
async fn a_result_is_told_to_whoever_has_the_request_id_and_to_nobody_else() {
    let host = Host::start().await;
    let (sale, other_sale) = (host.shop.sale(10).await, host.shop.sale(10).await);
    for version in VERSIONS {
        let answer = host.shop.buy(version, sale, 42, 1).follow().await;
        let request = answer.request_id().unwrap();
        for any in VERSIONS {
            let path = format!("/api/{any}/time-sales/purchase/result/{sale}/{request}");
            let result = host.shop.get(&path).await.json();
            let expected = json!({
                "requestId": request, "status": "SUCCESS", "orderId": answer.order_id(),
                "reason": null, "queuePosition": null, "totalWaiting": null,
            });
            assert_eq!(result, expected);
        }
        if let Some(location) = &answer.location {
            assert_eq!(
                host.shop.get(location).await.json()["status"],
                json!("SUCCESS")
            );
            assert_eq!(answer.retry_after.as_deref(), Some("1"));
        }
        let digit = if request.starts_with('0') { '1' } else { '0' };
        let forged = format!("{digit}{}", &request[1..]);
        for (sale, request) in [
            (sale, forged.as_str()),
            (other_sale, request),
            (sale, &"0".repeat(request.len())),
            (sale, &request[1..]),
            (sale, "unknown"),
        ] {
            let path = format!("/api/{version}/time-sales/purchase/result/{sale}/{request}");
            assert_eq!(
                host.shop.get(&path).await.problem().code,
                "NOT_FOUND",
                "{path}"
            );
            // A place in the log that is really taken proves nothing.
            assert_eq!(
                host.shop
                    .get(&format!("{path}?place=0-0"))
                    .await
                    .problem()
                    .code,
                "NOT_FOUND"
            );
        }
    }
}

#[tokio::test]
async fn a_ticket_says_where_to_ask_and_who_decides() {
    let host = Host::start().await;
    let sale = host.shop.sale(10).await;
    let answer = host.shop.buy("v3", sale, 42, 1).send().await;
    let Outcome::Accepted(ticket) = &answer.outcome else {
        panic!("{answer:#?}")
    };
    assert_eq!(ticket.status, "PENDING");
    assert_eq!(answer.version.as_deref(), Some("v3"));
    let (_, health) = host.manage_json("/actuator/health").await;
    let strategy = &health["components"]["strategies"]["components"]["v3"];
    assert_eq!(strategy["details"]["revision"], json!(answer.revision));
    assert_eq!(answer.revision.unwrap().len(), 12);
    let place = format!(
        "/api/v3/time-sales/purchase/result/{sale}/{}",
        ticket.request_id
    );
    assert!(answer.location.unwrap().starts_with(&place));
}

#[tokio::test]
async fn the_document_lists_every_route_and_a_page_shows_it() {
    let host = Host::start().await;
    let document = host.shop.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &Value| {
        item.as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let found: BTreeMap<&str, Vec<String>> = paths
        .iter()
        .map(|(path, item)| (path.as_str(), methods(item)))
        .collect();
    let expected = [
        ("/api/v1/orders/{id}", &["get"][..]),
        ("/api/v1/products", &["get", "post"]),
        ("/api/v1/products/{id}", &["get"]),
        ("/api/{v}/time-sales", &["get", "post"]),
        (
            "/api/{v}/time-sales/purchase/result/{timeSaleId}/{requestId}",
            &["get"],
        ),
        ("/api/{v}/time-sales/{id}", &["get"]),
        ("/api/{v}/time-sales/{id}/purchase", &["post"]),
    ];
    let expected =
        expected.map(|(path, methods)| (path, methods.iter().map(ToString::to_string).collect()));
    assert_eq!(found, BTreeMap::from(expected));

    let front = host.shop.get("/").await;
    assert!(front.status.is_redirection());
    assert_eq!(front.header("location"), Some("/docs/"));
    let page = host.shop.get("/docs/").await;
    assert_eq!(page.status, StatusCode::OK);
    // It brings its own scripts: a browser without internet shows it too.
    assert!(!page.body.contains("https://"), "{}", page.body);
    let script = host.shop.get("/docs/swagger-ui-bundle.js").await;
    assert_eq!(script.status, StatusCode::OK);
    let nothing = host.shop.get("/docs/nothing.js").await;
    assert_eq!(nothing.problem().code, "NOT_FOUND");
}
