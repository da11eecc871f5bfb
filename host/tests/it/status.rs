//! The status page: served whole, fed by figures that are true, and deaf to what names say.

use serde_json::{Value, json};

use super::{
    families::OPERATIONS,
    support::{ASYNCHRONOUS, FAULTY, Host, Setup, VERSIONS, eventually},
};

async fn status(host: &Host) -> Value {
    let (code, status) = host.manage_json("/status").await;
    assert_eq!(code, 200, "{status:#}");
    status
}

/// The figures of a version.
fn figures<'a>(status: &'a Value, version: &str) -> &'a Value {
    let mut figures = status["strategies"].as_array().unwrap().iter();
    figures.find(|one| one["version"] == version).unwrap()
}

#[tokio::test]
async fn the_page_is_one_file_that_runs_and_asks_nothing_from_elsewhere() {
    let host = Host::start().await;
    let read = async || host.manage_reply("/").await;
    let (first, second) = (read().await, read().await);
    assert_eq!(first.status, 200);
    assert_eq!(
        first.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(first.header("x-content-type-options"), Some("nosniff"));
    let nonce = |policy: &str| {
        let (_, after) = policy.split_once("script-src 'nonce-").unwrap();
        after.split_once('\'').unwrap().0.to_owned()
    };
    let policy = first.header("content-security-policy").unwrap();
    for rule in [
        "default-src 'none'",
        "connect-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let own = nonce(policy);
    assert_ne!(
        own,
        nonce(second.header("content-security-policy").unwrap())
    );
    for element in ["script", "style"] {
        let all = first.body.matches(&format!("<{element}")).count();
        let ours = format!("<{element} nonce=\"{own}\">");
        assert_eq!(
            (all, first.body.matches(&ours).count()),
            (1, 1),
            "{element}"
        );
    }
    // What the host answers is text: nothing on the page turns text into markup.
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "style=",
        " src=",
        "//cdn",
    ] {
        assert!(!first.body.contains(way), "{way}");
    }
}

#[tokio::test]
async fn an_empty_host_has_a_status_too() {
    let host = Setup::new().with_strategies(&[]).start().await;
    let status = status(&host).await;
    assert_eq!(status["health"]["status"], "DOWN");
    assert_eq!(status["strategies"], json!([]));
    assert_eq!(status["sales"], json!({ "open": 0, "shown": [] }));
}

#[tokio::test]
async fn the_status_has_the_live_revisions_the_outcomes_and_the_stock() {
    let host = Host::start().await;
    let (busy, quiet) = (host.shop.sale(10).await, host.shop.sale(5).await);
    host.shop
        .sale_with(1, json!({ "endAt": "2020-01-02T00:00:00Z" }))
        .await;
    for version in VERSIONS {
        host.shop
            .buy(version, busy, 42, 1)
            .follow()
            .await
            .order_id();
        host.shop.buy(version, busy, 42, 10).send().await;
    }
    let traps = 1;
    host.shop.buy(FAULTY, busy, traps, 1).send().await;
    let accepted = host.shop.buy(ASYNCHRONOUS, quiet, 42, 1).follow().await;
    host.at_rest().await;

    let status = eventually("the first round", async || {
        let status = status(&host).await;
        if status["drift"] == json!([]) {
            Err(status)
        } else {
            Ok(status)
        }
    })
    .await;
    assert_eq!(status["health"]["status"], "UP");
    let strategies = &status["health"]["components"]["strategies"]["components"];
    for (version, operation) in OPERATIONS {
        assert_eq!(strategies[version]["details"]["operation"], operation);
    }
    let revision = &strategies[ASYNCHRONOUS]["details"]["revision"];
    assert_eq!(revision.as_str(), accepted.revision.as_deref());
    for version in ["v1", "v2", "v9"] {
        let figures = figures(&status, version);
        let counted =
            ["sold", "rejected", "failed", "calls", "inFlight"].map(|name| &figures[name]);
        assert_eq!(counted, [1.0, 1.0, 0.0, 2.0, 0.0], "{version}");
        assert!(figures["seconds"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(figures(&status, ASYNCHRONOUS)["sold"], 2.0);
    assert_eq!(figures(&status, FAULTY)["failed"], 1.0);
    assert_eq!(status["waiting"], 0);
    let sales = &status["sales"];
    assert_eq!(sales["open"], 2);
    let shown = [&sales["shown"][0], &sales["shown"][1]];
    let stock =
        shown.map(|sale| [&sale["id"], &sale["quantity"], &sale["remaining"]].map(Value::as_u64));
    assert_eq!(stock, [[busy, 10, 5].map(Some), [quiet, 5, 4].map(Some)]);
    assert_eq!(shown[0]["product"], "Keyboard");
}

#[tokio::test]
async fn a_name_with_markup_is_only_text() {
    let host = Host::start().await;
    let name = r#"</script><img src=x onerror="alert(1)">"#;
    let product = json!({ "name": name, "price": 1, "description": name });
    let product = host.shop.post("/api/v1/products", &product).await.created();
    host.shop
        .sale_with(3, json!({ "productId": product }))
        .await;
    let reply = host.manage_reply("/status").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.json()["sales"]["shown"][0]["product"], name);
    // The page never has it: it is the same whatever is for sale.
    let page = host.manage_reply("/").await.body;
    assert!(!page.contains("onerror"), "{page}");
}

#[tokio::test]
async fn buyers_do_not_reach_the_status() {
    let host = Host::start().await;
    assert_eq!(host.shop.get("/status").await.problem().code, "NOT_FOUND");
}
