//! Locks: one holder, in turn, for as long as the lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio::time::{Instant, advance};

use super::{HOUR, Outcome, SECOND, memory};
use crate::backend::memory::{Grant, Memory};

/// Starts a task that waits for a lock, and lets it get in line.
async fn queue_up(memory: &Arc<Memory>, wait: Duration) -> JoinHandle<Option<Grant>> {
    let memory = Arc::clone(memory);
    let waiter = tokio::spawn(async move { memory.acquire("lock", wait, SECOND).await });
    yield_now().await;
    waiter
}

#[tokio::test(start_paused = true)]
async fn a_lock_has_one_holder_and_every_grant_a_higher_token() -> Outcome {
    let memory = memory();
    let mut holders = JoinSet::new();
    for _ in 0..50 {
        let memory = Arc::clone(&memory);
        holders.spawn(async move {
            let grant = memory.acquire("lock", HOUR, HOUR).await?;
            // While one holds it, a value that others would change stays.
            memory
                .set("holder", grant.token.to_string().into_bytes(), HOUR)
                .ok()?;
            for _ in 0..5 {
                yield_now().await;
            }
            let alone = memory.get("holder")? == grant.token.to_string().into_bytes();
            (alone && memory.release(&grant)).then_some(grant.token)
        });
    }
    let mut tokens = Vec::new();
    while let Some(token) = holders.join_next().await {
        tokens.push(token?.ok_or("two held it")?);
    }
    assert_eq!(tokens, (100..150).collect::<Vec<_>>());
    let other = memory.acquire("other", SECOND, SECOND).await;
    assert_eq!(other.map(|grant| grant.token), Some(150));
    assert_eq!(memory.stats().locks, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_order_of_arrival() -> Outcome {
    let memory = memory();
    let mut held = memory.acquire("lock", SECOND, HOUR).await;
    let mut waiters = Vec::new();
    for _ in 0..5 {
        waiters.push(queue_up(&memory, HOUR).await);
    }
    for waiter in waiters {
        let free = held.take().ok_or("not granted")?;
        assert!(memory.release(&free));
        // Whoever comes now stands behind those that wait, though the lock is free.
        assert!(
            memory
                .acquire("lock", Duration::ZERO, SECOND)
                .await
                .is_none()
        );
        held = waiter.await?;
        assert_eq!(held.as_ref().map(|grant| grant.token), Some(free.token + 1));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_lapsed_lease_lets_the_next_in_and_is_no_longer_released() -> Outcome {
    let memory = memory();
    let start = Instant::now();
    let first = memory
        .acquire("lock", SECOND, 3 * SECOND)
        .await
        .ok_or("taken")?;
    let second = queue_up(&memory, HOUR).await;
    let third = queue_up(&memory, HOUR).await;
    let second = second.await?.ok_or("not granted")?;
    assert_eq!(second.granted_at - start, 3 * SECOND);
    assert_eq!(second.lapses_at - start, 4 * SECOND);
    assert!(!memory.release(&first));
    // The third watches the second's lease, though it was behind when the first's began.
    let third = third.await?.ok_or("not granted")?;
    assert_eq!(third.granted_at - start, 4 * SECOND);
    assert!(!memory.release(&second));
    assert!(memory.release(&third));
    assert!(!memory.release(&third));
    assert_eq!(memory.stats().locks, 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_or_goes_away_leaves_nothing_behind() -> Outcome {
    let memory = memory();
    let start = Instant::now();
    let held = memory.acquire("lock", SECOND, HOUR).await.ok_or("taken")?;
    assert!(
        memory
            .acquire("lock", Duration::ZERO, SECOND)
            .await
            .is_none()
    );
    assert!(memory.acquire("lock", SECOND, SECOND).await.is_none());
    assert_eq!(start.elapsed(), SECOND);

    let first = queue_up(&memory, HOUR).await;
    let second = queue_up(&memory, HOUR).await;
    let third = queue_up(&memory, HOUR).await;
    first.abort();
    assert!(first.await.is_err());
    assert!(memory.release(&held));
    // The second was woken and goes away before it looks: the third must hear of it.
    second.abort();
    assert!(second.await.is_err());
    let third = third.await?.ok_or("not granted")?;
    assert_eq!(
        (third.token, third.granted_at),
        (held.token + 1, start + SECOND)
    );
    assert!(memory.release(&third));
    assert_eq!(memory.stats().locks, 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn locks_that_nobody_released_are_cleared_away() -> Outcome {
    let memory = memory();
    for key in 0..100 {
        let leaked = memory.acquire(&key.to_string(), SECOND, SECOND).await;
        assert!(leaked.is_some());
    }
    assert_eq!(memory.stats().locks, 100);
    advance(SECOND).await;
    for _ in 0..2 {
        let grant = memory
            .acquire("lock", SECOND, SECOND)
            .await
            .ok_or("taken")?;
        assert!(memory.release(&grant));
    }
    assert_eq!(memory.stats().locks, 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_waiters_that_come_and_go_never_stalls_the_lock() -> Outcome {
    let memory = memory();
    let mut storm = JoinSet::new();
    for number in 0_u64..300 {
        let memory = Arc::clone(&memory);
        storm.spawn(async move {
            let wait = Duration::from_millis(number * 7 % 50);
            let lease = Duration::from_millis(1 + number * 3 % 5);
            let Some(grant) = memory.acquire("lock", wait, lease).await else {
                return;
            };
            tokio::time::sleep(Duration::from_millis(number % 4)).await;
            memory.release(&grant);
        });
        if number % 5 == 0 {
            storm.abort_all();
        }
        yield_now().await;
    }
    while storm.join_next().await.is_some() {}
    let last = memory
        .acquire("lock", SECOND, SECOND)
        .await
        .ok_or("stalled")?;
    assert!(memory.release(&last));
    assert_eq!(memory.stats().locks, 0);
    Ok(())
}
