//! A group of batches on its way into RocksDB: large values go to their segment, everything else into one atomic write,
//! together with the references, the accounting of segments and the list of what is not known to be on disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::MutexGuard;

use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, IteratorMode, ReadOptions};

use crate::batch::{Operation, WriteBatch};
use crate::error::StoreError;
use crate::lost::{Change, lost_key};
use crate::options::Columns;
use crate::reclaim::Span;
use crate::rocks::translate;
use crate::segments::appender::Appender;
use crate::segments::reference::{Reference, Stored, inline};
use crate::segments::{Draft, Segments, tail, tail_key};

/// What a large value takes in the write of the index, about.
const REFERENCE_COST: usize = 256;

/// What the group itself has changed in one column of large values: the database does not show it yet.
#[derive(Debug, Default)]
struct Overlay {
    /// What the keys refer to that the group has put or deleted.
    entries: BTreeMap<Bytes, Option<Reference>>,
    deleted: Vec<Span>,
}

impl Overlay {
    /// What the key refers to now, if anything; `None` if the group has not touched it.
    fn get(&self, key: &[u8]) -> Option<Option<Reference>> {
        if let Some(reference) = self.entries.get(key) {
            return Some(*reference);
        }
        self.deleted.iter().any(|span| span.contains(key)).then_some(None)
    }
}

/// The group being built. It has the live segments to itself: there is one writer.
pub(crate) struct Group<'a> {
    database: &'a DB,
    segments: &'a Segments,
    columns: &'a Columns,
    families: Vec<&'a ColumnFamily>,
    threshold: usize,
    appender: MutexGuard<'a, Appender>,
    draft: Draft<'a>,
    overlays: Vec<Overlay>,
    batch: rocksdb::WriteBatch,
    unsynced: Vec<u8>,
    payload: u64,
    /// What becomes of missing values.
    lost: Vec<Change>,
}

/// Where a group goes.
pub(crate) struct Target<'a> {
    pub(crate) database: &'a DB,
    pub(crate) segments: &'a Segments,
    pub(crate) columns: &'a Columns,
    pub(crate) families: Vec<&'a ColumnFamily>,
    pub(crate) threshold: usize,
}

