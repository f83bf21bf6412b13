//! What was asked of a store, and which states a power cut may leave of it.
//!
//! Batches are numbered in the order of the calls, and each writes its number under one key. A store that shows number `k`
//! must show exactly what batches `1..=k` make, and `k` must be at least the last batch that was promised to be durable. One
//! exception stands in the contract: a large value of a batch that was never reported complete may be absent, although the
//! small keys of its batch are there.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rorqual_store::{Column, WriteBatch};

use crate::support::{LARGE, SMALL};

/// Where every batch puts its number.
pub const NUMBER: &[u8] = b"number";

const COLUMNS: [Column; 2] = [SMALL, LARGE];

#[derive(Clone, Debug)]
enum Change {
    Put(usize, Vec<u8>, Bytes),
    Delete(usize, Vec<u8>),
    DeleteRange(usize, Vec<u8>, Vec<u8>),
}

/// A value, and the batch that wrote it.
#[derive(Clone, Debug)]
struct Written {
    value: Bytes,
    batch: u64,
}

type State = [BTreeMap<Vec<u8>, Written>; 2];

/// What a store showed: the entries of both columns.
pub type Shown = [Vec<(Bytes, Bytes)>; 2];

/// Batches asked for, on top of a state that was shown after the last start.
#[derive(Debug, Default)]
pub struct History {
    base: State,
    /// The number of the last batch in `base`.
    base_number: u64,
    batches: Vec<Vec<Change>>,
    /// The last batch that must survive.
    promised: u64,
}

fn key(random: &mut ChaCha8Rng) -> Vec<u8> {
    vec![b'k', random.random_range(0..40)]
}

fn value(random: &mut ChaCha8Rng, column: usize, number: u64) -> Bytes {
    let length = match (column, random.random_range(0..10)) {
        (0, _) => random.random_range(0..300),
        (_, 0) => random.random_range(0..100),
        (_, 1) => random.random_range(100_000..300_000),
        _ => random.random_range(4_000..20_000),
    };
    let mut value = number.to_be_bytes().repeat(length / 8 + 1);
    value.truncate(length);
    value.into()
}

fn change(random: &mut ChaCha8Rng, number: u64) -> Change {
    let column = random.random_range(0..COLUMNS.len());
    match random.random_range(0..20) {
        0 => {
            let (one, other) = (key(random), key(random));
            Change::DeleteRange(column, one.clone().min(other.clone()), one.max(other))
        }
        1..4 => Change::Delete(column, key(random)),
        _ => Change::Put(column, key(random), value(random, column, number)),
    }
}

fn apply(state: &mut State, changes: &[Change], number: u64) {
    for change in changes {
        match change {
            Change::Put(column, key, value) => {
                state[*column].insert(key.clone(), Written { value: value.clone(), batch: number });
            }
            Change::Delete(column, key) => drop(state[*column].remove(key)),
            Change::DeleteRange(column, from, to) => {
                state[*column].retain(|key, _| key < from || key >= to);
            }
        }
    }
}

impl History {
    /// A new batch; its number and what the store is to be asked.
    pub fn next(&mut self, random: &mut ChaCha8Rng) -> (u64, WriteBatch) {
        let number = self.last() + 1;
        let mut changes = vec![Change::Put(0, NUMBER.to_vec(), Bytes::copy_from_slice(&number.to_be_bytes()))];
        changes.extend((0..random.random_range(0..6)).map(|_| change(random, number)));
        let mut batch = WriteBatch::new();
        for change in changes.iter().cloned() {
            match change {
                Change::Put(column, key, value) => batch.put(COLUMNS[column], key, value),
                Change::Delete(column, key) => batch.delete(COLUMNS[column], key),
                Change::DeleteRange(column, from, to) => batch.delete_range(COLUMNS[column], from, to),
            }
        }
        self.batches.push(changes);
        (number, batch)
    }

    /// The number of the last batch that was asked for.
    pub fn last(&self) -> u64 {
        self.base_number + self.batches.len() as u64
    }

    /// The last batch that must survive.
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// The store reported this batch durable, and with it all before.
    pub fn promise(&mut self, number: u64) {
        self.promised = self.promised.max(number);
    }

