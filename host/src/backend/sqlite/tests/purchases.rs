//! Batches of requests: each decided once, whatever comes beside it.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use super::{Fixture, Outcome, rejected, settling};
use crate::backend::database::Denial;
use crate::domain::{Decision, Refusal, Rejection, Request, RequestId, Sale};

fn sold_out() -> Denial {
    Denial::Refused(rejected(Rejection::SoldOut))
}

#[tokio::test]
async fn two_hundred_buyers_of_a_hundred_pieces_get_exactly_a_hundred() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(100).await?;
    let mut buyers = JoinSet::new();
    for user in 1..=200 {
        let database = fixture.database.clone();
        let request = fixture.request(&format!("r{user}"), &sale, user, 1);
        let now = fixture.now;
        buyers.spawn(async move { database.purchase(&[request], &settling(), false, now).await });
    }
    let mut left = BTreeSet::new();
    let mut denied = 0;
    while let Some(answers) = buyers.join_next().await {
        for answer in answers?? {
            match answer {
                Ok(order) => assert!(left.insert(order.remaining), "{order:?}"),
                Err(denial) => {
                    assert_eq!(denial, sold_out());
                    denied += 1;
                }
            }
        }
    }
    assert_eq!(left, (0..100).collect());
    assert_eq!(denied, 100);
    assert_eq!(fixture.remaining(&sale).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_batch_is_judged_in_its_order_and_a_no_hinders_nobody() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.limited_sale(5, Some(2)).await?;
    let unknown = Sale {
        id: 99,
        ..sale.clone()
    };
    let mut late = fixture.request("late", &sale, 4, 1);
    late.accepted_at = sale.end_at;
    let requests = [
        fixture.request("a", &sale, 1, 2),
        fixture.request("b", &sale, 1, 1),
        fixture.request("c", &unknown, 2, 1),
        fixture.request("d", &sale, 2, 2),
        late,
        fixture.request("e", &sale, 3, 2),
        fixture.request("f", &sale, 3, 1),
    ];
    let answers = fixture
        .database
        .purchase(&requests, &settling(), false, fixture.now)
        .await?;
    let verdicts: Vec<_> = answers
        .iter()
        .map(|answer| {
            answer
                .as_ref()
                .map(|order| order.remaining)
                .map_err(|no| *no)
        })
        .collect();
    let no = |rejection| Err(Denial::Refused(rejected(rejection)));
    assert_eq!(
        verdicts,
        [
            Ok(3),
            no(Rejection::LimitExceeded),
            no(Rejection::SaleNotFound),
            Ok(1),
            no(Rejection::NotOpen),
            no(Rejection::SoldOut),
            Ok(0),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn each_request_is_answered_in_its_place_whatever_stands_beside_it() -> Outcome {
    let fixture = Fixture::new().await?;
    let one = fixture.limited_sale(3, Some(2)).await?;
    let other = fixture.sale(4).await?;
    let database = &fixture.database;
    let before = [
        fixture.request("second", &other, 2, 2),
        fixture.request("first", &one, 1, 1),
    ];
    let placed = database
        .purchase(&before, &settling(), false, fixture.now)
        .await?;
    let failed = fixture.request("failed", &one, 9, 1);
    let refusal = (failed.id.clone(), one.id, Refusal::StrategyFailed);
    database.refuse(&[refusal], fixture.now).await?;

    let no = |refusal| Some(Denial::Refused(refusal));
    let nowhere = Request {
        sale_id: other.id + 1,
        ..fixture.request("nowhere", &other, 3, 1)
    };
    let [second, first] = before;
    let batch = [
        // The request, and why there is no order.
        (fixture.request("third", &one, 3, 1), None),
        (second, None),
        (failed, no(Refusal::StrategyFailed)),
        (fixture.request("third", &one, 3, 1), None),
        (fixture.request("greedy", &other, 4, 3), Some(sold_out())),
        (fixture.keyed("keyed", &other, 1), None),
        (fixture.keyed("same key", &other, 1), Some(Denial::Taken)),
        (fixture.request("too many", &one, 1, 2), Some(sold_out())),
        (nowhere, no(rejected(Rejection::SaleNotFound))),
        (fixture.request("last", &one, 1, 1), None),
        (first, None),
        (fixture.request("late", &other, 1, 1), None),
    ];
    let requests: Vec<_> = batch.iter().map(|(request, _)| request.clone()).collect();
    let answers = database
        .purchase(&requests, &settling(), false, fixture.now)
        .await?;

    assert_eq!(answers.len(), batch.len());
    for ((request, denied), answer) in batch.into_iter().zip(&answers) {
        assert_eq!(answer.as_ref().err(), denied.as_ref(), "{}", request.id);
        if let Ok(order) = answer {
            assert_eq!(order.request_id, request.id);
            assert_eq!(database.order(order.id).await?.as_ref(), Some(order));
        }
    }
    assert_eq!([&answers[1], &answers[10]], [&placed[0], &placed[1]]);
    assert_eq!(answers[0], answers[3]);
    assert_eq!(fixture.remaining(&one).await?, 0);
    assert_eq!(fixture.remaining(&other).await?, 0);
    Ok(())
}

#[tokio::test]
async fn in_a_batch_a_buyer_counts_for_each_limited_sale_by_itself() -> Outcome {
    let fixture = Fixture::new().await?;
    let limited = fixture.limited_sale(10, Some(3)).await?;
    let also_limited = fixture.limited_sale(10, Some(1)).await?;
    let open = fixture.sale(10).await?;
    fixture
        .buy(&fixture.request("before", &limited, 1, 2))
        .await?;
    let batch = [
        fixture.request("a", &limited, 1, 2),
        fixture.request("b", &open, 1, 5),
        fixture.request("c", &limited, 1, 1),
        fixture.request("d", &also_limited, 1, 1),
        fixture.request("e", &limited, 2, 3),
        fixture.request("f", &open, 1, 5),
        fixture.request("g", &also_limited, 1, 1),
        fixture.request("h", &limited, 2, 1),
    ];
    let answers = fixture
        .database
        .purchase(&batch, &settling(), true, fixture.now)
        .await?;
    let exceeded = Denial::Refused(rejected(Rejection::LimitExceeded));
    for (place, answer) in answers.into_iter().enumerate() {
        let denied = [0, 6, 7].contains(&place).then_some(exceeded);
        assert_eq!(answer.err(), denied, "{place}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_bought_before_counts_towards_the_limit() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.limited_sale(10, Some(3)).await?;
    fixture.buy(&fixture.request("a", &sale, 1, 2)).await?;
    let more = [
        fixture.request("b", &sale, 1, 2),
        fixture.request("c", &sale, 1, 1),
        fixture.request("d", &sale, 2, 3),
    ];
    let answers = fixture
        .database
        .purchase(&more, &settling(), false, fixture.now)
        .await?;
    let bought: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(bought, [false, true, true]);
    Ok(())
}

#[tokio::test]
async fn a_request_is_decided_once_however_often_it_is_asked() -> Outcome {
    let mut fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    let request = fixture.request("a", &sale, 1, 1);
    let batch = [request.clone(), request.clone()];
    let answers = fixture
        .database
        .purchase(&batch, &settling(), true, fixture.now)
        .await?;
    fixture.reopen().await?;
    let again = fixture.buy(&request).await?;
    assert_eq!(answers, [Ok(again.clone()), Ok(again.clone())]);
    assert_eq!(fixture.database.order(again.id).await?, Some(again));
    assert_eq!(fixture.remaining(&sale).await?, 9);
    Ok(())
}

#[tokio::test]
async fn a_final_refusal_stays_though_the_request_would_pass_now() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(1).await?;
    let greedy = fixture.request("greedy", &sale, 1, 2);
    let batch = [greedy.clone()];
    let database = &fixture.database;
    let asked = database
        .purchase(&batch, &settling(), false, fixture.now)
        .await?;
    assert_eq!(asked, [Err(sold_out())]);
    assert_eq!(database.decisions(&[greedy.id]).await?, [None]);

    let settled = database
        .purchase(&batch, &settling(), true, fixture.now)
        .await?;
    assert_eq!(settled, [Err(sold_out())]);
    let modest = [fixture.request("greedy", &sale, 1, 1)];
    let asked = database
        .purchase(&modest, &settling(), false, fixture.now)
        .await?;
    assert_eq!(asked, [Err(sold_out())]);
    assert_eq!(fixture.remaining(&sale).await?, 1);
    Ok(())
}

#[tokio::test]
async fn decisions_come_in_the_order_of_the_question() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(1).await?;
    let order = fixture.buy(&fixture.request("bought", &sale, 1, 1)).await?;
    let id = |id: &str| RequestId(id.into());
    let failed = (id("failed"), sale.id, Refusal::StrategyFailed);
    fixture.database.refuse(&[failed], fixture.now).await?;
    let asked = [id("failed"), id("unknown"), id("bought"), id("failed")];
    let refused = Some(Decision::Refused(Refusal::StrategyFailed));
    assert_eq!(
        fixture.database.decisions(&asked).await?,
        [
            refused.clone(),
            None,
            Some(Decision::Ordered(order)),
            refused
        ]
    );
    assert_eq!(fixture.database.decisions(&[]).await?, []);
    Ok(())
}

#[tokio::test]
async fn the_first_refusal_wins_and_none_touches_an_order() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(1).await?;
    let order = fixture.buy(&fixture.request("bought", &sale, 1, 1)).await?;
    let bought = RequestId("bought".into());
    let lost = RequestId("lost".into());
    let refusals = [
        (bought.clone(), sale.id, Refusal::StrategyFailed),
        (lost.clone(), sale.id, rejected(Rejection::NotOpen)),
        (lost.clone(), sale.id, Refusal::StrategyFailed),
    ];
    fixture.database.refuse(&refusals, fixture.now).await?;
    fixture.database.refuse(&refusals, fixture.now).await?;
    assert_eq!(
        fixture.database.decisions(&[bought, lost]).await?,
        [
            Some(Decision::Ordered(order)),
            Some(Decision::Refused(rejected(Rejection::NotOpen))),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_batch_larger_than_any_limit_of_parameters_is_one_commit() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(3_000).await?;
    let requests: Vec<_> = (1..=4_000)
        .map(|user| fixture.request(&format!("r{user}"), &sale, user, 1))
        .collect();
    let answers = fixture
        .database
        .purchase(&requests, &settling(), true, fixture.now)
        .await?;
    assert_eq!(
        answers.iter().filter(|answer| answer.is_ok()).count(),
        3_000
    );
    let ids: Vec<_> = requests.into_iter().map(|request| request.id).collect();
    let decided = fixture.database.decisions(&ids).await?;
    assert!(decided.iter().all(Option::is_some));
    Ok(())
}
