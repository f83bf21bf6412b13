//! Who waits for which key.
//!
//! A pure data structure: no clock, no lock, no channel. `T` is whatever wakes a waiter. A key without waiters has no
//! entry, so that nothing is left behind by a waiter that went away.

use std::collections::HashMap;

use bytes::Bytes;

/// Names one registration, for withdrawing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// The waiters of all columns, by key.
#[derive(Debug)]
pub(crate) struct Waiters<T> {
    // The hash map's random seed keeps peers, who choose keys, from making them collide.
    // The waiters of a key stand in the order of their tickets.
    columns: Vec<HashMap<Bytes, Vec<(Ticket, T)>>>,
    next: u64,
    count: usize,
}

impl<T> Waiters<T> {
    pub(crate) fn new(columns: usize) -> Waiters<T> {
        Waiters { columns: (0..columns).map(|_| HashMap::new()).collect(), next: 0, count: 0 }
    }

    /// Adds a waiter for a key.
    pub(crate) fn register(&mut self, column: usize, key: Bytes, waiter: T) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.count += 1;
        self.columns[column].entry(key).or_default().push((ticket, waiter));
        ticket
    }

    /// Takes all waiters of a key, in the order they came.
    pub(crate) fn take(&mut self, column: usize, key: &[u8]) -> impl Iterator<Item = T> + use<T> {
        let waiters = self.columns[column].remove(key).unwrap_or_default();
        self.count -= waiters.len();
        waiters.into_iter().map(|(_, waiter)| waiter)
    }

    /// Withdraws one waiter; `None` if it was taken before.
    pub(crate) fn withdraw(&mut self, column: usize, key: &[u8], ticket: Ticket) -> Option<T> {
        let waiters = self.columns[column].get_mut(key)?;
        let position = waiters.binary_search_by_key(&ticket, |(held, _)| *held).ok()?;
        let (_, waiter) = waiters.remove(position);
        if waiters.is_empty() {
            self.columns[column].remove(key);
        }
        self.count -= 1;
        Some(waiter)
    }

    /// Takes everyone, of every key.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.count = 0;
        let everyone = self.columns.iter_mut().flat_map(|keys| keys.drain().flat_map(|(_, waiters)| waiters));
        everyone.map(|(_, waiter)| waiter).collect()
    }

    /// How many wait, over all keys.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// How many keys are waited for.
    #[cfg(test)]
    fn keys(&self) -> usize {
        self.columns.iter().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_waiters_of_a_key_are_taken_once_and_in_order() {
        let mut waiters = Waiters::new(2);
        for name in ["first", "second", "third"] {
            waiters.register(0, Bytes::from("key"), name);
        }
        waiters.register(1, Bytes::from("key"), "other column");
        assert_eq!(waiters.take(0, b"key").collect::<Vec<_>>(), ["first", "second", "third"]);
        assert_eq!(waiters.take(0, b"key").count(), 0);
        assert_eq!(waiters.len(), 1);
    }

    #[test]
    fn the_last_withdrawal_of_a_key_removes_its_entry() {
        let mut waiters = Waiters::new(1);
        let first = waiters.register(0, Bytes::from("key"), 1);
        let second = waiters.register(0, Bytes::from("key"), 2);
        assert_eq!(waiters.withdraw(0, b"key", first), Some(1));
        assert_eq!(waiters.keys(), 1);
        assert_eq!(waiters.withdraw(0, b"key", first), None);
        assert_eq!(waiters.withdraw(0, b"key", second), Some(2));
        assert_eq!((waiters.keys(), waiters.len()), (0, 0));
    }

    #[test]
    fn a_waiter_that_was_taken_cannot_be_withdrawn_even_if_the_key_is_waited_for_again() {
        let mut waiters = Waiters::new(1);
        let taken = waiters.register(0, Bytes::from("key"), 1);
        assert_eq!(waiters.take(0, b"key").count(), 1);
        waiters.register(0, Bytes::from("key"), 2);
        assert_eq!(waiters.withdraw(0, b"key", taken), None);
        assert_eq!(waiters.len(), 1);
    }

    #[test]
    fn taking_all_leaves_nothing() {
        let mut waiters = Waiters::new(3);
        for index in 0..30_usize {
            waiters.register(index % 3, Bytes::from(vec![(index % 7) as u8]), index);
        }
        let mut everyone = waiters.take_all();
        everyone.sort_unstable();
        assert_eq!(everyone, (0..30).collect::<Vec<_>>());
        assert_eq!((waiters.keys(), waiters.len()), (0, 0));
    }

    #[test]
    fn random_registrations_and_withdrawals_agree_with_a_list() {
        use proptest::prelude::*;
        proptest!(|(steps in proptest::collection::vec((0_u8..3, 0_u8..4, 0_usize..8), 0..200))| {
            let mut waiters = Waiters::new(1);
            let mut model: Vec<(u8, Ticket, usize)> = Vec::new();
            for (number, (kind, key, pick)) in steps.into_iter().enumerate() {
                match kind {
                    0 => {
                        let ticket = waiters.register(0, Bytes::from(vec![key]), number);
                        model.push((key, ticket, number));
                    }
                    1 => {
                        let mut taken: Vec<usize> = waiters.take(0, &[key]).collect();
                        taken.sort_unstable();
                        let expected: Vec<usize> =
                            model.iter().filter(|held| held.0 == key).map(|held| held.2).collect();
                        model.retain(|held| held.0 != key);
                        prop_assert_eq!(taken, expected);
                    }
                    _ if model.is_empty() => {}
                    _ => {
                        let (key, ticket, number) = model.remove(pick % model.len());
                        prop_assert_eq!(waiters.withdraw(0, &[key], ticket), Some(number));
                    }
                }
                prop_assert_eq!(waiters.len(), model.len());
                let mut keys: Vec<u8> = model.iter().map(|held| held.0).collect();
                keys.sort_unstable();
                keys.dedup();
                prop_assert_eq!(waiters.keys(), keys.len());
            }
        });
    }
}
