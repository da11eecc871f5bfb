//! Starting: a fault of the configuration stops the host before it listens, a bad plugin never does.

use std::{fs, net::TcpListener, process::Command};

use super::support::{Host, Setup, VERSIONS, process::Process, setup::Failure, staged, within};

/// Fails unless the host stopped without a greeting and with one line of error that says this; hands back all that it said.
pub async fn assert_refused(setup: &Setup, says: &[&str]) -> Failure {
    let failure = setup.fail().await;
    assert!(!failure.success, "{failure:#?}");
    assert!(failure.stdout.is_empty(), "it greeted: {failure:#?}");
    let is_error =
        |line: &&String| line.starts_with("timesale stops: ") || line.starts_with("error: ");
    let errors: Vec<_> = failure.stderr.iter().filter(is_error).collect();
    assert_eq!(errors.len(), 1, "{failure:#?}");
    for text in says {
        assert!(errors[0].contains(text), "no {text:?} in {failure:#?}");
    }
    failure
}

#[tokio::test]
async fn a_limit_that_makes_no_sense_is_refused_by_its_name() {
    let setup = Setup::new();
    for (name, value, says) in [
        (
            "TIMESALE_CALLS_MAX",
            "many",
            &["TIMESALE_CALLS_MAX", "--calls-max", "many"][..],
        ),
        (
            "TIMESALE_CALLS_MAX",
            "1001",
            &["TIMESALE_CALLS_MAX", "1001"],
        ),
        ("TIMESALE_MAX_QUANTITY", "0", &["TIMESALE_MAX_QUANTITY"]),
        (
            "TIMESALE_MAX_QUANTITY",
            "-1",
            &["TIMESALE_MAX_QUANTITY", "--max-quantity", "-1"],
        ),
        (
            "TIMESALE_LOCK_WAIT_MS",
            "60000",
            &["TIMESALE_LOCK_WAIT_MS", "TIMESALE_CALL_DEADLINE_MS"],
        ),
        (
            "TIMESALE_LOCK_HOLD_MS",
            "30000",
            &["TIMESALE_LOCK_HOLD_MS", "TIMESALE_LOCK_LEASE_MS"],
        ),
        (
            "TIMESALE_HTTP_TIMEOUT_MS",
            "60000",
            &["TIMESALE_CALL_DEADLINE_MS", "TIMESALE_HTTP_TIMEOUT_MS"],
        ),
        (
            "TIMESALE_MEMORY_MAX_BYTES",
            "1",
            &["TIMESALE_MEMORY_MAX_BYTES"],
        ),
        (
            "TIMESALE_LISTEN",
            "everywhere",
            &["TIMESALE_LISTEN", "--listen", "everywhere"],
        ),
        (
            "TIMESALE_TICKET_KEY",
            "short",
            &["TIMESALE_TICKET_KEY", "16 bytes"],
        ),
        ("TIMESALE_SELLER_TOKEN", " ", &["TIMESALE_SELLER_TOKEN"]),
        // Nobody could show it.
        ("TIMESALE_SELLER_TOKEN", "a\nb", &["TIMESALE_SELLER_TOKEN"]),
        (
            "TIMESALE_SELLER_TOKEN_FILE",
            "/nowhere",
            &["TIMESALE_SELLER_TOKEN_FILE", "/nowhere"],
        ),
    ] {
        assert_refused(&setup.set(name, value), says).await;
    }
}

#[tokio::test]
async fn a_strategies_folder_that_is_not_there_is_refused() {
    let setup = Setup::new().set("TIMESALE_STRATEGIES", "/nowhere");
    assert_refused(&setup, &["strategies", "/nowhere"]).await;
}

#[tokio::test]
async fn a_port_that_is_in_use_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for name in ["TIMESALE_LISTEN", "TIMESALE_MANAGEMENT_LISTEN"] {
        assert_refused(&Setup::new().set(name, &address), &[name, &address]).await;
    }
}

