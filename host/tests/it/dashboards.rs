//! Dashboards and rules ask for all that the host exports, for nothing else, and never in a way that misleads.
//!
//! No host is started: the files are read as they are.

use std::{collections::BTreeSet, fs};

use timesale::telemetry::catalogue::{CATALOGUE, Kind, Metric};

use super::{
    families,
    support::{
        monitoring::{Dashboard, Expression, Panel, Variable, dashboards, rules},
        query::Selector,
        repository,
    },
};

/// Names that are in no catalogue: Prometheus's own, and what the crate `metrics-process` exports.
const OTHERS: [&str; 7] = [
    "ALERTS",
    "up",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
];

/// Facts of shared backends: every host exports the same.
const SHARED: [&str; 14] = [
    "kafka_consumer_group_lag",
    "redis_connected_clients",
    "redis_keyspace_hits_total",
    "redis_keyspace_misses_total",
    "redis_memory_used_bytes",
    "time_sale_active_buyers",
    "time_sale_leaked_stock",
    "time_sale_ledger_drift",
    "time_sale_oldest_pending_seconds",
    "time_sale_queue_length",
    "time_sale_repeat_buyers",
    "time_sale_stock_remaining",
    "time_sale_stock_sold",
    "time_sale_stuck_pending",
];

/// The functions that measure how a counter rises.
const RISES: [&str; 3] = ["increase", "irate", "rate"];

/// The family that a series belongs to.
fn family(series: &str) -> Option<&'static Metric> {
    let parts = ["_bucket", "_count", "_sum"];
    CATALOGUE.iter().find(|metric| match metric.kind {
        Kind::Counter | Kind::Gauge => series == metric.name,
        Kind::Histogram(_) => series
            .strip_prefix(metric.name)
            .is_some_and(|part| parts.contains(&part)),
    })
}

/// What panels and rules ask.
fn expressions() -> Vec<Expression> {
    let panels = dashboards();
    let panels = panels.iter().flat_map(Dashboard::expressions);
    let rules = rules();
    panels
        .chain(rules.iter().map(|rule| rule.expression()))
        .collect()
}

/// Fails with every selector that is wrong.
fn assert_selectors(rule: &str, expressions: &[Expression], wrong: impl Fn(&Selector) -> bool) {
    let found: BTreeSet<String> = expressions
        .iter()
        .flat_map(|expression| {
            let selectors = expression.query.selectors().into_iter();
            let wrong = selectors.filter(|selector| wrong(selector));
            wrong.map(|selector| format!("{}: {}", expression.place, selector.name))
        })
        .collect();
    assert!(found.is_empty(), "{rule}: {found:#?}");
}

/// Fails with every panel that is wrong.
fn assert_panels(rule: &str, wrong: impl Fn(&Panel) -> bool) {
    let dashboards = dashboards();
    let found: Vec<String> = dashboards
        .iter()
        .flat_map(|dashboard| {
            let wrong = dashboard.charts().filter(|panel| wrong(panel));
            wrong.map(|panel| format!("{} / {}", dashboard.title, panel.title))
        })
        .collect();
    assert!(found.is_empty(), "{rule}: {found:#?}");
}

#[test]
fn every_metric_of_the_catalogue_is_on_a_panel_or_in_a_rule() {
    let expressions = expressions();
    let selectors = expressions
        .iter()
        .flat_map(|expression| expression.query.selectors());
    let asked: BTreeSet<&str> = selectors
        .filter_map(|selector| family(selector.name))
        .map(|metric| metric.name)
        .collect();
    let exported: BTreeSet<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
    let unasked: Vec<_> = exported.difference(&asked).collect();
    assert!(unasked.is_empty(), "nobody asks for {unasked:#?}");
}

#[test]
fn panels_and_rules_name_only_what_is_exported_or_recorded() {
    let rules = rules();
    let recorded: BTreeSet<&str> = rules
        .iter()
        .filter_map(|rule| rule.record.as_deref())
        .collect();
    let mut expressions = expressions();
    expressions.extend(dashboards().iter().flat_map(Dashboard::side_expressions));
    assert_selectors("there is no such series", &expressions, |selector| {
        family(selector.name).is_none()
            && !recorded.contains(selector.name)
            && !OTHERS.contains(&selector.name)
    });
}

#[test]
fn rates_are_taken_of_counters_alone() {
    assert_selectors("a gauge has no rate", &expressions(), |selector| {
        let rises = selector.function.is_some_and(|it| RISES.contains(&it));
        rises && family(selector.name).is_some_and(|metric| metric.kind == Kind::Gauge)
    });
}

#[test]
fn panels_show_how_counters_rise_and_not_where_they_stand() {
    let panels: Vec<Expression> = dashboards()
        .iter()
        .flat_map(Dashboard::expressions)
        .collect();
    assert_selectors("a counter without a rate", &panels, |selector| {
        let rises = selector.function.is_some_and(|it| RISES.contains(&it));
        !rises && family(selector.name).is_some_and(|metric| metric.kind != Kind::Gauge)
    });
}

#[test]
fn facts_of_shared_backends_are_not_summed_over_hosts() {
    for name in SHARED {
        assert!(family(name).is_some(), "{name} is not in the catalogue");
    }
    assert_selectors("the highest counts", &expressions(), |selector| {
        SHARED.contains(&selector.name) && selector.aggregation != Some("max")
    });
}

