//! The engine on disk: RocksDB.
//!
//! Its log is written with every apply and synced only when asked. After a crash the log is read up to its first damaged
//! record: what was synced is before it, and a batch is there whole or not at all. Nothing is compressed: payload does
//! not compress, and the rest is small. Memory is bounded by one block cache and one write buffer for all columns.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, CompactOptions, DB, ErrorKind, IteratorMode, ReadOptions, ReadTier};

use crate::batch::{Operation, WriteBatch};
use crate::engine::{Direction, Engine, EngineSize, Lookup, Page, Range};
use crate::error::StoreError;
use crate::offline;
use crate::options::{Columns, Options};
use crate::reclaim::Span;
use crate::rocks_open;

/// An open database. Closing takes it out, so that the directory is released while handles still exist.
pub(crate) struct RocksEngine {
    path: PathBuf,
    columns: Columns,
    database: RwLock<Option<DB>>,
    memory_only: ReadOptions,
}

impl RocksEngine {
    /// Opens the directory, creates it if that is allowed, and checks that it is of this format.
    pub(crate) fn open(path: &Path, options: &Options) -> Result<RocksEngine, StoreError> {
        let database = rocks_open::open(path, options)?;
        let mut memory_only = ReadOptions::default();
        memory_only.set_read_tier(ReadTier::BlockCache);
        Ok(RocksEngine {
            path: path.to_path_buf(),
            columns: Columns::new(options),
            database: RwLock::new(Some(database)),
            memory_only,
        })
    }

    /// Readers share this lock and the only writer is `close`, which holds it for one pointer's exchange after the reader
    /// threads have ended: taking it never waits for the disk.
    fn database(&self) -> RwLockReadGuard<'_, Option<DB>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, error: &rocksdb::Error) -> StoreError {
        translate(&self.path, error)
    }

    fn family<'a>(&self, database: &'a DB, column: usize) -> Result<&'a ColumnFamily, StoreError> {
        let name = self.columns.names()[column];
        database.cf_handle(name).ok_or(StoreError::UnknownColumn { column: name })
    }

    fn families<'a>(&self, database: &'a DB) -> Result<Vec<&'a ColumnFamily>, StoreError> {
        (0..self.columns.names().len()).map(|column| self.family(database, column)).collect()
    }

    /// A key after every key of the column, for a range that goes to its end: after the last one in the database and the
    /// last one that the same write puts before. This thread is the only writer.
    fn end_of(
        &self,
        database: &DB,
        family: &ColumnFamily,
        column: usize,
        before: &[&WriteBatch],
    ) -> Result<Vec<u8>, StoreError> {
        let mut last = match database.iterator_cf(family, IteratorMode::End).next() {
            Some(entry) => entry.map_err(|error| self.failure(&error))?.0.into_vec(),
            None => Vec::new(),
        };
        for operation in before.iter().flat_map(|batch| batch.operations()) {
            if let Operation::Put { column: put, key, .. } = operation
                && self.columns.index(*put)? == column
                && key[..] > last[..]
            {
                last = key.to_vec();
            }
        }
        last.push(0);
        Ok(last)
    }

    fn append(&self, database: &DB, batches: &[&WriteBatch]) -> Result<rocksdb::WriteBatch, StoreError> {
        let families = self.families(database)?;
        let bytes: usize = batches.iter().map(|batch| batch.cost()).sum();
        let mut group = rocksdb::WriteBatch::with_capacity_bytes(bytes);
        for (position, batch) in batches.iter().enumerate() {
            for operation in batch.operations() {
                let column = self.columns.index(operation.column())?;
                let family = families[column];
                match operation {
                    Operation::Put { key, value, .. } => group.put_cf(family, key, value),
                    Operation::Delete { key, .. } => group.delete_cf(family, key),
                    Operation::DeleteRange { from, to, .. } if to.is_empty() => {
                        let end = self.end_of(database, family, column, &batches[..=position])?;
                        if from[..] < end[..] {
                            group.delete_range_cf(family, &from[..], &end[..]);
                        }
                    }
                    Operation::DeleteRange { from, to, .. } if from < to => {
                        group.delete_range_cf(family, &from[..], &to[..]);
                    }
                    Operation::DeleteRange { .. } => {}
                }
            }
        }
        Ok(group)
    }

    fn flush(&self, database: &DB) -> Result<(), StoreError> {
        database.flush_wal(true).map_err(|error| self.failure(&error))?;
        // Then nothing has to be read back from the log at the next start.
        for family in self.families(database)? {
            database.flush_cf(family).map_err(|error| self.failure(&error))?;
        }
        Ok(())
    }
}

