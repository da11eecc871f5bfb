//! Many at once, through two hosts: every promise holds across them.

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlx::Row;
use tokio::task::JoinSet;

use super::{Fixture, Outcome, rejected, settling};
use crate::backend::BackendError;
use crate::backend::database::Denial;
use crate::domain::{Decision, KeyId, Order, Refusal, Rejection, Request, Sale};

/// The fixture's host and another one, to be asked in turn.
async fn two_hosts(
    fixture: &Fixture,
) -> Result<[Arc<super::Postgres>; 2], Box<dyn std::error::Error>> {
    Ok([
        Arc::clone(&fixture.database),
        Arc::new(fixture.beside().await?),
    ])
}

/// Checks the sale's stock against its orders, which say what each left.
async fn assert_ledger(fixture: &Fixture, sale: &Sale, sold: i64) -> Outcome {
    let mut raw = fixture.raw().await?;
    let row = sqlx::query(
        "SELECT coalesce(sum(quantity), 0)::bigint AS sold, count(*) AS orders, \
             count(DISTINCT remaining) AS steps, count(DISTINCT request_id) AS requests \
         FROM orders WHERE time_sale_id = $1",
    )
    .bind(sale.id)
    .fetch_one(&mut raw)
    .await?;
    let orders: i64 = row.try_get("orders")?;
    assert_eq!(row.try_get::<i64, _>("sold")?, sold);
    assert_eq!(row.try_get::<i64, _>("steps")?, orders);
    assert_eq!(row.try_get::<i64, _>("requests")?, orders);
    assert_eq!(fixture.remaining(sale).await?, sale.quantity - sold);
    Ok(())
}

