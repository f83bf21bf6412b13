//! Opening and creating a database directory.
//!
//! A directory is usable when its format version is ours and its columns are exactly the declared ones. A creation that
//! was cut short is recognised (nothing was ever written, not even the version) and finished.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, LogLevel, WriteOptions,
};

use crate::error::StoreError;
use crate::log_file::{self, LogEnd, LogFile};
use crate::options::{Options, RESERVED_COLUMN};
use crate::rocks::translate;
use crate::rocks_log;

/// The format this program reads and writes.
const FORMAT_VERSION: u32 = 3;
/// Where it stands, in the reserved column.
pub(crate) const FORMAT_KEY: &[u8] = b"rorqual/store/format-version";
/// Which columns have large values, beside it.
const LARGE_COLUMNS_KEY: &[u8] = b"rorqual/store/large-columns";

const INFO_LOG_BYTES: usize = 4 << 20;
const INFO_LOG_FILES: usize = 4;

/// Opens the database, creating it if there is none and the options allow it.
pub(crate) fn open(path: &Path, options: &Options, cache: &Cache) -> Result<DB, StoreError> {
    if !has_database(path)? {
        if !options.create_if_missing {
            return Err(StoreError::Missing { path: path.to_path_buf() });
        }
        return create(path, options, cache);
    }
    let existing = DB::list_cf(&database_options(options), path).map_err(|error| translate(path, &error))?;
    let unknown: Vec<&str> = existing.iter().map(String::as_str).filter(|name| !is_declared(options, name)).collect();
    let missing: Vec<&str> =
        options.columns.iter().map(|column| column.name).filter(|name| !contains(&existing, name)).collect();
    if unknown.is_empty() && missing.is_empty() {
        let database = open_with(path, options, cache, false)?;
        return match version(path, &database)? {
            Some(found) => {
                check_version(path, found)?;
                check_large_columns(path, options, &database)?;
                Ok(database)
            }
            None => finish_creation(path, options, database),
        };
    }
    refuse_columns(path, options, &existing, &unknown, &missing)?;
    create(path, options, cache)
}

fn contains(names: &[String], name: &str) -> bool {
    names.iter().any(|known| known == name)
}

fn is_declared(options: &Options, name: &str) -> bool {
    name == RESERVED_COLUMN || options.columns.iter().any(|column| column.name == name)
}

/// Whether there is a database: RocksDB's `CURRENT` names its live manifest. Data files without it are the remains of
/// one, which must not be taken for an empty directory.
pub(crate) fn has_database(path: &Path) -> Result<bool, StoreError> {
    let exists = |file: &Path| {
        file.try_exists().map_err(|error| StoreError::from_io(&format!("looking for {}", file.display()), &error))
    };
    if exists(&path.join("CURRENT"))? {
        return Ok(true);
    }
    if !exists(path)? {
        return Ok(false);
    }
    let reading = |error: std::io::Error| StoreError::from_io(&format!("listing {}", path.display()), &error);
    for entry in fs::read_dir(path).map_err(reading)? {
        let file = entry.map_err(reading)?.path();
        if file.extension().is_some_and(|kind| kind == "sst" || kind == "blob") {
            let detail = format!("{} has data files but its file CURRENT is missing", path.display());
            return Err(StoreError::Corruption { detail });
        }
    }
    Ok(false)
}

fn create(path: &Path, options: &Options, cache: &Cache) -> Result<DB, StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| StoreError::from_io(&format!("creating the directory {}", path.display()), &error))?;
    finish_creation(path, options, open_with(path, options, cache, true)?)
}

/// The version is the first thing ever written to a database, together with which columns keep large values in segments.
fn finish_creation(path: &Path, options: &Options, database: DB) -> Result<DB, StoreError> {
    if database.latest_sequence_number() != 0 {
        let detail = "it holds data but no format version, so it is not a database of this program; \
                      give the node a directory of its own";
        return Err(StoreError::Format { path: path.to_path_buf(), detail: detail.to_string() });
    }
    write_format(path, options, &database)?;
    sync_parent(path)?;
    Ok(database)
}

