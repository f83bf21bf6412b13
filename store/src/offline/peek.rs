//! One record of a database whose columns need not be those of this program.

use std::path::Path;

use bytes::Bytes;

use crate::error::StoreError;
use crate::options::Column;
use crate::rocks::translate;
use crate::rocks_open;

/// The value of a key in a column of small values, whatever other columns there are: who refuses a database of another
/// version has to read in it what it is. `None` also where there is no such column. Changes nothing, takes no lock. Blocks.
///
/// # Errors
/// [`StoreError::Missing`], [`StoreError::Corruption`], [`StoreError::Io`].
pub fn peek(path: &Path, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
    if !rocks_open::has_database(path)? {
        return Err(StoreError::Missing { path: path.to_path_buf() });
    }
    let database = rocks_open::open_as_it_is(path)?;
    let Some(family) = database.cf_handle(column.0) else { return Ok(None) };
    let value = database.get_cf(family, key).map_err(|error| translate(path, &error))?;
    Ok(value.map(Bytes::from))
}
