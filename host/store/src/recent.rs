//! What was made of rows, in memory until the next commit.
//!
//! Invariant: what it gives was read since the newest commit that was answered, so that it is what the store would say. This
//! needs a head that is published before the commit is answered; see [`Engine::head`](crate::Engine::head).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::{Store, StoreError};

/// Values by key, for what is read far more often than anything is written.
#[derive(Debug)]
pub struct Recent<K, V> {
    held: Mutex<Held<K, V>>,
    bytes_max: usize,
}

#[derive(Debug)]
struct Held<K, V> {
    /// The newest commit when these were read.
    head: u64,
    bytes: usize,
    values: HashMap<K, V>,
}

impl<K, V> Held<K, V> {
    fn new(head: u64) -> Self {
        Held { head, bytes: 0, values: HashMap::new() }
    }
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// Holds values of at most `bytes_max` bytes in all; past that it lets all of them go.
    pub fn new(bytes_max: usize) -> Self {
        Recent { held: Mutex::new(Held::new(0)), bytes_max }
    }

    /// The value of `key`: what is held, else what `read` finds in this store, with the bytes it counts as. That nothing is
    /// there is not held.
    ///
    /// # Errors
    /// Those of `read`.
    pub async fn read(
        &self,
        store: &Store,
        key: K,
        read: impl Future<Output = Result<Option<(V, usize)>, StoreError>>,
    ) -> Result<Option<V>, StoreError> {
        // Before the rows, so that they are no older.
        let head = *store.head().borrow();
        if let Some(value) = self.find(head, &key) {
            return Ok(Some(value));
        }
        let Some((value, bytes)) = read.await? else { return Ok(None) };
        self.keep(head, key, value.clone(), bytes);
        Ok(Some(value))
    }

    fn lock(&self) -> MutexGuard<'_, Held<K, V>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, head: u64, key: &K) -> Option<V> {
        let mut held = self.lock();
        if held.head == head {
            return held.values.get(key).cloned();
        }
        // Whoever is behind looks at the store.
        if held.head < head {
            let old = std::mem::replace(&mut *held, Held::new(head));
            drop(held);
            drop(old);
        }
        None
    }

    fn keep(&self, head: u64, key: K, value: V, bytes: usize) {
        let mut held = self.lock();
        if held.head != head || held.values.contains_key(&key) {
            return;
        }
        let full = held.bytes + bytes > self.bytes_max;
        let old = full.then(|| std::mem::replace(&mut *held, Held::new(head)));
        held.bytes += bytes;
        held.values.insert(key, value);
        drop(held);
        // There may be many of them: nobody waits for that.
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(recent: &Recent<u8, u8>, head: u64, expected: &[u8]) {
        let held: Vec<u8> = (0..10).filter_map(|key| recent.find(head, &key)).collect();
        assert_eq!(held, expected, "at {head}");
    }

    #[test]
    fn a_commit_lets_all_of_it_go() {
        let recent = Recent::new(100);
        check(&recent, 1, &[]);
        recent.keep(1, 3, 30, 10);
        check(&recent, 1, &[30]);
        check(&recent, 2, &[]);
        // Whoever is behind finds nothing.
        check(&recent, 1, &[]);
        recent.keep(1, 3, 30, 10);
        // What was read before the commit is not kept after it.
        check(&recent, 2, &[]);
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let recent = Recent::new(30);
        check(&recent, 1, &[]);
        for key in [1, 1, 2, 3] {
            recent.keep(1, key, key, 10);
        }
        check(&recent, 1, &[1, 2, 3]);
        recent.keep(1, 4, 4, 10);
        check(&recent, 1, &[4]);
    }
}
