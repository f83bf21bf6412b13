//! The seam between the store and what holds the bytes.
//!
//! An engine is synchronous and may block; the store calls the blocking methods on its own threads only. It is given
//! column numbers that are known to be declared, and is told of writes by one thread at a time.

use std::path::Path;

use bytes::Bytes;

use crate::batch::WriteBatch;
use crate::error::StoreError;
use crate::reclaim::Span;
use crate::statistics::SegmentStatistics;

/// Which way a range is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the smallest key of the range up.
    Forward,
    /// From the largest key of the range down.
    Backward,
}

/// What a look at memory alone can say about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Found(Bytes),
    Absent,
    /// Only the disk knows.
    NeedsDisk,
}

/// A range of keys and how much of it is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) from: Bytes,
    /// Empty means the end of the column.
    pub(crate) to: Bytes,
    pub(crate) limit: usize,
    pub(crate) max_bytes: usize,
    pub(crate) direction: Direction,
}

impl Range {
    /// Whether no key can be in the range.
    pub(crate) fn is_empty(&self) -> bool {
        self.limit == 0 || (!self.to.is_empty() && self.from >= self.to)
    }
}

/// Collects the entries of a range up to its limits. The first entry is always taken, so that a caller that pages through
/// a range makes progress whatever its sizes are.
pub(crate) struct Page<'a> {
    range: &'a Range,
    bytes: usize,
    entries: Vec<(Bytes, Bytes)>,
}

impl<'a> Page<'a> {
    pub(crate) fn new(range: &'a Range) -> Page<'a> {
        Page { range, bytes: 0, entries: Vec::new() }
    }

    /// Whether an entry with a value of this length fits; if not, the page is complete without it.
    pub(crate) fn fits(&self, key: &[u8], value_length: usize) -> bool {
        let bytes = self.bytes.saturating_add(key.len()).saturating_add(value_length);
        self.entries.len() < self.range.limit && (self.entries.is_empty() || bytes <= self.range.max_bytes)
    }

    pub(crate) fn push(&mut self, key: &[u8], value: Bytes) {
        self.bytes = self.bytes.saturating_add(key.len()).saturating_add(value.len());
        self.entries.push((Bytes::copy_from_slice(key), value));
    }

    /// Takes the entry if it fits; false means that the page is complete without it.
    pub(crate) fn offer(&mut self, key: &[u8], value: &[u8]) -> bool {
        let fits = self.fits(key, value.len());
        if fits {
            self.push(key, Bytes::copy_from_slice(value));
        }
        fits
    }

    pub(crate) fn into_entries(self) -> Vec<(Bytes, Bytes)> {
        self.entries
    }
}

/// What an engine holds of one column, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EngineSize {
    pub(crate) disk_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) table_reader_bytes: u64,
}

/// What an engine says of itself beside its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EngineStatistics {
    pub(crate) block_cache_bytes: u64,
    pub(crate) segments: SegmentStatistics,
}

/// What holds the bytes: RocksDB, or memory.
pub(crate) trait Engine: Send + Sync + 'static {
    /// Applies all batches in order, each atomically, and makes them visible to every read that starts later. Not synced.
    fn apply(&self, batches: &[&WriteBatch]) -> Result<(), StoreError>;

    /// Returns when everything applied before the call is on disk.
    fn sync(&self) -> Result<(), StoreError>;

    /// Looks at memory alone and never waits for the disk.
    fn look(&self, column: usize, key: &[u8]) -> Result<Lookup, StoreError>;

    /// Reads, from the disk if it must.
    /// What is known to be missing from a column of large values, with its length.
    fn lost(&self, column: usize) -> Vec<(Bytes, u64)>;

    /// How many those are.
    fn lost_count(&self, column: usize) -> usize;

    fn read(&self, column: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Reads a range, from one consistent view.
    fn scan(&self, column: usize, range: &Range) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// Gives back the space of what was deleted in a range. May take a while; data is safe whatever comes of it.
    fn reclaim(&self, column: usize, span: &Span) -> Result<(), StoreError>;

    /// Sizes of all columns by number; zeros when closed.
    fn sizes(&self) -> Vec<EngineSize>;

    /// What it does beside that.
    fn statistics(&self) -> EngineStatistics {
        EngineStatistics::default()
    }

    /// The names of the threads that the engine needs for itself.
    fn workers(&self) -> &'static [&'static str] {
        &[]
    }

    /// The life of one of them; ends when [`Engine::stop_workers`] was called, or with a failure that stops the store.
    fn work(&self, _worker: usize) -> Result<(), StoreError> {
        Ok(())
    }

    /// Tells the workers to end.
    fn stop_workers(&self) {}

    /// Writes a copy, which can be opened as a store, to a directory that does not exist yet.
    fn checkpoint(&self, path: &Path) -> Result<(), StoreError>;

    /// Puts everything on disk and releases the directory; after an earlier failure only the latter.
    fn close(&self, failed: bool) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limit: usize, max_bytes: usize) -> Range {
        Range { from: Bytes::new(), to: Bytes::new(), limit, max_bytes, direction: Direction::Forward }
    }

    #[test]
    fn a_page_takes_the_first_entry_whatever_its_size() {
        let range = range(10, 3);
        let mut page = Page::new(&range);
        assert!(page.offer(b"key", b"a long value"));
        assert!(!page.offer(b"k", b""));
        assert_eq!(page.into_entries().len(), 1);
    }

    #[test]
    fn a_page_ends_at_its_limit_of_entries() {
        let range = range(2, usize::MAX);
        let mut page = Page::new(&range);
        assert!(page.offer(b"a", b""));
        assert!(page.offer(b"b", b""));
        assert!(!page.offer(b"c", b""));
    }
}
