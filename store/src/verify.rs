//! Reads everything that is stored and says what is damaged, without changing anything.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, DBRecoveryMode, ReadOptions};

use crate::error::StoreError;
use crate::log_file::{self, LogEnd, LogFile};
use crate::options::{Column, ColumnOptions, Options};
use crate::rocks::translate;
use crate::rocks_open;
use crate::segments::file::SegmentFolder;
use crate::segments::ledger::Segment;
use crate::segments::reference::{Reference, Stored};
use crate::segments::{hexadecimal, read_record, recovery};

/// The caller's check of an entry.
type Check<'a> = dyn FnMut(Column, &[u8], &[u8]) -> Result<(), String> + 'a;

/// Damages beyond this number are counted, not listed.
const MAX_DAMAGES: usize = 1000;

/// What kind of file is damaged, which decides the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DamageKind {
    /// A large value. Only its key is affected: deleting that makes it absent, so that it can be fetched again.
    Record,
    /// The accounting of a segment does not agree with the index. No value is affected; space may come back too late.
    Accounting,
    /// An entry is intact, and the caller says that it is not what it should be.
    Entry,
    /// A table of RocksDB: an unknown part of its keys is affected.
    Table,
    /// RocksDB's log, before its end: what was written after it is lost to the next start, synced or not.
    Log,
    /// RocksDB's list of its files, or the file that names it: the database cannot be opened.
    Manifest,
    /// RocksDB says so, and does not say where.
    Database,
}

/// One damage. Prints as one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What is damaged.
    pub kind: DamageKind,
    /// The file, or the store's directory if it is not known.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: Option<u64>,
    /// The column of the affected key or table, if it is known.
    pub column: Option<&'static str>,
    /// The affected key, if one key is affected.
    pub key: Option<Bytes>,
    /// What was found.
    pub detail: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(offset) = self.offset {
            write!(formatter, " at offset {offset}")?;
        }
        match (self.column, &self.key) {
            (Some(column), Some(key)) => write!(formatter, ", key {} of column {column}", hexadecimal(key))?,
            (Some(column), None) => write!(formatter, ", column {column}")?,
            (None, _) => {}
        }
        write!(formatter, ": {}", self.detail)
    }
}

/// What was read of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnReport {
    /// The column.
    pub column: &'static str,
    /// Entries that could be read.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// CRC-32C over all of them in order: equal before and after means that nothing changed.
    pub checksum: u32,
    /// Whether it was read to its end.
    pub complete: bool,
}

/// What [`verify`] has read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Every column, in the order it was given; none if the database cannot be opened.
    pub columns: Vec<ColumnReport>,
    /// Every log of RocksDB, oldest first.
    pub log_files: Vec<LogFile>,
    /// Tables of RocksDB.
    pub tables: u64,
    /// Logs and lists of files of RocksDB.
    pub logs: u64,
    /// Entries of all columns.
    pub entries: u64,
    /// Large values in segments.
    pub records: u64,
    /// Their bytes.
    pub record_bytes: u64,
    /// Large values that were never reported synced and did not survive. No damage: the next start takes them out.
    pub lost_unsynced: u64,
    /// A log that ends in the middle of a record, which a crash may leave. No damage: nothing synced is behind it.
    pub torn_log: Option<PathBuf>,
    /// What is damaged, at most 1000 of them.
    pub damages: Vec<Damage>,
    /// How many damages there are in all.
    pub damage_count: u64,
}

impl Report {
    /// Whether nothing is damaged.
    pub fn is_intact(&self) -> bool {
        self.damage_count == 0
    }

    fn add(&mut self, damage: Damage) {
        if self.damages.contains(&damage) {
            return;
        }
        self.damage_count += 1;
        if self.damages.len() < MAX_DAMAGES {
            self.damages.push(damage);
        }
    }
}

/// Reads every table and log of RocksDB, every entry of every column, and every large value that an entry refers to, and
/// checks their checksums. Blocks, and takes as long as it takes to read all of it.
///
/// `columns` are those the store is opened with. Nothing is changed but RocksDB's own text log (`LOG`). Nobody may have the
/// store open meanwhile: what is deleted or recycled during the walk would look like damage.
///
/// # Errors
/// Damage is no error but part of the report. [`StoreError::Missing`] if there is no database, [`StoreError::Format`] for
/// one of another version or with other columns, [`StoreError::Io`] for a log or a directory that cannot be read.
pub fn verify(path: &Path, columns: &[ColumnOptions]) -> Result<Report, StoreError> {
    verify_entries(path, columns, &mut |_, _, _| Ok(()))
}

