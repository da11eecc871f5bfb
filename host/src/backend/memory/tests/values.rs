//! Values and counters: there until their life is over, within the bounds.

use tokio::time::advance;

use super::{HOUR, Outcome, SECOND, bounded, memory};
use crate::backend::BackendError;

fn is_full(answer: &Result<(), BackendError>) -> bool {
    matches!(answer, Err(BackendError::Full { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_value_is_there_until_its_life_is_over() -> Outcome {
    let memory = memory();
    memory.set("a", b"1".to_vec(), 2 * SECOND)?;
    memory.set("b", b"2".to_vec(), 2 * HOUR)?;
    advance(SECOND).await;
    assert_eq!(memory.get("a"), Some(b"1".to_vec()));
    memory.set("a", b"3".to_vec(), 2 * SECOND)?;
    advance(SECOND).await;
    assert_eq!(memory.get("a"), Some(b"3".to_vec()));
    advance(SECOND).await;
    assert_eq!(memory.get("a"), None);
    assert!(!memory.delete("a"));
    assert!(memory.delete("b"));
    assert!(!memory.delete("b"));
    // No life is longer than the memory allows.
    memory.set("b", b"2".to_vec(), 2 * HOUR)?;
    advance(HOUR).await;
    assert_eq!(memory.get("b"), None);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_counter_counts_and_keeps_its_life() -> Outcome {
    let memory = memory();
    memory.set("stock", b"10".to_vec(), 2 * SECOND)?;
    assert_eq!(memory.add("stock", -4)?, 6);
    assert_eq!(memory.take("stock", 7)?, None);
    assert_eq!(memory.take("stock", 6)?, Some(0));
    assert_eq!(memory.take("stock", 1)?, None);
    assert_eq!(memory.add("stock", -1)?, -1);
    assert_eq!(memory.take("stock", 0)?, None);
    assert_eq!(memory.get("stock"), Some(b"-1".to_vec()));
    advance(2 * SECOND).await;
    assert_eq!(memory.take("stock", 0)?, None);
    assert_eq!(memory.add("stock", 5)?, 5);
    advance(HOUR).await;
    assert_eq!(memory.get("stock"), None);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_no_counter_is_not_counted() -> Outcome {
    let memory = memory();
    for value in ["", "five", "1.5", "9223372036854775808", "\u{0661}"] {
        memory.set("text", value.as_bytes().to_vec(), SECOND)?;
        assert!(matches!(
            memory.add("text", 1),
            Err(BackendError::WrongValue { .. })
        ));
        assert!(matches!(
            memory.take("text", 1),
            Err(BackendError::WrongValue { .. })
        ));
        assert_eq!(memory.get("text"), Some(value.as_bytes().to_vec()));
    }
    memory.set("most", i64::MAX.to_string().into_bytes(), SECOND)?;
    assert!(memory.add("most", 1).is_err());
    assert_eq!(memory.take("most", u64::MAX)?, None);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_full_memory_takes_nothing_new_until_something_lapses() -> Outcome {
    let memory = bounded(2, 1_000);
    memory.set("a", vec![0; 10], SECOND)?;
    memory.set("b", vec![0; 10], HOUR)?;
    assert!(is_full(&memory.set("c", Vec::new(), SECOND)));
    assert!(memory.add("c", 1).is_err());
    memory.set("b", vec![1; 10], HOUR)?;
    advance(SECOND).await;
    memory.set("c", Vec::new(), SECOND)?;
    assert_eq!(memory.get("b"), Some(vec![1; 10]));

    let before = memory.stats();
    assert!(is_full(&memory.set("b", vec![0; 1_000], SECOND)));
    assert_eq!(memory.stats(), before);
    assert_eq!(memory.get("b"), Some(vec![1; 10]));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn bytes_are_given_back() -> Outcome {
    let memory = memory();
    for round in 0_u8..3 {
        for key in 0_u8..100 {
            memory.set(&key.to_string(), vec![round; usize::from(key)], SECOND)?;
        }
        assert_eq!(memory.stats().entries, 100);
    }
    for key in 0_u8..50 {
        assert!(memory.delete(&key.to_string()));
    }
    advance(SECOND).await;
    memory.set("last", Vec::new(), SECOND)?;
    assert!(memory.delete("last"));
    let stats = memory.stats();
    assert_eq!((stats.entries, stats.bytes), (0, 0));
    Ok(())
}
