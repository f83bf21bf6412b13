//! Merges tables that are too small to be worth a file.
//!
//! Every close writes what is in memory into a table for each column that was written. Where keys only grow these do not
//! overlap: RocksDB moves them down a level as they are, and never merges them. So a start does, once enough of them lie side
//! by side; no large table is read for it.

use std::collections::BTreeMap;

use rocksdb::{BottommostLevelCompaction, CompactOptions, DB, LiveFile};

use crate::error::StoreError;
use crate::rocks::translate;

/// A table below this size, in bytes, is small.
const SMALL: usize = 1 << 20;
/// So many neighbours are merged.
const MANY: usize = 8;

/// The keys of the first and the last of some tables.
type Run = (Vec<u8>, Vec<u8>);

/// Merges small tables that lie side by side. Blocks; reads and writes at most a few megabytes for each column.
///
/// # Errors
/// What RocksDB says.
pub(crate) fn merge_small(database: &DB) -> Result<(), StoreError> {
    let files = database.live_files().map_err(|error| translate(database.path(), &error))?;
    let mut columns: BTreeMap<String, Vec<LiveFile>> = BTreeMap::new();
    for file in files {
        columns.entry(file.column_family_name.clone()).or_default().push(file);
    }
    let mut options = CompactOptions::default();
    // Or they would be moved, once more, as they are.
    options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    for (column, files) in columns {
        let Some(family) = database.cf_handle(&column) else { continue };
        for (from, to) in runs(files) {
            database.compact_range_cf_opt(family, Some(from), Some(to), &options);
        }
    }
    Ok(())
}

/// Where many small tables lie side by side, with no other between them or over them.
fn runs(mut files: Vec<LiveFile>) -> Vec<Run> {
    files.sort_by(|one, other| one.start_key.cmp(&other.start_key));
    let mut found = Vec::new();
    let mut run: Vec<&LiveFile> = Vec::new();
    // How far large tables reach that begin before.
    let mut covered: Option<Vec<u8>> = None;
    for file in &files {
        let is_covered = covered.is_some() && file.start_key <= covered;
        if file.size >= SMALL || is_covered {
            found.extend(whole(&run));
            run.clear();
        }
        match file.size >= SMALL {
            true => covered = covered.max(file.end_key.clone()),
            false if !is_covered => run.push(file),
            false => {}
        }
    }
    found.extend(whole(&run));
    found
}

fn whole(run: &[&LiveFile]) -> Option<Run> {
    if run.len() < MANY {
        return None;
    }
    let from = run.iter().filter_map(|file| file.start_key.clone()).min()?;
    let to = run.iter().filter_map(|file| file.end_key.clone()).max()?;
    Some((from, to))
}