fn write_format(path: &Path, options: &Options, database: &DB) -> Result<(), StoreError> {
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    let mut format = rocksdb::WriteBatch::default();
    format.put(FORMAT_KEY, FORMAT_VERSION.to_le_bytes());
    format.put(LARGE_COLUMNS_KEY, large_columns(options));
    database.write_opt(format, &synced).map_err(|error| translate(path, &error))
}

/// Writes the version of a database that was rebuilt without the table in which it stood. The caller declares what it is.
pub(crate) fn restore_format(path: &Path, options: &Options, database: &DB) -> Result<(), StoreError> {
    match version(path, database)? {
        Some(_) => Ok(()),
        None => write_format(path, options, database),
    }
}

/// Makes the directory's own name survive a power cut.
pub(crate) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| StoreError::from_io(&format!("syncing the directory {}", parent.display()), &error))
}

fn version(path: &Path, database: &DB) -> Result<Option<u32>, StoreError> {
    let record = database.get(FORMAT_KEY).map_err(|error| translate(path, &error))?;
    let Some(record) = record else { return Ok(None) };
    match <[u8; 4]>::try_from(record.as_slice()) {
        Ok(bytes) => Ok(Some(u32::from_le_bytes(bytes))),
        Err(_) => Err(StoreError::Corruption { detail: "the format version is not four bytes".to_string() }),
    }
}

fn check_version(path: &Path, found: u32) -> Result<(), StoreError> {
    if found == FORMAT_VERSION {
        return Ok(());
    }
    let detail = format!(
        "it has store format version {found} and this program reads version {FORMAT_VERSION}; \
         run the program that wrote it, or start with a new directory"
    );
    Err(StoreError::Format { path: path.to_path_buf(), detail })
}

/// The names of the columns with large values, sorted, one a line.
fn large_columns(options: &Options) -> String {
    let large = options.columns.iter().filter(|column| column.large_values).map(|column| column.name);
    let mut names: Vec<&str> = large.collect();
    names.sort_unstable();
    names.join("\n")
}

/// Entries of a column with large values are of another form than those of one without.
fn check_large_columns(path: &Path, options: &Options, database: &DB) -> Result<(), StoreError> {
    let found = database.get(LARGE_COLUMNS_KEY).map_err(|error| translate(path, &error))?;
    let found = found.map(|names| String::from_utf8_lossy(&names).into_owned()).unwrap_or_default();
    let declared = large_columns(options);
    if found == declared {
        return Ok(());
    }
    let list = |names: &str| names.replace('\n', ", ");
    let detail = format!(
        "its columns of large values are [{}] and this program declares [{}]; \
         run the program that wrote it, or start with a new directory",
        list(&found),
        list(&declared)
    );
    Err(StoreError::Format { path: path.to_path_buf(), detail })
}

/// The columns differ. Another version explains that better than a list of names, and a creation that was cut short is no
/// error at all: then there is no error here either. Both are looked up without changing anything.
fn refuse_columns(
    path: &Path,
    options: &Options,
    existing: &[String],
    unknown: &[&str],
    missing: &[&str],
) -> Result<(), StoreError> {
    let database = DB::open_cf_for_read_only(&database_options(options), path, existing, false)
        .map_err(|error| translate(path, &error))?;
    let found = version(path, &database)?;
    let untouched = database.latest_sequence_number() == 0;
    drop(database);
    if let Some(found) = found {
        check_version(path, found)?;
    }
    if found.is_none() && untouched && unknown.is_empty() && options.create_if_missing {
        return Ok(());
    }
    let detail = format!(
        "its columns are not the declared ones (unknown: [{}], missing: [{}]); \
         run the program that wrote it, or start with a new directory",
        unknown.join(", "),
        missing.join(", ")
    );
    Err(StoreError::Format { path: path.to_path_buf(), detail })
}