#[test]
fn no_panel_divides_by_zero_in_quiet_times() {
    let dashboards = dashboards();
    let expressions = dashboards.iter().flat_map(Dashboard::expressions);
    let found: Vec<String> = expressions
        .filter(|expression| expression.query.undefined_in_quiet() > 0)
        .map(|expression| format!("{}: {}", expression.place, expression.text))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_panel_keeps_to_the_application_version_and_sale_that_were_chosen() {
    let panels: Vec<Expression> = dashboards()
        .iter()
        .flat_map(Dashboard::expressions)
        .collect();
    assert_selectors("a choice is not heeded", &panels, |selector| {
        let name = family(selector.name).map_or(selector.name, |metric| metric.name);
        let labels = families::labels(name).unwrap_or_default();
        // `up` is by job, and the version of a build is the host's own.
        ["application", "version", "sale"].into_iter().any(|label| {
            let applies = match label {
                "application" => name != "up",
                _ => labels.contains(&label) && name != "time_sale_build_info",
            };
            applies && selector.filter(label) != Some(&format!("${label}"))
        })
    });
}

#[test]
fn every_panel_has_a_unit_says_what_it_answers_and_asks_something() {
    assert_panels("no unit", |panel| panel.unit().is_empty());
    assert_panels("no description", |panel| !panel.description.ends_with('.'));
    assert_panels("nothing is asked", |panel| panel.targets.is_empty());
}

#[test]
fn panels_lie_side_by_side_in_a_grid_of_24_columns() {
    let columns = |panel: &Panel| panel.place.x..panel.place.x + panel.place.w;
    let lines = |panel: &Panel| panel.place.y..panel.place.y + panel.place.h;
    for dashboard in dashboards() {
        for (number, panel) in dashboard.panels.iter().enumerate() {
            let title = format!("{} / {}", dashboard.title, panel.title);
            assert!(columns(panel).end <= 24, "{title} is too wide");
            for other in dashboard.panels.iter().skip(number + 1) {
                assert_ne!(panel.id, other.id, "{title} and {}", other.title);
                let beside = columns(panel).end <= columns(other).start
                    || columns(other).end <= columns(panel).start;
                let below = lines(panel).end <= lines(other).start
                    || lines(other).end <= lines(panel).start;
                assert!(beside || below, "{title} lies over {}", other.title);
            }
        }
    }
}

#[test]
fn every_dashboard_has_its_address_and_the_same_choices() {
    let dashboards = dashboards();
    let names: BTreeSet<&str> = dashboards
        .iter()
        .map(|dashboard| dashboard.name.as_str())
        .collect();
    let subjects = [
        "business",
        "kafka",
        "redis",
        "service",
        "strategies",
        "system",
    ];
    assert_eq!(names, BTreeSet::from(subjects));
    for dashboard in &dashboards {
        assert_eq!(dashboard.uid, format!("time-sale-{}", dashboard.name));
        let subject = dashboard.title.strip_prefix("Time sale / ");
        assert_eq!(
            subject.map(str::to_lowercase).as_ref(),
            Some(&dashboard.name)
        );
        let variables = &dashboard.templating.list;
        let choices: Vec<&str> = variables.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(choices, ["datasource", "application", "version", "sale"]);
        // What no panel heeds is carried along to the other dashboards, and not offered.
        let misplaced = |variable: &&Variable| match variable.hide {
            0 => !dashboard.uses(variable),
            _ => dashboard.uses(variable),
        };
        let misplaced = variables.iter().filter(misplaced);
        let misplaced: Vec<&str> = misplaced.map(|it| it.name.as_str()).collect();
        assert!(misplaced.is_empty(), "{}: {misplaced:?}", dashboard.title);
    }
}

#[test]
fn every_alert_says_what_happens_and_leads_to_its_section_of_the_runbook() {
    let runbook = fs::read_to_string(repository().join("prometheus/RUNBOOK.md")).unwrap();
    let sections: BTreeSet<String> = runbook
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect();
    let rules = rules();
    let alerts: Vec<_> = rules.iter().filter(|rule| rule.alert.is_some()).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        let name = alert.name();
        assert!(alert.labels.contains_key("severity"), "{name}");
        for told in ["summary", "description"] {
            assert!(alert.annotations.contains_key(told), "{name} has no {told}");
        }
        let address = alert.annotations.get("runbook_url").map(String::as_str);
        let section = address.and_then(|it| it.split_once("prometheus/RUNBOOK.md#"));
        let section = section.map(|(_, section)| section);
        assert!(
            section.is_some_and(|section| sections.contains(section)),
            "{name} leads to {address:?}, and the runbook has {sections:#?}"
        );
    }
}

#[test]
fn the_guides_name_panels_that_exist() {
    let mut named = 0;
    for guide in ["RUNBOOK.md", "MIGRATING.md"] {
        let text = fs::read_to_string(repository().join("prometheus").join(guide)).unwrap();
        for dashboard in dashboards() {
            let subject = dashboard.title.replace("Time sale / ", "") + ": *";
            for title in text.split(&subject).skip(1).flat_map(titles) {
                let exists = dashboard.charts().any(|panel| panel.title == title);
                assert!(exists, "{guide}: {subject}{title}*");
                named += 1;
            }
        }
    }
    assert!(named > 0, "no guide names a panel");
}

/// The titles that a text begins with: A and B of `A*, *B*; …`.
fn titles(text: &str) -> Vec<&str> {
    let mut titles = Vec::new();
    for part in text.split("*, *") {
        titles.push(part.split('*').next().unwrap());
        if part.contains('*') {
            break;
        }
    }
    titles
}

/// The address of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let words = heading.trim().to_lowercase().replace(' ', "-");
    words
        .chars()
        .filter(|character| character.is_alphanumeric() || ['-', '_'].contains(character))
        .collect()
}
