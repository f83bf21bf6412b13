//! Write-once segments: the files of large values below RocksDB.
//!
//! RocksDB holds, under the same key, where the value is ([`reference`]). A value is written once, packed with its
//! neighbours into whole blocks ([`appender`]), proves by a checksum that it is the one asked for ([`record`]), and is
//! never moved: a segment goes as a whole when nothing in it is live ([`ledger`]). This is key-value separation as in
//! WiscKey (Lu et al., FAST 2016), without its garbage collection.
//!
//! What survives: a group of writes is in its file before the index names it, so that a killed process loses nothing.
//! After a power cut the index may name data that did not reach the disk; [`tail`] says which to check, and
//! [`recovery`] takes those out that were lost.

pub(crate) mod accounting;
pub(crate) mod appender;
pub(crate) mod buffer;
pub(crate) mod file;
pub(crate) mod ledger;
pub(crate) mod pipe;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod reference;
pub(crate) mod sync;
pub(crate) mod tail;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use self::appender::{Appender, Written};
use self::buffer::whole_blocks;
use self::file::{SegmentFile, SegmentFolder};
use self::ledger::{Ledger, Segment, Stamp, Task};
use self::pipe::Pipe;
use self::reference::Reference;
use self::sync::DataSync;
use crate::error::StoreError;
use crate::lost::Lost;
use crate::options::{Columns, Options};
use crate::statistics::SegmentStatistics;

/// Before the number of a file, in RocksDB's reserved column: the accounting record of a segment.
pub(crate) const SEGMENT_PREFIX: &[u8] = b"rorqual/store/segment/";
/// Before the number of a group, in the same column: the list of its references, until they are known to be on disk.
pub(crate) const TAIL_PREFIX: &[u8] = b"rorqual/store/tail/";

/// The key of a segment's accounting record.
pub(crate) fn segment_key(number: u32) -> Vec<u8> {
    [SEGMENT_PREFIX, &number.to_be_bytes()].concat()
}

/// The key of a group in the tail.
pub(crate) fn tail_key(group: u64) -> Vec<u8> {
    [TAIL_PREFIX, &group.to_be_bytes()].concat()
}

/// A file that can take records.
#[derive(Debug)]
pub(crate) struct Ready {
    number: u32,
    file: Arc<SegmentFile>,
    capacity: u64,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    prepared: Option<Ready>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Counters {
    written_bytes: AtomicU64,
    payload_bytes: AtomicU64,
    recycled: AtomicU64,
    deleted: AtomicU64,
}

/// The segments of an open store.
#[derive(Debug)]
pub(crate) struct Segments {
    folder: SegmentFolder,
    columns: Columns,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    appender: Mutex<Appender>,
    pub(crate) pipe: Pipe,
    pub(crate) sync: DataSync,
    /// Values that are known to be missing.
    pub(crate) lost: Lost,
    counters: Counters,
}

/// The accounting of a group of writes, before it is applied.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    segments: &'a Segments,
    touched: BTreeMap<u32, Segment>,
}

impl Draft<'_> {
    /// Changes what is known of a segment; `None` if nothing is.
    pub(crate) fn change<T>(&mut self, number: u32, change: impl FnOnce(&mut Segment) -> T) -> Option<T> {
        if let Some(segment) = self.touched.get_mut(&number) {
            return Some(change(segment));
        }
        let mut segment = self.segments.lock().ledger.get(number)?.clone();
        let result = change(&mut segment);
        self.touched.insert(number, segment);
        Some(result)
    }

    pub(crate) fn insert(&mut self, number: u32, segment: Segment) {
        self.touched.insert(number, segment);
    }

    /// A record is no longer referred to.
    pub(crate) fn release(&mut self, reference: &Reference, key: &[u8]) {
        self.change(reference.segment, |segment| {
            if segment.generation == reference.generation {
                segment.remove(reference.record_bytes(key));
            }
        });
    }

    /// The changed accounting records.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        let names = self.segments.columns.names();
        self.touched.iter().map(|(number, segment)| (segment_key(*number), segment.encode(names[segment.column])))
    }
}

/// Keeps what is alive from being freed, until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold<'a> {
    segments: &'a Segments,
    stamp: Stamp,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.segments.lock().ledger.release(self.stamp);
        self.segments.changed.notify_all();
    }
}

