//! What happens to segments when a store opens.
//!
//! Everything that was written is sealed. The references of the tail are checked: what a power cut kept from reaching the
//! disk leaves the index, so that it reads as absent, and is noted as lost in the same write. The work depends on the tail and on the number of files, not on how
//! much is stored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rocksdb::{DB, Direction, IteratorMode, WriteBatch, WriteOptions};

use super::ledger::Segment;
use super::reference::Stored;
use super::tail::{self, TailEntry};
use super::{Draft, SEGMENT_PREFIX, Segments, TAIL_PREFIX, segment_key};
use crate::error::StoreError;
use crate::lost::{Change, LOST_PREFIX, lost_key, parse_lost_key};
use crate::rocks::translate;

/// A file much longer than what was written into it gives the rest back.
const SLACK: u64 = 1 << 20;

/// A key without its prefix, and the value.
type Entry = (Vec<u8>, Vec<u8>);

/// The entries of the reserved column that begin with a prefix.
pub(crate) fn with_prefix(database: &DB, prefix: &[u8]) -> Result<Vec<Entry>, rocksdb::Error> {
    let mut found = Vec::new();
    for entry in database.iterator(IteratorMode::From(prefix, Direction::Forward)) {
        let (key, value) = entry?;
        let Some(rest) = key.strip_prefix(prefix) else { break };
        found.push((rest.to_vec(), value.into_vec()));
    }
    Ok(found)
}

/// The accounting records, by the number of the file.
pub(crate) fn records(database: &DB, columns: &[&str]) -> Result<Vec<(u32, Segment)>, StoreError> {
    let entries = with_prefix(database, SEGMENT_PREFIX).map_err(|error| translate(database.path(), &error))?;
    let decode = |(key, value): &Entry| {
        let number = u32::from_be_bytes(key.as_slice().try_into().ok()?);
        Some((number, Segment::decode(value, columns)?))
    };
    let damaged = || StoreError::Corruption { detail: "an accounting record of a segment is damaged".to_string() };
    entries.iter().map(|entry| decode(entry).ok_or_else(damaged)).collect()
}

/// The references that may not be on disk, oldest first.
pub(crate) fn tail(database: &DB) -> Result<Vec<TailEntry>, StoreError> {
    let groups = with_prefix(database, TAIL_PREFIX).map_err(|error| translate(database.path(), &error))?;
    let damaged = || StoreError::Corruption { detail: "the list of unsynced records is damaged".to_string() };
    let mut entries = Vec::new();
    for (_, list) in groups {
        entries.extend(tail::decode(&list).ok_or_else(damaged)?);
    }
    Ok(entries)
}

/// Makes segments and index agree, durably. Before anybody else uses the store.
pub(crate) fn recover(database: &DB, segments: &Segments) -> Result<(), StoreError> {
    let names = segments.columns.names();
    let known: BTreeMap<u32, Segment> = records(database, names)?.into_iter().collect();
    let files = segments.folder.list()?;
    {
        let ledger = &mut segments.lock().ledger;
        known.keys().for_each(|number| ledger.note_number(*number));
        files.iter().for_each(|(number, length)| ledger.note_file(*number, *length));
        ledger.commit(known.clone());
    }
    check_tail(database, segments)?;
    read_lost(database, segments)?;
    tidy(database, segments, &known, &files)?;
    segments.deletions_synced(segments.moment());
    Ok(())
}

/// Takes lost records out of the index and empties the tail, in one synced write.
fn check_tail(database: &DB, segments: &Segments) -> Result<(), StoreError> {
    let entries = tail(database)?;
    if entries.is_empty() {
        return Ok(());
    }
    sync_files(segments, &entries)?;
    let mut check = TailCheck { database, segments, draft: segments.draft(), batch: WriteBatch::default(), lost: 0 };
    for entry in &entries {
        check.entry(entry)?;
    }
    let checked = entries.len();
    let lost = check.lost;
    check.finish()?;
    if lost > 0 {
        tracing::warn!(
            lost,
            checked,
            "large values that were never reported synced did not survive; they read as absent and are noted as lost"
        );
    }
    Ok(())
}

/// What passes its check after a kill may still be on its way to the disk.
fn sync_files(segments: &Segments, entries: &[TailEntry]) -> Result<(), StoreError> {
    let numbers: BTreeSet<u32> = entries.iter().map(|entry| entry.reference.segment).collect();
    for number in numbers {
        if let Some(file) = segments.folder.open_existing(number, true)? {
            file.sync()?;
        }
    }
    Ok(())
}

