//! Reads everything and names each damage.

use std::fmt;
use std::path::{Path, PathBuf};

use rocksdb::ReadOptions;

use super::lock::Lock;
use super::log_file::{LogEnd, LogFile, read_logs};
use super::view::View;
use crate::error::StoreError;
use crate::options::{Column, Options};

/// Damaged entries of one column that are told one by one; further ones are counted.
const TOLD: usize = 100;

/// One damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, where one is known.
    pub file: Option<PathBuf>,
    /// The column, where it is in one.
    pub column: Option<&'static str>,
    /// The key, where one entry is damaged and its key is not.
    pub key: Option<Vec<u8>>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(formatter, "{}: ", file.display())?;
        }
        if let Some(column) = self.column {
            write!(formatter, "column {column}: ")?;
        }
        if let Some(key) = &self.key {
            formatter.write_str("key ")?;
            key.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))?;
            formatter.write_str(": ")?;
        }
        formatter.write_str(&self.what)
    }
}

/// What was read of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnReport {
    /// The column.
    pub column: &'static str,
    /// Entries that could be read, whether or not they pass the caller's check.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// CRC-32C over all of them in order: equal before and after means that nothing changed.
    pub checksum: u32,
    /// Entries, or ranges that could not be read, that are damaged.
    pub damaged: u64,
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Verification {
    /// Every column, in the order they were declared; empty if the database cannot be opened.
    pub columns: Vec<ColumnReport>,
    /// Every log file, oldest first.
    pub logs: Vec<LogFile>,
    /// Every damage, the first hundred of each column.
    pub damages: Vec<Damage>,
}

/// Reads a whole database: every log record, every block of every table, every value. `check` looks at each entry and says what
/// is wrong with it. A torn end of the log is no damage. Changes nothing; takes the lock. Blocks, for as long as it takes to read
/// the disk once.
///
/// A database that cannot be opened at all is a damage too, and then no column is read.
///
/// # Errors
/// [`StoreError::Locked`], [`StoreError::Missing`], [`StoreError::Format`], [`StoreError::Options`]: there is nothing to
/// check, or not by us.
pub fn verify(
    path: &Path,
    options: &Options,
    check: &mut dyn FnMut(Column, &[u8], &[u8]) -> Result<(), String>,
) -> Result<Verification, StoreError> {
    let _lock = Lock::take(path)?;
    let mut found = Verification { logs: read_logs(path)?, ..Verification::default() };
    for log in &found.logs {
        if let LogEnd::Broken { at, lost } = log.end {
            let what = format!(
                "the log is broken at byte {at} and {lost} whole records lie behind it, which a start does not read"
            );
            found.damages.push(Damage { file: Some(log.path.clone()), column: None, key: None, what });
        }
    }
    let view = match View::open(path, options) {
        Ok(view) => view,
        Err(error @ (StoreError::Corruption { .. } | StoreError::Io { .. })) => {
            found.damages.push(located(path, None, &error));
            return Ok(found);
        }
        Err(error) => return Err(error),
    };
    for column in &options.columns {
        let report = Walk { view: &view, column: Column(column.name), check, damages: &mut found.damages }.run()?;
        found.columns.push(report);
    }
    Ok(found)
}

/// Reads one column.
struct Walk<'a> {
    view: &'a View,
    column: Column,
    check: &'a mut dyn FnMut(Column, &[u8], &[u8]) -> Result<(), String>,
    damages: &'a mut Vec<Damage>,
}

