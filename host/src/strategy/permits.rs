//! How many calls of a version run at once, which may change while they do, and who may stand in line for them.
//!
//! A crowd that asks for more than there is would fill the line with people who wait in vain.
//! So the line has room for those alone who should get their turn in time at the pace at which turns come; whoever finds it full is turned away at once.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// How far back the pace remembers, in seconds: long against the pause between two commits of a group, which end many calls at once, and short against the wait of a buyer.
const MEMORY: f64 = 0.25;

/// The permits of a version's calls.
pub struct Permits {
    semaphore: Arc<Semaphore>,
    max: AtomicU32,
    line: Mutex<Line>,
}

impl Permits {
    /// Permits for so many calls at once.
    pub fn new(max: u32) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(max as usize)),
            max: AtomicU32::new(max),
            line: Mutex::new(Line {
                waiting: 0,
                turns: 0.0,
                seconds: 0.0,
                last: Instant::now(),
            }),
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

    /// Waits so long at most until one more call may run, and not at all where that would most likely be in vain.
    pub async fn acquire(&self, wait: Duration) -> Option<SemaphorePermit<'_>> {
        // Nobody is overtaken: while anyone stands in line, no permit is free.
        if let Ok(permit) = self.semaphore.try_acquire() {
            return Some(permit);
        }
        let place = Place::take(self, wait)?;
        let permit = tokio::time::timeout(wait, self.semaphore.acquire());
        let permit = permit.await.ok()?.ok()?;
        self.line().turn_came(place.since);
        Some(permit)
    }

    /// Whether one more would be turned away at once.
    pub fn are_out(&self, wait: Duration) -> bool {
        self.semaphore.available_permits() == 0 && !self.line().has_room(wait)
    }

    /// Which part of them is in use.
    pub fn used(&self) -> f64 {
        let max = self.max.load(Ordering::Relaxed) as usize;
        let free = self.semaphore.available_permits().min(max);
        #[expect(clippy::cast_precision_loss, reason = "at most a thousand calls")]
        let used = (max - free) as f64 / max as f64;
        used
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those who wait, and how fast they come to their turns: one each `seconds / turns`.
///
/// Both sums fade with the time that they count, and not with each turn: of turns that come by the dozen, the last ones would make the pause before the first forgotten.
struct Line {
    waiting: u32,
    /// Turns of those who had waited.
    turns: f64,
    /// Time during which somebody waited for them.
    seconds: f64,
    /// When the last of them came.
    last: Instant,
}

impl Line {
    /// Whether one more would get a turn within half of the wait, counting those before; half, because the pace varies.
    ///
    /// Whoever would be alone may always wait, or a pace that was slow once would never be measured again.
    fn has_room(&self, wait: Duration) -> bool {
        f64::from(self.waiting) * self.seconds <= wait.as_secs_f64() / 2.0 * self.turns
    }

    /// Counts the turn of one who has waited since then.
    fn turn_came(&mut self, since: Instant) {
        let now = Instant::now();
        // Time during which nobody waited says nothing of the pace.
        let passed = (now - self.last.max(since)).as_secs_f64();
        let kept = (-passed / MEMORY).exp();
        self.seconds = self.seconds * kept + passed;
        self.turns = self.turns * kept + 1.0;
        self.last = now;
    }
}

/// A place in line, given up when it is dropped.
struct Place<'a> {
    permits: &'a Permits,
    since: Instant,
}