#[tokio::test]
async fn a_bad_component_is_refused_with_its_reason_and_the_others_serve() {
    let setup = Setup::new().with_strategies(&VERSIONS);
    let folder = setup.data().join("strategies");
    let whole = fs::read(staged().join("v1.wasm")).unwrap();
    let mut torn = whole.clone();
    torn.truncate(whole.len() / 2);
    let other_world = wat::parse_str(
        r#"(component
            (core module $m (func (export "run")))
            (core instance $i (instantiate $m))
            (func (export "run") (canon lift (core func $i "run"))))"#,
    );
    let with_wasi = wat::parse_str(
        r#"(component
            (import "wasi:clocks/monotonic-clock@0.2.0"
                (instance (export "now" (func (result u64))))))"#,
    );
    // It would be waited for without an end.
    let pipe = folder.join("pipe.wasm");
    let made = Command::new("mkfifo").arg(pipe).status();
    assert!(made.unwrap().success());
    let bad: [(&str, Vec<u8>, &[&str]); 7] = [
        (
            "text",
            b"not Wasm at all".to_vec(),
            &["not a WebAssembly component"],
        ),
        ("nothing", Vec::new(), &["not a WebAssembly component"]),
        ("torn", torn, &["does not compile"]),
        (
            "core",
            wat::parse_str("(module)").unwrap(),
            &["core module"],
        ),
        (
            "other-world",
            other_world.unwrap(),
            &["not a component of world timesale:strategy/strategy@0.1.1"],
        ),
        (
            "with-wasi",
            with_wasi.unwrap(),
            &["wasi:clocks/monotonic-clock@0.2.0", "no WASI"],
        ),
        ("No Version", whole, &["no version"]),
    ];
    for (name, bytes, _) in &bad {
        fs::write(folder.join(format!("{name}.wasm")), bytes).unwrap();
    }

    let host = setup.start().await;
    let pipe: &[&str] = &["no regular file"];
    let refused = bad.iter().map(|(name, _, says)| (*name, *says));
    for (name, says) in refused.chain([("pipe", pipe)]) {
        let refusal = host.logged(&format!("/{name}.wasm")).await;
        assert!(refusal.contains("refused: "), "{refusal}");
        for text in says {
            assert!(refusal.contains(text), "no {text:?} in {refusal}");
        }
    }
    let (_, health) = host.manage_json("/actuator/health").await;
    let served = health["components"]["strategies"]["components"]
        .as_object()
        .unwrap();
    assert_eq!(served.keys().collect::<Vec<_>>(), VERSIONS);
    let sale = host.shop.sale(10).await;
    for version in VERSIONS {
        let answer = host.shop.buy(version, sale, 42, 1).follow().await;
        assert_eq!(answer.refusal(), None, "{version}");
    }
}

#[tokio::test]
async fn a_version_that_the_host_has_never_heard_of_is_served_and_measured() {
    let setup = Setup::new().with_strategies(&["v9"]);
    let host = setup.start().await;
    let product = host.shop.product().await;
    let sale = serde_json::json!({
        "productId": product, "quantity": 1, "discountPrice": 1,
        "startAt": "2020-01-01T00:00:00Z", "endAt": "2099-01-01T00:00:00Z",
    });
    let sale = host.shop.post("/api/v9/time-sales", &sale).await.json()["id"]
        .as_u64()
        .unwrap();
    host.shop.buy("v9", sale, 42, 1).send().await.order_id();
    let metrics = host.at_rest().await;
    let labels = [("version", "v9"), ("operation", "purchaseTimeSaleTogether")];
    assert_eq!(
        metrics.sum("time_sale_operation_success_total", &labels),
        1.0
    );
    assert_eq!(
        metrics.sum(
            "time_sale_purchases_total",
            &[("version", "v9"), ("result", "success")]
        ),
        1.0
    );
    let answer = host.shop.buy("v1", sale, 42, 1).send().await;
    assert_eq!(answer.brief(), "404 NOT_FOUND");
}

#[tokio::test]
async fn a_host_without_a_strategy_is_alive_and_not_ready() {
    let host = Setup::new().with_strategies(&[]).start().await;
    let (status, _) = host.manage("/actuator/health/liveness").await;
    assert_eq!(status, 200);
    let (status, readiness) = host.manage_json("/actuator/health/readiness").await;
    assert_eq!(
        (status.as_u16(), readiness["status"].as_str()),
        (503, Some("DOWN"))
    );
}

#[tokio::test]
async fn the_greeting_shows_what_to_try() {
    let host = Host::start().await;
    let greeting = host.greeting().await;
    for text in [
        "/docs/",
        "revision",
        "/api/v1/products",
        "/purchase",
        "/purchase/result/",
    ] {
        assert!(greeting.contains(text), "no {text:?} in {greeting}");
    }
    assert!(greeting.contains(&format!("http://{}", host.shop.address())));
}

#[tokio::test]
async fn the_binary_names_its_version_its_contract_and_its_commit() {
    let process = Process::launch(&["--version"], &[]);
    assert!(within("the end", process.wait()).await);
    let lines = process.stdout.clone().whole().await;
    assert_eq!(lines.len(), 1);
    let expected = concat!(
        "timesale ",
        env!("CARGO_PKG_VERSION"),
        " (contract timesale:strategy@0.1.1, commit "
    );
    assert!(lines[0].starts_with(expected), "{}", lines[0]);
}
