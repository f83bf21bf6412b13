//! Rebuilds a database from the tables and logs that can still be read.

use std::path::Path;

use rocksdb::{Cache, DB};

use super::lock::Lock;
use crate::error::StoreError;
use crate::options::Options;
use crate::rocks::translate;
use crate::rocks_open;
use crate::segments::accounting;

/// Has RocksDB rebuild its manifest from every table and log record that can be read. What cannot be read is moved to the folder
/// `lost` in the directory. Deleted entries may come back and the newest ones may be gone: the caller must not rely on the
/// database being of one moment. What the store itself keeps in the database, its format and the accounting of segments, is made
/// anew where it was lost. Blocks.
///
/// # Errors
/// [`StoreError::Locked`], [`StoreError::Missing`], [`StoreError::Corruption`], [`StoreError::DiskFull`], [`StoreError::Io`].
pub fn salvage(path: &Path, options: &Options) -> Result<(), StoreError> {
    // Let go before RocksDB takes the same lock.
    drop(Lock::take(path)?);
    DB::repair(&rocks_open::database_options(options), path).map_err(|error| translate(path, &error))?;
    // A column of which no table was left is forgotten.
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let database = rocks_open::open_with(path, options, &cache, true)?;
    rocks_open::restore_format(path, options, &database)?;
    accounting::rebuild(&database, path, &options.columns)
}
