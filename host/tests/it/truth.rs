//! The truth of what is watched: a host sells and suffers, a real Prometheus scrapes it, and every expression of dashboards, rules and of the course is asked.
//!
//! Each returns data, or stands in `seed` with the reason why not and the one that does.
//! Alerts go to a real Alertmanager, which tells this test.
//!
//! It takes services of its own, for one of them is killed, and prints what it found.

mod seed;

use std::collections::BTreeMap;

use reqwest::StatusCode;
use serde_json::json;

use self::seed::{Answer, Stands};
use super::support::{
    FAULTY, Host, Setup, VERSIONS, eventually,
    load::Load,
    monitoring::{Dashboard, Rule, dashboards, rules},
    operator::build,
    query::compared,
    services::{Service::Redis, Services},
    watchers::{Alertmanager, Prometheus, SCRAPE_EVERY},
};

/// What Grafana fills in, for a reader who chose everything.
const VARIABLES: [(&str, &str); 6] = [
    ("$__rate_interval", "1m"),
    ("$__range", "5m"),
    ("$__interval", "15s"),
    ("$application", "time-sale-service"),
    ("$version", ".+"),
    ("$sale", ".+"),
];

/// An expression, where it stands, and how many series it has returned at once.
struct Line {
    place: String,
    expression: String,
    /// None where it must return data; else whether it must not, or may.
    excuse: Option<Excuse>,
    series: usize,
}

