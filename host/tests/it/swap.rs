//! Strategies are swapped while they sell: nothing is dropped, what was replaced is freed, and a restart comes back with what was live.

use std::{
    collections::BTreeSet,
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;
use tokio::task::JoinSet;

use super::support::{
    ASYNCHRONOUS, Setup, VERSIONS,
    answer::Answer,
    ledger,
    metrics::Metrics,
    operator::{build, revision},
    shop::Shop,
    staged,
};

/// Buyers at once.
const LINES: u64 = 8;

/// Swaps after which memory is looked at.
const ROUND: u32 = 40;

/// The steps of a swap, and whether a host that is killed after one comes back with the new revision.
const STEPS: [(&str, bool); 7] = [
    ("compile", false),
    ("link", false),
    ("describe", false),
    ("probe", false),
    ("commit", true),
    ("swap", true),
    ("drain", true),
];

/// Buyers of one sale who come one after the other, through every version, and ask once each.
struct Buyers {
    lines: JoinSet<Vec<(&'static str, Answer)>>,
    stop: Arc<AtomicBool>,
}

impl Buyers {
    /// They come to these hosts in turn.
    fn start(shops: &[Shop], sale: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut lines = JoinSet::new();
        for line in 0..LINES {
            let (shops, stop) = (shops.to_vec(), Arc::clone(&stop));
            lines.spawn(async move {
                let mut answers = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let user = 1 + line + LINES * number;
                    let version = VERSIONS[user as usize % VERSIONS.len()];
                    let shop = &shops[number as usize % shops.len()];
                    let answer = shop.buy(version, sale, user, 1).key("once");
                    answers.push((version, answer.follow().await));
                }
                answers
            });
        }
        Self { lines, stop }
    }

    /// Lets nobody new come; hands back what each was told.
    async fn end(self) -> Vec<(&'static str, Answer)> {
        self.stop.store(true, Ordering::Relaxed);
        self.lines.join_all().await.into_iter().flatten().collect()
    }
}

/// The series, save that a revision is not named, which is what a swap changes, and without what librdkafka measures, which comes when it first has.
fn identities(metrics: &Metrics) -> BTreeSet<String> {
    let is_ours = |name: &str| name != "time_sale_kafka_client_latency_seconds";
    let series = metrics.series.iter();
    let named = series.filter(|series| is_ours(&series.name)).map(|series| {
        let labels = series.labels.iter().filter(|(name, _)| *name != "revision");
        format!("{}{:?}", series.name, labels.collect::<Vec<_>>())
    });
    named.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_under_load_drop_no_purchase_and_leave_nothing_behind() {
    let swaps: u32 = env::var("TIMESALE_TEST_SWAPS").map_or(24, |swaps| swaps.parse().unwrap());
    let setup = Setup::new().with_operator().with_strategies(&VERSIONS);
    let host = setup.start().await;
    let sale = host.shop.sale(10_000_000).await;
    let buyers = Buyers::start(std::slice::from_ref(&host.shop), sale);
    // Each version has met a swap and a refusal before the series are counted.
    let round = async |number: u32| {
        let version = VERSIONS[number as usize % VERSIONS.len()];
        let bad = host.push(version, "", format!("bad {number}")).await;
        assert_eq!(bad.status, 422, "{bad:?}");
        let component = build(version, 1 + number);
        let live = revision(&component);
        let report = host.push_well(version, "", component).await;
        assert_eq!(report["live"], live.as_str(), "{report}");
        assert_eq!(report["drained"], true, "{report}");
        assert_eq!(report["behind"], Value::Null, "{report}");
        (version, live)
    };
    for number in 0..4 {
        round(number).await;
    }
    host.metrics().await;
    let before = identities(&host.metrics().await);
    let (mut looked, mut resident) = (Vec::new(), Vec::new());
    for number in 4..swaps {
        let (version, live) = round(number).await;
        let user = 5_000_000 + u64::from(number);
        let answer = host.shop.buy(version, sale, user, 1).follow().await;
        assert_eq!(answer.revision.as_ref(), Some(&live));
        looked.push(answer.order_id());
        if number % ROUND == ROUND - 1 {
            let metrics = host.metrics().await;
            resident.push(metrics.sum("process_resident_memory_bytes", &[]));
        }
    }
    println!("bytes resident after each {ROUND} swaps: {resident:?}");
    if let [_, second, .., last] = resident[..] {
        assert!(last <= 1.1 * second, "{resident:?}");
    }
    let answers = buyers.end().await;
    for (version, answer) in &answers {
        assert_eq!(answer.refusal(), None, "{version}: {answer:?}");
    }
    let mut orders: Vec<u64> = answers
        .iter()
        .map(|(_, answer)| answer.order_id())
        .collect();
    orders.extend(looked);
    let distinct: BTreeSet<&u64> = orders.iter().collect();
    assert_eq!(distinct.len(), orders.len(), "two buyers have one order");
    assert_eq!(host.ledger(sale).await.orders.len(), orders.len());

    let metrics = host.at_rest().await;
    let after = identities(&metrics);
    let added: Vec<_> = after.difference(&before).collect();
    assert!(added.is_empty(), "{added:#?}");
    let loaded = metrics.sum("time_sale_strategy_revisions_loaded", &[]);
    assert_eq!(loaded, VERSIONS.len() as f64);
}

#[tokio::test]
async fn a_call_ends_on_the_revision_that_it_began_with() {
    let host = Setup::new().with_operator().start().await;
    let sale = host.shop.sale(2).await;
    let stuck = ledger::hold(host.setup(), sale).await;
    let waiting = tokio::spawn(host.shop.buy("v1", sale, 42, 1).send());
    host.in_flight("v1").await;
    // The database is held, so that the wish cannot be committed before it is let go.
    let pushing = tokio::spawn({
        let request = host.operate(reqwest::Method::PUT, "/strategies/v1");
        request.body(build("v1", 1)).send()
    });
    drop(stuck);
    let old = waiting.await.unwrap();
    assert_eq!(old.brief(), "201");
    assert_eq!(old.revision, Some(revision(&build("v1", 0))));
    let report: Value = pushing.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(report["drained"], true, "{report}");
    let new = host.shop.buy("v1", sale, 43, 1).send().await;
    assert_eq!(new.revision, Some(revision(&build("v1", 1))));
}

#[tokio::test]
async fn a_restart_comes_back_with_what_was_live_and_not_with_what_is_in_the_folder() {
    let setup = Setup::new().with_operator().with_strategies(&VERSIONS);
    let host = setup.start().await;
    host.push_well("v1", "", build("v1", 1)).await;
    host.push_well("v1", "", build("v1", 2)).await;
    let host = host.kill().await.start().await;
    let shown = host.shown("v1").await;
    assert_eq!(
        shown["live"]["revision"],
        revision(&build("v1", 2)).as_str()
    );
    let sale = host.shop.sale(1).await;
    let answer = host.shop.buy("v1", sale, 42, 1).send().await;
    assert_eq!(answer.revision, Some(revision(&build("v1", 2))));
    // What is kept is there to go back to.
    let back = host.act_well("v1", "rollback").await;
    assert_eq!(back["live"], revision(&build("v1", 1)).as_str());
}

#[tokio::test]
async fn a_new_file_in_the_folder_is_a_push_and_a_bad_one_is_refused() {
    let setup = Setup::new().with_operator().with_strategies(&VERSIONS);
    let file = setup.data().join("strategies/v1.wasm");
    let host = setup.start().await;
    fs::write(&file, build("v1", 1)).unwrap();
    host.runs("v1", &revision(&build("v1", 1))).await;
    let line = host.last_audit("v1").await;
    assert!(line["by"].as_str().unwrap().ends_with("v1.wasm"), "{line}");
    fs::write(&file, "half a component").unwrap();
    host.logged("refused: it is not a WebAssembly component")
        .await;
    // A new version needs no more than a file.
    let newcomer = setup.data().join("strategies/v20.wasm");
    fs::copy(staged().join("v9.wasm"), &newcomer).unwrap();
    host.logged("runs a strategy version=v20").await;
    let sale = host.shop.sale(3).await;
    assert_eq!(
        host.shop.buy("v20", sale, 42, 1).send().await.brief(),
        "201"
    );
    // A file that vanishes removes nothing.
    fs::remove_file(&newcomer).unwrap();
    // Nor does a restart with an older file undo what came after it.
    fs::write(&file, build("v1", 1)).unwrap();
    host.push_well("v1", "", build("v1", 3)).await;
    let host = host.kill().await.start().await;
    assert_eq!(
        host.shop.buy("v20", sale, 43, 1).send().await.brief(),
        "201"
    );
    let answer = host.shop.buy("v1", sale, 44, 1).send().await;
    assert_eq!(answer.revision, Some(revision(&build("v1", 3))));
}

#[tokio::test]
async fn a_version_that_is_switched_off_sells_no_more_and_settles_what_it_accepted() {
    let host = Setup::new().with_operator().start().await;
    let sale = host.shop.sale(10).await;
    let buy = async |user: u64| {
        let purchase = host.shop.buy(ASYNCHRONOUS, sale, user, 1).key("k");
        purchase.send().await
    };
    let accepted = buy(42).await;
    assert_eq!(accepted.brief(), "202");
    host.act_well(ASYNCHRONOUS, "disable").await;
    assert_eq!(buy(43).await.brief(), "503 DISABLED");
    // Who was served before hears so again.
    assert!(buy(42).await.replayed);
    let standing = host
        .shop
        .settled(sale, accepted.request_id().unwrap())
        .await;
    assert_eq!(standing.status, "SUCCESS");
    let (_, health) = host.manage_json("/actuator/health").await;
    let shown = &health["components"]["strategies"]["components"][ASYNCHRONOUS];
    assert_eq!(shown["status"], "OUT_OF_SERVICE", "{shown}");
    // It is off after a restart, and until it is switched on again.
    let host = host.kill().await.start().await;
    let again = host.shop.buy(ASYNCHRONOUS, sale, 43, 1).key("k");
    assert_eq!(again.send().await.brief(), "503 DISABLED");
    host.act_well(ASYNCHRONOUS, "enable").await;
    let again = host.shop.buy(ASYNCHRONOUS, sale, 43, 1).key("k");
    assert_eq!(again.follow().await.refusal(), None);
}

#[tokio::test]
async fn a_version_that_is_removed_is_not_found_settles_what_it_accepted_and_comes_back_by_a_push()
{
    let host = Setup::new().with_operator().start().await;
    let sale = host.shop.sale(10).await;
    let mut accepted = Vec::new();
    for user in 1..=5 {
        let answer = host.shop.buy(ASYNCHRONOUS, sale, user, 1).send().await;
        accepted.push(answer.request_id().unwrap().to_owned());
    }
    let path = format!("/strategies/{ASYNCHRONOUS}");
    let removed = host.operate(reqwest::Method::DELETE, &path).send().await;
    assert_eq!(removed.unwrap().status(), 200);
    let gone = host.shop.buy(ASYNCHRONOUS, sale, 6, 1).send().await;
    assert_eq!(gone.brief(), "404 NOT_FOUND");
    for request in &accepted {
        let standing = host.shop.settled(sale, request).await;
        assert_eq!(standing.status, "SUCCESS");
    }
    let host = host.kill().await.start().await;
    let gone = host.shop.buy(ASYNCHRONOUS, sale, 6, 1).send().await;
    assert_eq!(gone.brief(), "404 NOT_FOUND");
    host.push_well(ASYNCHRONOUS, "", build(ASYNCHRONOUS, 1))
        .await;
    let back = host.shop.buy(ASYNCHRONOUS, sale, 6, 1).follow().await;
    assert_eq!(back.refusal(), None);
    assert_eq!(back.revision, Some(revision(&build(ASYNCHRONOUS, 1))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_after_a_step_of_a_swap_comes_back_with_the_old_or_the_new() {
    let setup = Setup::new().with_operator().with_strategies(&["v1"]);
    let armed = setup.data().join("kill-after");
    // Probed, since that is a step.
    let setup = setup
        .set("TIMESALE_UNPROBED", "none")
        .set("TIMESALE_KILL_AFTER", armed.display());
    let mut host = setup.start().await;
    let sale = host.shop.sale(100).await;
    let mut live = revision(&build("v1", 0));
    for (number, (step, is_new)) in (1..).zip(STEPS) {
        let component = build("v1", number);
        if is_new {
            live = revision(&component);
        }
        fs::write(&armed, step).unwrap();
        let pushing = host.operate(reqwest::Method::PUT, "/strategies/v1");
        let reply = pushing.body(component).send().await;
        assert!(reply.is_err(), "it was not killed after {step}: {reply:?}");
        fs::remove_file(&armed).unwrap();
        host = host.kill().await.start().await;
        assert_eq!(host.shown("v1").await["live"]["revision"], live, "{step}");
        let answer = host.shop.buy("v1", sale, number.into(), 1).send().await;
        assert_eq!(answer.brief(), "201", "{step}");
        assert_eq!(answer.revision.as_ref(), Some(&live), "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_in_the_middle_of_a_swap_comes_back_with_the_old_or_the_new() {
    let setup = Setup::new().with_operator().with_strategies(&["v1"]);
    let mut host = setup.start().await;
    let sale = host.shop.sale(1_000).await;
    let mut live = revision(&build("v1", 0));
    let (mut old, mut new) = (0, 0);
    for number in 1..=12_u32 {
        let component = build("v1", number);
        let pushed = revision(&component);
        let pushing = tokio::spawn(
            host.operate(reqwest::Method::PUT, "/strategies/v1")
                .body(component)
                .send(),
        );
        // A little later each time: between any two steps, sooner or later.
        for _ in 0..3 * number {
            host.manage("/actuator/health/liveness").await;
        }
        host = host.kill().await.start().await;
        let answered = pushing
            .await
            .unwrap()
            .is_ok_and(|reply| reply.status() == 200);
        let shown = host.shown("v1").await["live"]["revision"].clone();
        let user = u64::from(number);
        let answer = host.shop.buy("v1", sale, user, 1).send().await;
        assert_eq!(answer.brief(), "201");
        assert_eq!(shown, answer.revision.clone().unwrap());
        if answer.revision.as_deref() == Some(&pushed) {
            new += 1;
        } else {
            assert!(!answered, "it was told that it is live");
            assert_eq!(answer.revision, Some(live));
            old += 1;
        }
        live = answer.revision.unwrap();
    }
    println!("{old} came back with the old one, {new} with the new one");
}
