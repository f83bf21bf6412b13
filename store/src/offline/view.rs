//! A look at a database that changes nothing on disk.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, DBRecoveryMode, IteratorMode};

use crate::error::StoreError;
use crate::options::{Column, Columns, Options};
use crate::rocks::translate;
use crate::rocks_open;
use crate::statistics::ColumnSize;

/// A database as it stood when it was opened, for reading alone. Takes no lock: of a database in use it is a moment's view.
///
/// All methods block.
pub struct View {
    database: DB,
    path: PathBuf,
    columns: Columns,
}

impl View {
    /// Opens a database for reading. Reads its log into memory.
    ///
    /// # Errors
    /// As [`Store::open`](crate::Store::open), without [`StoreError::Locked`].
    pub fn open(path: &Path, options: &Options) -> Result<View, StoreError> {
        options.validate()?;
        if !rocks_open::has_database(path)? {
            return Err(StoreError::Missing { path: path.to_path_buf() });
        }
        let reading = Options { create_if_missing: false, ..options.clone() };
        let database = rocks_open::open_read_only(path, &reading, DBRecoveryMode::PointInTime)?;
        Ok(View { database, path: path.to_path_buf(), columns: Columns::new(options) })
    }

    fn family(&self, column: Column) -> Result<&ColumnFamily, StoreError> {
        self.columns.index(column)?;
        self.database.cf_handle(column.0).ok_or(StoreError::UnknownColumn { column: column.0 })
    }

    fn failure(&self, error: &rocksdb::Error) -> StoreError {
        translate(&self.path, error)
    }

    /// The value of a key in a column of small values; in one of large values, where it is.
    ///
    /// # Errors
    /// [`StoreError::UnknownColumn`], [`StoreError::Corruption`], [`StoreError::Io`].
    pub fn read(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.database.get_cf(self.family(column)?, key).map_err(|error| self.failure(&error))?;
        Ok(value.map(Bytes::from))
    }

    /// The smallest key of a column, with its value.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn first(&self, column: Column) -> Result<Option<(Bytes, Bytes)>, StoreError> {
        self.edge(column, IteratorMode::Start)
    }

    /// The largest key of a column, with its value.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn last(&self, column: Column) -> Result<Option<(Bytes, Bytes)>, StoreError> {
        self.edge(column, IteratorMode::End)
    }

    fn edge(&self, column: Column, mode: IteratorMode<'_>) -> Result<Option<(Bytes, Bytes)>, StoreError> {
        let entry = self.database.iterator_cf(self.family(column)?, mode).next().transpose();
        let entry = entry.map_err(|error| self.failure(&error))?;
        Ok(entry.map(|(key, value)| (Bytes::from(key), Bytes::from(value))))
    }

    /// The size of every column's tables, in the order they were declared; segments are not looked at.
    pub fn sizes(&self) -> Vec<ColumnSize> {
        let size = |column: &&'static str| {
            let number = |property: &str| {
                let family = self.database.cf_handle(column)?;
                self.database.property_int_value_cf(family, property).ok().flatten()
            };
            ColumnSize {
                column,
                disk_bytes: number("rocksdb.live-sst-files-size").unwrap_or(0),
                segment_bytes: 0,
                memtable_bytes: number("rocksdb.size-all-mem-tables").unwrap_or(0),
                table_reader_bytes: 0,
                cache_bytes: 0,
            }
        };
        self.columns.names().iter().map(size).collect()
    }
}
