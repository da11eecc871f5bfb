//! How many calls of a version run at once, which may change while they do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The permits of a version's calls.
pub struct Permits {
    semaphore: Arc<Semaphore>,
    max: AtomicU32,
}

impl Permits {
    /// Permits for so many calls at once.
    pub fn new(max: u32) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(max as usize)),
            max: AtomicU32::new(max),
        }
    }

    /// Has so many calls run at once from now on; calls that run are not ended for it.
    pub fn bound(&self, max: u32) {
        let before = self.max.swap(max, Ordering::Relaxed);
        if max >= before {
            self.semaphore.add_permits((max - before) as usize);
            return;
        }
        let semaphore = Arc::clone(&self.semaphore);
        // It stands in line like the calls: those that came before it run, those after it wait until few enough do.
        tokio::spawn(async move {
            if let Ok(taken) = semaphore.acquire_many(before - max).await {
                taken.forget();
            }
        });
    }

    /// Waits so long at most until one more call may run.
    pub async fn acquire(&self, wait: Duration) -> Option<SemaphorePermit<'_>> {
        let permit = tokio::time::timeout(wait, self.semaphore.acquire());
        permit.await.ok()?.ok()
    }

    /// Which part of them is in use.
    pub fn used(&self) -> f64 {
        let max = self.max.load(Ordering::Relaxed) as usize;
        let free = self.semaphore.available_permits().min(max);
        #[expect(clippy::cast_precision_loss, reason = "at most a thousand calls")]
        let used = (max - free) as f64 / max as f64;
        used
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Permits;

    #[tokio::test]
    async fn fewer_calls_run_once_those_that_are_too_many_have_ended() {
        let permits = Permits::new(3);
        let now = async || permits.acquire(Duration::ZERO).await;
        let (first, second) = (now().await, now().await);
        permits.bound(1);
        tokio::task::yield_now().await;
        // One was free and is gone; another goes with the first that ends.
        assert!(first.is_some() && second.is_some() && now().await.is_none());
        assert_eq!(permits.used(), 1.0);
        drop(first);
        tokio::task::yield_now().await;
        assert!(now().await.is_none());
        drop(second);
        let last = now().await;
        assert!(last.is_some() && now().await.is_none());
        permits.bound(2);
        assert!(now().await.is_some());
        assert_eq!(permits.used(), 0.5);
    }
}