/// One purchase in a transaction of a strategy's own.
async fn transact(
    database: &super::Postgres,
    request: &Request,
    locks_first: bool,
    now: jiff::Timestamp,
) -> Result<Result<Order, Rejection>, BackendError> {
    let mut transaction = database.begin().await?;
    if locks_first {
        transaction.lock_sale(request.sale_id).await?;
    }
    let placed = transaction
        .place_order(request, &settling(), None, now)
        .await?;
    transaction.commit().await?;
    Ok(placed)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_transactions_for_a_hundred_pieces_get_exactly_a_hundred() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(100).await?;
    let hosts = two_hosts(&fixture).await?;
    let mut buyers = JoinSet::new();
    for (user, host) in (1..=200).zip(hosts.iter().cycle().cloned()) {
        let request = fixture.request(&format!("r{user}"), &sale, user, 1);
        let now = fixture.now;
        buyers.spawn(async move { transact(&host, &request, user % 3 > 0, now).await });
    }
    let mut left = BTreeSet::new();
    while let Some(placed) = buyers.join_next().await {
        match placed?? {
            Ok(order) => assert!(left.insert(order.remaining), "{order:?}"),
            Err(rejection) => assert_eq!(rejection, Rejection::SoldOut),
        }
    }
    assert_eq!(left, (0..100).collect());
    assert_ledger(&fixture, &sale, 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_two_sales_in_any_order_sell_each_exactly_once_and_never_deadlock() -> Outcome {
    let fixture = Fixture::new().await?;
    let sales = [fixture.sale(100).await?, fixture.sale(100).await?];
    let hosts = two_hosts(&fixture).await?;
    let mut batches = JoinSet::new();
    for (number, host) in (0..40).zip(hosts.iter().cycle().cloned()) {
        let mut batch: Vec<_> = (0..10)
            .map(|place| {
                let sale = sales.iter().cycle().nth(place + number);
                let sale = sale.map_or(1, |sale| sale.id);
                let user = i64::try_from(number * 10 + place).map_or(1, |user| user + 1);
                Request {
                    sale_id: sale,
                    ..fixture.request(&format!("r{user}"), &sales[0], user, 1)
                }
            })
            .collect();
        // Every batch comes a second time, its records from the other end.
        let now = fixture.now;
        for _ in 0..2 {
            batch.reverse();
            let (host, batch) = (Arc::clone(&host), batch.clone());
            batches.spawn(async move { host.purchase(&batch, &settling(), true, now).await });
        }
    }
    while let Some(answers) = batches.join_next().await {
        for answer in answers?? {
            let sold_out = Denial::Refused(rejected(Rejection::SoldOut));
            assert!(answer.is_ok() || answer == Err(sold_out), "{answer:?}");
        }
    }
    assert_ledger(&fixture, &sales[0], 100).await?;
    assert_ledger(&fixture, &sales[1], 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_per_user_holds_across_transactions_and_batches() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.limited_sale(100, Some(3)).await?;
    let hosts = two_hosts(&fixture).await?;
    let mut buyers = JoinSet::new();
    for (number, host) in (0..60).zip(hosts.iter().cycle().cloned()) {
        let request = fixture.request(&format!("r{number}"), &sale, number % 2 + 1, 1);
        let now = fixture.now;
        buyers.spawn(async move {
            if number % 3 > 0 {
                let placed = transact(&host, &request, number % 3 == 1, now).await?;
                return Ok::<_, BackendError>(placed.is_ok());
            }
            let batch = [request];
            let placed = host.purchase(&batch, &settling(), false, now).await?;
            Ok(placed.iter().all(Result::is_ok))
        });
    }
    let mut placed = 0;
    while let Some(bought) = buyers.join_next().await {
        placed += u32::from(bought??);
    }
    assert_eq!(placed, 6);
    assert_ledger(&fixture, &sale, 6).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_ordered_or_refused_and_never_both_whoever_is_first() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(1_000).await?;
    let [one, other] = two_hosts(&fixture).await?;
    let now = fixture.now;
    let (mut ordered, mut refused) = (0, 0);
    for round in 0..40 {
        let batch: Vec<_> = (0..8)
            .map(|place| fixture.request(&format!("r{round}-{place}"), &sale, 1, 1))
            .collect();
        let ids: Vec<_> = batch.iter().map(|request| request.id.clone()).collect();
        let why = Refusal::StrategyFailed;
        let refusals: Vec<_> = ids
            .iter()
            .rev()
            .map(|id| (id.clone(), sale.id, why))
            .collect();
        let revision = settling();
        let (bought, turned_down) = tokio::join!(
            one.purchase(&batch, &revision, round % 2 == 0, now),
            other.refuse(&refusals, now)
        );
        turned_down?;
        let decided = one.decisions(&ids).await?;
        for (answer, decision) in bought?.into_iter().zip(decided) {
            match (answer, decision) {
                (Ok(order), Some(Decision::Ordered(decided))) => {
                    assert_eq!(order, decided);
                    ordered += 1;
                }
                (Err(Denial::Refused(no)), Some(Decision::Refused(decided))) => {
                    assert_eq!((no, decided), (why, why));
                    refused += 1;
                }
                otherwise => panic!("{otherwise:?}"),
            }
        }
    }
    println!("{ordered} ordered, {refused} refused");
    assert_ledger(&fixture, &sale, ordered).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_has_one_effect_whatever_it_is_sent_with() -> Outcome {
    let fixture = Fixture::new().await?;
    let sales = [fixture.sale(1_000).await?, fixture.sale(1_000).await?];
    let [one, other] = two_hosts(&fixture).await?;
    let now = fixture.now;
    for round in 0..40_u8 {
        let key = Some(KeyId([round; 32]));
        let ask = |how: &str, sale: &Sale| Request {
            key,
            ..fixture.request(&format!("{how}{round}"), sale, 1, 1)
        };
        let (here, there) = (ask("batch", &sales[0]), ask("transaction", &sales[1]));
        let claimed = ask("claim", &sales[0]);
        let (batch, revision) = ([here], settling());
        let (batched, transacted, claim) = tokio::join!(
            one.purchase(&batch, &revision, false, now),
            transact(&other, &there, round % 2 == 0, now),
            one.claim_key(&claimed)
        );
        let mut effects = 0;
        match batched?.as_slice() {
            [Ok(_)] => effects += 1,
            answers => assert_eq!(answers, [Err(Denial::Taken)]),
        }
        for answer in [transacted.map(drop), claim] {
            match answer {
                Ok(()) => effects += 1,
                answer => assert!(super::is_duplicate(&answer), "{answer:?}"),
            }
        }
        assert_eq!(effects, 1, "round {round}");
    }
    Ok(())
}
