//! Turns at the row of a sale: of this host's transactions two are at it in the server, the one that has it and the next; the others wait here, in order of arrival.
//!
//! A server with sixteen that wait for one row sells a third less than with two, because each of them is woken to wait again, and a waiter here holds no connection.
//! `Postgres::begin_at` takes one for a strategy's transaction; group commit needs none, since its leader is one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::domain::SaleId;

/// Transactions at one row: while one has it the next has said so to the server, and nothing is lost between the two.
const AT_A_ROW: usize = 2;

/// The rows that transactions of this host are at, or wait for.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Mutex<HashMap<SaleId, Arc<Semaphore>>>>);

impl Turns {
    /// Waits so long at most for a turn at a sale's row; none where it did not come.
    pub async fn take(&self, sale: SaleId, wait: Duration) -> Option<Turn> {
        let row = Arc::clone(
            self.rows()
                .entry(sale)
                .or_insert_with(|| Arc::new(Semaphore::new(AT_A_ROW))),
        );
        let mut turn = Turn {
            turns: self.clone(),
            sale,
            row,
            permit: None,
        };
        let permit = timeout(wait, Arc::clone(&turn.row).acquire_owned()).await;
        turn.permit = Some(permit.ok()?.ok()?);
        Some(turn)
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<SaleId, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn at a row, or a place in line for one; given up when it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    sale: SaleId,
    row: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut rows = self.turns.rows();
        self.permit = None;
        // The table's and this one: nobody else is at the row, and nobody comes while the table is held.
        if Arc::strong_count(&self.row) == 2 {
            rows.remove(&self.sale);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Turns;

    #[tokio::test(start_paused = true)]
    async fn two_are_at_a_row_and_the_others_wait_for_them_and_for_no_other_row() {
        let turns = Turns::default();
        let take = async |sale| turns.take(sale, Duration::from_secs(1)).await;
        let (first, second) = (take(1).await, take(1).await);
        assert!(first.is_some() && second.is_some());
        assert!(take(1).await.is_none());
        assert!(take(2).await.is_some());
        let (third, ()) = tokio::join!(take(1), async { drop(first) });
        assert!(third.is_some());
        assert!(take(1).await.is_none());
        drop((second, third));
        assert!(turns.rows().is_empty());
    }
}
