//! Who may write products and sales.

use std::fs;

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::support::{Host, Setup, answer::Reply, eventually};

/// Adds a product, showing this token.
async fn add_product(host: &Host, token: Option<&str>) -> Reply {
    let request = host.shop.request(Method::POST, "/api/v1/products");
    let request = request.json(&json!({ "name": "Keyboard", "price": 1 }));
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    Reply::read(request.send().await.unwrap()).await
}

#[tokio::test]
async fn with_a_sellers_token_only_who_shows_it_writes() {
    let host = Setup::new()
        .set("TIMESALE_SELLER_TOKEN", "sesame")
        .start()
        .await;
    for token in [
        None,
        Some("wrong"),
        Some(""),
        Some("sesam"),
        Some("sesame2"),
    ] {
        let refused = add_product(&host, token).await;
        assert_eq!(refused.problem().code, "UNAUTHORIZED", "{token:?}");
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    }
    let sale = host.shop.post("/api/v1/time-sales", &json!({})).await;
    assert_eq!(sale.problem().code, "UNAUTHORIZED");
    assert_eq!(
        add_product(&host, Some("sesame")).await.status,
        StatusCode::CREATED
    );
    assert_eq!(
        host.shop.get("/api/v1/products").await.status,
        StatusCode::OK
    );
    assert!(
        !host.log().iter().any(|line| line.contains("sesame")),
        "the token is in the log"
    );
}

#[tokio::test]
async fn a_sellers_token_in_a_file_changes_with_the_file() {
    let setup = Setup::new();
    let file = setup.data().join("token");
    fs::write(&file, "first\n").unwrap();
    let host = setup
        .set("TIMESALE_SELLER_TOKEN_FILE", file.display())
        .start()
        .await;
    assert_eq!(
        add_product(&host, Some("first")).await.status,
        StatusCode::CREATED
    );
    fs::write(&file, "second\n").unwrap();
    eventually("the second token is taken", async || {
        let reply = add_product(&host, Some("second")).await;
        if reply.status == StatusCode::CREATED {
            Ok(())
        } else {
            Err(reply)
        }
    })
    .await;
    assert_eq!(
        add_product(&host, Some("first")).await.status,
        StatusCode::UNAUTHORIZED
    );
    // A file that holds no token leaves the last one in force.
    fs::write(&file, " \n").unwrap();
    host.logged("no usable secret").await;
    assert_eq!(
        add_product(&host, Some("second")).await.status,
        StatusCode::CREATED
    );
    assert_eq!(
        add_product(&host, None).await.status,
        StatusCode::UNAUTHORIZED
    );
}
