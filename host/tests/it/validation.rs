//! Every way in is checked: what is wrong is refused with a stable code and a detail that names it.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::support::{Host, VERSIONS, answer::Reply};

/// Fails unless this is the problem, and its detail names what is wrong.
fn assert_problem(reply: &Reply, status: StatusCode, code: &str, names: &str) {
    let problem = reply.problem();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (status, code),
        "{reply:?}"
    );
    assert!(
        problem.detail.contains(names),
        "{names:?} is not named: {reply:?}"
    );
}

fn assert_malformed(reply: &Reply, names: &str) {
    assert_problem(reply, StatusCode::BAD_REQUEST, "MALFORMED", names);
}

/// The body with a field set, or taken out by null.
fn with(body: &Value, field: &str, value: Value) -> Value {
    let mut body = body.clone();
    let fields = body.as_object_mut().unwrap();
    match value {
        Value::Null => drop(fields.remove(field)),
        value => drop(fields.insert(field.to_owned(), value)),
    }
    body
}

#[tokio::test]
async fn a_product_that_is_malformed_is_refused_by_its_field() {
    let host = Host::start().await;
    let product = json!({ "name": "Keyboard", "price": 100 });
    for (field, value) in [
        ("name", Value::Null),
        ("name", json!("")),
        ("name", json!(" \t\n")),
        ("name", json!("k".repeat(201))),
        ("name", json!(7)),
        ("price", Value::Null),
        ("price", json!(0)),
        ("price", json!(-1)),
        ("price", json!(1.5)),
        ("price", json!("100")),
        ("price", json!(u64::MAX)),
        ("name", json!("Key\0board")),
        ("description", json!("\0")),
        ("description", json!("d".repeat(4_001))),
        ("description", json!([])),
    ] {
        let reply = host
            .shop
            .post("/api/v1/products", &with(&product, field, value))
            .await;
        assert_malformed(&reply, field);
    }
}

#[tokio::test]
async fn a_sale_that_is_malformed_is_refused_by_its_field() {
    let host = Host::start().await;
    let sale = json!({
        "productId": host.shop.product().await,
        "quantity": 1,
        "discountPrice": 1,
        "startAt": "2020-01-01T00:00:00Z",
        "endAt": "2020-01-01T00:00:01Z",
    });
    for version in VERSIONS {
        let path = format!("/api/{version}/time-sales");
        for (field, value) in [
            ("productId", Value::Null),
            ("productId", json!("1")),
            ("quantity", Value::Null),
            ("quantity", json!(0)),
            ("quantity", json!(-1)),
            ("quantity", json!(1_000_000_001)),
            ("discountPrice", json!(0)),
            ("discountPrice", json!(-1)),
            ("startAt", Value::Null),
            ("startAt", json!("2020-01-01T00:00:00")),
            ("startAt", json!("2020-01-01")),
            ("startAt", json!("2020-13-01T00:00:00Z")),
            ("startAt", json!(1_577_836_800)),
            ("startAt", json!("20200101T000000Z")),
            ("startAt", json!("2020-01-01T00:00:00+0000")),
            ("startAt", json!("-002020-01-01T00:00:00Z")),
            ("endAt", json!("2099-01-01T00:00:00+09:00[Asia/Seoul]")),
            ("endAt", json!("9999-12-31T23:59:59Z")),
            ("endAt", json!("2099-01-01T00:00:00")),
            // The window has a first moment, so it cannot end there.
            ("startAt", json!("2020-01-01T00:00:01Z")),
            ("startAt", json!("2020-01-01T00:00:00-01:00")),
            ("limitPerUser", json!(0)),
            ("limitPerUser", json!(-1)),
        ] {
            let reply = host.shop.post(&path, &with(&sale, field, value)).await;
            assert_malformed(&reply, field);
        }
        let reply = host
            .shop
            .post(&path, &with(&sale, "productId", json!(4_000)))
            .await;
        assert_problem(&reply, StatusCode::NOT_FOUND, "NOT_FOUND", "product");
    }
    let reply = host.shop.post("/api/v404/time-sales", &sale).await;
    assert_problem(&reply, StatusCode::NOT_FOUND, "NOT_FOUND", "v404");
}