impl<'a> Place<'a> {
    fn take(permits: &'a Permits, wait: Duration) -> Option<Self> {
        let mut line = permits.line();
        if !line.has_room(wait) {
            return None;
        }
        line.waiting += 1;
        let since = Instant::now();
        Some(Self { permits, since })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.permits.line().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::{task::JoinSet, time::Instant};

    use super::Permits;

    const WAIT: Duration = Duration::from_secs(1);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A crowd, and how each in it fared.
    #[derive(Debug, Default)]
    struct Crowd {
        served: usize,
        turned_away: usize,
        /// Stood in line and had no turn.
        in_vain: usize,
    }

    /// What came of asking for a permit.
    struct Told {
        /// Whether it was told beforehand that it would be turned away.
        forewarned: bool,
        /// Since the begin.
        turn_came: Option<Duration>,
        waited: Duration,
    }

    /// Asks for a permit, for a call that ends at the next multiple of `beat` since `begun`.
    async fn ask(permits: Arc<Permits>, begun: Instant, beat: Duration) -> Told {
        let asked = Instant::now();
        let forewarned = permits.are_out(WAIT);
        let permit = permits.acquire(WAIT).await;
        let (since, waited) = (begun.elapsed(), asked.elapsed());
        if permit.is_some() {
            let beats = since.div_duration_f64(beat).floor() + 1.0;
            tokio::time::sleep_until(begun + beat.mul_f64(beats)).await;
        }
        Told {
            forewarned,
            turn_came: permit.map(|_| since),
            waited,
        }
    }

    /// So many ask at once.
    async fn crowd(permits: &Arc<Permits>, asking: usize, beat: Duration) -> Crowd {
        let begun = Instant::now();
        let asks = (0..asking).map(|_| ask(Arc::clone(permits), begun, beat));
        let mut crowd = Crowd::default();
        for told in asks.collect::<JoinSet<_>>().join_all().await {
            let turned_away = told.turn_came.is_none() && told.waited.is_zero();
            assert_eq!(told.forewarned, turned_away);
            if told.turn_came.is_some() {
                crowd.served += 1;
            } else if turned_away {
                crowd.turned_away += 1;
            } else {
                crowd.in_vain += 1;
            }
        }
        assert_eq!(permits.line().waiting, 0, "the line is not empty");
        crowd
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_may_wait_until_a_pace_is_known() {
        let permits = Arc::new(Permits::new(1));
        let crowd = crowd(&permits, 500, millis(10)).await;
        assert_eq!(crowd.turned_away, 0);
        // As many as there are beats within the wait, and the one that did not have to wait.
        assert!((99..=101).contains(&crowd.served), "{crowd:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_would_wait_in_vain_are_turned_away_at_once_and_the_rest_have_their_turn() {
        let permits = Arc::new(Permits::new(1));
        crowd(&permits, 50, millis(10)).await;
        let crowd = crowd(&permits, 1_000, millis(10)).await;
        // 50 fit into half of the wait.
        assert!((45..=55).contains(&crowd.served), "{crowd:?}");
        assert_eq!(crowd.in_vain, 0, "{crowd:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn turns_that_come_by_the_dozen_or_the_hundred_do_not_bend_the_pace() {
        for at_once in [12, 64, 256] {
            let permits = Arc::new(Permits::new(at_once));
            let (at_once, beat) = (at_once as usize, millis(20));
            crowd(&permits, at_once * 20, beat).await;
            let crowd = crowd(&permits, at_once * 200, beat).await;
            let beats = crowd.served as f64 / at_once as f64;
            // 25 fit into half of the wait, and one does not have to wait.
            assert!((23.0..=28.0).contains(&beats), "{at_once}: {crowd:?}");
            assert_eq!(crowd.in_vain, 0, "{at_once}: {crowd:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_that_goes_on_keeps_every_permit_busy() {
        for (at_once, beat) in [(1, millis(10)), (64, millis(20)), (256, millis(700))] {
            let permits = Arc::new(Permits::new(at_once));
            let begun = Instant::now();
            let mut asked = JoinSet::new();
            let beats = 20;
            // Ten times as many as can be served, a tenth of a beat's at a time.
            for _ in 0..beats * 10 {
                for _ in 0..at_once {
                    asked.spawn(ask(Arc::clone(&permits), begun, beat));
                }
                tokio::time::sleep(beat / 10).await;
            }
            let ends = begun.elapsed();
            let told = asked.join_all().await;
            let turns = told.iter().filter_map(|told| told.turn_came);
            let served = turns.filter(|came| *came < ends).count();
            let could = f64::from(beats * at_once);
            assert!(
                served as f64 / could >= 0.95,
                "{at_once}: {served} of {could}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_recovers_from_a_pace_at_which_nobody_might_wait() {
        let permits = Arc::new(Permits::new(1));
        for _ in 0..5 {
            crowd(&permits, 2, millis(900)).await;
        }
        let slow = crowd(&permits, 100, millis(900)).await;
        assert_eq!((slow.served, slow.in_vain), (2, 0), "{slow:?}");
        let mut served = Vec::new();
        for _ in 0..30 {
            let crowd = crowd(&permits, 1_000, millis(2)).await;
            assert_eq!(crowd.in_vain, 0, "{crowd:?}");
            served.push(crowd.served);
        }
        assert!(served.is_sorted(), "{served:?}");
        let last = served.last().unwrap();
        assert!((200..=260).contains(last), "{served:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_a_stall_has_emptied_fills_again_as_turns_come() {
        let permits = Arc::new(Permits::new(1));
        crowd(&permits, 300, millis(2)).await;
        let stalls = permits.acquire(WAIT).await;
        let stalled = crowd(&permits, 1_000, millis(2)).await;
        assert_eq!(stalled.served, 0);
        assert!(
            stalled.in_vain > 0 && stalled.turned_away > 0,
            "{stalled:?}"
        );
        // One comes in the middle of the stall and has the first turn after it.
        let patient = {
            let permits = Arc::clone(&permits);
            tokio::spawn(async move { permits.acquire(WAIT).await.is_some() })
        };
        tokio::time::sleep(WAIT - millis(10)).await;
        drop(stalls);
        assert!(patient.await.unwrap());
        let after = crowd(&permits, 1_000, millis(2)).await;
        assert!((2..100).contains(&after.served), "{after:?}");
        let mut last = after;
        for _ in 0..30 {
            last = crowd(&permits, 1_000, millis(2)).await;
            assert_eq!(last.in_vain, 0, "{last:?}");
        }
        assert!((200..=260).contains(&last.served), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_or_goes_away_leaves_the_line() {
        let permits = Permits::new(1);
        let runs = permits.acquire(WAIT).await;
        assert!(permits.acquire(WAIT).await.is_none());
        assert_eq!(permits.line().waiting, 0);
        tokio::select! {
            biased;
            _ = permits.acquire(WAIT) => panic!("there was a permit"),
            () = async { assert_eq!(permits.line().waiting, 1) } => {}
        }
        assert_eq!(permits.line().waiting, 0);
        drop(runs);
        assert!(permits.acquire(Duration::ZERO).await.is_some());
    }

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
