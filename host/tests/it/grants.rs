//! What an operator grants to a version holds for that version alone: capabilities, keys, topics and every bound.
//!
//! The numbers are those of the tables in `plugins/faulty/src/lib.rs`.

mod pushed;

use std::fs;

use super::{
    startup::assert_refused,
    support::{FAULTY, Host, Setup, eventually, metrics::Metrics},
};

/// Holds the lock of the sale for 300 ms for each piece, and then buys.
const HOLDS: u64 = 34;

/// A host that serves these versions, with these grants.
fn granting(versions: &[&str], grants: &str) -> Setup {
    let setup = Setup::new().with_strategies(versions);
    fs::write(setup.data().join("strategies/grants.toml"), grants).unwrap();
    setup
}

/// How much of a limit the faulty strategy used of late.
fn used(metrics: &Metrics, limit: &str) -> f64 {
    let labels = [("version", FAULTY), ("limit", limit)];
    metrics.sum("time_sale_limit_used_ratio", &labels)
}

/// How often the faulty strategy failed so.
fn failures(metrics: &Metrics, error: &str) -> f64 {
    let labels = [("version", FAULTY), ("error", error)];
    metrics.sum("time_sale_operation_failure_total", &labels)
}

/// Waits until so many calls of the faulty strategy run.
async fn in_flight(host: &Host, calls: f64) {
    eventually("they are in flight", async || {
        let labels = [("version", FAULTY)];
        let metrics = host.metrics().await;
        match metrics.sum("time_sale_calls_in_flight", &labels) {
            now if now == calls => Ok(()),
            now => Err(now),
        }
    })
    .await;
}

/// A limit that is breached on purpose.
struct Breach {
    /// The version's section.
    grants: &'static str,
    /// The limit, as its head-room is shown.
    limit: &'static str,
    /// A misdeed and a quantity that stay inside it.
    inside: (u64, u64),
    /// A misdeed and a quantity that do not.
    beyond: (u64, u64),
    answer: &'static str,
    error: &'static str,
}

impl Breach {
    /// Fails unless the limit is seen before it bites, bites as it must, and leaves nothing behind.
    async fn happens(self) {
        let grants = format!("[{FAULTY}]\n{}", self.grants);
        let host = granting(&["v1", FAULTY], &grants).start().await;
        let sale = host.shop.sale(20).await;
        let buy = async |user: u64, (misdeed, quantity): (u64, u64)| {
            let user = 100 * user + misdeed;
            host.shop.buy(FAULTY, sale, user, quantity).send().await
        };
        let answer = buy(1, self.inside).await;
        assert_eq!(answer.brief(), "201", "{}", self.limit);
        let before = host.at_rest().await;
        let headroom = used(&before, self.limit);
        assert!(
            headroom > 0.0 && headroom < 1.0,
            "{}: {headroom}",
            self.limit
        );

        let answer = buy(2, self.beyond).await;
        assert_eq!(answer.brief(), self.answer, "{}", self.limit);
        let after = host.at_rest().await;
        let counted = failures(&after, self.error) - failures(&before, self.error);
        assert_eq!(counted, 1.0, "{}", self.limit);
        assert!(used(&after, self.limit) >= headroom, "{}", self.limit);
        assert_left_alone(&host, sale).await;
    }
}

/// Fails unless the next buyers of the sale buy, through another version as through the same.
async fn assert_left_alone(host: &Host, sale: u64) {
    for version in ["v1", FAULTY] {
        let next = host.shop.buy(version, sale, 70_000, 1).send().await;
        assert_eq!(next.brief(), "201", "{version}");
    }
}

#[tokio::test]
async fn a_versions_own_deadline_ends_its_calls() {
    let breach = Breach {
        grants: "call_deadline_ms = 2000\ntransaction_hold_ms = 1000\nlock_wait_ms = 1000\n",
        limit: "call_deadline",
        inside: (0, 1),
        beyond: (3, 1),
        answer: "504 DEADLINE",
        error: "DeadlineExceededException",
    };
    breach.happens().await;
}

#[tokio::test]
async fn a_versions_own_bound_on_memory_ends_its_calls() {
    let breach = Breach {
        grants: "memory_max_bytes = 2097152\n",
        limit: "memory",
        inside: (0, 1),
        beyond: (4, 1),
        answer: "500 STRATEGY_FAILED",
        error: "OutOfMemoryException",
    };
    breach.happens().await;
}

