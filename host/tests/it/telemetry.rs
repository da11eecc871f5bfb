//! What operators see: every call once, under names that never change, in series that nobody outside can add to.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::json;

use super::{
    families::{ERRORS, Family, OPERATIONS, REASONS, Shape, families},
    support::{ASYNCHRONOUS, FAULTY, Host, VERSIONS, eventually, repository},
};

/// Buys in every way in which a purchase can end without waiting for a deadline, through every version.
async fn mixed_load(host: &Host) {
    let open = host.shop.sale(1_000).await;
    let ended = host
        .shop
        .sale_with(1, json!({ "endAt": "2020-01-02T00:00:00Z" }))
        .await;
    let small = host.shop.sale(1).await;
    for version in VERSIONS {
        for user in 1..=5 {
            let bought = host.shop.buy(version, open, user, 1).follow().await;
            assert_eq!(bought.refusal(), None);
        }
        for (sale, brief) in [
            (ended, "409 NOT_OPEN"),
            (small, "409 SOLD_OUT"),
            (4_000, "404 NOT_FOUND"),
        ] {
            assert_eq!(
                host.shop.buy(version, sale, 1, 2).send().await.brief(),
                brief
            );
        }
    }
    for user in [1, 2, 4, 26, 51] {
        host.shop.buy(FAULTY, open, user, 1).send().await;
    }
}

#[tokio::test]
async fn every_counter_stands_at_zero_before_its_first_event() {
    let host = Host::start().await;
    let metrics = host.metrics().await;
    for (version, operation) in OPERATIONS {
        for export in ["operation", "settlement"] {
            let zero = |family: &str, label: (&str, &str)| {
                let name = format!("time_sale_{export}_{family}_total");
                let labels = [("version", version), ("operation", operation), label];
                let found: Vec<f64> = metrics
                    .of(&name, &labels)
                    .map(|series| series.value)
                    .collect();
                assert_eq!(found, [0.0], "{name}{labels:?}");
            };
            zero("success", ("application", "time-sale-service"));
            ERRORS
                .into_iter()
                .for_each(|error| zero("failure", ("error", error)));
            REASONS
                .into_iter()
                .for_each(|reason| zero("rejected", ("reason", reason)));
        }
        // A duplicate is a call of its own and no purchase of its own.
        let rejected = REASONS.into_iter().filter(|reason| *reason != "duplicate");
        let results = rejected.map(|reason| ("rejected", reason));
        for (result, reason) in results.chain([("success", "none"), ("failed", "none")]) {
            let labels = [("version", version), ("result", result), ("reason", reason)];
            assert_eq!(metrics.sum("time_sale_purchases_total", &labels), 0.0);
        }
    }
    for family in [
        "time_sale_dead_letters_total",
        "time_sale_cache_requests_total",
    ] {
        assert_eq!(metrics.sum(family, &[]), 0.0);
    }
}

#[tokio::test]
async fn the_families_have_their_names_kinds_and_labels_to_the_letter() {
    let host = Host::start().await;
    mixed_load(&host).await;
    let world = host.setup().world();
    // The cluster's client says what it measured only every few seconds.
    let metrics = eventually("every family", async || {
        let metrics = host.at_rest().await;
        let declared =
            |family: &&Family| metrics.text.contains(&format!("# TYPE {} ", family.name));
        match families(world).find(|family| !declared(family)) {
            Some(missing) => Err(missing.name),
            None => Ok(metrics),
        }
    })
    .await;
    let declared: BTreeSet<(&str, &str)> = metrics
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .filter(|(name, _)| !name.starts_with("process_"))
        .collect();
    let expected = families(world).map(|family| (family.name, family.shape.name()));
    assert_eq!(declared, expected.collect());
    for family in families(world) {
        let mut labels: BTreeSet<&str> = family
            .labels
            .iter()
            .copied()
            .chain(["application"])
            .collect();
        let names = match family.shape {
            Shape::Counter | Shape::Gauge => vec![family.name.to_owned()],
            Shape::Histogram => ["sum", "count", "bucket"]
                .map(|part| format!("{}_{part}", family.name))
                .to_vec(),
        };
        for name in names {
            if name.ends_with("_bucket") {
                labels.insert("le");
            }
            let mut series = metrics.of(&name, &[]).peekable();
            assert!(series.peek().is_some(), "no series of {name}");
            for series in series {
                let found: BTreeSet<&str> = series.labels.keys().map(String::as_str).collect();
                assert_eq!(found, labels, "{series:?}");
                assert_eq!(series.label("application"), "time-sale-service");
            }
        }
    }
    assert!(
        metrics
            .of("process_cpu_usage", &[])
            .all(|series| (0.0..=1.0).contains(&series.value))
    );
}