impl<'a> Group<'a> {
    pub(crate) fn new(target: Target<'a>, batches: &[&WriteBatch]) -> Group<'a> {
        let Target { database, segments, columns, families, threshold } = target;
        let cost = |operation: &Operation| match operation {
            Operation::Put { key, value, .. } => key.len() + value.len().min(threshold) + REFERENCE_COST,
            Operation::Delete { key, .. } | Operation::Lose { key, .. } => key.len() + REFERENCE_COST,
            Operation::DeleteRange { from, to, .. } => from.len() + to.len() + REFERENCE_COST,
        };
        let bytes = batches.iter().flat_map(|batch| batch.operations()).map(cost).sum();
        Group {
            database,
            segments,
            columns,
            overlays: families.iter().map(|_| Overlay::default()).collect(),
            families,
            threshold,
            appender: segments.appender(),
            draft: segments.draft(),
            batch: rocksdb::WriteBatch::with_capacity_bytes(bytes),
            unsynced: Vec::new(),
            payload: 0,
            lost: Vec::new(),
        }
    }

    /// Adds all operations in their order.
    pub(crate) fn take(&mut self, batches: &[&WriteBatch]) -> Result<(), StoreError> {
        for (position, batch) in batches.iter().enumerate() {
            for operation in batch.operations() {
                let column = self.columns.index(operation.column())?;
                match operation {
                    Operation::Put { key, value, .. } => self.put(column, key, value)?,
                    Operation::Delete { key, .. } => self.delete(column, key)?,
                    Operation::Lose { key, bytes, .. } => self.lose(column, key, *bytes)?,
                    Operation::DeleteRange { from, to, .. } if to.is_empty() => {
                        let end = self.end_of(column, &batches[..=position])?;
                        self.delete_range(column, Span { from: from.clone(), to: end })?;
                    }
                    Operation::DeleteRange { from, to, .. } => {
                        self.delete_range(column, Span { from: from.clone(), to: to.clone() })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, column: usize, key: &Bytes, value: &Bytes) -> Result<(), StoreError> {
        if !self.columns.is_large(column) {
            self.batch.put_cf(self.families[column], key, value);
            return Ok(());
        }
        let current = self.current(column, key)?;
        if let Some(reference) = current
            && value.len() >= self.threshold
            && self.holds(column, key, &reference, value)?
        {
            return Ok(());
        }
        current.iter().for_each(|reference| self.draft.release(reference, key));
        self.settle(column, key);
        let mut refers = None;
        let entry = if value.len() < self.threshold {
            inline(value)
        } else {
            let reference = self.appender.append(self.segments, &mut self.draft, column, key, value)?;
            self.payload += value.len() as u64;
            tail::append(&mut self.unsynced, self.columns.names()[column], key, &reference);
            refers = Some(reference);
            reference.encode()
        };
        self.batch.put_cf(self.families[column], key, &entry);
        self.overlays[column].entries.insert(key.clone(), refers);
        Ok(())
    }

    fn delete(&mut self, column: usize, key: &Bytes) -> Result<(), StoreError> {
        if self.columns.is_large(column) {
            self.release(column, key)?;
            self.settle(column, key);
            self.overlays[column].entries.insert(key.clone(), None);
        }
        self.batch.delete_cf(self.families[column], key);
        Ok(())
    }

    fn lose(&mut self, column: usize, key: &Bytes, bytes: u64) -> Result<(), StoreError> {
        self.delete(column, key)?;
        if self.columns.is_large(column) {
            self.batch.put(lost_key(self.columns.names()[column], key), bytes.to_le_bytes());
            self.lost.push(Change::Lost(column, key.clone(), bytes));
        }
        Ok(())
    }

    /// The key is put or deleted: its value is not missing any more.
    fn settle(&mut self, column: usize, key: &Bytes) {
        if self.segments.lost.is_empty() && self.lost.is_empty() {
            return;
        }
        let noted = |change: &Change| matches!(change, Change::Lost(of, lost, _) if *of == column && lost == key);
        if self.segments.lost.contains(column, key) || self.lost.iter().any(noted) {
            self.batch.delete(lost_key(self.columns.names()[column], key));
            self.lost.push(Change::Settled(column, key.clone()));
        }
    }

    /// The range ends before its `to`, which is not empty here.
    fn delete_range(&mut self, column: usize, span: Span) -> Result<(), StoreError> {
        if span.from >= span.to {
            return Ok(());
        }
        if self.columns.is_large(column) {
            self.release_range(column, &span)?;
            self.settle_range(column, &span);
        }
        self.batch.delete_range_cf(self.families[column], &span.from[..], &span.to[..]);
        if self.columns.is_large(column) {
            self.overlays[column].deleted.push(span);
        }
        Ok(())
    }

    fn settle_range(&mut self, column: usize, span: &Span) {
        let noted = |change: &Change| match change {
            Change::Lost(of, key, _) if *of == column && span.contains(key) => Some(key.clone()),
            _ => None,
        };
        let mut keys: Vec<Bytes> = self.lost.iter().filter_map(noted).collect();
        keys.extend(self.segments.lost.within(column, &span.from, &span.to));
        keys.iter().for_each(|key| self.settle(column, key));
    }

    /// Whether the record is on its way to the disk, or there, with this very value: a copy of it would take the place of what
    /// may be synced, and is not.
    fn holds(&self, column: usize, key: &Bytes, reference: &Reference, value: &Bytes) -> Result<bool, StoreError> {
        // What the group itself has appended need not be in the file yet: it is written again.
        let old = reference.length == value.len() as u64 && self.overlays[column].get(key).is_none();
        Ok(old && self.segments.read(column, key, reference)?.as_ref() == Some(value))
    }

    /// What the entry of a key refers to now, if anything.
    fn current(&self, column: usize, key: &Bytes) -> Result<Option<Reference>, StoreError> {
        match self.overlays[column].get(key) {
            Some(reference) => Ok(reference),
            None => {
                let found = self.database.get_pinned_cf(self.families[column], key);
                let found = found.map_err(|error| translate(self.database.path(), &error))?;
                Ok(found.and_then(|entry| Stored::reference(&entry)))
            }
        }
    }

    /// The caller is about to delete the entry of a key: what it refers to is dead then.
    fn release(&mut self, column: usize, key: &Bytes) -> Result<(), StoreError> {
        if let Some(reference) = self.current(column, key)? {
            self.draft.release(&reference, key);
        }
        Ok(())
    }

    fn release_range(&mut self, column: usize, span: &Span) -> Result<(), StoreError> {
        let overlay = &mut self.overlays[column];
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_range(&span.from[..]..&span.to[..]);
        let mut entries = self.database.raw_iterator_cf_opt(self.families[column], bounds);
        entries.seek_to_first();
        while let Some((key, entry)) = entries.item() {
            if let Some(reference) = Stored::reference(entry)
                && overlay.get(key).is_none()
            {
                self.draft.release(&reference, key);
            }
            entries.next();
        }
        entries.status().map_err(|error| translate(self.database.path(), &error))?;
        let range = (Bound::Included(&span.from), Bound::Excluded(&span.to));
        for (key, refers) in overlay.entries.range_mut::<Bytes, _>(range) {
            if let Some(reference) = refers.take() {
                self.draft.release(&reference, key);
            }
        }
        Ok(())
    }

    /// A key after every key of the column, for a range that goes to its end: after the last one in the database, the
    /// last one that is missing and the last one that the same write puts before. This thread is the only writer.
    fn end_of(&self, column: usize, before: &[&WriteBatch]) -> Result<Bytes, StoreError> {
        let mut last = match self.database.iterator_cf(self.families[column], IteratorMode::End).next() {
            Some(entry) => entry.map_err(|error| translate(self.database.path(), &error))?.0.into_vec(),
            None => Vec::new(),
        };
        if let Some(missing) = self.segments.lost.last(column) {
            last = last.max(missing.to_vec());
        }
        for operation in before.iter().flat_map(|batch| batch.operations()) {
            if let Operation::Put { column: put, key, .. } | Operation::Lose { column: put, key, .. } = operation
                && self.columns.index(*put)? == column
                && key[..] > last[..]
            {
                last = key.to_vec();
            }
        }
        last.push(0);
        Ok(Bytes::from(last))
    }

    /// Writes the data, then the index, and takes over the accounting. Nobody else has the live segments meanwhile.
    pub(crate) fn write(mut self) -> Result<(), StoreError> {
        let synced = self.segments.sync.synced();
        while self.appender.tail.front().is_some_and(|group| *group <= synced) {
            if let Some(group) = self.appender.tail.pop_front() {
                self.batch.delete(tail_key(group));
            }
        }
        let written = self.appender.finish(self.segments, &mut self.draft)?;
        if !self.unsynced.is_empty() {
            let group = self.segments.wrote(written, self.payload);
            self.batch.put(tail_key(group), &self.unsynced);
            self.appender.tail.push_back(group);
        }
        for (key, record) in self.draft.records() {
            self.batch.put(key, record);
        }
        self.database.write(self.batch).map_err(|error| translate(self.database.path(), &error))?;
        self.segments.commit(self.draft);
        self.segments.lost.apply(self.lost);
        Ok(())
    }
}
