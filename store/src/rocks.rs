//! The engine on disk: RocksDB, with large values in segments beside it.
//!
//! Its log is written with every apply and synced only when asked, side by side with the segments. After a crash the log
//! is read up to its first damaged record: what was synced is before it, and a batch is there whole or not at all, except
//! for large values that were never reported synced. Nothing is compressed: payload does not compress, and the rest is
//! small. Memory is bounded by one block cache and one write buffer for all columns.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use rocksdb::{Cache, ColumnFamily, CompactOptions, DB, DBRawIterator, ErrorKind, ReadOptions, ReadTier};

use crate::batch::WriteBatch;
use crate::engine::{Direction, Engine, EngineSize, EngineStatistics, Lookup, Page, Range};
use crate::error::StoreError;
use crate::offline;
use crate::options::{Columns, Options};
use crate::reclaim::Span;
use crate::rocks_group::{Group, Target};
use crate::segments::reference::{Reference, Stored};
use crate::segments::{Segments, hexadecimal, recovery, segment_key, tail_key};
use crate::{exit, rocks_backup, rocks_open, rocks_tables};

const DATA_SYNC: usize = 0;
const DATA_WRITE: usize = 1;
const WORKERS: [&str; 3] = ["store-sync-data", "store-write-data", "store-segments"];

/// An open database. Closing takes it out, so that the directory is released while handles still exist.
pub(crate) struct RocksEngine {
    path: PathBuf,
    columns: Columns,
    database: RwLock<Option<DB>>,
    segments: Segments,
    block_cache: Cache,
    large_value_bytes: usize,
    memory_only: ReadOptions,
}

impl RocksEngine {
    /// Opens the directory, creates it if that is allowed, checks that it is of this format, and makes index and segments
    /// agree.
    pub(crate) fn open(path: &Path, options: &Options) -> Result<RocksEngine, StoreError> {
        let block_cache = Cache::new_lru_cache(options.block_cache_bytes);
        let database = rocks_open::open(path, options, &block_cache)?;
        let segments = Segments::open(path, options)?;
        recovery::recover(&database, &segments)?;
        rocks_tables::merge_small(&database)?;
        exit::wait_at_exit();
        let mut memory_only = ReadOptions::default();
        memory_only.set_read_tier(ReadTier::BlockCache);
        Ok(RocksEngine {
            path: path.to_path_buf(),
            columns: Columns::new(options),
            database: RwLock::new(Some(database)),
            segments,
            block_cache,
            large_value_bytes: options.large_value_bytes,
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

    /// An entry of a column as the value that callers know, or as where it is.
    fn entry<'a>(&self, column: usize, key: &[u8], entry: &'a [u8]) -> Result<Stored<'a>, StoreError> {
        if !self.columns.is_large(column) {
            return Ok(Stored::Inline(entry));
        }
        Stored::decode(entry).ok_or_else(|| StoreError::Corruption {
            detail: format!(
                "the entry of key {} in column {} is neither a value nor a reference to one",
                hexadecimal(key),
                self.columns.names()[column]
            ),
        })
    }

    /// The value of an entry that cannot have been deleted meanwhile.
    fn held_value(&self, column: usize, key: &[u8], reference: &Reference) -> Result<Bytes, StoreError> {
        let value = self.segments.read(column, key, reference)?;
        value.ok_or_else(|| self.segments.damaged(column, key, reference))
    }

    /// Takes the entry of a range if it fits into the page; whether it did.
    fn offer(&self, column: usize, page: &mut Page<'_>, key: &[u8], entry: &[u8]) -> Result<bool, StoreError> {
        match self.entry(column, key, entry)? {
            Stored::Inline(value) => Ok(page.offer(key, value)),
            Stored::Segment(reference) => {
                let fits = page.fits(key, usize::try_from(reference.length).unwrap_or(usize::MAX));
                if fits {
                    page.push(key, self.held_value(column, key, &reference)?);
                }
                Ok(fits)
            }
        }
    }

    fn forget_segment(&self, number: u32) -> Result<(), StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        database.delete(segment_key(number)).map_err(|error| self.failure(&error))
    }

    /// Puts all on disk, so that the next start has nothing to check and nothing to read back.
    fn flush(&self, database: &DB) -> Result<(), StoreError> {
        self.segments.sync.finish()?;
        self.segments.seal()?;
        let mut known = rocksdb::WriteBatch::default();
        for group in self.segments.appender().tail.drain(..) {
            known.delete(tail_key(group));
        }
        database.write(known).map_err(|error| self.failure(&error))?;
        database.flush_wal(true).map_err(|error| self.failure(&error))?;
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
        let target = Target {
            database,
            segments: &self.segments,
            columns: &self.columns,
            families: self.families(database)?,
            threshold: self.large_value_bytes,
        };
        let mut group = Group::new(target, batches);
        group.take(batches)?;
        group.write()
    }