/// Why an expression need not return data.
enum Excuse {
    /// As published it finds nothing.
    FindsNothing(&'static str),
    /// As published it finds something else.
    Misleads(&'static str),
    /// An alert with its threshold: silence is what it should return.
    Threshold,
}

impl Line {
    fn new(place: impl Into<String>, expression: &str) -> Self {
        let filled = VARIABLES
            .iter()
            .fold(expression.to_owned(), |text, (variable, value)| {
                text.replace(variable, value)
            });
        Self {
            place: place.into(),
            expression: filled.split_whitespace().collect::<Vec<_>>().join(" "),
            excuse: None,
            series: 0,
        }
    }

    fn excused(self, excuse: Excuse) -> Self {
        Self {
            excuse: Some(excuse),
            ..self
        }
    }

    const fn is_owed(&self) -> bool {
        self.excuse.is_none() && self.series == 0
    }
}

/// Everything that is to be asked.
fn lines(dashboards: &[Dashboard], rules: &[Rule]) -> Vec<Line> {
    let mut lines = Vec::new();
    for dashboard in dashboards {
        let asked = dashboard.expressions().into_iter();
        for expression in asked.chain(dashboard.side_expressions()) {
            lines.push(Line::new(expression.place, &expression.text));
        }
    }
    for rule in rules {
        let expression = rule.expression();
        let line = Line::new(expression.place.clone(), &expression.text);
        if rule.alert.is_some() {
            let compared = compared(&expression.text);
            let compared = compared.unwrap_or_else(|| panic!("{} compares nothing", rule.name()));
            lines.push(Line::new(
                format!("{}, compared", expression.place),
                compared,
            ));
            lines.push(line.excused(Excuse::Threshold));
        } else {
            lines.push(line);
        }
    }
    for asked in seed::QUERIES {
        let line = Line::new(format!("course {}", asked.heading), asked.published);
        let mended = |text| Line::new(format!("course {}, mended", asked.heading), text);
        match asked.answer {
            Answer::AsPublished => lines.push(line),
            Answer::FindsNothing { why, mended: text } => {
                lines.extend([line.excused(Excuse::FindsNothing(why)), mended(text)]);
            }
            Answer::Misleads { why, mended: text } => {
                lines.extend([line.excused(Excuse::Misleads(why)), mended(text)]);
            }
        }
    }
    lines
}

/// Asks what has not returned data yet; fails with all of it while there is any.
async fn ask(prometheus: &Prometheus, lines: &mut [Line]) -> Result<(), Vec<String>> {
    for line in lines.iter_mut().filter(|line| line.series == 0) {
        let found = prometheus.ask(&line.expression).await;
        let found = found.unwrap_or_else(|error| panic!("{}: {error}", line.place));
        line.series = found.len();
    }
    let owed = lines.iter().filter(|line| line.is_owed());
    let owed: Vec<_> = owed
        .map(|line| format!("{}: {}", line.place, line.expression))
        .collect();
    if owed.is_empty() { Ok(()) } else { Err(owed) }
}

fn print(lines: &[Line]) {
    println!("series | where | expression");
    for line in lines {
        let excuse = match line.excuse {
            None => String::new(),
            Some(Excuse::FindsNothing(why)) => format!("   (finds nothing: {why})"),
            Some(Excuse::Misleads(why)) => format!("   (misleads: {why})"),
            Some(Excuse::Threshold) => "   (silent while all is well)".to_owned(),
        };
        println!(
            "{:6} | {} | {}{excuse}",
            line.series, line.place, line.expression
        );
    }
}

/// Does everything that is watched for, once: sales that sell, are sold out and leak, guests that break, buyers who come back.
///
/// Sales are opened and sold out before anybody looks, so that what is on sale does not change any more.
async fn prepare(host: &Host) -> u64 {
    let [open, small, leaky] = [1_000_000, 1, 10].map(|quantity| host.shop.sale(quantity));
    let (open, small, leaky) = (open.await, small.await, leaky.await);
    for version in VERSIONS {
        for user in [1, 1, 2] {
            let bought = host.shop.buy(version, open, user, 2).follow().await;
            assert_eq!(bought.refusal(), None, "{version}");
        }
        // The first has the only piece.
        host.shop.buy(version, small, 1, 1).follow().await;
    }
    misbehave(host, open).await;
    let writes_a_zero = 31;
    host.shop.buy(FAULTY, leaky, writes_a_zero, 1).send().await;
    open
}

/// Breaks in a purchase, and in a settlement, which costs a dead letter.
async fn misbehave(host: &Host, sale: u64) {
    let (traps, poisons) = (2, 51);
    host.shop.buy(FAULTY, sale, traps, 1).send().await;
    let answer = host.shop.buy(FAULTY, sale, poisons, 1).follow().await;
    assert_eq!(answer.refusal(), Some("STRATEGY_FAILED"));
}

/// Swaps a revision, has another refused, and begins a canary that lasts.
async fn change(host: &Host) {
    host.push_well("v9", "", build("v9", 1)).await;
    let refused = host.push("v9", "", "not Wasm").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    host.push_well("v1", "?share=50", build("v1", 1)).await;
}

/// The panels that there are, by dashboard and title.
fn panels(dashboards: &[Dashboard]) -> BTreeMap<(&str, &str), usize> {
    let all = dashboards.iter().flat_map(|dashboard| {
        let panels = dashboard.charts();
        panels.map(|panel| {
            let place = (dashboard.title.as_str(), panel.title.as_str());
            (place, panel.targets.len())
        })
    });
    all.collect()
}

#[test]
fn everything_that_the_course_asks_for_has_its_panel_or_its_rule() {
    let (dashboards, rules) = (dashboards(), rules());
    let panels = panels(&dashboards);
    let assert_panel = |place: (&str, &str), what: &str| {
        let asks = panels.get(&place).copied();
        assert!(
            asks.is_some_and(|asks| asks > 0),
            "{what}: no panel {place:?}"
        );
    };
    assert_eq!(seed::BULLETS.len(), 19);
    for (bullet, dashboard, titles) in seed::BULLETS {
        for title in *titles {
            assert_panel((dashboard, title), bullet);
        }
    }
    for asked in seed::QUERIES {
        match asked.stands {
            Stands::Panel(dashboard, title) => assert_panel((dashboard, title), asked.heading),
            Stands::Rule(name) => {
                let there = rules.iter().any(|rule| rule.name() == name);
                assert!(there, "{}: no rule {name}", asked.heading);
            }
        }
    }
    assert_eq!(seed::ALERTS.len(), 4);
    for (alert, severity, mended) in seed::ALERTS {
        let mut rules = rules
            .iter()
            .filter(|rule| rule.alert.as_deref() == Some(alert));
        let kept = rules.any(|rule| rule.labels["severity"] == *severity);
        assert!(kept, "no alert {alert} that is {severity} ({mended})");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_expression_returns_data_and_alerts_reach_who_is_to_be_told() {
    let services = Services::start().await;
    let host = Setup::on(services.urls()).with_operator().start().await;
    let sale = prepare(&host).await;
    let alertmanager = Alertmanager::start().await;
    let prometheus = Prometheus::start(host.management_address(), &alertmanager).await;
    let load = Load::start(std::slice::from_ref(&host.shop), sale, &VERSIONS);

    let (dashboards, rules) = (dashboards(), rules());
    let mut lines = lines(&dashboards, &rules);
    // Again, so that counters are seen to rise.
    eventually("two scrapes", async || {
        match prometheus
            .ask("count_over_time(up[1m]) >= 2")
            .await
            .unwrap()[..]
        {
            [_] => Ok(()),
            _ => Err("fewer"),
        }
    })
    .await;
    misbehave(&host, sale).await;
    change(&host).await;
    eventually("data of every expression", async || {
        // There is nothing new before the next scrape.
        tokio::time::sleep(SCRAPE_EVERY).await;
        ask(&prometheus, &mut lines).await
    })
    .await;
    prometheus.assert_rules_are_healthy().await;

    for labels in [
        [("alertname", "HighErrorRate"), ("version", FAULTY)],
        [("alertname", "StrategyTraps"), ("version", FAULTY)],
        [("alertname", "DeadLetters"), ("reason", "strategy_failed")],
        [("alertname", "LeakedStock"), ("severity", "warning")],
    ] {
        alertmanager.tells("firing", &labels).await;
    }
    let down = [("alertname", "BackendDown"), ("backend", "redis")];
    services.kill(Redis).await;
    let told = alertmanager.tells("firing", &down).await;
    assert!(told["annotations"]["runbook_url"].is_string(), "{told:#}");
    // What Redis would have to tell is unknown, and so not there; what the others tell is.
    let metrics = host.metrics().await;
    let unknown = [("kind", "cache")];
    for (name, labels) in [
        ("redis_connected_clients", &[][..]),
        ("redis_memory_used_bytes", &[]),
        ("time_sale_leaked_stock", &[]),
        ("time_sale_ledger_drift", &unknown),
    ] {
        assert_eq!(metrics.of(name, labels).next(), None, "{name}");
    }
    assert_eq!(
        metrics.sum("time_sale_ledger_drift", &[("kind", "stock")]),
        0.0
    );
    assert_eq!(
        metrics.sum("time_sale_backend_up", &[("backend", "db")]),
        1.0
    );
    // So does the status page.
    let (_, status) = host.manage_json("/status").await;
    let redis = &status["health"]["components"]["redis"]["status"];
    assert_eq!((redis, &status["leaked"]), (&json!("DOWN"), &json!(null)));
    assert_eq!(status["sales"]["open"], 3);
    services.start_again(Redis).await;
    alertmanager.tells("resolved", &down).await;
    load.end().await;

    print(&lines);
    for line in &lines {
        if let Some(Excuse::FindsNothing(why)) = line.excuse {
            assert_eq!(
                line.series, 0,
                "{} finds something, though {why}",
                line.place
            );
        }
    }
}
