//! What an operator does with a store that is not running: look, check every byte, salvage.
//!
//! [`View`] and [`read_logs`] read without changing anything, and so does [`verify`](fn@crate::verify), which reads everything and
//! names each damage. [`salvage`] rebuilds the database from what is intact. [`Lock`] keeps a running store away meanwhile.
//! [`peek`] reads one record of a database that another version may have written.

use std::path::Path;

use crate::error::StoreError;
use crate::segments::file::SegmentFolder;

mod lock;
mod peek;
mod salvage;
mod view;

pub use lock::{Lock, holder};
pub use peek::peek;
pub use salvage::salvage;
pub use view::View;

pub use crate::log_file::{LogEnd, LogFile, read_logs};

/// The numbers of a store's segment files and their lengths in bytes; none where there is no folder of them. Blocks.
///
/// # Errors
/// [`StoreError::Io`].
pub fn segments(path: &Path) -> Result<Vec<(u32, u64)>, StoreError> {
    let folder = SegmentFolder::existing(path);
    if folder.path().is_dir() { folder.list() } else { Ok(Vec::new()) }
}