#[tokio::test]
async fn a_purchase_that_is_malformed_is_refused_by_its_field() {
    let host = Host::start().await;
    let sale = host.shop.sale(100).await;
    let purchase = json!({ "userId": 42, "quantity": 1 });
    for version in VERSIONS {
        let path = format!("/api/{version}/time-sales/{sale}/purchase");
        for (field, value) in [
            ("userId", Value::Null),
            ("userId", json!(0)),
            ("userId", json!(-1)),
            ("userId", json!("42")),
            ("userId", json!(1e300)),
            ("quantity", Value::Null),
            ("quantity", json!(0)),
            ("quantity", json!(-1)),
            ("quantity", json!(1.5)),
            ("quantity", json!("1")),
            // One more than the host's maximum, and far more.
            ("quantity", json!(11)),
            ("quantity", json!(u64::MAX)),
        ] {
            let reply = host.shop.post(&path, &with(&purchase, field, value)).await;
            assert_malformed(&reply, field);
        }
    }
    let wrong = with(&purchase, "userId", json!(1.5));
    let path = format!("/api/v1/time-sales/{sale}/purchase");
    let reply = host.shop.post(&path, &wrong).await;
    // In words that a client knows, and not in the host's types.
    assert_malformed(&reply, "a whole number");
    assert!(!reply.problem().detail.contains("i64"), "{reply:?}");
    assert_eq!(host.ledger(sale).await.sold(), 0);
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused() {
    let host = Host::start().await;
    let sale = host.shop.sale(1).await;
    let purchase = format!("/api/v1/time-sales/{sale}/purchase");
    for path in ["/api/v1/products", "/api/v1/time-sales", &purchase] {
        let send = async |content_type: &str, body: String| {
            let request = host.shop.request(Method::POST, path);
            let request = request
                .header(header::CONTENT_TYPE, content_type)
                .body(body);
            Reply::read(request.send().await.unwrap()).await
        };
        // serde would take a list for the fields in their order.
        for body in [
            "",
            "{",
            "[]",
            "[42,1]",
            "null",
            "\"userId\"",
            "{\"userId\":42,}",
        ] {
            assert_malformed(&send("application/json", body.to_owned()).await, "");
        }
        let fits = "{\"userId\":42,\"quantity\":1}".to_owned();
        assert_malformed(&send("text/plain", fits).await, "application/json");
        let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(100_000));
        let reply = send("application/json", huge).await;
        assert_problem(&reply, StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE", "");
    }
    assert_eq!(host.ledger(sale).await.sold(), 0);
}

#[tokio::test]
async fn a_query_that_is_malformed_is_refused_by_its_parameter() {
    let host = Host::start().await;
    for (query, names) in [
        ("page=-1", "page"),
        ("page=x", "page"),
        ("size=0", "size"),
        ("size=201", "size"),
        ("sort=price", "sort"),
        ("sort=id,sideways", "sort"),
        ("status=OPEN", "status"),
        ("status=ACTIVE,", "status"),
        ("status=active", "status"),
    ] {
        let reply = host.shop.get(&format!("/api/v1/time-sales?{query}")).await;
        assert_malformed(&reply, names);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let host = Host::start().await;
    let not_found = |reply: &Reply, names| {
        assert_problem(reply, StatusCode::NOT_FOUND, "NOT_FOUND", names);
    };
    for (path, names) in [
        ("/nowhere", ""),
        ("/api/v1", ""),
        ("/api/v1/products/4000", "product"),
        ("/api/v1/products/-1", "product"),
        ("/api/v1/orders/4000", "order"),
        ("/api/v1/time-sales/4000", "time sale"),
        ("/api/v404/time-sales/1", "v404"),
        ("/api/v404/time-sales", "v404"),
        ("/api/V1/time-sales", "V1"),
        ("/api/v1.wasm/time-sales", "v1.wasm"),
        ("/api/..%2Fv1/time-sales", "../v1"),
    ] {
        not_found(&host.shop.get(path).await, names);
    }
    for path in [
        "/api/v1/products/x",
        "/api/v1/orders/1.5",
        "/api/v1/time-sales/99999999999999999999",
    ] {
        assert_malformed(&host.shop.get(path).await, "id");
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_refused() {
    let host = Host::start().await;
    for (method, path) in [
        (Method::DELETE, "/api/v1/products"),
        (Method::PUT, "/api/v1/products/1"),
        (Method::PATCH, "/api/v1/time-sales/1"),
        (Method::GET, "/api/v1/time-sales/1/purchase"),
        (Method::POST, "/api/v1/orders/1"),
    ] {
        let response = host.shop.request(method, path).send().await.unwrap();
        let reply = Reply::read(response).await;
        assert_problem(
            &reply,
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            "method",
        );
        assert!(reply.header("allow").is_some(), "{reply:?}");
    }
}
