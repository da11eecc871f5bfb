//! Asking again: while the first is under way, after it was lost, and after it was given up.

use tokio::task::JoinSet;

use super::{
    idempotency::assert_repeats,
    support::{FAULTY, Host, Setup, VERSIONS, answer::Outcome, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn many_in_flight_with_one_key_have_one_effect() {
    let host = Host::start().await;
    let mut all = VERSIONS.map(|version| vec![version; 40]).to_vec();
    all.push(VERSIONS.into_iter().cycle().take(80).collect());
    for versions in all {
        let sale = host.shop.sale(100).await;
        let mut crowd = JoinSet::new();
        for version in &versions {
            crowd.spawn(
                host.shop
                    .buy(version, sale, 42, 1)
                    .key(&sale.to_string())
                    .send(),
            );
        }
        let answers = crowd.join_all().await;
        let first = answers
            .iter()
            .find(|answer| answer.refusal().is_none() && !answer.replayed);
        let first = first.unwrap_or_else(|| panic!("nobody was first: {answers:#?}"));
        for answer in &answers {
            match &answer.outcome {
                Outcome::Refused(problem) => {
                    assert_eq!(
                        (problem.status.as_u16(), problem.code.as_str()),
                        (409, "IN_PROGRESS")
                    );
                    assert_eq!(answer.retry_after.as_deref(), Some("1"));
                }
                _ if answer.replayed => assert_repeats(first, answer),
                _ => assert_eq!(answer, first, "two were first"),
            }
        }
        host.at_rest().await;
        assert_eq!(host.ledger(sale).await.sold(), 1, "{versions:?}");
    }
}

#[tokio::test]
async fn a_lost_connection_and_the_same_key_give_the_true_outcome() {
    let host = Setup::impatient().start().await;
    let sale = host.shop.sale(10).await;
    let spins_after_its_commit = 19;
    let lost = host
        .shop
        .buy(FAULTY, sale, spins_after_its_commit, 1)
        .key("k");
    let ordered = async {
        eventually("the order", async || match host.ledger(sale).await.sold() {
            0 => Err("not yet"),
            _ => Ok(()),
        })
        .await;
    };
    tokio::select! {
        answer = lost.send() => panic!("answered before it was lost: {answer:#?}"),
        () = ordered => {}
    }
    let truth = eventually("the first reply", async || {
        let again = host
            .shop
            .buy("v1", sale, spins_after_its_commit, 1)
            .key("k")
            .send()
            .await;
        match &again.outcome {
            Outcome::Completed(order) => Ok(order.clone()),
            _ if again.brief() == "409 IN_PROGRESS" => Err(again),
            _ => panic!("not the truth: {again:#?}"),
        }
    })
    .await;
    let ledger = host.ledger(sale).await;
    assert_eq!(ledger.sold(), 1);
    assert_eq!(ledger.orders[0].id, truth.order_id);
}

#[tokio::test]
async fn a_deadline_and_the_same_key_give_the_true_outcome() {
    let host = Setup::impatient().start().await;
    let sale = host.shop.sale(10).await;
    let spins_with_the_row_locked = 12;
    let late = host
        .shop
        .buy(FAULTY, sale, spins_with_the_row_locked, 1)
        .key("k")
        .send()
        .await;
    assert_eq!(late.brief(), "504 DEADLINE");
    assert_eq!(host.ledger(sale).await.sold(), 0);
    let again = host
        .shop
        .buy("v1", sale, spins_with_the_row_locked, 1)
        .key("k")
        .send()
        .await;
    assert!(!again.replayed && again.refusal().is_none(), "{again:#?}");
}
