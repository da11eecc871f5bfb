//! A strategy that misbehaves harms nobody but its own buyers.
//!
//! The numbers are those of the tables in `plugins/faulty/src/lib.rs`; the strategy does what `user % 100` says.

use serde_json::json;

use super::support::{FAULTY, Host, Setup, VERSIONS, metrics::Metrics};

/// What has to become of a purchase that a misdeed was done with.
struct Case {
    misdeed: u64,
    answer: &'static str,
    outcome: &'static str,
    /// The error of a failure.
    error: Option<&'static str>,
    /// Pieces that are sold at the end.
    sold: u64,
}

const fn case(
    misdeed: u64,
    answer: &'static str,
    outcome: &'static str,
    error: Option<&'static str>,
    sold: u64,
) -> Case {
    Case {
        misdeed,
        answer,
        outcome,
        error,
        sold,
    }
}

const BROKEN: &str = "500 STRATEGY_FAILED";
const TRAP: Option<&str> = Some("TrapException");
const DEADLINE: Option<&str> = Some("DeadlineExceededException");
const BUDGET: Option<&str> = Some("BudgetExceededException");
const STRATEGY: Option<&str> = Some("StrategyException");

const CASES: [Case; 42] = [
    case(0, "201", "completed", None, 1),
    case(1, BROKEN, "trapped", TRAP, 0),
    case(2, BROKEN, "trapped", TRAP, 0),
    case(3, "504 DEADLINE", "timed_out", DEADLINE, 0),
    case(4, BROKEN, "out_of_memory", Some("OutOfMemoryException"), 0),
    case(5, BROKEN, "trapped", TRAP, 0),
    case(6, BROKEN, "failed", BUDGET, 0),
    case(7, "504 DEADLINE", "timed_out", DEADLINE, 0),
    case(8, BROKEN, "failed", STRATEGY, 0),
    case(9, BROKEN, "failed", STRATEGY, 0),
    // A no that the database does not know of is none.
    case(10, BROKEN, "failed", STRATEGY, 0),
    case(11, BROKEN, "failed", STRATEGY, 0),
    case(12, "504 DEADLINE", "timed_out", DEADLINE, 0),
    case(13, BROKEN, "failed", STRATEGY, 0),
    case(14, BROKEN, "failed", STRATEGY, 0),
    case(15, BROKEN, "failed", STRATEGY, 0),
    case(16, BROKEN, "trapped", TRAP, 0),
    case(17, BROKEN, "failed", STRATEGY, 0),
    // What is committed counts, whatever the strategy does or says afterwards.
    case(18, "201", "completed", None, 1),
    case(19, "201", "completed", None, 1),
    case(20, "201", "completed", None, 1),
    case(21, "201", "completed", None, 1),
    case(22, "201", "completed", None, 1),
    case(23, BROKEN, "failed", STRATEGY, 0),
    case(24, BROKEN, "failed", STRATEGY, 0),
    case(25, BROKEN, "failed", STRATEGY, 0),
    case(26, "202", "accepted", None, 1),
    case(27, "202", "accepted", None, 1),
    case(28, BROKEN, "failed", STRATEGY, 0),
    // A megabyte is more than a call may copy to the host.
    case(29, BROKEN, "trapped", TRAP, 0),
    case(30, BROKEN, "trapped", TRAP, 0),
    case(31, BROKEN, "failed", STRATEGY, 0),
    case(32, BROKEN, "failed", BUDGET, 0),
    case(33, "201", "completed", None, 1),
    case(34, "201", "completed", None, 1),
    case(35, "201", "completed", None, 1),
    case(36, BROKEN, "failed", STRATEGY, 0),
    case(37, BROKEN, "failed", STRATEGY, 0),
    case(38, BROKEN, "failed", STRATEGY, 0),
    case(39, BROKEN, "trapped", TRAP, 0),
    case(40, BROKEN, "failed", STRATEGY, 0),
    // The number of no misdeed.
    case(41, BROKEN, "failed", STRATEGY, 0),
];

/// How often the faulty strategy's purchases ended so.
fn ended(metrics: &Metrics, outcome: &str) -> f64 {
    let labels = [("version", FAULTY), ("outcome", outcome)];
    metrics.sum("time_sale_operation_duration_seconds_count", &labels)
}

/// How often they ended at all.
fn calls(metrics: &Metrics) -> f64 {
    metrics.sum(
        "time_sale_operation_duration_seconds_count",
        &[("version", FAULTY)],
    )
}

