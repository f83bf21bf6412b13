//! Which large values are known to be missing: a power cut took them before they were synced, or the caller gave them up.
//!
//! A row for each in the store's own column is written in the same write that takes the key out of its column, and goes with
//! the write that puts or deletes the key. So what is missing is known after any further crash until somebody has dealt with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Before the length and the name of a column and a key, in the reserved column: the length of the missing value.
pub(crate) const LOST_PREFIX: &[u8] = b"rorqual/store/lost/";

/// The row of a missing value.
pub(crate) fn lost_key(column: &str, key: &[u8]) -> Vec<u8> {
    // A column's name is a constant of the caller, far below 64 KiB.
    let length = (column.len() as u16).to_be_bytes();
    [LOST_PREFIX, &length, column.as_bytes(), key].concat()
}

/// Reads a row back, its prefix taken off: the name of the column and the key.
pub(crate) fn parse_lost_key(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = rest.split_at_checked(2)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(length.try_into().ok()?)))
}

/// A change of what is missing, taken over once its write is applied.
#[derive(Debug)]
pub(crate) enum Change {
    /// This value of so many bytes is missing from now on.
    Lost(usize, Bytes, u64),
    /// It is there again, or nobody wants it.
    Settled(usize, Bytes),
}

/// The missing values by column and key, with their lengths.
#[derive(Debug)]
pub(crate) struct Lost {
    columns: Mutex<Vec<BTreeMap<Bytes, u64>>>,
}

impl Lost {
    pub(crate) fn new(columns: usize) -> Lost {
        Lost { columns: Mutex::new(vec![BTreeMap::new(); columns]) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BTreeMap<Bytes, u64>>> {
        // No code under this lock panics half way through a change.
        self.columns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn apply(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut columns = self.lock();
        for change in changes {
            match change {
                Change::Lost(column, key, bytes) => drop(columns[column].insert(key, bytes)),
                Change::Settled(column, key) => drop(columns[column].remove(&key)),
            }
        }
    }

    pub(crate) fn contains(&self, column: usize, key: &[u8]) -> bool {
        self.lock()[column].contains_key(key)
    }

    /// The missing keys of a column in a range whose end is not empty.
    pub(crate) fn within(&self, column: usize, from: &Bytes, to: &Bytes) -> Vec<Bytes> {
        let columns = self.lock();
        let range = columns[column].range::<Bytes, _>(from..to);
        range.map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn last(&self, column: usize) -> Option<Bytes> {
        self.lock()[column].last_key_value().map(|(key, _)| key.clone())
    }

    pub(crate) fn of(&self, column: usize) -> Vec<(Bytes, u64)> {
        self.lock()[column].iter().map(|(key, bytes)| (key.clone(), *bytes)).collect()
    }

    pub(crate) fn count(&self, column: usize) -> usize {
        self.lock()[column].len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().iter().all(BTreeMap::is_empty)
    }
}
