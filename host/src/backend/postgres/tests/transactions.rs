//! A strategy's transaction: alone with its rows while it is open, gone when it is dropped.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use super::faults::waiting_sessions;
use super::{Fixture, Outcome, is_duplicate, settling};
use crate::backend::BackendError;
use crate::domain::Rejection;

/// Polls a future so many times, with room for others in between, and drops it where it is.
async fn abandon<F: Future>(future: F, polls: u32) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let mut context = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
        tokio::time::sleep(Duration::from_micros(50)).await;
    }
}

#[tokio::test]
async fn nothing_is_seen_before_the_commit() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(4).await?;
    let request = fixture.request("a", &sale, 1, 4);
    let mut transaction = fixture.database.begin().await?;
    assert_eq!(transaction.lock_sale(99).await?, None);
    assert_eq!(transaction.lock_sale(sale.id).await?, Some(sale.clone()));
    let order = transaction
        .place_order(&request, &settling(), None, fixture.now)
        .await?
        .map_err(|no| format!("{no:?}"))?;
    let seen = transaction.lock_sale(sale.id).await?;
    assert_eq!(seen.map(|sale| sale.remaining), Some(0));
    // A 0 that is not committed is nobody's but its own.
    assert_eq!(fixture.remaining(&sale).await?, 4);
    assert_eq!(fixture.database.order(order.id).await?, None);
    assert_eq!(fixture.database.decisions(&[request.id]).await?, [None]);

    transaction.commit().await?;
    assert_eq!(fixture.remaining(&sale).await?, 0);
    assert_eq!(fixture.database.order(order.id).await?, Some(order));
    Ok(())
}

#[tokio::test]
async fn who_comes_second_waits_and_sees_what_the_first_committed() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.limited_sale(10, Some(2)).await?;
    let mut first = fixture.database.begin().await?;
    let one = fixture.request("a", &sale, 1, 1);
    assert!(
        first
            .place_order(&one, &settling(), None, fixture.now)
            .await?
            .is_ok()
    );

    let mut second = fixture.database.begin().await?;
    let two = fixture.request("b", &sale, 1, 2);
    let settling_second = settling();
    let waiting = second.place_order(&two, &settling_second, None, fixture.now);
    let mut waiting = Box::pin(waiting);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    first.commit().await?;
    assert_eq!(waiting.as_mut().await?, Err(Rejection::LimitExceeded));
    drop(waiting);
    second.rollback().await?;
    Ok(())
}

#[tokio::test]
async fn rolled_back_or_dropped_it_leaves_nothing_and_its_place_in_the_pool_is_free() -> Outcome {
    let fixture = Fixture::with(|options| options.pool_max = 1).await?;
    let sale = fixture.sale(1).await?;
    for user in 1..=20 {
        let request = fixture.request(&format!("r{user}"), &sale, user, 1);
        let mut transaction = fixture.database.begin().await?;
        let placed = transaction
            .place_order(&request, &settling(), None, fixture.now)
            .await?;
        assert!(placed.is_ok(), "{placed:?}");
        if user % 2 == 0 {
            transaction.rollback().await?;
        } else {
            drop(transaction);
        }
    }
    assert_eq!(fixture.remaining(&sale).await?, 1);
    fixture.buy(&fixture.request("last", &sale, 1, 1)).await?;
    assert_eq!(fixture.remaining(&sale).await?, 0);
    assert_eq!(fixture.database.connections(), [("postgres", 0, 1)]);
    Ok(())
}

#[tokio::test]
async fn callers_that_go_away_at_any_moment_poison_no_connection() -> Outcome {
    let fixture = Fixture::with(|options| options.pool_max = 2).await?;
    let settling = settling();
    let sale = fixture.sale(1_000).await?;
    for polls in 0..60 {
        abandon(fixture.database.begin(), polls).await;
        let request = fixture.request(&format!("r{polls}"), &sale, 1, 1);
        abandon(
            async {
                let mut transaction = fixture.database.begin().await?;
                transaction.lock_sale(sale.id).await?;
                let placed = transaction.place_order(&request, &settling, None, fixture.now);
                placed.await.map(drop)
            },
            polls * 3,
        )
        .await;
    }
    assert_eq!(fixture.remaining(&sale).await?, 1_000);
    fixture.buy(&fixture.request("last", &sale, 1, 1)).await?;
    assert_eq!(fixture.remaining(&sale).await?, 999);
    assert_eq!(
        fixture
            .beside()
            .await?
            .sale(sale.id)
            .await?
            .map(|sale| sale.remaining),
        Some(999)
    );
    Ok(())
}

