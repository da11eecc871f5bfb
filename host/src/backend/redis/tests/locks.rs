//! Locks: one holder, in turn, for as long as the lease, across hosts.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::{MINUTE, Outcome, SECOND, acquire, options, two_hosts};
use crate::backend::BackendError;
use crate::backend::memory::Grant;
use crate::backend::redis::Redis;

const MOMENT: Duration = Duration::from_millis(50);

/// Starts a task that waits for a lock, and lets it get in line.
async fn queue_up(
    redis: &Arc<Redis>,
    wait: Duration,
) -> JoinHandle<Result<Option<Grant>, BackendError>> {
    let redis = Arc::clone(redis);
    let waiter = tokio::spawn(async move { acquire(&redis, "lock", wait, SECOND).await });
    sleep(MOMENT).await;
    waiter
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_has_one_holder_and_every_grant_a_higher_token() -> Outcome {
    let hosts = two_hosts().await?;
    let mut holders = JoinSet::new();
    for redis in hosts.iter().cycle().take(60) {
        let redis = Arc::clone(redis);
        holders.spawn(async move {
            let grant = acquire(&redis, "lock", MINUTE, MINUTE).await?;
            let grant = grant.ok_or(BackendError::LockLost)?;
            // While one holds it, a value that others would change stays.
            let mine = grant.token.to_string().into_bytes();
            redis.set("holder", mine.clone(), MINUTE).await?;
            sleep(Duration::from_millis(2)).await;
            let alone = redis.get("holder").await? == Some(mine);
            assert!(alone && redis.release(&grant).await?);
            Ok::<_, BackendError>((grant.token, Instant::now()))
        });
    }
    let began = Instant::now();
    let mut grants = Vec::new();
    while let Some(grant) = holders.join_next().await {
        grants.push(grant??);
    }
    println!("60 holders in {:?}", began.elapsed());
    grants.sort_by_key(|(_, at)| *at);
    assert!(grants.is_sorted_by(|(first, _), (second, _)| first < second));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_a_host_are_served_in_order_and_hosts_in_turn() -> Outcome {
    let hosts = two_hosts().await?;
    let [one, other] = &hosts;
    let mut held = acquire(one, "lock", SECOND, MINUTE).await?;
    let mut here = Vec::new();
    let mut there = Vec::new();
    for _ in 0..4 {
        here.push(queue_up(one, MINUTE).await);
        there.push(queue_up(other, MINUTE).await);
    }
    for waiter in here.into_iter().zip(there).flat_map(|(a, b)| [a, b]) {
        let free = held.take().ok_or("not granted")?;
        let released_at = Instant::now();
        // Whichever host it came by, it is the lock's.
        assert!(other.release(&free).await?);
        // Whoever comes now stands behind those that wait.
        assert!(
            acquire(one, "lock", Duration::ZERO, SECOND)
                .await?
                .is_none()
        );
        held = waiter.await??;
        let late = released_at.elapsed();
        assert!(late < Duration::from_millis(200), "woken after {late:?}");
        assert_eq!(held.as_ref().map(|grant| grant.token), Some(free.token + 1));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_lease_lets_the_next_in_and_is_no_longer_released() -> Outcome {
    let [one, other] = two_hosts().await?;
    let began = Instant::now();
    let first = acquire(&one, "lock", SECOND, 700 * Duration::from_millis(1)).await?;
    let first = first.ok_or("taken")?;
    let second = queue_up(&other, MINUTE).await;
    let second = second.await??.ok_or("not granted")?;
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(690), "{waited:?}");
    assert!(waited < Duration::from_millis(1_300), "{waited:?}");
    assert!(!one.release(&first).await?);
    assert!(other.release(&second).await?);
    assert!(!other.release(&second).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_or_goes_away_holds_nobody_up() -> Outcome {
    let [one, other] = two_hosts().await?;
    let held = acquire(&one, "lock", SECOND, MINUTE)
        .await?
        .ok_or("taken")?;
    let began = Instant::now();
    assert!(acquire(&other, "lock", 5 * MOMENT, SECOND).await?.is_none());
    let waited = began.elapsed();
    assert!(waited >= 5 * MOMENT && waited < SECOND, "{waited:?}");

    let first = queue_up(&other, MINUTE).await;
    let second = queue_up(&one, MINUTE).await;
    let third = queue_up(&other, MINUTE).await;
    // The first and the second have a place on the server, the third has not.
    first.abort();
    second.abort();
    assert!(first.await.is_err() && second.await.is_err());
    sleep(MOMENT).await;
    let released_at = Instant::now();
    assert!(one.release(&held).await?);
    let third = third.await??.ok_or("not granted")?;
    assert!(
        released_at.elapsed() < 4 * MOMENT,
        "{:?}",
        released_at.elapsed()
    );
    assert_eq!(third.token, held.token + 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_died_in_the_queue_costs_the_others_less_than_a_second() -> Outcome {
    let options = options()?;
    let one = Arc::new(Redis::open(&options).await?);
    let held = acquire(&one, "lock", SECOND, MINUTE)
        .await?
        .ok_or("taken")?;
    // A runtime that ends takes its tasks with it: nobody leaves the queue.
    let dead = options.clone();
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let redis = Arc::new(Redis::open(&dead).await.map_err(std::io::Error::other)?);
            std::mem::forget(queue_up(&redis, MINUTE).await);
            std::mem::forget(redis);
            Ok::<_, std::io::Error>(())
        })?;
        runtime.shutdown_background();
        Ok::<_, std::io::Error>(())
    })
    .await??;
    let waiter = queue_up(&one, MINUTE).await;
    let released_at = Instant::now();
    assert!(one.release(&held).await?);
    let next = waiter.await??.ok_or("not granted")?;
    let late = released_at.elapsed();
    assert!(late < SECOND, "{late:?}");
    assert_eq!(next.token, held.token + 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_waiters_that_come_and_go_never_stalls_the_lock() -> Outcome {
    let hosts = two_hosts().await?;
    let mut storm = JoinSet::new();
    for (number, redis) in (0_u64..300).zip(hosts.iter().cycle().cloned()) {
        storm.spawn(async move {
            let wait = Duration::from_millis(number * 7 % 50);
            let lease = Duration::from_millis(1 + number * 3 % 5);
            let Ok(Some(grant)) = acquire(&redis, "lock", wait, lease).await else {
                return;
            };
            sleep(Duration::from_millis(number % 4)).await;
            let _ = redis.release(&grant).await;
        });
        if number % 5 == 0 {
            storm.abort_all();
        }
        sleep(Duration::from_micros(200)).await;
    }
    while storm.join_next().await.is_some() {}
    for redis in &hosts {
        let last = acquire(redis, "lock", 2 * SECOND, SECOND).await?;
        assert!(redis.release(&last.ok_or("stalled")?).await?);
    }
    Ok(())
}