    fn sync(&self) -> Result<(), StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let moment = self.segments.moment();
        // The other thread syncs the data while this one syncs the log.
        let group = self.segments.sync.request();
        database.flush_wal(true).map_err(|error| self.failure(&error))?;
        self.segments.sync.wait(group)?;
        self.segments.deletions_synced(moment);
        Ok(())
    }

    fn look(&self, column: usize, key: &[u8]) -> Result<Lookup, StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let family = self.family(database, column)?;
        match database.get_pinned_cf_opt(family, key, &self.memory_only) {
            Ok(Some(entry)) => match self.entry(column, key, &entry)? {
                Stored::Inline(value) => Ok(Lookup::Found(Bytes::copy_from_slice(value))),
                Stored::Segment(_) => Ok(Lookup::NeedsDisk),
            },
            Ok(None) => Ok(Lookup::Absent),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(Lookup::NeedsDisk),
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn lost(&self, column: usize) -> Vec<(Bytes, u64)> {
        self.segments.lost.of(column)
    }

    fn lost_count(&self, column: usize) -> usize {
        self.segments.lost.count(column)
    }

    fn read(&self, column: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let family = self.family(database, column)?;
        let mut failed = None;
        loop {
            let entry = database.get_pinned_cf(family, key).map_err(|error| self.failure(&error))?;
            let Some(entry) = entry else { return Ok(None) };
            let reference = match self.entry(column, key, &entry)? {
                Stored::Inline(value) => return Ok(Some(Bytes::copy_from_slice(value))),
                Stored::Segment(reference) => reference,
            };
            if let Some(value) = self.segments.read(column, key, &reference)? {
                return Ok(Some(value));
            }
            // The key may have been changed and its segment recycled in between; then the index says so now.
            if failed == Some(reference) {
                return Err(self.segments.damaged(column, key, &reference));
            }
            failed = Some(reference);
        }
    }

    fn scan(&self, column: usize, range: &Range) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut page = Page::new(range);
        if range.is_empty() {
            return Ok(page.into_entries());
        }
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        // Before the view is taken: what it shows stays readable.
        let _hold = self.segments.hold();
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_lower_bound(&range.from[..]);
        if !range.to.is_empty() {
            bounds.set_iterate_upper_bound(&range.to[..]);
        }
        let mut entries: DBRawIterator<'_> = database.raw_iterator_cf_opt(self.family(database, column)?, bounds);
        match range.direction {
            Direction::Forward => entries.seek_to_first(),
            Direction::Backward => entries.seek_to_last(),
        }
        while let Some((key, value)) = entries.item() {
            if !self.offer(column, &mut page, key, value)? {
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
            let segment_bytes = self.segments.column_bytes(column);
            Some(EngineSize {
                disk_bytes: property("rocksdb.live-sst-files-size") + segment_bytes,
                segment_bytes,
                memory_bytes: property("rocksdb.size-all-mem-tables"),
                table_reader_bytes: property("rocksdb.estimate-table-readers-mem"),
            })
        };
        (0..self.columns.names().len()).map(|column| size(column).unwrap_or_default()).collect()
    }

    fn checkpoint(&self, path: &Path) -> Result<(), StoreError> {
        let guard = self.database();
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        rocks_backup::create(database, &self.segments, path)
    }

    fn statistics(&self) -> EngineStatistics {
        EngineStatistics {
            block_cache_bytes: self.block_cache.get_usage() as u64,
            segments: self.segments.statistics(),
        }
    }

    fn workers(&self) -> &'static [&'static str] {
        &WORKERS
    }

    fn work(&self, worker: usize) -> Result<(), StoreError> {
        match worker {
            DATA_SYNC => self.segments.sync.run(),
            DATA_WRITE => {
                self.segments.pipe.run();
                Ok(())
            }
            _ => self.segments.keep(|| self.sync(), |number| self.forget_segment(number)),
        }
    }

    fn stop_workers(&self) {
        self.segments.close();
        self.segments.sync.close();
        self.segments.pipe.close();
    }

    fn close(&self, failed: bool) -> Result<(), StoreError> {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(database) = database else { return Ok(()) };
        let flushed = if failed { Ok(()) } else { self.flush(&database) };
        drop(database);
        flushed
    }
}

#[cfg(test)]
impl RocksEngine {
    pub(crate) fn segments(&self) -> &Segments {
        &self.segments
    }

    /// What RocksDB holds under a key.
    pub(crate) fn raw_entry(&self, column: usize, key: &[u8]) -> Option<Vec<u8>> {
        let guard = self.database();
        let database = guard.as_ref()?;
        database.get_cf(self.family(database, column).ok()?, key).ok()?
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
    if text.contains("no such file") && text.contains("manifest") {
        return StoreError::Corruption { detail: format!("CURRENT names a file that is not there: {detail}") };
    }
    match error.kind() {
        ErrorKind::Corruption => StoreError::Corruption { detail },
        ErrorKind::ShutdownInProgress => StoreError::Closed,
        _ => StoreError::Io { detail },
    }
}
