//! Values and counters: there until their life is over.

use std::time::Duration;

use redis::cmd;
use tokio::time::sleep;

use super::{MINUTE, Outcome, SECOND, options, two_hosts};
use crate::backend::BackendError;
use crate::backend::redis::Redis;

fn is_no_counter<T>(answer: &Result<T, BackendError>) -> bool {
    matches!(answer, Err(BackendError::WrongValue { .. }))
}

#[tokio::test]
async fn a_value_is_there_for_every_host_until_its_life_is_over() -> Outcome {
    let [one, other] = two_hosts().await?;
    let bytes = vec![0, 255, b'\r', b'\n'];
    one.set("a", bytes.clone(), 300 * Duration::from_millis(1))
        .await?;
    one.set("b", b"2".to_vec(), 2 * MINUTE).await?;
    assert_eq!(other.get("a").await?, Some(bytes));
    sleep(400 * Duration::from_millis(1)).await;
    assert_eq!(other.get("a").await?, None);
    assert!(!one.delete("a").await?);
    assert!(other.delete("b").await?);
    assert!(!one.delete("b").await?);
    one.set("c", Vec::new(), Duration::ZERO).await?;
    sleep(Duration::from_millis(10)).await;
    assert_eq!(one.get("c").await?, None);
    one.ping().await?;
    Ok(())
}

#[tokio::test]
async fn a_counter_counts_in_64_bits_and_keeps_its_life() -> Outcome {
    let redis = Redis::open(&options()?).await?;
    redis.set("stock", b"10".to_vec(), SECOND).await?;
    assert_eq!(redis.add("stock", -4).await?, 6);
    assert_eq!(redis.take("stock", 7).await?, None);
    assert_eq!(redis.take("stock", 6).await?, Some(0));
    assert_eq!(redis.take("stock", 1).await?, None);
    assert_eq!(redis.take("stock", 0).await?, Some(0));
    assert_eq!(redis.add("stock", -1).await?, -1);
    assert_eq!(redis.take("stock", 0).await?, None);
    assert_eq!(redis.get("stock").await?, Some(b"-1".to_vec()));
    sleep(SECOND).await;
    assert_eq!(redis.take("stock", 0).await?, None);
    assert_eq!(redis.add("stock", 5).await?, 5);

    let most = i64::MAX.to_string().into_bytes();
    redis.set("most", most, SECOND).await?;
    assert!(is_no_counter(&redis.add("most", 1).await));
    assert_eq!(redis.add("most", -1).await?, i64::MAX - 1);
    assert_eq!(redis.take("most", u64::MAX).await?, None);
    let all_but_one = u64::try_from(i64::MAX)? - 2;
    assert_eq!(redis.take("most", all_but_one).await?, Some(1));
    Ok(())
}

#[tokio::test]
async fn what_is_no_counter_is_not_counted() -> Outcome {
    let redis = Redis::open(&options()?).await?;
    for value in ["", "five", "1.5", "9223372036854775808", "\u{0661}"] {
        redis.set("text", value.as_bytes().to_vec(), SECOND).await?;
        assert!(is_no_counter(&redis.add("text", 1).await), "{value}");
        assert!(is_no_counter(&redis.take("text", 1).await), "{value}");
        assert_eq!(redis.get("text").await?, Some(value.as_bytes().to_vec()));
    }
    Ok(())
}

#[tokio::test]
async fn everything_lives_under_the_prefix_and_only_the_tokens_live_for_ever() -> Outcome {
    let options = options()?;
    let redis = Redis::open(&options).await?;
    // A key that would be the host's own, had it no place of its own.
    let sly = "host:token:last";
    redis.set(sly, b"9".to_vec(), 2 * MINUTE).await?;
    redis.add("counter", 1).await?;
    super::acquire(&redis, sly, SECOND, SECOND)
        .await?
        .ok_or("taken")?;
    super::acquire(&redis, sly, Duration::from_millis(1), SECOND).await?;
    let mut connection = redis::Client::open(options.url)?
        .get_multiplexed_async_connection()
        .await?;
    let pattern = format!("{}*", options.prefix);
    let keys: Vec<String> = cmd("KEYS")
        .arg(&pattern)
        .query_async(&mut connection)
        .await?;
    assert_eq!(keys.len(), 4, "{keys:?}");
    for key in keys {
        let life: i64 = cmd("PTTL").arg(&key).query_async(&mut connection).await?;
        let tokens = key == format!("{}host:token:last", options.prefix);
        assert_eq!(life < 0, tokens, "{key} lives for {life}");
        assert!(life <= 60_000, "{key} lives for {life}");
    }
    let () = cmd("DEL")
        .arg(format!("{}host:token:last", options.prefix))
        .query_async(&mut connection)
        .await?;
    assert_eq!(redis.get(sly).await?, Some(b"9".to_vec()));
    Ok(())
}

#[tokio::test]
async fn the_server_says_how_many_it_serves_and_what_that_takes() -> Outcome {
    let redis = Redis::open(&options()?).await?;
    let stats = redis.stats().await?;
    assert!(stats.connected_clients >= Some(1), "{stats:?}");
    assert!(stats.used_memory > Some(100_000), "{stats:?}");
    Ok(())
}