pub(crate) fn open_with(path: &Path, options: &Options, cache: &Cache, create: bool) -> Result<DB, StoreError> {
    let mut database = database_options(options);
    database.create_if_missing(create);
    database.create_missing_column_families(create);
    let logs = rocks_log::logs(path)?;
    rocks_log::cut_holes(&logs)?;
    if !logs.is_empty() || !has_database(path)? {
        database = rocks_log::verified(path, database)?;
    }
    let families = families(options, cache);
    DB::open_cf_descriptors(&database, path, families).map_err(|error| match translate(path, &error) {
        StoreError::Corruption { detail } => StoreError::Corruption { detail: detail + &broken_log(path) },
        other => other,
    })
}

/// RocksDB does not say which of its logs is damaged, and where.
fn broken_log(path: &Path) -> String {
    let place = |log: &LogFile| match log.end {
        LogEnd::Broken { at, lost } => Some(format!(
            " (the log {} is broken at byte {at}, with {lost} whole records behind it)",
            log.path.display()
        )),
        _ => None,
    };
    // A log that cannot be read has its error at the next opening.
    log_file::read_logs(path).unwrap_or_default().iter().find_map(place).unwrap_or_default()
}

/// Opens a database with the columns that it has, to read only.
pub(crate) fn open_as_it_is(path: &Path) -> Result<DB, StoreError> {
    let database = rocksdb::Options::default();
    let opened =
        DB::list_cf(&database, path).and_then(|existing| DB::open_cf_for_read_only(&database, path, existing, false));
    opened.map_err(|error| translate(path, &error))
}

/// Opens a database of this format to read only; it must have exactly the declared columns.
pub(crate) fn open_read_only(path: &Path, options: &Options, mode: DBRecoveryMode) -> Result<DB, StoreError> {
    let mut database = database_options(options);
    database.set_wal_recovery_mode(mode);
    let existing = DB::list_cf(&database, path).map_err(|error| translate(path, &error))?;
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let declared = families(options, &cache);
    let undeclared: Vec<&str> =
        existing.iter().map(String::as_str).filter(|name| !is_declared(options, name)).collect();
    if !undeclared.is_empty() || declared.len() != existing.len() {
        let missing = options.columns.iter().map(|column| column.name).filter(|name| !contains(&existing, name));
        refuse_columns(path, options, &existing, &undeclared, &missing.collect::<Vec<_>>())?;
    }
    let database = DB::open_cf_descriptors_read_only(&database, path, declared, false);
    let database = database.map_err(|error| translate(path, &error))?;
    check_version(path, version(path, &database)?.unwrap_or(0))?;
    check_large_columns(path, options, &database)?;
    Ok(database)
}

fn families(options: &Options, cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
    let names = options.columns.iter().map(|column| column.name).chain([RESERVED_COLUMN]);
    names.map(|name| ColumnFamilyDescriptor::new(name, family_options(options, cache))).collect()
}