#[tokio::test]
async fn a_versions_own_bound_on_host_functions_ends_its_calls() {
    let breach = Breach {
        grants: "host_calls_max = 5\n",
        limit: "host_calls",
        inside: (0, 1),
        beyond: (6, 1),
        answer: "500 STRATEGY_FAILED",
        error: "BudgetExceededException",
    };
    breach.happens().await;
}

#[tokio::test]
async fn a_versions_own_hold_ends_its_transactions() {
    let breach = Breach {
        grants: "transaction_hold_ms = 1000\n",
        limit: "transaction_hold",
        inside: (22, 1),
        beyond: (12, 1),
        answer: "504 DEADLINE",
        error: "DeadlineExceededException",
    };
    breach.happens().await;
}

#[tokio::test]
async fn a_versions_own_hold_ends_what_its_locks_protect() {
    let breach = Breach {
        grants: "lock_hold_ms = 1200\n",
        limit: "lock_hold",
        inside: (HOLDS, 1),
        beyond: (HOLDS, 5),
        answer: "503 BUSY",
        error: "LockLostException",
    };
    breach.happens().await;
}

#[tokio::test]
async fn a_versions_own_bound_on_calls_in_flight_turns_the_next_away() {
    let grants = format!("[{FAULTY}]\ncalls_max = 2\n");
    let setup = granting(&["v1", FAULTY], &grants).set("TIMESALE_PERMIT_WAIT_MS", 50);
    let host = setup.start().await;
    let sale = host.shop.sale(20).await;
    let first = host.shop.buy(FAULTY, sale, 100, 1).send().await;
    assert_eq!(first.brief(), "201");
    assert_eq!(used(&host.at_rest().await, "calls_in_flight"), 0.5);

    // Each holds the lock of its sale for three seconds, and the second stands in line for the first.
    let held = host.shop.sale(20).await;
    let holders: Vec<_> = [200 + HOLDS, 300 + HOLDS]
        .map(|user| tokio::spawn(host.shop.buy(FAULTY, held, user, 10).send()))
        .into();
    in_flight(&host, 2.0).await;
    assert_eq!(used(&host.metrics().await, "calls_in_flight"), 1.0);
    let turned_away = host.shop.buy(FAULTY, sale, 400, 1).send().await;
    assert_eq!(turned_away.brief(), "503 OVERLOADED");
    let other = host.shop.buy("v1", sale, 400, 1).send().await;
    assert_eq!(other.brief(), "201");
    for holder in holders {
        assert_eq!(holder.await.unwrap().brief(), "201");
    }
    assert_eq!(failures(&host.at_rest().await, "OverloadException"), 1.0);
    assert_left_alone(&host, sale).await;
}

#[tokio::test]
async fn an_import_that_is_not_granted_is_refused_and_the_others_serve() {
    let setup = granting(&["v1", "v2"], "[v2]\ncapabilities = [\"db\"]\n");
    let host = setup.start().await;
    let refusal = host.logged("/v2.wasm").await;
    assert!(refusal.contains("`redis`"), "{refusal}");
    assert!(refusal.contains("grants.toml"), "{refusal}");
    let sale = host.shop.sale(2).await;
    let answer = host.shop.buy("v1", sale, 42, 1).send().await;
    assert_eq!(answer.brief(), "201");
    let answer = host.shop.buy("v2", sale, 42, 1).send().await;
    assert_eq!(answer.brief(), "404 NOT_FOUND");
}

#[tokio::test]
async fn a_version_uses_the_keys_that_are_granted_and_no_others() {
    for (prefix, answer) in [("time-sale", "201"), ("another", "500 STRATEGY_FAILED")] {
        let grants = format!("[v2]\nredis_key_prefixes = [\"{prefix}\"]\n");
        let host = granting(&["v1", "v2"], &grants).start().await;
        let sale = host.shop.sale(2).await;
        let bought = host.shop.buy("v2", sale, 42, 1).send().await;
        assert_eq!(bought.brief(), answer, "{prefix}");
    }
}

#[tokio::test]
async fn grants_that_make_no_sense_stop_the_start_with_file_version_and_key() {
    for (grants, says) in [
        ("[v1]\ncalls = 3\n", &["grants.toml", "[v1]", "calls"][..]),
        (
            "[v1]\ncalls_max = 0\n",
            &["grants.toml", "[v1]", "calls_max"],
        ),
        (
            "[v1]\ncall_deadline_ms = 1000\n",
            &["grants.toml", "[v1]", "call_deadline_ms (1000)"],
        ),
    ] {
        assert_refused(&granting(&["v1"], grants), says).await;
    }
}
