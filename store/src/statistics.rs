//! What an operator wants to know of the store.

use crate::error::StoreError;

/// The size of one column, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnSize {
    /// The column's name.
    pub column: &'static str,
    /// Live table and value files on disk; the log is not counted.
    pub disk_bytes: u64,
    /// Writes in memory that are not in table files yet (they are in the log).
    pub memtable_bytes: u64,
    /// Values in the value cache, overheads included.
    pub cache_bytes: u64,
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
    /// The failure that stopped the store, if there was one.
    pub failed: Option<StoreError>,
}

impl Statistics {
    /// Synced batches per sync of the log; 0 before the first.
    pub fn batches_per_sync(&self) -> f64 {
        if self.syncs == 0 { 0.0 } else { self.synced_writes as f64 / self.syncs as f64 }
    }
}