/// A bound of the caller as RocksDB's `int`; what does not fit is as good as no bound.
fn int(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub(crate) fn database_options(options: &Options) -> rocksdb::Options {
    let mut database = rocksdb::Options::default();
    // After a crash the end of the log may be torn. Reading up to there loses nothing that was synced and never needs an
    // operator; refusing a torn log would keep a killed node from starting.
    // What is lost *before* its end RocksDB cannot see: that is what a node's safety record is for.
    database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // Every block and record is checked when it is read; a table that is missing or of another size refuses to open.
    database.set_paranoid_checks(true);
    database.set_max_total_wal_size(options.max_wal_bytes);
    database.set_db_write_buffer_size(options.write_buffer_bytes);
    database.set_max_background_jobs(int(options.max_background_jobs.max(1)));
    database.set_max_open_files(int(options.max_open_files));
    // Written back steadily, so that a sync of the log does not queue behind a burst of table writes.
    database.set_bytes_per_sync(1 << 20);
    database.set_keep_log_file_num(INFO_LOG_FILES);
    database.set_max_log_file_size(INFO_LOG_BYTES);
    database.set_log_level(LogLevel::Warn);
    database.set_stats_dump_period_sec(0);
    database.set_stats_persist_period_sec(0);
    database.set_skip_stats_update_on_db_open(true);
    // Old files are deleted by a background thread, not by whichever reader closes them last.
    database.set_avoid_unnecessary_blocking_io(true);
    database
}

fn family_options(options: &Options, cache: &Cache) -> rocksdb::Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    let mut family = rocksdb::Options::default();
    family.set_block_based_table_factory(&table);
    // A put into a column of large values looks the key up first, nearly always in vain.
    family.set_memtable_prefix_bloom_ratio(0.1);
    family.set_memtable_whole_key_filtering(true);
    family.set_compression_type(DBCompressionType::None);
    family.set_write_buffer_size((options.write_buffer_bytes / 4).max(1 << 20));
    family.set_max_write_buffer_number(4);
    family
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::ColumnOptions;

    fn open(path: &Path, options: &Options) -> Result<DB, StoreError> {
        super::open(path, options, &Cache::new_lru_cache(1 << 20))
    }

    fn open_with(path: &Path, options: &Options, create: bool) -> Result<DB, StoreError> {
        super::open_with(path, options, &Cache::new_lru_cache(1 << 20), create)
    }

    fn declared(names: &[&'static str]) -> Options {
        Options::with_columns(names.iter().copied().map(ColumnOptions::small).collect())
    }

    #[test]
    fn another_version_is_refused_and_both_are_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("db");
        let database = open(&path, &declared(&["a"])).expect("a new database");
        database.put(FORMAT_KEY, 7_u32.to_le_bytes()).expect("a write");
        drop(database);
        for columns in [&["a"][..], &["a", "b"], &["b"]] {
            let error = open(&path, &declared(columns)).expect_err("version 7");
            assert!(matches!(error, StoreError::Format { .. }));
            let text = error.to_string();
            assert!(text.contains("version 7") && text.contains("version 3"), "{text}");
        }
    }

    #[test]
    fn other_columns_are_refused_by_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("db");
        drop(open(&path, &declared(&["a", "b"])).expect("a new database"));
        let error = open(&path, &declared(&["a", "c"])).expect_err("other columns").to_string();
        assert!(error.contains("unknown: [b]") && error.contains("missing: [c]"), "{error}");
        drop(open(&path, &declared(&["b", "a"])).expect("the order does not matter"));
    }

    #[test]
    fn a_column_that_had_large_values_cannot_lose_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("db");
        let large = |names: &[&'static str]| {
            Options::with_columns(names.iter().map(|name| ColumnOptions::large(name, 0)).collect())
        };
        drop(open(&path, &large(&["a", "b"])).expect("a new database"));
        let error = open(&path, &declared(&["a", "b"])).expect_err("other kinds of columns").to_string();
        assert!(error.contains("[a, b]") && error.contains("declares []"), "{error}");
        drop(open(&path, &large(&["b", "a"])).expect("the order does not matter"));
    }

    #[test]
    fn a_creation_that_was_cut_short_is_finished() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("db");
        drop(open_with(&path, &declared(&["a"]), true).expect("a database without a version"));
        drop(open(&path, &declared(&["a", "b"])).expect("the creation is finished"));
        let database = open(&path, &declared(&["a", "b"])).expect("an ordinary open");
        assert_eq!(version(&path, &database), Ok(Some(FORMAT_VERSION)));
    }

    #[test]
    fn a_foreign_database_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("db");
        let database = open_with(&path, &declared(&["a"]), true).expect("a database without a version");
        database.put(b"someone", b"else").expect("a write");
        drop(database);
        assert!(matches!(open(&path, &declared(&["a"])), Err(StoreError::Format { .. })));
    }

    #[test]
    fn the_remains_of_a_database_are_not_an_empty_directory() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("000012.sst"), b"").expect("a file");
        assert!(matches!(open(folder.path(), &declared(&["a"])), Err(StoreError::Corruption { .. })));
    }

    #[test]
    fn a_missing_database_is_only_created_on_request() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("not").join("there");
        let options = Options { create_if_missing: false, ..declared(&["a"]) };
        assert!(matches!(open(&path, &options), Err(StoreError::Missing { .. })));
        assert!(!path.exists());
        drop(open(&path, &declared(&["a"])).expect("a new database"));
        drop(open(&path, &options).expect("an existing database"));
    }
}
