//! Where new records go: one live segment for each column, written in whole blocks.
//!
//! The records of a group are packed. The last block of a group is filled up with zeros and never written again: a torn or
//! lost write can hurt no record of an earlier group, and every byte is written once.

use std::collections::VecDeque;
use std::sync::Arc;

use super::buffer::{AlignedBuffer, whole_blocks};
use super::file::SegmentFile;
use super::ledger::Segment;
use super::pipe::{BUFFER, Piece, Pipe};
use super::record::{Identity, record_bytes};
use super::reference::Reference;
use super::{Draft, Segments};
use crate::error::StoreError;

/// What is hashed and copied at a time, in bytes, and the least that is handed over to be written. Whole blocks; a size
/// that the processor's cache holds twice.
const STEP: usize = 64 << 10;

/// A file that takes records.
#[derive(Debug)]
struct Live {
    number: u32,
    generation: u64,
    file: Arc<SegmentFile>,
    capacity: u64,
    buffer: AlignedBuffer,
    /// Bytes in the buffer.
    used: usize,
    /// Where in the file the buffer goes.
    offset: u64,
    /// How far the file was written when that was last noted.
    noted: u64,
    /// Whether the next file has been asked for.
    followed: bool,
}

impl Live {
    fn position(&self) -> u64 {
        self.offset + self.used as u64
    }

    /// Takes in a record, hashing the value as it is copied: what is in the processor's cache need not be fetched twice.
    fn record(&mut self, identity: &Identity<'_>, value: &[u8], pipe: &Pipe) {
        let header = identity.header(value.len() as u64);
        let mut hasher = blake3::Hasher::new();
        self.copy(&header, pipe);
        self.copy(identity.key, pipe);
        for part in value.chunks(STEP) {
            hasher.update(part);
            self.copy(part, pipe);
        }
        self.copy(&identity.check(hasher, &header), pipe);
    }

    fn copy(&mut self, mut bytes: &[u8], pipe: &Pipe) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(STEP - self.used % STEP));
            self.buffer.bytes_mut()[self.used..self.used + now.len()].copy_from_slice(now);
            self.used += now.len();
            bytes = later;
            if self.used == BUFFER || (self.used.is_multiple_of(STEP) && pipe.is_idle()) {
                self.hand_over(pipe);
            }
        }
    }

    /// Has what is in the buffer written, whole steps of it, and goes on with an empty one.
    fn hand_over(&mut self, pipe: &Pipe) {
        let (buffer, bytes) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.used));
        self.buffer = pipe.exchange(Piece { file: Arc::clone(&self.file), buffer, bytes, offset: self.offset });
        self.offset += bytes as u64;
    }

    /// Writes what is in the buffer, filled up to whole blocks.
    fn flush(&mut self) -> Result<(), StoreError> {
        let blocks = whole_blocks(self.used as u64) as usize;
        self.buffer.bytes_mut()[self.used..blocks].fill(0);
        self.file.write(&self.buffer.as_ref()[..blocks], self.offset)?;
        self.offset += blocks as u64;
        self.used = 0;
        Ok(())
    }
}

/// The files of a group that were written, and how many bytes.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) files: Vec<Arc<SegmentFile>>,
    pub(crate) bytes: u64,
}

/// The live segments, by column. Used by the writer alone.
#[derive(Debug)]
pub(crate) struct Appender {
    lives: Vec<Option<Live>>,
    written: Written,
    /// Groups that have an entry in the tail.
    pub(crate) tail: VecDeque<u64>,
}

impl Appender {
    pub(crate) fn new(columns: usize) -> Appender {
        Appender { lives: (0..columns).map(|_| None).collect(), written: Written::default(), tail: VecDeque::new() }
    }

    /// Appends a record to the column's live segment. It is in the file when [`Appender::finish`] has returned.
    pub(crate) fn append(
        &mut self,
        segments: &Segments,
        draft: &mut Draft<'_>,
        column: usize,
        key: &[u8],
        value: &[u8],
    ) -> Result<Reference, StoreError> {
        let bytes = record_bytes(key.len(), value.len() as u64);
        let live = self.live(segments, draft, column, bytes)?;
        let reference = Reference {
            segment: live.number,
            generation: live.generation,
            offset: live.position(),
            length: value.len() as u64,
        };
        let name = segments.columns.names()[column];
        let identity = Identity { column: name, key, generation: live.generation, offset: reference.offset };
        live.record(&identity, value, &segments.pipe);
        draft.change(live.number, |segment| segment.add(bytes));
        if !live.followed && live.position() > live.capacity / 2 {
            live.followed = true;
            segments.want_prepared();
        }
        Ok(reference)
    }

    /// The live segment of a column, another one if this one has no room.
    fn live(
        &mut self,
        segments: &Segments,
        draft: &mut Draft<'_>,
        column: usize,
        bytes: u64,
    ) -> Result<&mut Live, StoreError> {
        let fits = |live: &Live| live.position() + bytes <= live.capacity;
        if !self.lives[column].as_ref().is_some_and(fits) {
            if let Some(full) = &mut self.lives[column] {
                self.written.finish(full, draft)?;
                draft.change(full.number, |segment| segment.sealed = true);
            }
            self.lives[column] = Some(begin(segments, draft, column, bytes)?);
        }
        self.lives[column].as_mut().ok_or(StoreError::Closed)
    }

    /// Writes what is left of the group and waits for the rest; what was written since the last call.
    pub(crate) fn finish(&mut self, segments: &Segments, draft: &mut Draft<'_>) -> Result<Written, StoreError> {
        for live in self.lives.iter_mut().flatten() {
            self.written.finish(live, draft)?;
        }
        segments.pipe.settle()?;
        Ok(std::mem::take(&mut self.written))
    }

    /// Ends all live segments and gives back the space they do not need.
    pub(crate) fn seal(&mut self) -> Result<(), StoreError> {
        for live in self.lives.drain(..).flatten() {
            live.file.set_length(live.offset)?;
        }
        Ok(())
    }
}

impl Written {
    /// Flushes a segment and notes how far it is written, if it was written since it was last noted.
    fn finish(&mut self, live: &mut Live, draft: &mut Draft<'_>) -> Result<(), StoreError> {
        if live.used > 0 {
            live.flush()?;
        }
        let bytes = live.offset - live.noted;
        if bytes > 0 {
            live.noted = live.offset;
            draft.change(live.number, |segment| segment.end = live.offset);
            self.bytes += bytes;
            self.files.push(Arc::clone(&live.file));
        }
        Ok(())
    }
}

fn begin(segments: &Segments, draft: &mut Draft<'_>, column: usize, bytes: u64) -> Result<Live, StoreError> {
    let ready = segments.next_file(bytes)?;
    let generation = getrandom::u64()
        .map_err(|error| StoreError::Io { detail: format!("drawing the generation of a segment: {error}") })?;
    draft.insert(ready.number, Segment::new(column, generation));
    Ok(Live {
        number: ready.number,
        generation,
        file: ready.file,
        capacity: ready.capacity,
        buffer: AlignedBuffer::zeroed(BUFFER),
        used: 0,
        offset: 0,
        noted: 0,
        followed: false,
    })
}
