//! A least-recently-used cache that is bounded by octets, not by entries.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

/// What stands for an entry besides its octets: key, links, allocation.
const ENTRY_OVERHEAD: usize = 128;

/// A cache whose values weigh what `weigh` says, in octets.
pub struct Cache<K: Eq + Hash, V: Clone> {
    inner: Mutex<Inner<K, V>>,
    weigh: fn(&V) -> usize,
    budget: usize,
}

struct Inner<K: Eq + Hash, V> {
    entries: LruCache<K, V>,
    used: usize,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// A cache of at most `budget` octets; the newest entry stays whatever it weighs.
    pub fn new(budget: usize, weigh: fn(&V) -> usize) -> Self {
        Self { inner: Mutex::new(Inner { entries: LruCache::unbounded(), used: 0 }), weigh, budget }
    }

    /// The value, which becomes the most recently used one.
    pub fn get(&self, key: &K) -> Option<V> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).entries.get(key).cloned()
    }

    /// The value. Changes no order.
    pub fn peek(&self, key: &K) -> Option<V> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).entries.peek(key).cloned()
    }

    /// Is it there? Changes no order.
    pub fn contains(&self, key: &K) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).entries.contains(key)
    }

    /// Keeps a value, at the cost of those that were not used for the longest time.
    pub fn put(&self, key: K, value: V) {
        let weight = (self.weigh)(&value) + ENTRY_OVERHEAD;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = inner.entries.put(key, value) {
            inner.used -= (self.weigh)(&old) + ENTRY_OVERHEAD;
        }
        inner.used += weight;
        while inner.used > self.budget && inner.entries.len() > 1 {
            if let Some((_, old)) = inner.entries.pop_lru() {
                inner.used -= (self.weigh)(&old) + ENTRY_OVERHEAD;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entries_go_first_and_the_newest_stays() {
        let cache = Cache::<u8, Vec<u8>>::new(3 * (100 + ENTRY_OVERHEAD), Vec::len);
        for key in 0..3 {
            cache.put(key, vec![0; 100]);
        }
        assert!(cache.get(&0).is_some());
        cache.put(3, vec![0; 100]);
        assert!(!cache.contains(&1) && cache.contains(&0) && cache.contains(&2) && cache.contains(&3));
        // A peek keeps nothing.
        assert!(cache.peek(&2).is_some() && cache.get(&0).is_some());
        cache.put(5, vec![0; 100]);
        assert!(!cache.contains(&2) && cache.contains(&0) && cache.contains(&3));
        cache.put(4, vec![0; 10_000]);
        assert!(cache.contains(&4) && !cache.contains(&5));
    }
}