impl Engine for RocksEngine {
    fn apply(&self, batches: &[&WriteBatch]) -> Result<(), StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let group = self.append(database, batches)?;
        database.write(group).map_err(|error| self.failure(&error))
    }

    fn sync(&self) -> Result<(), StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        database.flush_wal(true).map_err(|error| self.failure(&error))
    }

    fn look(&self, column: usize, key: &[u8]) -> Result<Lookup, StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let family = self.family(database, column)?;
        match database.get_pinned_cf_opt(family, key, &self.memory_only) {
            Ok(Some(value)) => Ok(Lookup::Found(Bytes::copy_from_slice(&value))),
            Ok(None) => Ok(Lookup::Absent),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(Lookup::NeedsDisk),
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn read(&self, column: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let family = self.family(database, column)?;
        let value = database.get_pinned_cf(family, key).map_err(|error| self.failure(&error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, column: usize, range: &Range) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut page = Page::new(range);
        if range.is_empty() {
            return Ok(page.into_entries());
        }
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_lower_bound(&range.from[..]);
        if !range.to.is_empty() {
            bounds.set_iterate_upper_bound(&range.to[..]);
        }
        let mut entries = database.raw_iterator_cf_opt(self.family(database, column)?, bounds);
        match range.direction {
            Direction::Forward => entries.seek_to_first(),
            Direction::Backward => entries.seek_to_last(),
        }
        while let Some((key, value)) = entries.item() {
            if !page.offer(key, value) {
                break;
            }
            match range.direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.prev(),
            }
        }
        entries.status().map_err(|error| self.failure(&error))?;
        Ok(page.into_entries())
    }

    fn reclaim(&self, column: usize, span: &Span) -> Result<(), StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let mut options = CompactOptions::default();
        // Ordinary compactions, which writes depend on, go on beside it.
        options.set_exclusive_manual_compaction(false);
        let end = (!span.to.is_empty()).then_some(&span.to[..]);
        database.compact_range_cf_opt(self.family(database, column)?, Some(&span.from[..]), end, &options);
        Ok(())
    }

    fn sizes(&self) -> Vec<EngineSize> {
        let guard = self.database();
        let size = |column: usize| {
            let database = guard.as_ref()?;
            let family = self.family(database, column).ok()?;
            let property = |name: &str| database.property_int_value_cf(family, name).ok().flatten().unwrap_or(0);
            Some(EngineSize {
                disk_bytes: property("rocksdb.live-sst-files-size") + property("rocksdb.live-blob-file-size"),
                memory_bytes: property("rocksdb.size-all-mem-tables"),
            })
        };
        (0..self.columns.names().len()).map(|column| size(column).unwrap_or_default()).collect()
    }

    fn checkpoint(&self, path: &Path) -> Result<(), StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let checkpoint = Checkpoint::new(database).map_err(|error| self.failure(&error))?;
        checkpoint.create_checkpoint(path).map_err(|error| self.failure(&error))?;
        rocks_open::sync_parent(path)
    }

    fn close(&self, failed: bool) -> Result<(), StoreError> {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(database) = database else { return Ok(()) };
        let flushed = if failed { Ok(()) } else { self.flush(&database) };
        drop(database);
        flushed
    }
}

/// RocksDB's errors are texts that begin with their kind.
pub(crate) fn translate(path: &Path, error: &rocksdb::Error) -> StoreError {
    let detail = error.to_string();
    let text = detail.to_ascii_lowercase();
    if text.contains("no space left on device") || text.contains("io error: no space") {
        return StoreError::DiskFull { detail };
    }
    if text.contains("lock file") || text.contains("lock hold by current process") {
        return StoreError::Locked { path: path.to_path_buf(), holder: offline::holder(path) };
    }
    match error.kind() {
        ErrorKind::Corruption => StoreError::Corruption { detail },
        ErrorKind::ShutdownInProgress => StoreError::Closed,
        _ => StoreError::Io { detail },
    }
}
