//! Bounds that are reached: who comes too many is told to come back, and nothing is lost or sold twice.

use std::{fs, ops::RangeInclusive, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use wit_component::ComponentEncoder;

use super::{
    settlement::block_the_line,
    support::{
        ASYNCHRONOUS, FAULTY, Host, Setup, VERSIONS,
        answer::{Answer, Outcome},
        crowd, eventually,
        ledger::hold,
        letters::dead_letters,
        metrics::Metrics,
        repository,
    },
};

/// Fails unless the buyer is told to come back, and why.
fn assert_come_back(answer: &Answer, code: &str) {
    assert_eq!(answer.brief(), format!("503 {code}"), "{answer:#?}");
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
}

async fn failures(host: &Host, version: &str, error: &str) -> f64 {
    let labels = [("version", version), ("error", error)];
    host.metrics()
        .await
        .sum("time_sale_operation_failure_total", &labels)
}

/// A host where calls have their turn one by one, and whose buyers wait for it for up to 10 s.
fn one_call_at_a_time() -> Setup {
    Setup::impatient()
        .set("TIMESALE_CALLS_MAX", 1)
        .set("TIMESALE_PERMIT_WAIT_MS", 10_000)
}

/// Twenty buyers whose calls spin until their deadline of 2 s, so that a handful at most has its turn within the wait; and what two before them were told.
async fn crowd_that_spins(host: &Host, sale: u64) -> (Vec<Answer>, JoinSet<Answer>) {
    let spins = |user: u64| host.shop.buy(FAULTY, sale, 100 * user + 3, 1).send();
    // The second waits for the first, and so the host knows how long a turn takes.
    let first = (1..=2).map(spins).collect::<JoinSet<_>>();
    (first.join_all().await, (3..=22).map(spins).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_room_for_two_calls_still_sells_exactly_what_there_is() {
    let setup = Setup::new()
        .set("TIMESALE_CALLS_MAX", 2)
        .set("TIMESALE_PERMIT_WAIT_MS", 20);
    let host = setup.start().await;
    let sale = host.shop.sale(100).await;
    let buyers = crowd::rush(&host.shop, sale, &VERSIONS).await;
    let ledger = host.ledger(sale).await;
    crowd::judge(&buyers, &ledger);
    assert_eq!((ledger.sold(), ledger.remaining), (100, 0));
    let metrics = host.at_rest().await;
    let turned_away = metrics.sum(
        "time_sale_operation_failure_total",
        &[("error", "OverloadException")],
    );
    let recorded = metrics.sum(
        "time_sale_operation_duration_seconds_count",
        &[("outcome", "overloaded")],
    );
    assert!(turned_away > 0.0, "there was room for everybody");
    assert_eq!(turned_away, recorded);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_wait_in_vain_for_a_turn_is_told_so_before_those_in_line_have_had_theirs() {
    let host = one_call_at_a_time().start().await;
    let sale = host.shop.sale(100).await;
    let (mut answers, mut crowd) = crowd_that_spins(&host, sale).await;
    while let Some(answer) = crowd.join_next().await {
        answers.push(answer.unwrap());
    }
    let briefs: Vec<String> = answers.iter().map(Answer::brief).collect();
    assert_eq!(briefs[19..], ["504 DEADLINE"; 3], "{briefs:?}");
    let turned_away: Vec<&Answer> = answers
        .iter()
        .filter(|answer| answer.brief() != "504 DEADLINE")
        .collect();
    assert!(!turned_away.is_empty(), "{briefs:?}");
    turned_away
        .iter()
        .for_each(|answer| assert_come_back(answer, "OVERLOADED"));
    let metrics = host.at_rest().await;
    let counted = failures(&host, FAULTY, "OverloadException").await;
    assert_eq!(counted, turned_away.len() as f64);
    // Whoever was turned away at once has waited too, for no time.
    let waits = metrics.sum(
        "time_sale_permit_wait_seconds_count",
        &[("version", FAULTY)],
    );
    assert_eq!(waits, answers.len() as f64);
    let counted = metrics.sum(
        "http_server_requests_seconds_count",
        &[
            ("uri", "/api/{v}/time-sales/{id}/purchase"),
            ("status", "503"),
            ("outcome", "SERVER_ERROR"),
        ],
    );
    assert_eq!(counted, turned_away.len() as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_turned_away_is_not_read_and_keeps_the_connection_but_a_key_is_looked_up_first() {
    let host = one_call_at_a_time().start().await;
    let sale = host.shop.sale(100).await;
    let buys = || host.shop.buy(FAULTY, sale, 100, 1).key("k").send();
    let bought = buys().await;
    let (_, mut crowd) = crowd_that_spins(&host, sale).await;
    let turned_away = crowd.join_next().await.unwrap().unwrap();
    assert_come_back(&turned_away, "OVERLOADED");
    let named = |answer: &Answer| (answer.version.clone(), answer.revision.clone());
    assert_eq!(named(&turned_away), named(&bought));
    let again = buys().await;
    assert!(again.replayed, "{again:#?}");
    assert_eq!(again.outcome, bought.outcome);

    let pipelined = format!(
        "POST /api/{FAULTY}/time-sales/{sale}/purchase HTTP/1.1\r\nhost: test\r\ncontent-length: 7\r\n\r\nrubbish\
         GET /api/v1/products HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"
    );
    // Where a turn has just come there is room for one more, who is read.
    eventually("rubbish is turned away unread", async || {
        let mut connection = TcpStream::connect(host.shop.address()).await.unwrap();
        connection.write_all(pipelined.as_bytes()).await.unwrap();
        let mut answers = String::new();
        connection.read_to_string(&mut answers).await.unwrap();
        assert!(answers.contains("HTTP/1.1 200 OK"), "{answers}");
        if answers.starts_with("HTTP/1.1 503 ") {
            Ok(())
        } else {
            Err(answers)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_not_had_in_time_is_counted_under_its_old_name() {
    let host = Setup::new().set("TIMESALE_LOCK_WAIT_MS", 1).start().await;
    let sale = host.shop.sale(200).await;
    let mut crowd = JoinSet::new();
    for user in 1..=200 {
        crowd.spawn(host.shop.buy("v2", sale, user, 1).send());
    }
    let answers = crowd.join_all().await;
    let busy: Vec<&Answer> = answers
        .iter()
        .filter(|answer| answer.refusal().is_some())
        .collect();
    assert!(!busy.is_empty(), "everybody had the lock");
    busy.iter()
        .for_each(|answer| assert_come_back(answer, "BUSY"));
    let counted = failures(&host, "v2", "LockAcquisitionException").await;
    assert_eq!(counted, busy.len() as f64);
    let sold = host.ledger(sale).await.sold();
    assert_eq!(sold, (answers.len() - busy.len()) as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_that_is_held_in_the_database_makes_buyers_come_back_and_accepted_requests_wait() {
    let host = Setup::new()
        .set("TIMESALE_ROW_LOCK_WAIT_MS", 1_000)
        .start()
        .await;
    let sale = host.shop.sale(10).await;
    let held = hold(host.setup(), sale).await;
    let accepted = host.shop.buy(ASYNCHRONOUS, sale, 42, 1).send().await;
    for version in VERSIONS.into_iter().filter(|it| *it != ASYNCHRONOUS) {
        let answer = host.shop.buy(version, sale, 42, 1).key("k").send().await;
        assert_come_back(&answer, "BUSY");
        assert_eq!(
            failures(&host, version, "RowLockTimeoutException").await,
            1.0
        );
    }
    // Settlement has met the lock more than once by now, and still waits.
    eventually("settlement is hindered again and again", async || {
        let hindered = host.metrics().await.sum(
            "time_sale_settlement_failure_total",
            &[("error", "RowLockTimeoutException")],
        );
        if hindered > 3.0 {
            Ok(())
        } else {
            Err(hindered)
        }
    })
    .await;
    let Outcome::Accepted(ticket) = &accepted.outcome else {
        panic!("not accepted: {accepted:#?}");
    };
    let standing = host.shop.result(sale, &ticket.request_id).await;
    assert_eq!(
        (standing.status.as_str(), standing.queue_position),
        ("PENDING", Some(1))
    );

    drop(held);
    let end = host.shop.settled(sale, &ticket.request_id).await;
    assert_eq!(end.status, "SUCCESS", "{end:#?}");
    for version in VERSIONS.into_iter().filter(|it| *it != ASYNCHRONOUS) {
        let answer = host
            .shop
            .buy(version, sale, 42, 1)
            .key(version)
            .send()
            .await;
        assert_eq!(answer.refusal(), None);
    }
    assert_eq!(host.ledger(sale).await.sold(), VERSIONS.len() as u64);
    assert_eq!(dead_letters(host.setup()).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_a_sale_in_the_database_is_not_counted_as_holding_it() {
    let may_hold = Duration::from_secs(1);
    let setup = Setup::new().set("TIMESALE_TRANSACTION_HOLD_MS", may_hold.as_millis());
    let host = setup.start().await;
    let sale = host.shop.sale(1).await;
    let held = hold(host.setup(), sale).await;
    let purchase = tokio::spawn(host.shop.buy("v1", sale, 42, 1).send());
    host.in_flight("v1").await;
    // It is the time itself that has to pass: more than it may hold what it waits for.
    tokio::time::sleep(may_hold.mul_f64(1.5)).await;
    drop(held);
    purchase.await.unwrap().order_id();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_turns_away_and_leaves_the_key_free() {
    let setup = Setup::impatient().set("TIMESALE_BACKLOG_MAX", 2);
    let host = setup.start().await;
    let sale = host.shop.sale(10).await;
    block_the_line(&host).await;
    let buy = |user| host.shop.buy(ASYNCHRONOUS, sale, user, 1).key("k");
    let last = buy(1).send().await;
    assert_eq!(last.brief(), "202");
    let full = buy(2).send().await;
    assert_come_back(&full, "OVERLOADED");
    let counted = failures(&host, ASYNCHRONOUS, "QueueFullException").await;
    assert_eq!(counted, 1.0);
    host.at_rest().await;
    let answer = buy(2).follow().await;
    assert_eq!((answer.replayed, answer.refusal()), (false, None));
    assert_eq!(host.ledger(sale).await.sold(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_of_a_strategy_here_grows_no_memory_and_a_full_batch_little() {
    const MEMORY_MAX_BYTES: u64 = 8 << 20;
    /// The stack, the data and the SDK's arena.
    const BEGINS_WITH_BYTES: RangeInclusive<f64> = 20_000.0..=28_000.0;
    /// The least that the SDK grows by.
    const GROWTH_BYTES: f64 = 65_536.0;
    let setup = Setup::new().set("TIMESALE_MEMORY_MAX_BYTES", MEMORY_MAX_BYTES);
    let host = setup.start().await;
    let sale = host.shop.sale(1_000).await;
    let used = |metrics: &Metrics, version| {
        let labels = [("version", version), ("limit", "memory")];
        metrics.sum("time_sale_limit_used_ratio", &labels) * MEMORY_MAX_BYTES as f64
    };
    for version in VERSIONS {
        let answer = host.shop.buy(version, sale, 42, 1).follow().await;
        assert_eq!(answer.refusal(), None, "{version}");
    }
    let metrics = host.at_rest().await;
    for version in VERSIONS {
        let bytes = used(&metrics, version);
        assert!(BEGINS_WITH_BYTES.contains(&bytes), "{version}: {bytes}");
    }
    let begins_with = used(&metrics, ASYNCHRONOUS);
    // While the sale is held nothing settles, and what is accepted becomes one batch after another of 256.
    let held = hold(host.setup(), sale).await;
    let mut crowd = JoinSet::new();
    for user in 1..=600 {
        crowd.spawn(host.shop.buy(ASYNCHRONOUS, sale, user, 1).send());
    }
    crowd.join_all().await;
    drop(held);
    let metrics = host.at_rest().await;
    let grown = (used(&metrics, ASYNCHRONOUS) - begins_with) / GROWTH_BYTES;
    assert!((1.0..=3.0).contains(&grown), "{grown} growths");
}

#[tokio::test]
async fn memory_grows_too_where_another_tool_made_the_component_and_it_is_counted_in_pages() {
    let host = Setup::new().with_operator().start().await;
    let module = "target/guest/wasm32-unknown-unknown/guest/faulty.wasm";
    let module = fs::read(repository().join(module)).unwrap();
    let mut encoder = ComponentEncoder::default();
    let component = encoder.module(&module).unwrap().encode().unwrap();
    host.push_well(FAULTY, "", component).await;
    let sale = host.shop.sale(1).await;
    // It takes ten megabytes, and buys.
    let answer = host.shop.buy(FAULTY, sale, 33, 1).send().await;
    assert_eq!(answer.brief(), "201");
    let labels = [("version", FAULTY), ("limit", "memory")];
    let used = host.at_rest().await;
    let used = used.sum("time_sale_limit_used_ratio", &labels);
    assert!((10.0 / 32.0..0.5).contains(&used), "{used}");
}
