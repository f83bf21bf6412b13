//! A batch of changes that are applied together or not at all.

use bytes::Bytes;

use crate::options::Column;

/// What every operation costs beside its bytes: it bounds a queue of empty values too.
const OPERATION_OVERHEAD: usize = 64;

/// How long a write takes before it is reported done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Done when applied: every later read sees it, and it survives the end of the process, but not a power cut.
    Buffered,
    /// Done when the log and the segments of large values are on disk: it survives a power cut. Everything written before it
    /// is on disk then too.
    Synced,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Put {
        column: Column,
        key: Bytes,
        value: Bytes,
    },
    Delete {
        column: Column,
        key: Bytes,
    },
    /// Removes the key and notes that its value is missing.
    Lose {
        column: Column,
        key: Bytes,
        bytes: u64,
    },
    /// An empty `to` means the end of the column.
    DeleteRange {
        column: Column,
        from: Bytes,
        to: Bytes,
    },
}

impl Operation {
    /// The one key that it changes; none if that is a range.
    pub(crate) fn key(&self) -> Option<(Column, &Bytes)> {
        match self {
            Operation::Put { column, key, .. }
            | Operation::Delete { column, key }
            | Operation::Lose { column, key, .. } => Some((*column, key)),
            Operation::DeleteRange { .. } => None,
        }
    }

    pub(crate) fn column(&self) -> Column {
        match self {
            Operation::Put { column, .. }
            | Operation::Delete { column, .. }
            | Operation::Lose { column, .. }
            | Operation::DeleteRange { column, .. } => *column,
        }
    }
}

/// Changes that are applied atomically, in the order they were added.
///
/// Keys and values are held by reference count: building a batch copies no payload. A value that is a slice of a larger
/// buffer keeps that whole buffer alive until the batch is applied (and while the value stays in a value cache).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    operations: Vec<Operation>,
    bytes: usize,
    bulk: bool,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    /// Sets `key` to `value`, replacing what was there.
    pub fn put(&mut self, column: Column, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.operations.push(Operation::Put { column, key, value });
    }

    /// Removes `key`; it may be absent.
    pub fn delete(&mut self, column: Column, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.operations.push(Operation::Delete { column, key });
    }

    /// Removes `key` and notes that its value of so many bytes is missing: [`Store::lost`](crate::Store::lost) names it until the
    /// key is put or deleted. For columns of large values; in others it is [`WriteBatch::delete`].
    pub fn lose(&mut self, column: Column, key: impl Into<Bytes>, bytes: u64) {
        let key = key.into();
        self.bytes += key.len();
        self.operations.push(Operation::Lose { column, key, bytes });
    }

    /// Removes every key from `from` up to and without `to_exclusive`; an empty `to_exclusive` means to the end of the
    /// column. A range that ends where or before it begins removes nothing.
    pub fn delete_range(&mut self, column: Column, from: impl Into<Bytes>, to_exclusive: impl Into<Bytes>) {
        let (from, to) = (from.into(), to_exclusive.into());
        self.bytes += from.len() + to.len();
        self.operations.push(Operation::DeleteRange { column, from, to });
    }

    /// Lets batches that are not bulk and share no key with this one be applied before it, though they were called later. For
    /// payload and other writes of which there are many, none of them urgent. A batch that deletes a range, or is written with
    /// [`Durability::Synced`], stays in the order of calls all the same.
    pub fn set_bulk(&mut self) {
        self.bulk = true;
    }

    pub(crate) fn is_bulk(&self) -> bool {
        self.bulk && self.operations.iter().all(|operation| operation.key().is_some())
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// How many operations the batch holds.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// The bytes of all keys and values, without overheads.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// What the batch costs in the queue, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.bytes + self.operations.len() * OPERATION_OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_counts_the_bytes_of_keys_and_values() {
        let column = Column("c");
        let mut batch = WriteBatch::new();
        assert!(batch.is_empty());
        batch.put(column, "key", "value");
        batch.delete(column, "k");
        batch.delete_range(column, "a", "bc");
        assert_eq!(batch.bytes(), 12);
        assert_eq!(batch.len(), 3);
        assert!(batch.cost() > batch.bytes());
    }
}
