//! A candidate takes its share, the same users always, and loses it by itself where it does worse than what is live.

use std::{collections::BTreeMap, fs, ops::Range};

use serde_json::Value;
use tokio::task::JoinSet;

use super::support::{
    ASYNCHRONOUS, FAULTY, Host, Setup,
    corpus::component,
    eventually,
    operator::{build, is_taken, revision},
};

/// A version that sells while the buyer waits.
const SYNCHRONOUS: &str = "v1";

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_takes_its_share_of_the_users_and_keeps_to_them() {
    let host = Setup::new().with_operator().start().await;
    let (live, candidate) = (build("v1", 0), build("v1", 1));
    let report = host.push_well("v1", "?share=10", candidate.clone()).await;
    assert_eq!(report["live"], revision(&live).as_str(), "{report}");
    // Refused from memory, and by a revision all the same.
    let sale = host.shop.sale(1).await;
    host.shop.buy("v9", sale, 1, 1).send().await.order_id();
    let met = ask(&host, sale, 1..10_001).await;
    for (user, revision_met) in &met {
        let expected = if is_taken("v1", &candidate, 10, *user) {
            &candidate
        } else {
            &live
        };
        assert_eq!(revision_met, &revision(expected), "user {user}");
    }
    let candidate = revision(&candidate);
    let taken = met.values().filter(|met| **met == candidate).count();
    // Ten per cent of 10,000, within 99.9 % of chance.
    assert!((901..=1_099).contains(&taken), "{taken}");

    let metrics = host.metrics().await;
    let counted = |track: &str| {
        let labels = [("version", "v1"), ("track", track)];
        metrics.sum("time_sale_canary_calls_total", &labels)
    };
    assert_eq!(counted("candidate"), taken as f64);
    assert_eq!(counted("live"), (met.len() - taken) as f64);
    let slot = [("slot", "candidate"), ("revision", candidate.as_str())];
    assert_eq!(metrics.sum("time_sale_strategy_info", &slot), 1.0);

    // Promoted, it has all of them, and the series of the trial are gone.
    let promoted = host.act_well("v1", "promote").await;
    assert_eq!(promoted["live"], candidate.as_str());
    assert_eq!(promoted["drained"], true, "{promoted}");
    for (_, revision_met) in ask(&host, sale, 1..50).await {
        assert_eq!(revision_met, candidate);
    }
    let metrics = host.metrics().await;
    assert_eq!(metrics.of("time_sale_canary_calls_total", &[]).count(), 0);
    assert_eq!(
        metrics
            .of("time_sale_canary_duration_seconds_bucket", &[])
            .count(),
        0
    );
    assert_eq!(
        metrics
            .of("time_sale_strategy_info", &[("slot", "candidate")])
            .count(),
        0
    );
}

#[tokio::test]
async fn an_order_names_the_revision_that_accepted_and_the_one_that_settled() {
    let host = Setup::new().with_operator().start().await;
    for version in [SYNCHRONOUS, ASYNCHRONOUS] {
        let (live, candidate) = (build(version, 0), build(version, 1));
        host.push_well(version, "?share=50", candidate.clone())
            .await;
        let sale = host.shop.sale(100).await;
        for taken in [true, false] {
            let user = (1..).find(|user| is_taken(version, &candidate, 50, *user) == taken);
            let answer = host
                .shop
                .buy(version, sale, user.unwrap(), 1)
                .follow()
                .await;
            let path = format!("/api/v1/orders/{}", answer.order_id());
            let order = host.shop.get(&path).await.json();

            let accepting = revision(if taken { &candidate } else { &live });
            // A batch never mixes revisions, so the live one settles for both.
            let settling = match version {
                ASYNCHRONOUS => revision(&live),
                _ => accepting.clone(),
            };
            assert_eq!(answer.revision.as_ref(), Some(&accepting), "{version}");
            assert_eq!(order["acceptingRevision"], accepting, "{version}");
            assert_eq!(order["settlingRevision"], settling, "{version}");
        }
    }
}

