//! An order that is placed and committed in one step: it ends its transaction, whatever becomes of it.
//!
//! Runs on either database.

use super::{Fixture, Outcome, is_duplicate, settling};
use crate::backend::BackendError;
use crate::domain::Rejection;

#[tokio::test]
async fn placed_and_committed_in_one_step_it_is_final_and_its_row_is_free() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    for (key, locks_first) in [(1, true), (2, false)] {
        // An id is taken as it is, whatever stands in it.
        let request = fixture.keyed(&format!("it's \\x{key} '); --"), &sale, key);
        let mut transaction = fixture.database.begin().await?;
        if locks_first {
            transaction.lock_sale(sale.id).await?;
        }
        let order = transaction
            .place_and_commit(&request, &settling(), Some(u64::from(key)), fixture.now)
            .await?
            .map_err(|no| format!("{no:?}"))?;
        assert_eq!(
            (&order.request_id, order.user_id, order.quantity),
            (&request.id, request.user_id, 1)
        );
        assert_eq!(order.remaining, 10 - i64::from(key));
        assert_eq!(fixture.database.order(order.id).await?, Some(order));
        // The next is not held up by it, and its key is taken.
        let same_key = fixture.keyed(&format!("again {key}"), &sale, key);
        let transaction = fixture.database.begin().await?;
        let again = transaction
            .place_and_commit(&same_key, &settling(), None, fixture.now)
            .await;
        assert!(is_duplicate(&again), "{again:?}");
    }
    assert_eq!(fixture.remaining(&sale).await?, 8);
    assert_eq!(fixture.database.max_fence().await?, 2);
    Ok(())
}

#[tokio::test]
async fn where_there_is_no_order_nothing_is_left_and_the_row_is_free() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(2).await?;
    let known = fixture.request("known", &sale, 1, 1);
    let first = fixture.database.begin().await?;
    let placed = first
        .place_and_commit(&known, &settling(), Some(7), fixture.now)
        .await?;
    assert!(placed.is_ok(), "{placed:?}");
    let ask = async |id: &str, quantity, fence| {
        let request = fixture.request(id, &sale, 1, quantity);
        let mut transaction = fixture.database.begin().await?;
        transaction.lock_sale(sale.id).await?;
        transaction
            .place_and_commit(&request, &settling(), fence, fixture.now)
            .await
    };
    assert_eq!(ask("greedy", 2, None).await?, Err(Rejection::SoldOut));
    assert!(is_duplicate(&ask("known", 1, None).await));
    let late = ask("late", 1, Some(6)).await;
    assert!(matches!(late, Err(BackendError::LockLost)), "{late:?}");
    // What the schema forbids is a fault, and no transaction stays behind it.
    let nobody = fixture.request("nobody", &sale, 0, 1);
    let transaction = fixture.database.begin().await?;
    let broken = transaction
        .place_and_commit(&nobody, &settling(), None, fixture.now)
        .await;
    assert!(
        matches!(broken, Err(BackendError::Unavailable { .. })),
        "{broken:?}"
    );
    assert_eq!(fixture.remaining(&sale).await?, 1);
    assert!(ask("modest", 1, None).await?.is_ok());
    assert_eq!(fixture.remaining(&sale).await?, 0);
    Ok(())
}