/// How often what a case ends in was counted as a success or as its error.
fn counted(metrics: &Metrics, case: &Case) -> f64 {
    let of_version = ("version", FAULTY);
    match case.error {
        None => metrics.sum("time_sale_operation_success_total", &[of_version]),
        Some(error) => metrics.sum(
            "time_sale_operation_failure_total",
            &[of_version, ("error", error)],
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misdeed_ends_as_it_must_and_the_others_are_unharmed() {
    let host = Setup::impatient().start().await;
    let others_sale = host.shop.sale(1_000).await;
    for (buyer, case) in (1..).zip(&CASES) {
        let what = format!("misdeed {}", case.misdeed);
        let sale = host.shop.sale(1 + VERSIONS.len() as u64).await;
        let before = host.at_rest().await;
        let misdeed = tokio::spawn(
            host.shop
                .buy(FAULTY, sale, 100 * buyer + case.misdeed, 1)
                .send(),
        );
        // While it runs, others buy.
        for version in VERSIONS {
            let other = host.shop.buy(version, others_sale, buyer, 1).follow().await;
            assert_eq!(other.refusal(), None, "{version} beside {what}");
        }
        let answer = misdeed.await.unwrap();
        assert_eq!(answer.brief(), case.answer, "{what}");
        assert_eq!(answer.version.as_deref(), Some(FAULTY), "{what}");

        let after = host.at_rest().await;
        assert_eq!(
            ended(&after, case.outcome) - ended(&before, case.outcome),
            1.0,
            "{what}"
        );
        assert_eq!(calls(&after) - calls(&before), 1.0, "{what}");
        assert_eq!(
            counted(&after, case) - counted(&before, case),
            1.0,
            "{what}"
        );
        assert_eq!(host.ledger(sale).await.sold(), case.sold, "{what}");

        // Nothing that it held is in the way of the next buyers of the same sale.
        for version in VERSIONS {
            let next = host.shop.buy(version, sale, 200 + buyer, 1).follow().await;
            assert_eq!(
                next.refusal().filter(|_| case.sold == 0),
                None,
                "{version} after {what}"
            );
        }
        let sold = VERSIONS.len() as u64 + case.sold;
        assert_eq!(host.ledger(sale).await.sold(), sold, "{what}");
    }
    let ledger = host.ledger(others_sale).await;
    assert_eq!(ledger.sold(), (VERSIONS.len() * CASES.len()) as u64);
}

#[tokio::test]
async fn no_strategy_sells_what_the_rules_forbid() {
    let host = Host::start().await;
    let in_one_step = 100;
    let in_a_transaction = 22;
    for user in [in_one_step, in_a_transaction] {
        let refused = async |quantity, otherwise| {
            let sale = host.shop.sale_with(2, otherwise).await;
            let answer = host.shop.buy(FAULTY, sale, user, quantity).send().await;
            assert_eq!(host.ledger(sale).await.sold(), 0);
            answer.brief()
        };
        let early = json!({ "startAt": "2098-01-01T00:00:00Z" });
        let late = json!({ "endAt": "2020-01-02T00:00:00Z" });
        let limited = json!({ "limitPerUser": 1 });
        assert_eq!(refused(1, early).await, "409 NOT_OPEN");
        assert_eq!(refused(1, late).await, "409 NOT_OPEN");
        assert_eq!(refused(2, limited).await, "409 LIMIT_EXCEEDED");
        assert_eq!(refused(3, json!({})).await, "409 SOLD_OUT");
    }
}

#[tokio::test]
async fn a_panic_is_in_the_log_with_its_place_and_whose_call_it_was() {
    let host = Host::start().await;
    let sale = host.shop.sale(1).await;
    let panics = 2;
    let answer = host.shop.buy(FAULTY, sale, panics, 1).send().await;
    let revision = format!("revision={}", answer.revision.unwrap());
    let panicked = host.logged("misdeed 2").await;
    let whose = panicked.split_once(" version=").unwrap().1;
    assert!(
        panicked.contains("plugins/faulty/src/misdeeds.rs:"),
        "{panicked}"
    );
    assert!(
        whose.starts_with("faulty ") && whose.contains(&revision) && whose.contains("request.id="),
        "{panicked}"
    );

    let trap = host.log_of("the guest did not return", whose).await;
    assert!(trap.contains("faulty::misdeeds::panic_aloud"), "{trap}");
    assert!(
        trap.contains("wasm trap: wasm `unreachable` instruction executed"),
        "{trap}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_traps_and_leaks_leaves_everything_to_the_next() {
    let host = Setup::impatient().start().await;
    let sale = host.shop.sale(400).await;
    let mut crowd = tokio::task::JoinSet::new();
    for buyer in 0..200 {
        let misdeed = [1, 2, 4, 5, 10, 11, 16, 17, 18, 32][buyer % 10];
        let user = 100 * (buyer as u64 + 1) + misdeed;
        crowd.spawn(host.shop.buy(FAULTY, sale, user, 1).send());
    }
    crowd.join_all().await;
    host.at_rest().await;
    for version in VERSIONS {
        let next = host.shop.buy(version, sale, 42, 1).follow().await;
        assert_eq!(next.refusal(), None, "{version}");
    }
}