/// As [`verify`], and `check` looks at every key with its value, column by column in the order of the keys, and says what is
/// wrong with it.
///
/// # Errors
/// As [`verify`].
pub fn verify_entries(path: &Path, columns: &[ColumnOptions], check: &mut Check<'_>) -> Result<Report, StoreError> {
    let mut report = Report::default();
    match rocks_open::has_database(path) {
        Ok(true) => {}
        Ok(false) => return Err(StoreError::Missing { path: path.to_path_buf() }),
        Err(StoreError::Corruption { detail }) => {
            report.add(whole(DamageKind::Manifest, path.join("CURRENT"), detail));
            return Ok(report);
        }
        Err(error) => return Err(error),
    }
    check_logs(path, &mut report)?;
    let options = Options { create_if_missing: false, ..Options::with_columns(columns.to_vec()) };
    let database = match rocks_open::open_read_only(path, &options, DBRecoveryMode::PointInTime) {
        Ok(database) => database,
        // A file that is missing is an error of the system.
        Err(StoreError::Corruption { detail } | StoreError::Io { detail }) => {
            report.add(in_table(path, &detail, DamageKind::Database));
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    Walk::new(path, columns, &database, &mut report, check)?.run()?;
    Ok(report)
}

fn whole(kind: DamageKind, file: PathBuf, detail: String) -> Damage {
    Damage { kind, file, offset: None, column: None, key: None, detail }
}

/// RocksDB names the file and the place in its message: "... in /data/000012.sst offset 4096 size 4060".
fn in_table(path: &Path, message: &str, otherwise: DamageKind) -> Damage {
    let words: Vec<&str> = message.split_whitespace().collect();
    let name = words.iter().rev().find(|word| word.contains(".sst"));
    let offset = words.iter().position(|word| *word == "offset").and_then(|at| words.get(at + 1)?.parse().ok());
    match name.and_then(|name| Path::new(name.trim_end_matches([':', ',', ';', '.'])).file_name()) {
        Some(name) => Damage { offset, ..whole(DamageKind::Table, path.join(name), message.to_string()) },
        None => whole(otherwise, path.to_path_buf(), message.to_string()),
    }
}

/// Checks the logs and the list of files record by record.
fn check_logs(path: &Path, report: &mut Report) -> Result<(), StoreError> {
    let failed =
        |file: &Path, error: &std::io::Error| StoreError::from_io(&format!("reading {}", file.display()), error);
    let mut logs = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| failed(path, &error))? {
        let file = entry.map_err(|error| failed(path, &error))?.path();
        if file.extension().is_some_and(|kind| kind == "log") {
            logs.push((DamageKind::Log, file));
        }
    }
    logs.sort_by(|one, other| one.1.cmp(&other.1));
    let newest = logs.last().map(|(_, file)| file.clone());
    let current = path.join("CURRENT");
    // Damaged, it may be no text at all.
    let manifest = fs::read(&current).map_err(|error| failed(&current, &error))?;
    let manifest = String::from_utf8_lossy(&manifest);
    logs.push((DamageKind::Manifest, path.join(manifest.trim())));
    for (kind, file) in logs {
        report.logs += 1;
        let found = log_file::read(&file);
        if let (DamageKind::Log, Ok(found)) = (kind, &found) {
            report.log_files.push(found.clone());
        }
        let detail = match found.map(|found| found.end) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (None, "it is missing".to_string()),
            Err(error) => return Err(failed(&file, &error)),
            Ok(LogEnd::Whole) => continue,
            Ok(LogEnd::Torn { .. }) if Some(&file) == newest.as_ref() => {
                report.torn_log = Some(file);
                continue;
            }
            Ok(LogEnd::Torn { at }) => (Some(at), "it ends in the middle of a record".to_string()),
            Ok(LogEnd::Broken { at, lost }) => {
                let detail = format!(
                    "a record does not pass its check, and {lost} whole ones lie behind it, which a start does not read"
                );
                (Some(at), detail)
            }
        };
        report.add(Damage { offset: detail.0, ..whole(kind, file, detail.1) });
    }
    Ok(())
}