/// What is missing, by this start or an earlier one.
fn read_lost(database: &DB, segments: &Segments) -> Result<(), StoreError> {
    let rows = with_prefix(database, LOST_PREFIX).map_err(|error| translate(database.path(), &error))?;
    let names = segments.columns.names();
    let read = |(row, bytes): &Entry| {
        let (name, key) = parse_lost_key(row)?;
        let column = names.iter().position(|column| column.as_bytes() == name)?;
        let bytes = u64::from_le_bytes(bytes.as_slice().try_into().ok()?);
        Some(Change::Lost(column, Bytes::copy_from_slice(key), bytes))
    };
    let damaged = || StoreError::Corruption { detail: "a row of the list of lost values is damaged".to_string() };
    let lost: Result<Vec<Change>, StoreError> = rows.iter().map(|row| read(row).ok_or_else(damaged)).collect();
    segments.lost.apply(lost?);
    Ok(())
}

struct TailCheck<'a> {
    database: &'a DB,
    segments: &'a Segments,
    draft: Draft<'a>,
    batch: WriteBatch,
    lost: usize,
}

impl TailCheck<'_> {
    fn entry(&mut self, entry: &TailEntry) -> Result<(), StoreError> {
        let names = self.segments.columns.names();
        let Some(column) = names.iter().position(|name| *name == entry.column) else { return Ok(()) };
        let family =
            self.database.cf_handle(names[column]).ok_or(StoreError::UnknownColumn { column: names[column] })?;
        let current = self.database.get_pinned_cf(family, &entry.key).map_err(|error| self.failure(&error))?;
        if current.and_then(|current| Stored::reference(&current)) != Some(entry.reference) {
            // Deleted or replaced since.
            return Ok(());
        }
        if self.segments.read(column, &entry.key, &entry.reference)?.is_some() {
            return Ok(());
        }
        self.lost += 1;
        self.draft.release(&entry.reference, &entry.key);
        self.batch.delete_cf(family, &entry.key);
        self.batch.put(lost_key(&entry.column, &entry.key), entry.reference.length.to_le_bytes());
        Ok(())
    }

    fn failure(&self, error: &rocksdb::Error) -> StoreError {
        translate(self.database.path(), error)
    }

    fn finish(mut self) -> Result<(), StoreError> {
        for (key, record) in self.draft.records() {
            self.batch.put(key, record);
        }
        let groups = with_prefix(self.database, TAIL_PREFIX).map_err(|error| self.failure(&error))?;
        for (group, _) in groups {
            self.batch.delete([TAIL_PREFIX, &group].concat());
        }
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        let written = self.database.write_opt(self.batch, &synced);
        written.map_err(|error| translate(self.database.path(), &error))?;
        self.segments.commit(self.draft);
        Ok(())
    }
}

/// Files that belong to no segment are kept for later or deleted; what segments do not need goes back to the disk; records
/// of dead segments without a file are forgotten.
fn tidy(
    database: &DB,
    segments: &Segments,
    known: &BTreeMap<u32, Segment>,
    files: &[(u32, u64)],
) -> Result<(), StoreError> {
    for (number, length) in files {
        match known.get(number) {
            None => keep_or_remove(segments, *number, *length)?,
            Some(segment) => shorten(segments, *number, *length, segment.end)?,
        }
    }
    let has_file = |number: &u32| files.binary_search_by_key(number, |(number, _)| *number).is_ok();
    for number in known.keys().filter(|number| !has_file(number)) {
        let live = segments.lock().ledger.get(*number).is_some_and(|segment| segment.live_records > 0);
        if live {
            let file = segments.folder.path_of(*number);
            tracing::error!(file = %file.display(), "a segment file is missing; its values read as damaged");
            continue;
        }
        database.delete(segment_key(*number)).map_err(|error| translate(database.path(), &error))?;
        segments.lock().ledger.freed(*number, false);
    }
    Ok(())
}

fn keep_or_remove(segments: &Segments, number: u32, length: u64) -> Result<(), StoreError> {
    if length == segments.segment_bytes && segments.folder.links(number)? == 1 {
        segments.lock().ledger.add_spare(number);
        return Ok(());
    }
    segments.folder.remove(number)?;
    segments.lock().ledger.file_removed(number);
    Ok(())
}

fn shorten(segments: &Segments, number: u32, length: u64, end: u64) -> Result<(), StoreError> {
    if length.saturating_sub(end) < SLACK || segments.folder.links(number)? != 1 {
        return Ok(());
    }
    if let Some(file) = segments.folder.open_existing(number, true)? {
        file.set_length(end)?;
        segments.lock().ledger.note_file(number, end);
    }
    Ok(())
}
