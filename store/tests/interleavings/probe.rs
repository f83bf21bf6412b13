//! An engine in memory that notes what was applied and what was durable when, and lets others run in between.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use shuttle::thread::yield_now;

use crate::batch::{Operation, WriteBatch};
use crate::engine::{Engine, EngineSize, Lookup, Range};
use crate::memory::MemoryEngine;
use crate::options::{Column, ColumnOptions, Columns, Options};
use crate::reclaim::Span;
use crate::{Store, StoreError};

/// The only column.
pub const DATA: Column = Column("data");

/// What the engine has seen. Its lock is the standard library's: no thread is switched while it is held.
#[derive(Default)]
struct Seen {
    /// Keys in the order in which they were applied.
    applied: Vec<Bytes>,
    /// So many of them were there when the last sync that has ended began.
    durable: usize,
    syncs: usize,
    closed: bool,
}

/// What a scenario asks of the engine.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<Seen>>);

impl Notes {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().expect("no panic under the lock")
    }

    /// Whether a write of this key is on disk.
    pub fn is_durable(&self, key: &str) -> bool {
        let seen = self.seen();
        seen.applied[..seen.durable].iter().any(|applied| applied == key)
    }

    /// Whether a write of this key was applied.
    pub fn is_applied(&self, key: &str) -> bool {
        self.seen().applied.iter().any(|applied| applied == key)
    }

    /// Applied keys that begin so, in their order.
    pub fn with_prefix(&self, prefix: &str) -> Vec<String> {
        let text = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
        self.seen().applied.iter().map(text).filter(|key| key.starts_with(prefix)).collect()
    }

    /// Whether the engine was closed.
    pub fn is_closed(&self) -> bool {
        self.seen().closed
    }
}

/// The engine.
pub struct Probe {
    memory: MemoryEngine,
    notes: Notes,
    /// The sync, counted from 1, that fails; none.
    failing: Option<usize>,
}

/// A store over it, with room for about two small batches in its queue.
pub fn store(failing: Option<usize>) -> (Store, Notes) {
    let options = Options {
        queue_bytes: 500,
        reader_threads: 1,
        ..Options::with_columns(vec![ColumnOptions { name: DATA.0, large_values: false, cache_bytes: 1_000 }])
    };
    let notes = Notes::default();
    let probe = Probe { memory: MemoryEngine::new(Columns::new(&options)), notes: notes.clone(), failing };
    (Store::start(Box::new(probe), &options).expect("threads"), notes)
}

impl Engine for Probe {
    fn apply(&self, batches: &[&WriteBatch]) -> Result<(), StoreError> {
        yield_now();
        self.memory.apply(batches)?;
        for operation in batches.iter().flat_map(|batch| batch.operations()) {
            if let Operation::Put { key, .. } = operation {
                self.notes.seen().applied.push(key.clone());
            }
        }
        yield_now();
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let covered = self.notes.seen().applied.len();
        yield_now();
        let mut seen = self.notes.seen();
        seen.syncs += 1;
        if self.failing == Some(seen.syncs) {
            return Err(StoreError::Io { detail: "the test asked for it".into() });
        }
        seen.durable = seen.durable.max(covered);
        Ok(())
    }

    fn look(&self, column: usize, key: &[u8]) -> Result<Lookup, StoreError> {
        yield_now();
        let found = self.memory.look(column, key);
        yield_now();
        found
    }

    fn lost(&self, column: usize) -> Vec<(Bytes, u64)> {
        self.memory.lost(column)
    }

    fn lost_count(&self, column: usize) -> usize {
        self.memory.lost_count(column)
    }

    fn read(&self, column: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.memory.read(column, key)
    }

    fn scan(&self, column: usize, range: &Range) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.memory.scan(column, range)
    }

    fn reclaim(&self, column: usize, span: &Span) -> Result<(), StoreError> {
        self.memory.reclaim(column, span)
    }

    fn sizes(&self) -> Vec<EngineSize> {
        self.memory.sizes()
    }

    fn checkpoint(&self, path: &Path) -> Result<(), StoreError> {
        self.memory.checkpoint(path)
    }

    fn close(&self, failed: bool) -> Result<(), StoreError> {
        let mut seen = self.notes.seen();
        if !failed {
            seen.durable = seen.applied.len();
        }
        seen.closed = true;
        Ok(())
    }
}
