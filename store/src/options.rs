//! What a store is opened with: its columns and its bounds.

use crate::error::StoreError;

/// RocksDB's own column, which every database has; the store keeps its format version there.
pub(crate) const RESERVED_COLUMN: &str = "default";

/// The name of a declared column. Using a column that the store was not opened with is
/// [`StoreError::UnknownColumn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Column(pub &'static str);

/// One column: a key space of its own, ordered by key bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnOptions {
    /// The name, part of the format on disk. `default` is reserved.
    pub name: &'static str,
    /// Values of [`Options::large_value_bytes`] and more are kept out of RocksDB, in segment files: written once, past the
    /// page cache where the filesystem allows it, and never moved. Part of the format on disk: it cannot change later.
    ///
    /// Their space comes back by whole segments, when nothing in a segment is live. Put values into one column that are
    /// deleted at about the same age: a single value that is kept for ever keeps its segment. Writes and deletions look the
    /// key up, and a range deletion looks up every key it removes.
    pub large_values: bool,
    /// How many bytes of the latest written values stay in memory, oldest out first; 0 keeps none.
    pub cache_bytes: usize,
}

impl ColumnOptions {
    /// A column of small values without a value cache.
    pub fn small(name: &'static str) -> ColumnOptions {
        ColumnOptions { name, large_values: false, cache_bytes: 0 }
    }

    /// A column of large values that keeps the latest `cache_bytes` of them in memory.
    pub fn large(name: &'static str, cache_bytes: usize) -> ColumnOptions {
        ColumnOptions { name, large_values: true, cache_bytes }
    }
}

/// What a store is opened with. Every bound has a default; the columns are the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// All columns, those of an existing directory exactly.
    pub columns: Vec<ColumnOptions>,
    /// Bytes of batches that may wait for the writer. Beyond it writers wait in order, and `try_` writes are refused. One
    /// batch larger than this is taken when the queue is empty. Default 64 MiB.
    pub queue_bytes: usize,
    /// Threads for reads that need the disk and for ranges; backups and compactions have one of their own. Default 4.
    pub reader_threads: usize,
    /// Requests that may wait for a reader thread; further callers wait in order. Default 1024.
    pub reader_queue: usize,
    /// Memory for blocks read from disk, shared by all columns. Default 64 MiB.
    pub block_cache_bytes: usize,
    /// Memory for writes that are not in table files yet, over all columns. Default 128 MiB.
    pub write_buffer_bytes: usize,
    /// Size of the log at which the oldest columns are flushed so that it can shrink. Default 256 MiB.
    pub max_wal_bytes: u64,
    /// Threads for flushes and compactions. Default 2.
    pub max_background_jobs: usize,
    /// Table files kept open. Default 512.
    pub max_open_files: usize,
    /// In columns of large values, the size in bytes from which a value goes to a segment. Default 4 KiB.
    pub large_value_bytes: usize,
    /// Size of a segment file, in bytes: the unit in which the space of large values is reserved and comes back. Each column
    /// of large values writes into one at a time. A value that is larger gets a file of its own. Default 64 MiB.
    pub segment_bytes: u64,
    /// Segment files without live values that are kept to be written again; further ones are deleted. Default 4.
    pub spare_segments: usize,
    /// Bytes of large values after which a background sync of their files begins, so that a synced write finds little left
    /// to do. Bounds what a start after a crash has to check. Default 4 MiB.
    pub segment_sync_bytes: u64,
    /// Whether to write segments past the page cache (`O_DIRECT`). Where the filesystem refuses it, the page cache is used
    /// whatever this says; [`SegmentStatistics::access`](crate::SegmentStatistics::access) tells which. Default true.
    pub direct_io: bool,
    /// Whether to create the database where there is none; otherwise that is [`StoreError::Missing`]. Default true.
    pub create_if_missing: bool,
}

const MIN_SEGMENT_BYTES: u64 = 64 << 10;
const MAX_SEGMENT_BYTES: u64 = 16 << 30;

const MIB: usize = 1 << 20;