impl Walk<'_> {
    fn run(mut self) -> Result<ColumnReport, StoreError> {
        let mut report = ColumnReport { column: self.column.0, entries: 0, bytes: 0, checksum: 0, damaged: 0 };
        let mut from = Vec::new();
        loop {
            let Err(error) = self.read_from(&from, &mut report)? else { return Ok(report) };
            let damage = located(&self.view.path, Some(self.column.0), &self.view.failure(&error));
            let next = damage.file.as_deref().and_then(|file| self.behind(file, &from));
            self.note(&mut report, damage);
            match next {
                Some(next) => from = next,
                None => {
                    let what = "what lies behind this cannot be read".to_string();
                    self.note(&mut report, Damage { file: None, column: Some(self.column.0), key: None, what });
                    return Ok(report);
                }
            }
        }
    }

    fn note(&mut self, report: &mut ColumnReport, damage: Damage) {
        report.damaged += 1;
        if report.damaged <= TOLD as u64 {
            self.damages.push(damage);
        }
    }

    /// Reads up to the end of the column or to what RocksDB cannot read.
    fn read_from(&mut self, from: &[u8], report: &mut ColumnReport) -> Result<Result<(), rocksdb::Error>, StoreError> {
        let mut all = ReadOptions::default();
        all.set_verify_checksums(true);
        all.fill_cache(false);
        all.set_readahead_size(1 << 20);
        let view = self.view;
        let mut entries = view.database.raw_iterator_cf_opt(view.family(self.column)?, all);
        entries.seek(from);
        while let Some((key, value)) = entries.item() {
            report.entries += 1;
            report.bytes += (key.len() + value.len()) as u64;
            report.checksum = crc32c::crc32c_append(crc32c::crc32c_append(report.checksum, key), value);
            if let Err(what) = (self.check)(self.column, key, value) {
                let (column, key) = (Some(self.column.0), Some(key.to_vec()));
                self.note(report, Damage { file: None, column, key, what });
            }
            entries.next();
        }
        Ok(entries.status())
    }

    /// The smallest key behind a table file, if that is behind `from`.
    fn behind(&self, file: &Path, from: &[u8]) -> Option<Vec<u8>> {
        let name = file.file_name()?.to_str()?;
        let tables = self.view.database.live_files().ok()?;
        let table = tables
            .into_iter()
            .find(|table| table.name.trim_start_matches('/') == name && table.column_family_name == self.column.0)?;
        let mut next = table.end_key?;
        next.push(0);
        (next.as_slice() > from).then_some(next)
    }
}

/// Finds the file's name in what RocksDB says.
fn located(path: &Path, column: Option<&'static str>, error: &StoreError) -> Damage {
    let what = match error {
        StoreError::Corruption { detail } | StoreError::Io { detail } => detail.clone(),
        other => other.to_string(),
    };
    let is_file = |word: &&str| {
        let name = word.rsplit('/').next().unwrap_or_default();
        let numbered = [".sst", ".blob", ".log"].iter().any(|kind| name.ends_with(kind));
        numbered || name.starts_with("MANIFEST-") || name == "CURRENT"
    };
    let separators = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '"' | '(' | ')');
    let words = what.split(separators).map(|word| word.trim_end_matches([':', '.']));
    let file =
        words.into_iter().find(|word| is_file(word)).map(|word| path.join(word.rsplit('/').next().unwrap_or(word)));
    Damage { file, column, key: None, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_found_in_what_the_engine_says() {
        let file =
            |detail: &str| located(Path::new("/data"), None, &StoreError::Corruption { detail: detail.into() }).file;
        let found = |name: &str| Some(Path::new("/data").join(name));
        let table =
            "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in /x/000012.sst offset 0 size 9";
        assert_eq!(file(table), found("000012.sst"));
        assert_eq!(file("Corruption: checksum mismatch in file /x/MANIFEST-000005"), found("MANIFEST-000005"));
        assert_eq!(file("IO error: No such file: /x/000009.sst: No such file or directory"), found("000009.sst"));
        assert_eq!(file("Corruption: something else"), None);
    }

    #[test]
    fn a_damage_prints_where_it_is() {
        let damage =
            Damage { file: Some("/d/1.sst".into()), column: Some("c"), key: Some(vec![1, 255]), what: "bad".into() };
        assert_eq!(damage.to_string(), "/d/1.sst: column c: key 01ff: bad");
    }
}
