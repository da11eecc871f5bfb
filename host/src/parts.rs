//! Things that threads would meet at, kept in parts, of which each thread uses one.
//!
//! A line of the cache that two cores write goes from one to the other, which takes up to 0.2 µs: as long as several hundred instructions.
//! A call writes a dozen such lines where threads share what it counts itself a user of, and none where they do not.
//! Not for what must be one: a part knows nothing of the others.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many parts there are; where there are more threads, some share one.
pub const PARTS: usize = 4;

thread_local! {
    static PART: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % PARTS
    };
}

/// Gives this thread a part, in the order in which threads ask: those that ask one after the other do not share one.
pub fn join() {
    PART.with(|_| {});
}

/// One of a thing for each part.
#[derive(Debug, Default)]
pub struct Parts<T>([T; PARTS]);

impl<T> Parts<T> {
    /// Makes each part.
    pub fn new(mut make: impl FnMut() -> T) -> Self {
        Self(std::array::from_fn(|_| make()))
    }

    /// Makes each part, as far as that works.
    pub fn try_new<E>(mut make: impl FnMut() -> Result<T, E>) -> Result<Self, E> {
        Ok(Self([make()?, make()?, make()?, make()?]))
    }

    /// The part of this thread.
    pub fn own(&self) -> &T {
        let [first, second, third, fourth] = &self.0;
        match PART.with(|part| *part) {
            0 => first,
            1 => second,
            2 => third,
            _ => fourth,
        }
    }

    /// All parts.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::{PARTS, Parts};

    #[test]
    fn a_thread_stays_with_its_part_and_threads_have_several() {
        // Other tests' threads come in between, so that which part is whose is not known.
        const THREADS: usize = 16 * PARTS;
        let uses = Parts::<Mutex<Vec<usize>>>::default();
        for thread in 0..THREADS {
            std::thread::scope(|scope| {
                scope.spawn(|| (0..2).for_each(|_| uses.own().lock().unwrap().push(thread)));
            });
        }
        let users = uses.iter().map(|users| users.lock().unwrap().clone());
        let users: Vec<_> = users.filter(|users| !users.is_empty()).collect();
        assert!(users.len() > 1, "all threads have one part");
        let twice = |users: &Vec<usize>| users.chunks(2).all(|uses| uses[0] == uses[1]);
        assert!(users.iter().all(twice), "{users:?}");
        assert_eq!(users.concat().len(), 2 * THREADS);
    }
}