impl Default for Options {
    fn default() -> Options {
        Options {
            columns: Vec::new(),
            queue_bytes: 64 * MIB,
            reader_threads: 4,
            reader_queue: 1024,
            block_cache_bytes: 64 * MIB,
            write_buffer_bytes: 128 * MIB,
            max_wal_bytes: 256 << 20,
            max_background_jobs: 2,
            max_open_files: 512,
            large_value_bytes: 4 << 10,
            segment_bytes: 64 << 20,
            spare_segments: 4,
            segment_sync_bytes: 4 << 20,
            direct_io: true,
            create_if_missing: true,
        }
    }
}

impl Options {
    /// The defaults with these columns.
    pub fn with_columns(columns: Vec<ColumnOptions>) -> Options {
        Options { columns, ..Options::default() }
    }

    /// Says what is wrong, before anything is created on disk.
    pub(crate) fn validate(&self) -> Result<(), StoreError> {
        let invalid = |detail: String| Err(StoreError::Options { detail });
        for (index, column) in self.columns.iter().enumerate() {
            if column.name == RESERVED_COLUMN || column.name.is_empty() || column.name.contains('\0') {
                return invalid(format!("\"{}\" cannot be the name of a column", column.name));
            }
            if self.columns[..index].iter().any(|earlier| earlier.name == column.name) {
                return invalid(format!("column \"{}\" is declared twice", column.name));
            }
        }
        if self.columns.len() > usize::from(u16::MAX) {
            return invalid("there are more than 65535 columns".to_string());
        }
        if self.queue_bytes == 0 || self.reader_threads == 0 || self.reader_queue == 0 {
            return invalid("queue_bytes, reader_threads and reader_queue must be at least 1".to_string());
        }
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes) {
            return invalid(format!("segment_bytes must be between {MIN_SEGMENT_BYTES} and {MAX_SEGMENT_BYTES}"));
        }
        Ok(())
    }
}

/// The declared columns by number: inside the store a column is its index.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    names: Vec<&'static str>,
    large: Vec<bool>,
}

impl Columns {
    pub(crate) fn new(options: &Options) -> Columns {
        Columns {
            names: options.columns.iter().map(|column| column.name).collect(),
            large: options.columns.iter().map(|column| column.large_values).collect(),
        }
    }

    /// The number of a column. There are few columns and their names are constants of the caller, so that comparing
    /// addresses first nearly always decides.
    pub(crate) fn index(&self, column: Column) -> Result<usize, StoreError> {
        let name = column.0;
        let same_constant = |known: &&'static str| std::ptr::eq(*known, name);
        self.names
            .iter()
            .position(same_constant)
            .or_else(|| self.names.iter().position(|known| *known == name))
            .ok_or(StoreError::UnknownColumn { column: name })
    }

    /// Whether the column keeps large values in segments.
    pub(crate) fn is_large(&self, column: usize) -> bool {
        self.large[column]
    }

    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_with_columns_are_valid() {
        let options = Options::with_columns(vec![ColumnOptions::small("a"), ColumnOptions::large("b", 10)]);
        assert_eq!(options.validate(), Ok(()));
    }

    #[test]
    fn reserved_empty_and_repeated_names_are_refused() {
        for names in [vec!["default"], vec![""], vec!["a", "b", "a"]] {
            let columns = names.into_iter().map(ColumnOptions::small).collect();
            let error = Options::with_columns(columns).validate();
            assert!(matches!(error, Err(StoreError::Options { .. })), "{error:?}");
        }
    }

    #[test]
    fn bounds_of_zero_are_refused() {
        let zeros =
            [Options { queue_bytes: 0, ..Options::default() }, Options { segment_bytes: 0, ..Options::default() }];
        for options in zeros {
            assert!(matches!(options.validate(), Err(StoreError::Options { .. })), "{options:?}");
        }
    }

    #[test]
    fn columns_are_found_by_name_not_by_address() {
        let columns = Columns::new(&Options::with_columns(vec![ColumnOptions::small("a"), ColumnOptions::small("bc")]));
        let elsewhere: &'static str = Box::leak(String::from("bc").into_boxed_str());
        assert_eq!(columns.index(Column(elsewhere)), Ok(1));
        assert_eq!(columns.index(Column("c")), Err(StoreError::UnknownColumn { column: "c" }));
    }
}
