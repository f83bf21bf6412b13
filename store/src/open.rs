//! A store on disk: the only place that knows which engine is behind it.

use std::path::Path;

use crate::error::StoreError;
use crate::handle::Store;
use crate::options::Options;
use crate::rocks::RocksEngine;

impl Store {
    /// Opens the database in the directory `path`, on threads of its own; needs no runtime.
    ///
    /// Blocks until the log of the last run is read back: call it before the runtime starts, or from
    /// `tokio::task::spawn_blocking`. A missing database is created if [`Options::create_if_missing`] says so, and its
    /// creation survives a power cut once this returns.
    ///
    /// # Errors
    /// [`StoreError::Options`], [`StoreError::Missing`], [`StoreError::Locked`] while another process (or another store of
    /// this one) has the directory open, [`StoreError::Format`] for a directory of another version or with other columns,
    /// [`StoreError::Corruption`], [`StoreError::DiskFull`], [`StoreError::Io`].
    pub fn open(path: &Path, options: Options) -> Result<Store, StoreError> {
        options.validate()?;
        let engine = RocksEngine::open(path, &options)?;
        Store::start(Box::new(engine), &options)
    }
}
