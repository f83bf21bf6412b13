//! The accounting of segments, made anew from the index: for a database that was rebuilt from what could be read.
//!
//! Without an account a segment file belongs to nobody, and a start would write into it again, over what the index refers
//! to; with a wrong one its space would come back too early or never.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};

use super::buffer::whole_blocks;
use super::file::SegmentFolder;
use super::ledger::Segment;
use super::reference::{Reference, Stored};
use super::{read_record, recovery, segment_key};
use crate::error::StoreError;
use crate::options::ColumnOptions;
use crate::rocks::translate;

/// What the index says of one life of a segment, and one of its records.
struct Life {
    account: Segment,
    sample: (Bytes, Reference),
}

/// Accounts for every segment that the index refers to, durably. Nobody else may use the database meanwhile.
///
/// # Errors
/// [`StoreError::Corruption`], [`StoreError::DiskFull`], [`StoreError::Io`].
pub(crate) fn rebuild(database: &DB, path: &Path, columns: &[ColumnOptions]) -> Result<(), StoreError> {
    let failed = |error: rocksdb::Error| translate(path, &error);
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    // What is damaged of the old account is not needed.
    let old: BTreeMap<u32, Segment> = recovery::records(database, &names).unwrap_or_default().into_iter().collect();
    let mut lives: BTreeMap<u32, BTreeMap<u64, Life>> = BTreeMap::new();
    for (column, options) in columns.iter().enumerate().filter(|(_, options)| options.large_values) {
        let family = database.cf_handle(options.name).ok_or(StoreError::UnknownColumn { column: options.name })?;
        for entry in database.iterator_cf(family, IteratorMode::Start) {
            let (key, entry) = entry.map_err(failed)?;
            if let Some(reference) = Stored::reference(&entry) {
                add(&mut lives, column, &key, reference);
            }
        }
    }
    let folder = SegmentFolder::existing(path);
    let mut batch = WriteBatch::default();
    for (number, segment) in &old {
        if !lives.contains_key(number) {
            let empty = Segment { live_bytes: 0, live_records: 0, ..segment.clone() };
            batch.put(segment_key(*number), empty.encode(names[segment.column]));
        }
    }
    for (number, mut generations) in lives {
        let known = old.get(&number);
        let current = known.map(|segment| segment.generation).filter(|current| generations.contains_key(current));
        let intact = |life: &Life| {
            let (key, reference) = &life.sample;
            matches!(read_record(&folder, names[life.account.column], key, reference), Ok(Some(_)))
        };
        // References of other generations are what deletions that came back refer to: they read as damaged.
        let found = current.or_else(|| generations.iter().find(|(_, life)| intact(life)).map(|(number, _)| *number));
        let generation = found.or_else(|| generations.keys().next().copied());
        let Some(life) = generation.and_then(|generation| generations.remove(&generation)) else { continue };
        let end = life.account.end.max(known.map_or(0, |segment| segment.end));
        let account = Segment { end, ..life.account };
        batch.put(segment_key(number), account.encode(names[account.column]));
    }
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    database.write_opt(batch, &synced).map_err(failed)
}

fn add(lives: &mut BTreeMap<u32, BTreeMap<u64, Life>>, column: usize, key: &[u8], reference: Reference) {
    let life = lives.entry(reference.segment).or_default().entry(reference.generation).or_insert_with(|| Life {
        account: Segment::new(column, reference.generation),
        sample: (Bytes::copy_from_slice(key), reference),
    });
    let bytes = reference.record_bytes(key);
    life.account.add(bytes);
    life.account.end = life.account.end.max(whole_blocks(reference.offset.saturating_add(bytes)));
}
