//! What is accepted becomes final: through crashes, poison and a stop, once each and in order.

use std::{collections::BTreeSet, fs};

use serde_json::json;
use tokio::task::JoinSet;

use super::support::{
    ASYNCHRONOUS, FAULTY, Host, Setup,
    answer::{Answer, Outcome, Ticket},
    eventually,
    ledger::lose_component,
    letters::dead_letters,
    operator::build,
};

/// Buys through the asynchronous version, and hands back the ticket.
async fn queue(host: &Host, sale: u64, user: u64, quantity: u64) -> Ticket {
    accepted(
        host.shop
            .buy(ASYNCHRONOUS, sale, user, quantity)
            .send()
            .await,
    )
}

fn accepted(answer: Answer) -> Ticket {
    match answer.outcome {
        Outcome::Accepted(ticket) => ticket,
        other => panic!("not accepted: {other:#?}"),
    }
}

/// Puts a record at the head of the line whose settlement spins until its deadline, again and again; hands back its sale and ticket.
pub async fn block_the_line(host: &Host) -> (u64, Ticket) {
    let spins = 53;
    let sale = host.shop.sale(1).await;
    let ticket = accepted(host.shop.buy(FAULTY, sale, spins, 1).send().await);
    host.in_flight(FAULTY).await;
    (sale, ticket)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_keep_their_places_and_outlive_a_crash() {
    let host = Setup::impatient().with_one_line().start().await;
    let sale = host.shop.sale(2).await;
    let (blocked_sale, blocker) = block_the_line(&host).await;
    assert_eq!((blocker.queue_position, blocker.total_waiting), (1, 1));
    let mut tickets = Vec::new();
    for place in 2..=4 {
        let ticket = queue(&host, sale, place, 1).await;
        assert_eq!(
            (ticket.queue_position, ticket.total_waiting),
            (place, place)
        );
        assert_eq!(ticket.status, "PENDING");
        tickets.push(ticket);
    }
    for ticket in &tickets {
        let standing = host.shop.result(sale, &ticket.request_id).await;
        assert_eq!(standing.status, "PENDING");
        assert_eq!(standing.queue_position, Some(ticket.queue_position));
        assert_eq!(standing.total_waiting, Some(4));
        assert_eq!((standing.order_id, standing.reason), (None, None));
    }

    let host = host.kill().await.start().await;
    let mut ends = Vec::new();
    for ticket in &tickets {
        let end = host.shop.settled(sale, &ticket.request_id).await;
        assert_eq!((end.queue_position, end.total_waiting), (None, None));
        assert_eq!(end.order_id.is_some(), end.reason.is_none());
        ends.push((end.status, end.reason));
    }
    // Three wanted the two pieces: the first two have them.
    let success = ("SUCCESS".to_owned(), None);
    let sold_out = ("FAIL".to_owned(), Some("SOLD_OUT".to_owned()));
    assert_eq!(ends, [success.clone(), success, sold_out]);
    let blocked = host.shop.settled(blocked_sale, &blocker.request_id).await;
    assert_eq!(blocked.reason.as_deref(), Some("STRATEGY_FAILED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_lost_their_place_in_the_log_are_told_where_they_stand() {
    let host = Setup::impatient().start().await;
    let sale = host.shop.sale(1_000).await;
    block_the_line(&host).await;
    let mut tickets = Vec::new();
    for user in 1..=300 {
        tickets.push(queue(&host, sale, user, 1).await);
    }
    let mut crowd = JoinSet::new();
    for ticket in tickets {
        let shop = host.shop.clone();
        crowd.spawn(async move { shop.result(sale, &ticket.request_id).await });
    }
    for standing in crowd.join_all().await {
        let waits = standing.status == "PENDING" && standing.queue_position.is_some();
        assert!(waits || standing.status == "SUCCESS", "{standing:#?}");
    }
}

#[tokio::test]
async fn a_limit_that_only_the_database_knows_of_fails_the_accepted_request() {
    let host = Host::start().await;
    let sale = host.shop.sale_with(10, json!({ "limitPerUser": 1 })).await;
    let ticket = queue(&host, sale, 42, 2).await;
    let end = host.shop.settled(sale, &ticket.request_id).await;
    assert_eq!(
        (end.status.as_str(), end.reason.as_deref()),
        ("FAIL", Some("LIMIT_EXCEEDED"))
    );
    assert_eq!(host.ledger(sale).await.sold(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_strategy_can_settle_goes_to_the_dead_letters_and_the_line_goes_on() {
    let host = Setup::impatient().start().await;
    let sale = host.shop.sale(1_000).await;
    let (mut sold, mut poisoned) = (Vec::new(), Vec::new());
    for misdeed in 50..=59 {
        sold.push(queue(&host, sale, 1_000 + misdeed, 1).await);
        let ticket = accepted(host.shop.buy(FAULTY, sale, 100 + misdeed, 1).send().await);
        // What these say is wrong, and what they did is right.
        let harmless = [50, 55, 57].contains(&misdeed);
        if harmless { &mut sold } else { &mut poisoned }.push(ticket);
    }
    for ticket in &sold {
        let end = host.shop.settled(sale, &ticket.request_id).await;
        assert_eq!(end.status, "SUCCESS", "{end:#?}");
    }
    for ticket in &poisoned {
        let end = host.shop.settled(sale, &ticket.request_id).await;
        assert_eq!(
            (end.status.as_str(), end.reason.as_deref()),
            ("FAIL", Some("STRATEGY_FAILED"))
        );
    }

    let metrics = host.at_rest().await;
    let ledger = host.ledger(sale).await;
    assert_eq!(ledger.orders.len(), sold.len());
    let letters = dead_letters(host.setup()).await;
    assert!(
        letters
            .iter()
            .all(|letter| letter.reason == "strategy_failed"),
        "{letters:#?}"
    );
    let buried: BTreeSet<_> = letters.iter().map(|letter| &letter.request_id).collect();
    assert_eq!(
        buried,
        poisoned.iter().map(|ticket| &ticket.request_id).collect()
    );
    assert_eq!(letters.len(), poisoned.len(), "one letter each");
    let failed = poisoned.len() as f64;
    let counted = |name, labels| metrics.sum(name, labels);
    assert_eq!(
        counted(
            "time_sale_dead_letters_total",
            &[("reason", "strategy_failed")]
        ),
        failed
    );
    assert_eq!(
        counted(
            "time_sale_purchases_total",
            &[("version", FAULTY), ("result", "failed")]
        ),
        failed
    );
    let next = host.shop.buy(ASYNCHRONOUS, sale, 42, 1).follow().await;
    assert_eq!(next.refusal(), None);
}

#[tokio::test]
async fn requests_of_a_version_that_cannot_run_any_more_are_ended_and_not_forgotten() {
    let setup = Setup::impatient().with_strategies(&["v1", ASYNCHRONOUS, FAULTY]);
    let file = setup.data().join("strategies/grants.toml");
    let memory = 32 << 20;
    let granted =
        [ASYNCHRONOUS, FAULTY].map(|version| format!("[{version}]\nmemory_max_bytes = {memory}\n"));
    fs::write(&file, granted.concat()).unwrap();
    let host = setup.start().await;
    let sale = host.shop.sale(10).await;
    block_the_line(&host).await;
    let ticket = queue(&host, sale, 42, 1).await;
    let setup = host.kill().await;
    // The host has less than what accepts into the log is granted.
    fs::remove_file(&file).unwrap();
    let host = setup
        .set("TIMESALE_MEMORY_MAX_BYTES", memory / 2)
        .start()
        .await;
    let end = host.shop.settled(sale, &ticket.request_id).await;
    assert_eq!(
        (end.status.as_str(), end.reason.as_deref()),
        ("FAIL", Some("STRATEGY_FAILED"))
    );
    let letters = dead_letters(host.setup()).await;
    assert!(
        letters
            .iter()
            .all(|letter| letter.reason == "unknown_version"),
        "{letters:#?}"
    );
    eventually("the line is empty", async || {
        match host.metrics().await.sum("time_sale_queue_length", &[]) {
            0.0 => Ok(()),
            waiting => Err(waiting),
        }
    })
    .await;
}

#[tokio::test]
async fn requests_of_a_version_that_does_not_run_yet_wait_until_it_does() {
    let setup = Setup::impatient().with_operator();
    let setup = setup.with_strategies(&["v1", ASYNCHRONOUS, FAULTY]);
    let host = setup.start().await;
    let sale = host.shop.sale(10).await;
    block_the_line(&host).await;
    let ticket = queue(&host, sale, 42, 1).await;
    let setup = host.kill().await;
    lose_component(&setup, ASYNCHRONOUS).await;
    let file = format!("strategies/{ASYNCHRONOUS}.wasm");
    fs::remove_file(setup.data().join(file)).unwrap();
    let host = setup.start().await;
    host.logged("does not run here yet").await;
    let standing = host.shop.result(sale, &ticket.request_id).await;
    assert_eq!(standing.status, "PENDING", "{standing:#?}");
    host.push_well(ASYNCHRONOUS, "", build(ASYNCHRONOUS, 1))
        .await;
    let end = host.shop.settled(sale, &ticket.request_id).await;
    assert_eq!(end.status, "SUCCESS", "{end:#?}");
    let letters = dead_letters(host.setup()).await;
    let theirs = letters
        .iter()
        .filter(|letter| letter.reason == "unknown_version");
    assert_eq!(theirs.count(), 0, "{letters:#?}");
}

#[tokio::test]
async fn a_place_that_is_not_the_requests_says_nothing_of_it() {
    let host = Setup::impatient().with_one_line().start().await;
    let sale = host.shop.sale(10).await;
    block_the_line(&host).await;
    let waiting = host.shop.buy(ASYNCHRONOUS, sale, 41, 1).send().await;
    let neighbour = host.shop.buy(ASYNCHRONOUS, sale, 42, 1).send().await;
    let place = |answer: &Answer| {
        let location = answer.location.as_deref().unwrap();
        location.split_once("?place=").unwrap().1.to_owned()
    };
    let (own, other) = (place(&waiting), place(&neighbour));
    let moved = format!("9{own}");
    let ticket = accepted(waiting);
    for place in [&own, &other, &moved, "0-0", "0-99999", "9-0", "x", ""] {
        let standing = host
            .shop
            .result_at_place(sale, &ticket.request_id, place)
            .await;
        assert_eq!(
            (standing.status.as_str(), standing.queue_position),
            ("PENDING", Some(ticket.queue_position)),
            "{place}"
        );
    }
}
