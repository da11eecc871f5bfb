//! Values by key, each for as long as somebody holds it.

use std::{
    collections::HashMap,
    hash::Hash,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

/// The values that are held, and by how many.
#[derive(Debug)]
pub struct Keyed<K, V>(Arc<Mutex<Table<K, V>>>);

type Table<K, V> = HashMap<K, (usize, Arc<V>)>;

impl<K, V> Default for Keyed<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> Clone for Keyed<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash + Clone, V> Keyed<K, V> {
    /// Holds the value of a key, which is made where nobody does.
    pub fn hold(&self, key: K, new: impl FnOnce() -> V) -> Held<K, V> {
        let value = self.with(|table| {
            let (holders, value) = table
                .entry(key.clone())
                .or_insert_with(|| (0, Arc::new(new())));
            *holders += 1;
            Arc::clone(value)
        });
        Held {
            keyed: self.clone(),
            key,
            value,
        }
    }
}

impl<K: Eq + Hash, V> Keyed<K, V> {
    /// Whether nobody holds anything.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.with(|table| table.is_empty())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Table<K, V>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A value that is held; the last holder to go takes it away.
#[derive(Debug)]
pub struct Held<K: Eq + Hash, V> {
    keyed: Keyed<K, V>,
    key: K,
    value: Arc<V>,
}

impl<K: Eq + Hash, V> Held<K, V> {
    /// The value, for what outlives this.
    pub fn value(&self) -> Arc<V> {
        Arc::clone(&self.value)
    }
}

impl<K: Eq + Hash, V> Deref for Held<K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

impl<K: Eq + Hash, V> Drop for Held<K, V> {
    fn drop(&mut self) {
        self.keyed.with(|table| {
            if let Some((holders, _)) = table.get_mut(&self.key) {
                *holders -= 1;
                if *holders == 0 {
                    table.remove(&self.key);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::Keyed;

    #[test]
    fn holders_share_a_value_and_the_last_takes_it_away() {
        let keyed = Keyed::default();
        let first = keyed.hold("key", || 1);
        let second = keyed.hold("key", || 2);
        assert_eq!((*first, *second, *keyed.hold("other", || 3)), (1, 1, 3));
        drop(first);
        assert_eq!(*keyed.hold("key", || 4), 1);
        drop(second);
        assert!(keyed.is_empty());
        assert_eq!(*keyed.hold("key", || 5), 5);
    }

    #[test]
    fn holders_that_go_in_the_same_moment_leave_nothing() {
        let (keyed, both) = (Keyed::default(), Barrier::new(2));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for key in 0..5_000 {
                        let held = keyed.hold(key, || ());
                        both.wait();
                        drop(held);
                    }
                });
            }
        });
        assert!(keyed.is_empty());
    }
}