/// The walk through all columns.
struct Walk<'a> {
    path: &'a Path,
    columns: &'a [ColumnOptions],
    database: &'a DB,
    report: &'a mut Report,
    check: &'a mut Check<'a>,
    folder: SegmentFolder,
    segments: BTreeMap<u32, Segment>,
    /// References that need not be on disk yet.
    tail: HashSet<(String, Bytes)>,
    /// Live bytes and records by segment, as the index has them.
    live: HashMap<u32, (u64, u64)>,
    complete: bool,
}

impl<'a> Walk<'a> {
    fn new(
        path: &'a Path,
        columns: &'a [ColumnOptions],
        database: &'a DB,
        report: &'a mut Report,
        check: &'a mut Check<'a>,
    ) -> Result<Walk<'a>, StoreError> {
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        let mut complete = true;
        let segments = kept(recovery::records(database, &names), path, report, &mut complete)?;
        let tail = kept(recovery::tail(database), path, report, &mut complete)?;
        Ok(Walk {
            path,
            columns,
            database,
            report,
            check,
            folder: SegmentFolder::existing(path),
            segments: segments.into_iter().collect(),
            tail: tail.into_iter().map(|entry| (entry.column, entry.key)).collect(),
            live: HashMap::new(),
            complete,
        })
    }

    fn run(mut self) -> Result<(), StoreError> {
        let columns = self.columns;
        for column in columns {
            let name = column.name;
            let family = self.database.cf_handle(name).ok_or(StoreError::UnknownColumn { column: name })?;
            if let Err(error) = self.column(family, column) {
                self.complete = false;
                self.table_damage(&error, Some(name))?;
            }
        }
        self.tables()?;
        if self.complete {
            self.accounting();
        }
        Ok(())
    }

    fn table_damage(&mut self, error: &rocksdb::Error, column: Option<&'static str>) -> Result<(), StoreError> {
        match translate(self.path, error) {
            // A table that is missing is an error of the system.
            StoreError::Corruption { detail } | StoreError::Io { detail } => {
                self.report.add(Damage { column, ..in_table(self.path, &detail, DamageKind::Database) });
                Ok(())
            }
            other => Err(other),
        }
    }

    fn column(&mut self, family: &ColumnFamily, column: &ColumnOptions) -> Result<(), rocksdb::Error> {
        let mut entries = self.database.raw_iterator_cf_opt(family, checking());
        let mut read = ColumnReport { column: column.name, entries: 0, bytes: 0, checksum: 0, complete: false };
        entries.seek_to_first();
        while let Some((key, entry)) = entries.item() {
            self.report.entries += 1;
            read.entries += 1;
            read.bytes += (key.len() + entry.len()) as u64;
            read.checksum = crc32c::crc32c_append(crc32c::crc32c_append(read.checksum, key), entry);
            match column.large_values {
                true => self.entry(column.name, key, entry),
                false => self.content(column.name, key, entry),
            }
            entries.next();
        }
        let result = entries.status();
        read.complete = result.is_ok();
        self.report.columns.push(read);
        result
    }

    /// Has the caller look at a value.
    fn content(&mut self, column: &'static str, key: &[u8], value: &[u8]) {
        if let Err(detail) = (self.check)(Column(column), key, value) {
            let (column, key) = (Some(column), Some(Bytes::copy_from_slice(key)));
            self.report.add(Damage { column, key, ..whole(DamageKind::Entry, self.path.to_path_buf(), detail) });
        }
    }

    fn entry(&mut self, column: &'static str, key: &[u8], entry: &[u8]) {
        let damage = |kind, file, offset, detail: String| Damage {
            kind,
            file,
            offset,
            column: Some(column),
            key: Some(Bytes::copy_from_slice(key)),
            detail,
        };
        match Stored::decode(entry) {
            Some(Stored::Inline(value)) => self.content(column, key, value),
            None => {
                let detail = "the entry is neither a value nor a reference to one".to_string();
                self.report.add(damage(DamageKind::Database, self.path.to_path_buf(), None, detail));
            }
            Some(Stored::Segment(reference)) => {
                let live = self.live.entry(reference.segment).or_default();
                *live = (live.0.saturating_add(reference.record_bytes(key)), live.1 + 1);
                let problem = match self.record(column, key, &reference) {
                    Ok(value) => return self.content(column, key, &value),
                    Err(problem) => problem,
                };
                if self.tail.contains(&(column.to_string(), Bytes::copy_from_slice(key))) {
                    self.report.lost_unsynced += 1;
                    return;
                }
                let file = self.folder.path_of(reference.segment);
                self.report.add(damage(DamageKind::Record, file, Some(reference.offset), problem));
            }
        }
    }

    /// The value of a record, or what is wrong with it.
    fn record(&mut self, column: &str, key: &[u8], reference: &Reference) -> Result<Bytes, String> {
        match read_record(&self.folder, column, key, reference) {
            Ok(Some(value)) => {
                self.report.records += 1;
                self.report.record_bytes += reference.length;
                Ok(value)
            }
            Ok(None) if !self.folder.path_of(reference.segment).exists() => Err("the file is missing".to_string()),
            Ok(None) => Err("the record does not pass its check".to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A walk ends at the first damage of a column. So each table is walked by itself too, if there was one.
    fn tables(&mut self) -> Result<(), StoreError> {
        let files = self.database.live_files().map_err(|error| translate(self.path, &error))?;
        self.report.tables = files.len() as u64;
        if self.complete {
            return Ok(());
        }
        for file in files {
            let Some(family) = self.database.cf_handle(&file.column_family_name) else { continue };
            let mut entries = self.database.raw_iterator_cf_opt(family, checking());
            entries.seek(file.start_key.unwrap_or_default());
            let end = file.end_key.unwrap_or_default();
            while entries.key().is_some_and(|key| key <= &end[..]) {
                entries.next();
            }
            if let Err(error) = entries.status() {
                let column = self.columns.iter().find(|column| column.name == file.column_family_name);
                self.table_damage(&error, column.map(|column| column.name))?;
            }
        }
        Ok(())
    }

    fn accounting(&mut self) {
        for (number, segment) in &self.segments {
            let (bytes, records) = self.live.remove(number).unwrap_or_default();
            if (bytes, records) != (segment.live_bytes, segment.live_records) {
                let detail = format!(
                    "it is accounted to hold {} live bytes in {} records, and the index refers to {bytes} in {records}",
                    segment.live_bytes, segment.live_records
                );
                self.report.add(whole(DamageKind::Accounting, self.folder.path_of(*number), detail));
            }
        }
        for number in self.live.keys() {
            let detail = "the index refers to it, but there is no account of it".to_string();
            self.report.add(whole(DamageKind::Accounting, self.folder.path_of(*number), detail));
        }
    }
}

/// Damage becomes part of the report, with nothing in the place of what cannot be read.
fn kept<T>(
    read: Result<Vec<T>, StoreError>,
    path: &Path,
    report: &mut Report,
    complete: &mut bool,
) -> Result<Vec<T>, StoreError> {
    match read {
        Ok(all) => Ok(all),
        Err(StoreError::Corruption { detail }) => {
            *complete = false;
            report.add(in_table(path, &detail, DamageKind::Database));
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn checking() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options.fill_cache(false);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rocksdb_names_the_table_and_the_place() {
        let message = "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in /data/db/000012.sst \
                       offset 4096 size 4060";
        let damage = in_table(Path::new("/data/db"), message, DamageKind::Database);
        assert_eq!((damage.kind, damage.offset), (DamageKind::Table, Some(4096)));
        assert_eq!(damage.file, Path::new("/data/db/000012.sst"));
        let damage = in_table(Path::new("/data/db"), "Corruption: bad", DamageKind::Database);
        assert_eq!((damage.kind, damage.file), (DamageKind::Database, PathBuf::from("/data/db")));
    }

    #[test]
    fn damages_are_counted_once_and_listed_up_to_a_bound() {
        let mut report = Report::default();
        for number in 0..MAX_DAMAGES as u64 + 10 {
            let damage = Damage { offset: Some(number), ..whole(DamageKind::Table, "x".into(), String::new()) };
            report.add(damage.clone());
            if number < 10 {
                report.add(damage);
            }
        }
        assert_eq!((report.damages.len(), report.damage_count), (MAX_DAMAGES, MAX_DAMAGES as u64 + 10));
    }
}
