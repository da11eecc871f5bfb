//! A strategy's transaction: alone while it is open, gone when it is dropped.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

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
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nothing_is_seen_before_the_commit() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    let request = fixture.request("a", &sale, 1, 4);
    let mut transaction = fixture.database.begin().await?;
    assert_eq!(transaction.lock_sale(99).await?, None);
    assert_eq!(transaction.lock_sale(sale.id).await?, Some(sale.clone()));
    let order = transaction
        .place_order(&request, &settling(), None, fixture.now)
        .await?
        .map_err(|no| format!("{no:?}"))?;
    let seen = transaction.lock_sale(sale.id).await?;
    assert_eq!(seen.map(|sale| sale.remaining), Some(6));
    assert_eq!(fixture.remaining(&sale).await?, 10);
    assert_eq!(fixture.database.order(order.id).await?, None);

    transaction.commit().await?;
    assert_eq!(fixture.remaining(&sale).await?, 6);
    assert_eq!(fixture.database.order(order.id).await?, Some(order));
    Ok(())
}

#[tokio::test]
async fn rolled_back_or_dropped_it_leaves_nothing_and_the_writer_goes_on() -> Outcome {
    let fixture = Fixture::new().await?;
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
    Ok(())
}

#[tokio::test]
async fn callers_that_go_away_at_any_moment_poison_no_connection() -> Outcome {
    let fixture = Fixture::new().await?;
    let settling = settling();
    let sale = fixture.sale(1_000).await?;
    for polls in 0..60 {
        abandon(fixture.database.begin(), polls).await;
        let request = fixture.request(&format!("r{polls}"), &sale, 1, 1);
        abandon(
            async {
                let mut transaction = fixture.database.begin().await?;
                let placed = transaction.place_order(&request, &settling, None, fixture.now);
                placed.await.map(drop)
            },
            polls * 3,
        )
        .await;
    }
    assert_eq!(fixture.remaining(&sale).await?, 1_000);
    fixture.buy(&fixture.request("last", &sale, 1, 1)).await?;
    // What a reader sees was committed: a poisoned writer would have answered from its own open transaction.
    assert_eq!(fixture.remaining(&sale).await?, 999);
    Ok(())
}

#[tokio::test]
async fn who_waits_too_long_for_the_writer_is_told_so() -> Outcome {
    let fixture = Fixture::waiting(Duration::from_millis(50)).await?;
    let sale = fixture.sale(1).await?;
    let held = fixture.database.begin().await?;
    let begun = fixture.database.begin().await;
    assert!(matches!(begun, Err(BackendError::LockTimeout { .. })));
    let bought = fixture
        .database
        .purchase(
            &[fixture.request("a", &sale, 1, 1)],
            &settling(),
            false,
            fixture.now,
        )
        .await;
    assert!(matches!(bought, Err(BackendError::LockTimeout { .. })));
    held.rollback().await?;
    fixture.buy(&fixture.request("a", &sale, 1, 1)).await?;
    Ok(())
}

#[tokio::test]
async fn another_process_with_the_file_is_waited_for_at_the_begin_and_not_later() -> Outcome {
    let fixture = Fixture::waiting(Duration::from_millis(50)).await?;
    let sale = fixture.sale(1).await?;
    let other = fixture.beside().await?;
    let held = other.begin().await?;
    let begun = fixture.database.begin().await;
    assert!(matches!(begun, Err(BackendError::LockTimeout { .. })));
    held.rollback().await?;
    fixture.buy(&fixture.request("a", &sale, 1, 1)).await?;
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

    let mut transaction = fixture.database.begin().await?;
    let placing = transaction.place_order(&sound, &settling, None, fixture.now);
    abandon(placing, 1).await;
    assert!(transaction.commit().await.is_err());

    assert_eq!(fixture.remaining(&sale).await?, 10);
    fixture.buy(&sound).await?;
    assert_eq!(fixture.remaining(&sale).await?, 9);
    Ok(())
}