#[tokio::test]
async fn a_candidate_that_traps_for_some_users_is_taken_away_within_two_hundred_of_its_calls() {
    const TRAPS: u64 = 1;
    let host = Setup::new().with_operator().start().await;
    let (live, candidate) = (build(FAULTY, 0), build(FAULTY, 1));
    host.push_well(FAULTY, "?share=50", candidate.clone()).await;
    let sale = host.shop.sale(100_000).await;
    let taken = |user: &u64| is_taken(FAULTY, &candidate, 50, *user);
    let mut well = (1..).map(|number| 100 * number);
    let mut badly = (1..).map(|number| 100 * number + TRAPS).filter(taken);
    let mut calls = 0_u64;
    loop {
        // Every tenth of the candidate's buyers makes it trap, and none of the live one's does.
        let user = if calls % 10 == 9 {
            badly.next().unwrap()
        } else {
            well.next().unwrap()
        };
        let answer = host.shop.buy(FAULTY, sale, user, 1).send().await;
        let on_candidate = answer.revision == Some(revision(&candidate));
        if taken(&user) && !on_candidate {
            break;
        }
        calls += u64::from(on_candidate);
        assert!(calls <= 200, "it still sells");
    }
    let line = eventually("the audit says why", async || {
        let line = host.last_audit(FAULTY).await;
        if line["action"] == "abort" {
            Ok(line)
        } else {
            Err(line)
        }
    })
    .await;
    assert_eq!(line["evidence"]["rule"], "traps", "{line}");
    assert_eq!(line["to"], revision(&candidate).as_str(), "{line}");
    assert!(
        line["evidence"]["challenger"]["trapped"].as_u64() >= Some(5),
        "{line}"
    );
    assert_eq!(line["evidence"]["baseline"]["trapped"], 0, "{line}");
    let shown = host.shown(FAULTY).await;
    assert_eq!(shown["candidate"], Value::Null);
    assert_eq!(shown["live"]["revision"], revision(&live).as_str());
    let traps = shown["hosts"][0]["runs"]["traps"].as_array().unwrap();
    assert!((5..=20).contains(&traps.len()), "{traps:?}");
    assert!(
        traps
            .iter()
            .all(|trap| trap["revision"] == revision(&candidate).as_str())
    );
    let counted = [("version", FAULTY), ("result", "auto_rolled_back")];
    let metrics = host.metrics().await;
    assert_eq!(metrics.sum("time_sale_strategy_swaps_total", &counted), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_what_is_live_already_leaves_a_trial_alone() {
    let setup = Setup::new().with_operator().with_strategies(&["v1", "v9"]);
    let host = setup.start().await;
    let live = build("v1", 1);
    host.push_well("v1", "", live.clone()).await;
    host.push_well("v1", "?share=50", build("v1", 2)).await;
    let sale = host.shop.sale(1).await;
    host.shop.buy("v9", sale, 1, 1).send().await.order_id();
    ask(&host, sale, 1..101).await;
    fs::write(setup.data().join("strategies/v1.wasm"), &live).unwrap();
    let line = eventually("the file is noted", async || {
        let line = host.last_audit("v1").await;
        if line["evidence"]["noted"] == true {
            Ok(line)
        } else {
            Err(line)
        }
    })
    .await;
    assert_eq!(line["to"], revision(&live).as_str(), "{line}");
    let metrics = host.metrics().await;
    let on_trial = [("version", "v1")];
    assert_eq!(
        metrics.sum("time_sale_canary_calls_total", &on_trial),
        100.0
    );
    // The one that was pushed, and no other since.
    let swapped = [("version", "v1"), ("result", "swapped")];
    assert_eq!(metrics.sum("time_sale_strategy_swaps_total", &swapped), 1.0);
}

/// A host that sells through a right strategy of the corpus, and a sale of which it has sold enough to be held against.
async fn selling(version: &str, live: &str, watch: u64) -> (Host, u64) {
    let setup = Setup::new().with_operator();
    let host = setup.set("TIMESALE_SWAP_WATCH_MS", watch).start().await;
    host.push_well(version, "", component(live)).await;
    let sale = host.shop.sale(1_000_000).await;
    for user in 1..=120 {
        let answer = host.shop.buy(version, sale, user, 1).follow().await;
        assert_eq!(answer.refusal(), None, "{answer:?}");
    }
    (host, sale)
}

/// Buys one after the other until the host has gone back from a revision, which must come within 200 of its calls; hands back the line of the audit.
async fn goes_back(host: &Host, version: &str, sale: u64, from: &[u8]) -> Value {
    let (from, mut calls) = (revision(from), 0);
    for user in 1_000.. {
        let answer = host.shop.buy(version, sale, user, 1).send().await;
        calls += u64::from(answer.revision.as_deref() == Some(&from));
        assert!(calls <= 200, "it still sells");
        let slots = host.metrics().await;
        let runs = [("version", version), ("revision", from.as_str())];
        if slots.of("time_sale_strategy_info", &runs).count() == 0 {
            break;
        }
    }
    let line = host.last_audit(version).await;
    assert!(
        line["by"].as_str().unwrap().ends_with("by itself"),
        "{line}"
    );
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_probe_cannot_see_costs_a_candidate_its_share_within_two_hundred_calls() {
    let (host, sale) = selling("shop", "in-a-transaction", 0).await;
    for (name, rule) in [
        ("late-traps", "traps"),
        ("late-refuses", "failures"),
        ("late-claims", "failures"),
        ("late-slow", "median"),
    ] {
        let candidate = component(name);
        let report = host.push_well("shop", "?share=50", candidate.clone()).await;
        assert_ne!(report["probe"], Value::Null, "{report}");
        let line = goes_back(&host, "shop", sale, &candidate).await;
        assert_eq!(line["action"], "abort", "{name}: {line}");
        assert_eq!(line["evidence"]["rule"], rule, "{name}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_to_what_does_worse_is_rolled_back_by_itself() {
    let (host, sale) = selling("shop", "in-a-transaction", 600_000).await;
    let (old, new) = (component("in-a-transaction"), component("late-traps"));
    host.push_well("shop", "", new.clone()).await;
    let line = goes_back(&host, "shop", sale, &new).await;
    assert_eq!(line["action"], "rollback", "{line}");
    assert_eq!(line["evidence"]["rule"], "traps", "{line}");
    let shown = host.shown("shop").await;
    assert_eq!(shown["live"]["revision"], revision(&old).as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_to_what_never_settles_is_rolled_back_by_itself_and_the_queue_goes_on() {
    let (host, sale) = selling("shop", "later", 600_000).await;
    let new = component("late-never-settles");
    host.push_well("shop", "", new.clone()).await;
    let line = goes_back(&host, "shop", sale, &new).await;
    assert_eq!(line["action"], "rollback", "{line}");
    assert_eq!(line["evidence"]["export"], "settle", "{line}");
    let answer = host.shop.buy("shop", sale, 500_000, 1).follow().await;
    assert_eq!(answer.refusal(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_probe_refuses_never_meets_a_buyer() {
    let (host, sale) = selling("shop", "in-a-transaction", 0).await;
    for name in ["oversells", "traps-on-every-tenth", "is-slow", "traps"] {
        let reply = host.push("shop", "", component(name)).await;
        assert_eq!(reply.status, 422, "{name}: {reply:?}");
        let problem = reply.json();
        assert_eq!(problem["step"], "probe", "{name}: {problem}");
        assert!(problem["probe"]["findings"][0].is_object(), "{problem}");
        let answer = host.shop.buy("shop", sale, 5_000, 1).send().await;
        assert_eq!(
            answer.revision,
            Some(revision(&component("in-a-transaction")))
        );
    }
}

#[tokio::test]
async fn a_candidate_that_is_aborted_is_gone_and_another_may_be_tried() {
    let host = Setup::new().with_operator().start().await;
    host.push_well("v1", "?share=50", build("v1", 1)).await;
    let second = host.push("v1", "", build("v1", 2)).await;
    assert_eq!(second.problem().code, "UNFIT");
    let aborted = host.act_well("v1", "abort").await;
    assert_eq!(aborted["candidate"], Value::Null, "{aborted}");
    host.push_well("v1", "?share=50", build("v1", 2)).await;
    // A trial outlives the host.
    let host = host.kill().await.start().await;
    let shown = host.shown("v1").await;
    let runs = &shown["hosts"][0]["runs"];
    assert_eq!(
        runs["candidate"]["revision"],
        revision(&build("v1", 2)).as_str()
    );
}

/// Which revision each user meets in a sale that is sold out, some of them at once.
async fn ask(host: &Host, sale: u64, users: Range<u64>) -> BTreeMap<u64, String> {
    const LINES: u64 = 8;
    let mut lines = JoinSet::new();
    for line in 0..LINES {
        let (shop, users) = (host.shop.clone(), users.clone());
        lines.spawn(async move {
            let mut met = Vec::new();
            for user in users.filter(|user| user % LINES == line) {
                let answer = shop.buy("v1", sale, user, 1).send().await;
                assert_eq!(answer.brief(), "409 SOLD_OUT");
                met.push((user, answer.revision.unwrap()));
            }
            met
        });
    }
    lines.join_all().await.into_iter().flatten().collect()
}