    fn state(&self, number: u64) -> State {
        let mut state = self.base.clone();
        for (offset, changes) in self.batches.iter().enumerate() {
            let of = self.base_number + offset as u64 + 1;
            if of <= number {
                apply(&mut state, changes, of);
            }
        }
        state
    }

    /// Whether a running store shows exactly the last state; if not, what is wrong.
    pub fn running(&self, shown: &Shown) -> Result<(), String> {
        compare(&self.state(self.last()), shown, u64::MAX)
    }

    /// What a store shows after a start: the number of its last batch if that is allowed, else what is wrong. From now on
    /// what was shown must survive.
    pub fn restart(&mut self, shown: &Shown) -> Result<u64, String> {
        let number = shown[0].iter().find(|(key, _)| key == NUMBER).map_or(Ok(0), |(_, value)| {
            value[..].try_into().map(u64::from_be_bytes).map_err(|_| format!("the number is {value:?}"))
        })?;
        let (promised, last) = (self.promised, self.last());
        if number < promised || number > last {
            return Err(format!("it shows batch {number}; {promised} was promised and {last} is the last asked for"));
        }
        let mut state = self.state(number);
        compare(&state, shown, promised).map_err(|what| format!("at batch {number}, {promised} promised: {what}"))?;
        // A large value that is absent stays absent.
        state[1].retain(|key, _| shown[1].iter().any(|(found, _)| found[..] == key[..]));
        *self = History { base: state, base_number: number, batches: Vec::new(), promised: number };
        Ok(number)
    }
}

/// Entries must be equal; only a value of the large column may be absent, if a batch after `complete` wrote it.
fn compare(expected: &State, shown: &Shown, complete: u64) -> Result<(), String> {
    for (column, entries) in shown.iter().enumerate() {
        let name = COLUMNS[column].0;
        for (key, value) in entries {
            match expected[column].get(&key[..]) {
                Some(written) if written.value == *value => {}
                Some(written) => {
                    let (length, batch) = (written.value.len(), written.batch);
                    return Err(format!(
                        "{name} {key:?} is {} bytes beginning {:?}; batch {batch} wrote {length} bytes",
                        value.len(),
                        &value[..value.len().min(8)],
                    ));
                }
                None => return Err(format!("{name} {key:?} is there, and should not be")),
            }
        }
        for (key, written) in &expected[column] {
            let found = entries.iter().any(|(found, _)| found[..] == key[..]);
            if !found && (column == 0 || written.batch <= complete) {
                return Err(format!("{name} {key:?} of batch {} is missing", written.batch));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn shown(state: &State) -> Shown {
        let entries = |column: usize| -> Vec<(Bytes, Bytes)> {
            let entry = |(key, written): (&Vec<u8>, &Written)| (Bytes::from(key.clone()), written.value.clone());
            state[column].iter().map(entry).collect()
        };
        [entries(0), entries(1)]
    }

    fn of(batches: u64) -> History {
        let (mut history, mut random) = (History::default(), ChaCha8Rng::seed_from_u64(1));
        (0..batches).for_each(|_| drop(history.next(&mut random)));
        history
    }

    #[test]
    fn every_prefix_from_the_promised_batch_on_is_allowed_and_no_other() {
        for number in 0..=20 {
            let mut history = of(20);
            history.promise(15);
            let found = history.restart(&shown(&of(20).state(number)));
            assert_eq!(found.is_ok(), number >= 15, "{found:?}");
        }
    }

    #[test]
    fn a_batch_in_part_and_a_promised_value_that_is_gone_are_refused() {
        let full = shown(&of(20).state(20));
        for (column, promised, allowed) in [(0, 10, false), (1, 20, false), (1, 0, true)] {
            let mut history = of(20);
            history.promise(promised);
            let mut part = full.clone();
            part[column].retain(|(key, _)| key == NUMBER);
            assert_eq!(history.restart(&part).is_ok(), allowed, "column {column}, {promised} promised");
        }
    }

    #[test]
    fn what_a_start_has_shown_must_be_there_at_the_next() {
        let mut history = of(20);
        assert_eq!(history.restart(&shown(&of(20).state(7))), Ok(7));
        assert_eq!((history.last(), history.promised()), (7, 7));
        assert!(history.restart(&shown(&of(20).state(6))).is_err());
    }
}
