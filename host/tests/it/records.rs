//! What lies in the log: records that come again change nothing, and records that are wrong stop nobody.

use serde_json::json;

use super::{
    settlement::block_the_line,
    support::{
        ASYNCHRONOUS, Host, Setup,
        answer::{Outcome, Standing},
        ledger::{Ledger, decision},
        letters::{DeadLetter, dead_letters},
        metrics::Metrics,
        strays::strays,
        topic::Topic,
    },
};

const DEAD_LETTERS: [&str; 4] = [
    "malformed",
    "unknown_schema",
    "unknown_version",
    "strategy_failed",
];

/// Buys through the asynchronous version, and hands back the request's id.
async fn queue(host: &Host, sale: u64, user: u64, quantity: u64) -> String {
    let answer = host.shop.buy(ASYNCHRONOUS, sale, user, quantity).key("k");
    match answer.send().await.outcome {
        Outcome::Accepted(ticket) => ticket.request_id,
        other => panic!("not accepted: {other:#?}"),
    }
}

/// All that redelivery could change: the sales, what the tickets are told, and the dead letters.
async fn state(
    host: &Host,
    tickets: &[(u64, String)],
) -> (Vec<Ledger>, Vec<Standing>, Vec<DeadLetter>) {
    let (mut ledgers, mut standings) = (Vec::new(), Vec::new());
    for (sale, request) in tickets {
        ledgers.push(host.ledger(*sale).await);
        standings.push(host.shop.settled(*sale, request).await);
    }
    (ledgers, standings, dead_letters(host.setup()).await)
}

/// Whatever the host counted as decided or buried since it started.
fn counted(metrics: &Metrics) -> f64 {
    let counters = ["time_sale_purchases_total", "time_sale_dead_letters_total"];
    counters.map(|name| metrics.sum(name, &[])).iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_delivered_again_and_again_change_nothing() {
    let host = Setup::impatient().start().await;
    let topic = Topic::of(host.setup());
    let (blocked, blocker) = block_the_line(&host).await;
    let scarce = host.shop.sale(3).await;
    let limited = host.shop.sale_with(9, json!({ "limitPerUser": 1 })).await;
    let mut tickets = vec![(blocked, blocker.request_id)];
    for (sale, user, quantity) in [
        (scarce, 1, 2),
        (scarce, 2, 2),
        (scarce, 3, 1),
        (scarce, 4, 1),
        (limited, 5, 2),
        (limited, 6, 1),
    ] {
        tickets.push((sale, queue(&host, sale, user, quantity).await));
    }
    // Twice in the log before anything is decided, too.
    assert_eq!(topic.repeat().await, tickets.len());
    topic.settled().await;
    host.at_rest().await;
    let before = state(&host, &tickets).await;
    let ends = before.1.iter().map(|end| end.reason.as_deref());
    assert_eq!(
        ends.collect::<Vec<_>>(),
        [
            Some("STRATEGY_FAILED"),
            None,
            Some("SOLD_OUT"),
            None,
            Some("SOLD_OUT"),
            Some("LIMIT_EXCEEDED"),
            None
        ]
    );
    assert_eq!(before.2.len(), 1, "{:#?}", before.2);

    let mut host = host;
    for _ in 0..2 {
        let (setup, content) = host.terminate().await;
        assert!(content);
        topic.rewind();
        host = setup.start().await;
        topic.settled().await;
        assert_eq!(counted(&host.at_rest().await), 0.0);
        assert_eq!(state(&host, &tickets).await, before);
    }
    topic.repeat().await;
    topic.settled().await;
    assert_eq!(counted(&host.at_rest().await), 0.0);
    assert_eq!(state(&host, &tickets).await, before);
    let again = host.shop.buy(ASYNCHRONOUS, scarce, 1, 2).key("k");
    assert_eq!(again.follow().await.request_id(), Some(&*tickets[1].1));
    let next = host.shop.buy(ASYNCHRONOUS, limited, 7, 1).follow().await;
    assert_eq!(next.refusal(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_wrong_ends_as_it_must_and_the_line_goes_on() {
    let host = Setup::impatient().with_one_line().start().await;
    let topic = Topic::of(host.setup());
    let over = json!({ "endAt": "2021-01-01T00:00:00Z" });
    let over = host.shop.sale_with(10, over).await;
    let open = host.shop.sale(1_000).await;
    let strays = strays(over);
    // Good and bad share batches, since all wait behind one.
    block_the_line(&host).await;
    let mut good = vec![queue(&host, open, 1, 1).await];
    for (user, stray) in (2..).zip(&strays) {
        topic.put(&stray.message).await;
        good.push(queue(&host, open, user, 1).await);
    }
    topic.settled().await;
    let metrics = host.at_rest().await;

    for request in &good {
        let end = host.shop.settled(open, request).await;
        assert_eq!(end.status, "SUCCESS", "{end:#?}");
    }
    for stray in &strays {
        let end = decision(host.setup(), &stray.request).await;
        assert_eq!(end.as_deref(), stray.end, "{}", stray.what);
    }
    let ended = |end: &str| strays.iter().filter(|it| it.end == Some(end)).count();
    let ledger = host.ledger(over).await;
    assert_eq!(ledger.orders.len(), ended("SUCCESS"));
    assert_eq!(host.ledger(open).await.orders.len(), good.len());

    // One letter for each, and one for the record that they waited behind.
    let letters = dead_letters(host.setup()).await;
    for reason in DEAD_LETTERS {
        let theirs = strays.iter().filter(|it| it.buried == Some(reason)).count();
        let expected = theirs + usize::from(reason == "strategy_failed");
        let buried = letters.iter().filter(|letter| letter.reason == reason);
        assert_eq!(buried.count(), expected, "{letters:#?}");
        let labels = [("reason", reason)];
        let counter = metrics.sum("time_sale_dead_letters_total", &labels);
        assert_eq!(counter, expected as f64, "{reason}");
    }
    let purchases = |labels: &[(&str, &str)]| {
        let version = ("version", ASYNCHRONOUS);
        metrics.sum("time_sale_purchases_total", &[&[version], labels].concat())
    };
    let sold = good.len() + ended("SUCCESS");
    assert_eq!(purchases(&[("result", "success")]), sold as f64);
    assert_eq!(purchases(&[("result", "failed")]), 0.0);
    for end in ["NOT_FOUND", "NOT_OPEN", "SOLD_OUT"] {
        let labels = [("result", "rejected"), ("reason", &*end.to_lowercase())];
        assert_eq!(purchases(&labels), ended(end) as f64, "{end}");
    }
    let next = host.shop.buy(ASYNCHRONOUS, open, 1_000_000, 1);
    assert_eq!(next.follow().await.refusal(), None);
}