#[tokio::test]
async fn who_waits_too_long_for_a_row_or_a_connection_is_told_so() -> Outcome {
    let fixture = Fixture::with(|options| {
        options.pool_max = 2;
        options.row_lock_wait = Duration::from_millis(100);
    })
    .await?;
    let sale = fixture.sale(1).await?;
    let is_late = |error: &BackendError| matches!(error, BackendError::LockTimeout { .. });
    let mut held = fixture.database.begin().await?;
    held.lock_sale(sale.id).await?;
    let request = fixture.request("a", &sale, 1, 1);
    let bought = fixture
        .database
        .purchase(
            std::slice::from_ref(&request),
            &settling(),
            false,
            fixture.now,
        )
        .await;
    assert!(bought.as_ref().is_err_and(is_late), "{bought:?}");
    let mut second = fixture.database.begin().await?;
    let locked = second.lock_sale(sale.id).await;
    assert!(locked.as_ref().is_err_and(is_late), "{locked:?}");
    assert!(second.lock_sale(sale.id).await.is_err());
    let third = fixture.database.begin().await;
    assert!(third.as_ref().is_err_and(is_late), "{third:?}");
    held.rollback().await?;
    second.rollback().await?;
    fixture.buy(&request).await?;
    Ok(())
}

#[tokio::test]
async fn a_lower_fence_than_the_last_cannot_write() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    for (fence, passes) in [
        (Some(7), true),
        (Some(6), false),
        (Some(7), true),
        (None, true),
        (Some(6), false),
        (Some(8), true),
    ] {
        let id = format!("r{}", fixture.remaining(&sale).await?);
        let request = fixture.request(&id, &sale, 1, 1);
        let mut transaction = fixture.database.begin().await?;
        let placed = transaction
            .place_order(&request, &settling(), fence, fixture.now)
            .await;
        let lost = matches!(placed, Err(BackendError::LockLost));
        assert_eq!((placed.is_ok(), lost), (passes, !passes), "{fence:?}");
        transaction.commit().await?;
    }
    assert_eq!(fixture.remaining(&sale).await?, 6);
    assert_eq!(fixture.database.max_fence().await?, 8);
    Ok(())
}

#[tokio::test]
async fn a_duplicate_or_a_rejection_leaves_the_transaction_usable() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(2).await?;
    let known = fixture.keyed("known", &sale, 1);
    fixture.buy(&known).await?;
    let mut transaction = fixture.database.begin().await?;
    let mut ask = async |request| {
        transaction
            .place_order(&request, &settling(), None, fixture.now)
            .await
    };
    assert!(is_duplicate(&ask(known).await));
    assert!(is_duplicate(
        &ask(fixture.keyed("same key", &sale, 1)).await
    ));
    let greedy = ask(fixture.request("greedy", &sale, 1, 2)).await?;
    assert_eq!(greedy, Err(Rejection::SoldOut));
    assert!(ask(fixture.request("modest", &sale, 1, 1)).await?.is_ok());
    transaction.commit().await?;
    assert_eq!(fixture.remaining(&sale).await?, 0);
    Ok(())
}

#[tokio::test]
async fn after_a_fault_or_a_dropped_statement_it_cannot_be_committed() -> Outcome {
    let fixture = Fixture::new().await?;
    let settling = settling();
    let sale = fixture.sale(10).await?;
    let sound = fixture.request("sound", &sale, 1, 1);
    let nobody = fixture.request("nobody", &sale, 0, 1);

    let mut transaction = fixture.database.begin().await?;
    let placed = transaction
        .place_order(&sound, &settling, None, fixture.now)
        .await?;
    assert!(placed.is_ok());
    let broken = transaction
        .place_order(&nobody, &settling, None, fixture.now)
        .await;
    assert!(matches!(broken, Err(BackendError::Unavailable { .. })));
    assert!(transaction.lock_sale(sale.id).await.is_err());
    assert!(transaction.commit().await.is_err());

    // Another has the row, so that no statement is done by the time at which it is dropped.
    let mut other = fixture.database.begin().await?;
    other.lock_sale(sale.id).await?;
    let mut transaction = fixture.database.begin().await?;
    let placing = transaction.place_order(&sound, &settling, None, fixture.now);
    abandon(placing, 1).await;
    assert!(transaction.commit().await.is_err());
    other.rollback().await?;

    assert_eq!(fixture.remaining(&sale).await?, 10);
    fixture.buy(&sound).await?;
    assert_eq!(fixture.remaining(&sale).await?, 9);
    Ok(())
}

#[tokio::test]
async fn an_order_whose_key_another_takes_at_the_same_moment_ends_its_transaction() -> Outcome {
    let fixture = Fixture::with(|options| options.pool_max = 2).await?;
    let sales = [fixture.sale(1).await?, fixture.sale(1).await?];
    let [first, second] = &sales;
    let mut winner = fixture.database.begin().await?;
    let won = fixture.keyed("won", first, 1);
    let placed = winner
        .place_order(&won, &settling(), None, fixture.now)
        .await?;
    assert!(placed.is_ok(), "{placed:?}");
    let loser = fixture.database.begin().await?;
    let (lost, settling) = (fixture.keyed("lost", second, 1), settling());
    let losing = loser.place_and_commit(&lost, &settling, None, fixture.now);
    let (lost, won) = tokio::join!(losing, async {
        waiting_sessions(&fixture, 1).await?;
        winner.commit().await?;
        Outcome::Ok(())
    });
    won?;
    assert!(is_duplicate(&lost), "{lost:?}");
    assert_eq!(fixture.database.connections(), [("postgres", 0, 2)]);
    for (sale, left) in [(first, 0), (second, 1)] {
        assert_eq!(fixture.remaining(sale).await?, left);
    }
    Ok(())
}