impl Segments {
    pub(crate) fn open(store: &Path, options: &Options) -> Result<Segments, StoreError> {
        let folder = SegmentFolder::open(store, options.direct_io)?;
        let state = State { ledger: Ledger::new(options.spare_segments), prepared: None, closed: false };
        Ok(Segments {
            folder,
            columns: Columns::new(options),
            segment_bytes: whole_blocks(options.segment_bytes),
            state: Mutex::new(state),
            changed: Condvar::new(),
            appender: Mutex::new(Appender::new(options.columns.len())),
            pipe: Pipe::default(),
            sync: DataSync::new(options.segment_sync_bytes),
            lost: Lost::new(options.columns.len()),
            counters: Counters::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live segments; the writer has them to itself.
    pub(crate) fn appender(&self) -> MutexGuard<'_, Appender> {
        self.appender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the accounting says what the index said at the call: no group is half applied.
    pub(crate) fn settle(&self) {
        drop(self.appender());
    }

    pub(crate) fn draft(&self) -> Draft<'_> {
        Draft { segments: self, touched: BTreeMap::new() }
    }

    /// Takes over the accounting of a group that was applied.
    pub(crate) fn commit(&self, draft: Draft<'_>) {
        if draft.touched.is_empty() {
            return;
        }
        self.lock().ledger.commit(draft.touched);
        self.changed.notify_all();
    }

    /// Notes a group that was written; its number.
    pub(crate) fn wrote(&self, written: Written, payload: u64) -> u64 {
        self.counters.written_bytes.fetch_add(written.bytes, Ordering::Relaxed);
        self.counters.payload_bytes.fetch_add(payload, Ordering::Relaxed);
        self.sync.wrote(written.files, written.bytes)
    }

    /// Reads a value; `None` if the file does not hold this record any more, or holds it damaged.
    pub(crate) fn read(&self, column: usize, key: &[u8], reference: &Reference) -> Result<Option<Bytes>, StoreError> {
        read_record(&self.folder, self.columns.names()[column], key, reference)
    }

    /// The error for a record that is damaged while the index refers to it.
    pub(crate) fn damaged(&self, column: usize, key: &[u8], reference: &Reference) -> StoreError {
        StoreError::Corruption {
            detail: format!(
                "the record at offset {} of {} does not pass its check; it is the value of key {} in column {}",
                reference.offset,
                self.folder.path_of(reference.segment).display(),
                hexadecimal(key),
                self.columns.names()[column],
            ),
        }
    }

    pub(crate) fn hold(&self) -> Hold<'_> {
        let stamp = self.lock().ledger.hold();
        Hold { segments: self, stamp }
    }

    /// The moment before a sync of the index and the data; see [`Segments::deletions_synced`].
    pub(crate) fn moment(&self) -> Stamp {
        self.lock().ledger.now()
    }

    /// Everything that was applied before this moment is on disk.
    pub(crate) fn deletions_synced(&self, moment: Stamp) {
        self.lock().ledger.synced(moment);
        self.changed.notify_all();
    }

    fn want_prepared(&self) {
        self.lock().ledger.want_prepared();
        self.changed.notify_all();
    }

    /// The next file to take records; made on the spot if none was prepared or the record is larger than a segment.
    fn next_file(&self, bytes: u64) -> Result<Ready, StoreError> {
        if bytes <= self.segment_bytes
            && let Some(prepared) = self.lock().prepared.take()
        {
            return Ok(prepared);
        }
        let least = whole_blocks(bytes);
        let mut capacity = self.segment_bytes.max(least);
        loop {
            match self.make_ready(capacity) {
                // What is left of the disk is used, too: only a record that has no room is a failure.
                Err(StoreError::DiskFull { .. }) if capacity / 2 >= least => {
                    capacity = whole_blocks(capacity / 2);
                }
                other => return other,
            }
        }
    }

    fn make_ready(&self, capacity: u64) -> Result<Ready, StoreError> {
        let (number, spare) = {
            let ledger = &mut self.lock().ledger;
            let spare = if capacity == self.segment_bytes { ledger.take_spare() } else { None };
            (spare.unwrap_or_else(|| ledger.new_number()), spare.is_some())
        };
        let file = if spare {
            self.counters.recycled.fetch_add(1, Ordering::Relaxed);
            self.folder.reuse(number)?
        } else {
            self.folder.create(number, capacity)?
        };
        let length = file.length()?;
        self.lock().ledger.note_file(number, length);
        Ok(Ready { number, file: Arc::new(file), capacity })
    }

    /// The life of the thread that keeps the files: frees dead segments, and gets the next file ready. `sync` puts index
    /// and data on disk, `forget` drops the accounting record of a segment.
    pub(crate) fn keep(
        &self,
        sync: impl Fn() -> Result<(), StoreError>,
        forget: impl Fn(u32) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        while let Some(task) = self.next_task() {
            self.perform(task, &sync, &forget)?;
        }
        Ok(())
    }

    fn perform(
        &self,
        task: Task,
        sync: &impl Fn() -> Result<(), StoreError>,
        forget: &impl Fn(u32) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match task {
            Task::Sync => sync(),
            Task::Free(number) => self.free(number, forget),
            Task::Discard(number) => self.discard(number, forget),
            Task::Prepare => {
                self.prepare();
                Ok(())
            }
        }
    }

    fn next_task(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(task) = state.ledger.task() {
                return Some(task);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Kept is a file whose space is reserved in full. One that a backup has a link to is not written again: the backup would
    /// change.
    fn free(&self, number: u32, forget: &impl Fn(u32) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let (length, wanted) = {
            let ledger = &self.lock().ledger;
            (ledger.length(number), ledger.wants_spare())
        };
        let keep = wanted && length == self.segment_bytes && self.folder.links(number)? == 1;
        if !keep {
            self.discard(number, forget)?;
        }
        self.lock().ledger.freed(number, keep);
        Ok(())
    }

    fn discard(&self, number: u32, forget: &impl Fn(u32) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.folder.remove(number)?;
        forget(number)?;
        self.counters.deleted.fetch_add(1, Ordering::Relaxed);
        self.lock().ledger.file_removed(number);
        Ok(())
    }

    fn prepare(&self) {
        if self.lock().prepared.is_some() {
            return;
        }
        match self.make_ready(self.segment_bytes) {
            Ok(ready) => self.lock().prepared = Some(ready),
            // The writer tries again when it needs the file, and reports what it finds then.
            Err(error) => tracing::warn!(%error, "could not get the next segment ready"),
        }
    }

    /// Tells the thread of [`Segments::keep`] to end.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Gives back the space that the live segments do not need; nothing is written after it.
    pub(crate) fn seal(&self) -> Result<(), StoreError> {
        self.appender().seal()
    }

    /// The names of all files that belong to a segment, whether they are sealed, and how far they are written.
    pub(crate) fn files_in_use(&self) -> Vec<(OsString, bool, u64)> {
        let state = self.lock();
        let name = |number| self.folder.path_of(number).file_name().map(OsString::from);
        let file = |(number, segment): (u32, &Segment)| Some((name(number)?, segment.sealed, segment.end));
        state.ledger.segments().filter_map(file).collect()
    }

    pub(crate) fn folder_path(&self) -> &Path {
        self.folder.path()
    }

    /// Bytes of files of one column.
    pub(crate) fn column_bytes(&self, column: usize) -> u64 {
        let state = self.lock();
        let of_column = state.ledger.segments().filter(|(_, segment)| segment.column == column);
        of_column.map(|(number, _)| state.ledger.length(number)).sum()
    }

    pub(crate) fn statistics(&self) -> SegmentStatistics {
        let state = self.lock();
        let (files, spare_files) = state.ledger.files();
        let (file_bytes, spare_bytes) = state.ledger.file_bytes();
        let live = state.ledger.segments().map(|(_, segment)| (segment.live_bytes, segment.live_records));
        let (live_bytes, live_records) = live.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        drop(state);
        let counters = &self.counters;
        SegmentStatistics {
            access: Some(self.folder.access()),
            files: files as u64,
            spare_files: spare_files as u64,
            file_bytes,
            spare_bytes,
            live_bytes,
            live_records,
            recycled: counters.recycled.load(Ordering::Relaxed),
            deleted: counters.deleted.load(Ordering::Relaxed),
            payload_bytes: counters.payload_bytes.load(Ordering::Relaxed),
            written_bytes: counters.written_bytes.load(Ordering::Relaxed),
            unsynced_bytes: self.sync.unsynced_bytes(),
            syncs: self.sync.count(),
        }
    }
}

#[cfg(test)]
impl Segments {
    /// The next task, without waiting for one.
    fn task(&self) -> Option<Task> {
        self.lock().ledger.task()
    }
}

/// Reads one record; `None` if it is not there, or not intact.
pub(crate) fn read_record(
    folder: &SegmentFolder,
    column: &str,
    key: &[u8],
    reference: &Reference,
) -> Result<Option<Bytes>, StoreError> {
    let Some(file) = folder.open_existing(reference.segment, false)? else { return Ok(None) };
    let found = file.read_around(reference.offset, reference.record_bytes(key))?;
    Ok(found.and_then(|(buffer, start)| record::value_in(buffer, start, column, key, reference)))
}

/// A key in an error message.
pub(crate) fn hexadecimal(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
