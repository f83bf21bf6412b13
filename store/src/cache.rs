//! The latest written values of a column, in memory and bounded in bytes.
//!
//! What the cache answers is what the engine would answer: the writer takes a key out before the engine changes it and
//! puts the new value in afterwards, so that a reader never sees an older value than one it could have seen before.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::PoisonError;

use bytes::Bytes;

use crate::sync::{Mutex, MutexGuard};

/// What an entry costs beside its bytes.
const ENTRY_OVERHEAD: usize = 128;

/// A value cache of one column. Only the writer changes it.
#[derive(Debug)]
pub(crate) struct ValueCache {
    capacity: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    // Ordered by key so that a range can be taken out.
    values: BTreeMap<Bytes, (u64, Bytes)>,
    // In the order of insertion; an entry whose number is not the key's current one is stale and costs nothing.
    order: VecDeque<(u64, Bytes)>,
    next: u64,
    bytes: usize,
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_OVERHEAD
}

impl ValueCache {
    pub(crate) fn new(capacity: usize) -> ValueCache {
        ValueCache { capacity, entries: Mutex::new(Entries::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing in here can panic half way through a change.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.lock().values.get(key).map(|(_, value)| value.clone())
    }

    /// Puts a value in and the oldest ones out. A value larger than the whole cache is not kept.
    pub(crate) fn insert(&self, key: &Bytes, value: &Bytes) {
        if cost(key, value) > self.capacity {
            self.remove(key);
            return;
        }
        // Freed after the lock is released: giving back half a megabyte takes a while.
        let mut evicted = Vec::new();
        let mut entries = self.lock();
        evicted.extend(entries.remove(key));
        // Room first: with the new value in it the cache is never larger than it may be.
        while entries.bytes.saturating_add(cost(key, value)) > self.capacity {
            match entries.pop_oldest() {
                Some(value) => evicted.push(value),
                None => break,
            }
        }
        entries.insert(key.clone(), value.clone());
        entries.forget_stale();
        drop(entries);
    }

    pub(crate) fn remove(&self, key: &[u8]) {
        let removed = self.lock().remove(key);
        drop(removed);
    }

    /// Takes out every key from `from` up to and without `to`; an empty `to` means to the end.
    pub(crate) fn remove_range(&self, from: &[u8], to: &[u8]) {
        if !to.is_empty() && from >= to {
            return;
        }
        let end = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
        let mut entries = self.lock();
        let keys: Vec<Bytes> =
            entries.values.range::<[u8], _>((Bound::Included(from), end)).map(|(key, _)| key.clone()).collect();
        let removed: Vec<Bytes> = keys.iter().filter_map(|key| entries.remove(key)).collect();
        entries.forget_stale();
        drop(entries);
        drop(removed);
    }

    /// Bytes held, overheads included.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

impl Entries {
    fn insert(&mut self, key: Bytes, value: Bytes) {
        let number = self.next;
        self.next += 1;
        self.bytes += cost(&key, &value);
        self.order.push_back((number, key.clone()));
        self.values.insert(key, (number, value));
    }

    fn remove(&mut self, key: &[u8]) -> Option<Bytes> {
        let (_, value) = self.values.remove(key)?;
        self.bytes -= cost(key, &value);
        Some(value)
    }

    fn is_current(&self, number: u64, key: &[u8]) -> bool {
        self.values.get(key).is_some_and(|(held, _)| *held == number)
    }

    fn pop_oldest(&mut self) -> Option<Bytes> {
        while let Some((number, key)) = self.order.pop_front() {
            if self.is_current(number, &key) {
                return self.remove(&key);
            }
        }
        None
    }

    /// Keeps the order as short as the cache: rewriting one key for ever must not grow it.
    fn forget_stale(&mut self) {
        if self.order.len() > 2 * self.values.len() + 16 {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(number, key)| self.is_current(*number, key));
            self.order = order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn the_oldest_values_leave_first_and_the_bound_holds() {
        let value = Bytes::from(vec![0; 1000]);
        let cache = ValueCache::new(3 * (1000 + 1 + ENTRY_OVERHEAD));
        for key in ["a", "b", "c", "d"] {
            cache.insert(&bytes(key), &value);
        }
        assert_eq!(cache.get(b"a"), None);
        assert!(["b", "c", "d"].iter().all(|key| cache.get(key.as_bytes()).is_some()));
        assert!(cache.bytes() <= cache.capacity);
    }

    #[test]
    fn a_value_larger_than_the_cache_takes_the_old_one_out() {
        let cache = ValueCache::new(1000);
        cache.insert(&bytes("a"), &bytes("old"));
        cache.insert(&bytes("a"), &Bytes::from(vec![0; 2000]));
        assert_eq!(cache.get(b"a"), None);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn ranges_leave_with_their_end_excluded() {
        let cache = ValueCache::new(10_000);
        for key in ["a", "b", "c", "d"] {
            cache.insert(&bytes(key), &bytes(key));
        }
        cache.remove_range(b"b", b"d");
        assert_eq!((cache.get(b"b"), cache.get(b"c")), (None, None));
        assert!(cache.get(b"a").is_some() && cache.get(b"d").is_some());
        cache.remove_range(b"z", b"a");
        cache.remove_range(b"d", b"");
        assert_eq!(cache.get(b"d"), None);
        assert!(cache.get(b"a").is_some());
    }

    #[test]
    fn rewriting_one_key_does_not_grow_the_order() {
        let cache = ValueCache::new(10_000);
        for _ in 0..10_000 {
            cache.insert(&bytes("a"), &bytes("value"));
        }
        assert!(cache.lock().order.len() < 100);
        for _ in 0..10_000 {
            cache.insert(&bytes("a"), &bytes("value"));
            cache.remove(b"a");
        }
        assert!(cache.lock().order.len() < 100);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn random_use_agrees_with_an_ordered_list() {
        use proptest::prelude::*;
        let step = (0_u8..4, 0_u8..6, 0_u8..6, 0_usize..300);
        proptest!(|(steps in proptest::collection::vec(step, 0..200))| {
            let cache = ValueCache::new(1000);
            let mut model: Vec<(Vec<u8>, Bytes)> = Vec::new();
            for (kind, one, two, length) in steps {
                let (one, two) = (vec![one], vec![two]);
                match kind {
                    0 | 1 => {
                        let value = Bytes::from(vec![7; length]);
                        cache.insert(&Bytes::from(one.clone()), &value);
                        model.retain(|(key, _)| *key != one);
                        model.push((one, value));
                        while model.iter().map(|(key, value)| cost(key, value)).sum::<usize>() > 1000 {
                            model.remove(0);
                        }
                    }
                    2 => {
                        cache.remove(&one);
                        model.retain(|(key, _)| *key != one);
                    }
                    _ => {
                        cache.remove_range(&one, &two);
                        model.retain(|(key, _)| *key < one || *key >= two);
                    }
                }
                prop_assert_eq!(cache.bytes(), model.iter().map(|(key, value)| cost(key, value)).sum::<usize>());
                for key in 0_u8..6 {
                    let expected = model.iter().find(|(held, _)| *held == [key]).map(|(_, value)| value.clone());
                    prop_assert_eq!(cache.get(&[key]), expected);
                }
            }
        });
    }
}
