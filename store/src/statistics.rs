//! What an operator wants to know of the store.

use crate::error::StoreError;

/// The size of one column, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnSize {
    /// The column's name.
    pub column: &'static str,
    /// Live table files and the column's segment files; the log and files kept for later are not counted.
    pub disk_bytes: u64,
    /// The segment files in `disk_bytes`, whole files with what is dead in them.
    pub segment_bytes: u64,
    /// Writes in memory that are not in table files yet (they are in the log).
    pub memtable_bytes: u64,
    /// Memory of open table files outside of the block cache.
    pub table_reader_bytes: u64,
    /// Values in the value cache, overheads included.
    pub cache_bytes: u64,
}

/// How segment files are written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentAccess {
    /// Past the page cache, with `O_DIRECT`.
    Direct,
    /// Through the page cache: the filesystem refused `O_DIRECT`, or the options did.
    Buffered,
}

/// The segment files of large values. Counts are since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentStatistics {
    /// How the files are accessed; `None` for a store in memory.
    pub access: Option<SegmentAccess>,
    /// Files, those kept for later included.
    pub files: u64,
    /// Files without a live value that are kept to be written again, bounded by
    /// [`Options::spare_segments`](crate::Options::spare_segments).
    pub spare_files: u64,
    /// Length of all files.
    pub file_bytes: u64,
    /// Length of the files kept for later.
    pub spare_bytes: u64,
    /// Records that are referred to, headers and keys included. What `file_bytes` has beyond it is free, dead, or not
    /// written yet; it comes back by whole files.
    pub live_bytes: u64,
    /// How many records those are.
    pub live_records: u64,
    /// Files that began a new life.
    pub recycled: u64,
    /// Files that were deleted.
    pub deleted: u64,
    /// Bytes of large values written.
    pub payload_bytes: u64,
    /// Bytes written to segment files for them, filled-up blocks included.
    pub written_bytes: u64,
    /// Bytes written that no sync has begun to cover.
    pub unsynced_bytes: u64,
    /// Syncs of segment files.
    pub syncs: u64,
}

/// A moment of the store, and its counts since it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes of batches in the write queue, overheads included.
    pub queue_bytes: usize,
    /// The bound of `queue_bytes`.
    pub queue_capacity: usize,
    /// Batches in the queue that the writer has not taken yet.
    pub queued_batches: usize,
    /// Batches that wait for room in the queue.
    pub waiting_writers: usize,
    /// Pending `notify_read`s.
    pub waiters: usize,
    /// Batches applied.
    pub writes: u64,
    /// Bytes of keys and values applied.
    pub written_bytes: u64,
    /// Engine writes that applied them.
    pub groups: u64,
    /// Syncs of the log.
    pub syncs: u64,
    /// Synced batches that these syncs answered.
    pub synced_writes: u64,
    /// Memory for blocks read from tables, all columns together.
    pub block_cache_bytes: u64,
    /// The files of large values.
    pub segments: SegmentStatistics,
    /// The failure that stopped the store, if there was one.
    pub failed: Option<StoreError>,
}

impl Statistics {
    /// Synced batches per sync of the log; 0 before the first.
    pub fn batches_per_sync(&self) -> f64 {
        if self.syncs == 0 { 0.0 } else { self.synced_writes as f64 / self.syncs as f64 }
    }
}
