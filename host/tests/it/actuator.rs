//! Health and metrics in Actuator's shapes, for operators alone.

use serde_json::{Value, json};

use super::{families::OPERATIONS, support::Host};

#[tokio::test]
async fn health_has_the_shape_that_actuator_gives_it() {
    let host = Host::start().await;
    let (status, health) = host.manage_json("/actuator/health").await;
    assert_eq!((status.as_u16(), &health["status"]), (200, &json!("UP")));
    for component in ["db", "redis", "kafka", "livenessState", "readinessState"] {
        assert_eq!(
            health["components"][component]["status"],
            json!("UP"),
            "{health:#}"
        );
    }
    for (version, operation) in OPERATIONS {
        let strategy = &health["components"]["strategies"]["components"][version];
        assert_eq!(strategy["status"], json!("UP"), "{health:#}");
        assert_eq!(strategy["details"]["operation"], json!(operation));
    }
    for probe in ["liveness", "readiness"] {
        let (status, probed) = host.manage_json(&format!("/actuator/health/{probe}")).await;
        assert_eq!((status.as_u16(), &probed["status"]), (200, &json!("UP")));
    }
}

#[tokio::test]
async fn a_metric_can_be_read_by_its_name_and_tags_as_actuator_has_it() {
    let host = Host::start().await;
    let sale = host.shop.sale(10).await;
    for version in ["v1", "v1", "v2"] {
        host.shop.buy(version, sale, 42, 1).send().await.order_id();
    }
    let (_, listed) = host.manage_json("/actuator/metrics").await;
    let name = "time_sale_operation_success_total";
    assert!(
        listed["names"].as_array().unwrap().contains(&json!(name)),
        "{listed}"
    );
    let read = async |query: &str| {
        let (status, metric) = host
            .manage_json(&format!("/actuator/metrics/{query}"))
            .await;
        assert_eq!(status, 200, "{metric}");
        metric
    };
    let all = read(name).await;
    assert_eq!(all["name"], json!(name));
    assert!(all["description"].is_string());
    assert_eq!(
        all["measurements"],
        json!([{ "statistic": "COUNT", "value": 3.0 }])
    );
    let versions = json!({ "tag": "version", "values": ["faulty", "v1", "v2", "v3", "v4", "v9"] });
    assert!(
        all["availableTags"].as_array().unwrap().contains(&versions),
        "{all}"
    );
    let of_v1 = read(&format!("{name}?tag=version:v1")).await;
    assert_eq!(
        of_v1["measurements"],
        json!([{ "statistic": "COUNT", "value": 2.0 }])
    );
    let timer =
        read("time_sale_operation_duration_seconds?tag=version:v1&tag=outcome:completed").await;
    let statistics: Vec<&Value> = timer["measurements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["statistic"])
        .collect();
    assert_eq!(statistics, ["COUNT", "TOTAL_TIME"]);
    assert_eq!(timer["baseUnit"], json!("seconds"));
    let filtered = |tag: &Value| tag["tag"] == "version" || tag["tag"] == "outcome";
    assert!(
        !timer["availableTags"]
            .as_array()
            .unwrap()
            .iter()
            .any(filtered),
        "{timer}"
    );
    assert_eq!(timer["measurements"][0]["value"], json!(2.0));
    for nothing in ["no_such_metric", &format!("{name}?tag=version:v77")] {
        let (status, _) = host.manage(&format!("/actuator/metrics/{nothing}")).await;
        assert_eq!(status, 404, "{nothing}");
    }
    let (status, _) = host
        .manage(&format!("/actuator/metrics/{name}?tag=version"))
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn buyers_do_not_reach_metrics_or_health() {
    let host = Host::start().await;
    for path in [
        "/actuator",
        "/actuator/health",
        "/actuator/health/readiness",
        "/actuator/prometheus",
        "/actuator/metrics",
        "/admin/strategies",
        "/metrics",
    ] {
        assert_eq!(
            host.shop.get(path).await.problem().code,
            "NOT_FOUND",
            "{path}"
        );
    }
    let (status, _) = host.manage("/api/v1/products").await;
    assert_eq!(status, 404);
}
