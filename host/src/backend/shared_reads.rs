//! Reads of a sale that those share who ask for it at once.
//!
//! A hot sale is read for each buyer whose strategy looks at it first, and every read costs the database as much as the one before.
//! Here whoever asks while a sale is read waits for the next read of it, together with all who ask meanwhile.
//! Nobody is told what was read before they asked: a sale that was made, or sold out, by then is seen.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::{BackendError, keyed::Keyed};
use crate::domain::{Sale, SaleId};

type Found = Result<Option<Sale>, BackendError>;

/// The sales that are being read.
#[derive(Default)]
pub struct SharedReads(Keyed<SaleId, Reading>);

/// The reads of one sale.
#[derive(Default)]
struct Reading {
    /// How many have asked.
    asked: AtomicU64,
    /// One reads at a time, and the others are in line behind it.
    last: Mutex<Option<Last>>,
}

/// What the last read found, for those who asked before it.
struct Last {
    answers_below: u64,
    found: Found,
}

impl SharedReads {
    /// Reads a sale, unless a read that began after this was called has found it.
    ///
    /// An error is told to all who had asked by the time it came: a database that is away is not waited for by one after the other.
    pub async fn read(&self, id: SaleId, read: impl AsyncFnOnce() -> Found) -> Found {
        let reading = self.0.hold(id, Reading::default);
        let number = reading.asked.fetch_add(1, Ordering::SeqCst);
        let mut last = reading.last.lock().await;
        if let Some(last) = &*last
            && number < last.answers_below
        {
            return last.found.clone();
        }
        let begun = reading.asked.load(Ordering::SeqCst);
        let found = read().await;
        let answers_below = match found {
            Ok(_) => begun,
            Err(_) => reading.asked.load(Ordering::SeqCst),
        };
        *last = Some(Last {
            answers_below,
            found: found.clone(),
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::Duration};

    use jiff::Timestamp;
    use tokio::{sync::Notify, task::yield_now, time::timeout};

    use super::{Found, SharedReads};
    use crate::{
        backend::BackendError,
        domain::{Sale, SaleId},
    };

    const SALE: SaleId = 7;

    /// A database that answers when it is told to, and counts.
    #[derive(Default)]
    struct Slow {
        reads: SharedReads,
        asked: Cell<u32>,
        remaining: Cell<i64>,
        away: Cell<bool>,
        answer: Notify,
    }

    impl Slow {
        /// What a caller is told: the pieces left.
        async fn find(&self) -> Result<i64, BackendError> {
            let read = async || {
                self.asked.set(self.asked.get() + 1);
                let found = sale(self.remaining.get());
                self.answer.notified().await;
                match self.away.get() {
                    true => Err(BackendError::LockTimeout { operation: "read" }),
                    false => found,
                }
            };
            let found = self.reads.read(SALE, read).await?;
            Ok(found.map_or(-1, |sale| sale.remaining))
        }

        /// Has the database answer the read that is under way, once all others had time to ask.
        async fn answers(&self) {
            for _ in 0..10 {
                yield_now().await;
            }
            self.answer.notify_one();
        }
    }

    fn sale(remaining: i64) -> Found {
        Ok(Some(Sale {
            id: SALE,
            product_id: 1,
            quantity: 10,
            remaining,
            discount_price: 1,
            start_at: Timestamp::MIN,
            end_at: Timestamp::MAX,
            limit_per_user: None,
            created_at: Timestamp::MIN,
        }))
    }

    #[tokio::test]
    async fn who_asks_during_a_read_shares_the_next_and_never_hears_of_what_was_before() {
        let slow = Slow::default();
        slow.remaining.set(5);
        let first = slow.find();
        let others = async {
            yield_now().await;
            // Sold while the first read is under way: it may not see that, and these must.
            slow.remaining.set(4);
            tokio::join!(slow.find(), slow.find(), slow.find())
        };
        let answers = async {
            slow.answers().await;
            slow.answers().await;
        };
        let (first, others, ()) = tokio::join!(first, others, answers);
        assert_eq!(first.unwrap(), 5);
        let others = [others.0, others.1, others.2].map(Result::unwrap);
        assert_eq!(others, [4; 3]);
        assert_eq!(slow.asked.get(), 2);
        assert!(slow.reads.0.is_empty());
    }

    #[tokio::test]
    async fn a_database_that_is_away_is_waited_for_once() {
        let slow = Slow::default();
        slow.away.set(true);
        let (first, second, third, ()) =
            tokio::join!(slow.find(), slow.find(), slow.find(), slow.answers());
        assert!(first.is_err() && second.is_err() && third.is_err());
        assert_eq!(slow.asked.get(), 1);
        slow.away.set(false);
        slow.remaining.set(3);
        let (again, ()) = tokio::join!(slow.find(), slow.answers());
        assert_eq!(again.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_in_the_middle_of_a_read_keeps_nobody_waiting() {
        let slow = Slow::default();
        slow.remaining.set(2);
        let gone = timeout(Duration::from_millis(1), slow.find());
        let answers = async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            slow.answers().await;
        };
        let (gone, other, ()) = tokio::join!(gone, slow.find(), answers);
        assert!(gone.is_err());
        assert_eq!(other.unwrap(), 2);
        assert_eq!(slow.asked.get(), 2);
        assert!(slow.reads.0.is_empty());
    }
}