#[tokio::test]
async fn durations_have_the_buckets_that_the_objectives_ask_for() {
    let host = Host::start().await;
    mixed_load(&host).await;
    let metrics = host.at_rest().await;
    for family in [
        "time_sale_operation_duration_seconds",
        "time_sale_settlement_duration_seconds",
        "http_server_requests_seconds",
        "time_sale_purchase_completion_seconds",
    ] {
        for bound in ["0.05", "0.1", "0.2", "0.5", "1", "+Inf"] {
            let bucket = format!("{family}_bucket");
            assert!(
                metrics.of(&bucket, &[("le", bound)]).next().is_some(),
                "{family} le={bound}"
            );
        }
    }
}

#[tokio::test]
async fn the_scrape_passes_promtool() {
    let host = Host::start().await;
    mixed_load(&host).await;
    let staged = repository().join("target/tools/promtool");
    let promtool = if staged.is_file() {
        staged
    } else {
        "promtool".into()
    };
    let checked = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut checked = checked.expect("promtool is missing: run `make tools`");
    let text = host.metrics().await.text;
    checked
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let checked = checked.wait_with_output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[tokio::test]
async fn every_purchase_is_counted_exactly_once_as_what_it_became() {
    let host = Host::start().await;
    mixed_load(&host).await;
    let metrics = host.at_rest().await;
    for version in VERSIONS {
        let of =
            |name: &str, label: (&str, &str)| metrics.sum(name, &[("version", version), label]);
        let any = ("version", version);
        assert_eq!(of("time_sale_operation_success_total", any), 5.0);
        assert_eq!(of("time_sale_operation_failure_total", any), 0.0);
        assert_eq!(of("time_sale_operation_rejected_total", any), 3.0);
        let succeeded = if version == ASYNCHRONOUS {
            "accepted"
        } else {
            "completed"
        };
        for (outcome, calls) in [(succeeded, 5.0), ("rejected", 3.0)] {
            assert_eq!(
                of(
                    "time_sale_operation_duration_seconds_count",
                    ("outcome", outcome)
                ),
                calls
            );
        }
        assert_eq!(of("time_sale_operation_duration_seconds_count", any), 8.0);
        for (reason, result, purchases) in [
            ("none", "success", 5.0),
            ("not_open", "rejected", 1.0),
            ("sold_out", "rejected", 1.0),
            ("not_found", "rejected", 1.0),
        ] {
            let labels = [("version", version), ("result", result), ("reason", reason)];
            assert_eq!(
                metrics.sum("time_sale_purchases_total", &labels),
                purchases,
                "{labels:?}"
            );
        }
        assert_eq!(of("time_sale_purchases_total", any), 8.0);
        assert_eq!(of("time_sale_purchase_completion_seconds_count", any), 8.0);
        assert_eq!(of("time_sale_purchase_quantity_count", any), 5.0);
        assert_eq!(of("time_sale_purchase_quantity_sum", any), 5.0);
        let settled = if version == ASYNCHRONOUS { 5.0 } else { 0.0 };
        assert_eq!(
            of("time_sale_settlement_records_per_call_sum", any),
            settled
        );
    }
    // Five through the faulty one: three that break, one of which the log has before it traps, and one that poisons its settlement.
    let of_faulty = |name: &str| metrics.sum(name, &[("version", FAULTY)]);
    assert_eq!(of_faulty("time_sale_operation_success_total"), 2.0);
    assert_eq!(of_faulty("time_sale_operation_failure_total"), 3.0);
    assert_eq!(of_faulty("time_sale_purchases_total"), 2.0);
    let requests = metrics.sum(
        "http_server_requests_seconds_count",
        &[("uri", "/api/{v}/time-sales/{id}/purchase")],
    );
    assert_eq!(
        requests,
        metrics.sum("time_sale_operation_duration_seconds_count", &[])
    );
}
