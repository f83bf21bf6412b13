//! Putting a peer's chunks together again. Pure.
//!
//! Chunks of one batch arrive in order on one stream; chunks of several batches may be interleaved (own batches and answers to
//! fetches share the bulk stream). Memory: at most [`MAX_OPEN`] batches a peer, each no longer than its announced and checked
//! length, and grown as bytes arrive. When one more is begun, the oldest is dropped.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use rorqual_protocol::types::BatchKey;

/// Batches of one peer in the making at once.
pub const MAX_OPEN: usize = 32;

/// The batches of one peer that are not complete yet.
pub struct Chunks {
    max_batch_bytes: usize,
    open: VecDeque<(BatchKey, usize, BytesMut)>,
}

impl Chunks {
    /// No batch yet; `max_batch_bytes` is the committee's limit.
    pub fn new(max_batch_bytes: usize) -> Self {
        Self { max_batch_bytes, open: VecDeque::new() }
    }

    /// Adds a chunk; the whole content when it was the last one.
    ///
    /// # Errors
    /// The rule that the chunk breaks; what was collected of this batch is dropped.
    pub fn add(&mut self, key: BatchKey, total: u32, offset: u32, data: Bytes) -> Result<Option<Bytes>, &'static str> {
        let total = total as usize;
        if total == 0 || total > self.max_batch_bytes {
            return Err("a batch of a length that the committee does not allow");
        }
        if offset == 0 && data.len() == total {
            return Ok(Some(data));
        }
        let position = self.open.iter().position(|(open, ..)| *open == key);
        let (_, expected, mut collected) = match position.and_then(|at| self.open.remove(at)) {
            Some(open) if offset != 0 => open,
            // A first chunk begins anew: the link was renewed meanwhile, or two peers were asked.
            _ if offset == 0 => (key, total, BytesMut::with_capacity(data.len().saturating_mul(2).min(total))),
            _ => return Err("a chunk of a batch whose beginning did not come"),
        };
        let length = collected.len().checked_add(data.len());
        if expected != total || collected.len() != offset as usize || length.is_none_or(|length| length > total) {
            return Err("a chunk that does not continue its batch");
        }
        collected.extend_from_slice(&data);
        if collected.len() == total {
            return Ok(Some(collected.freeze()));
        }
        if self.open.len() == MAX_OPEN {
            self.open.pop_front();
        }
        self.open.push_back((key, total, collected));
        Ok(None)
    }

    /// Drops what was collected of a batch.
    pub fn forget(&mut self, key: &BatchKey) {
        self.open.retain(|(open, ..)| open != key);
    }
}

#[cfg(test)]
mod tests {
    use rorqual_config::{AuthorityIndex, Digest};
    use rorqual_protocol::types::Sequence;

    use super::*;

    fn key(n: u64) -> BatchKey {
        BatchKey { author: AuthorityIndex(1), sequence: Sequence(n), digest: Digest([0; 32]) }
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn interleaved_batches_are_put_together() {
        let mut chunks = Chunks::new(100);
        assert_eq!(chunks.add(key(1), 6, 0, bytes("abc")), Ok(None));
        assert_eq!(chunks.add(key(2), 4, 0, bytes("12")), Ok(None));
        assert_eq!(chunks.add(key(1), 6, 3, bytes("def")), Ok(Some(bytes("abcdef"))));
        assert_eq!(chunks.add(key(2), 4, 2, bytes("34")), Ok(Some(bytes("1234"))));
        assert_eq!(chunks.add(key(3), 2, 0, bytes("xy")), Ok(Some(bytes("xy"))));
    }

    #[test]
    fn gaps_overruns_and_changed_lengths_are_refused() {
        let mut chunks = Chunks::new(100);
        assert!(chunks.add(key(1), 6, 3, bytes("def")).is_err());
        assert_eq!(chunks.add(key(1), 6, 0, bytes("abc")), Ok(None));
        assert!(chunks.add(key(1), 6, 4, bytes("ef")).is_err());
        assert_eq!(chunks.add(key(1), 6, 0, bytes("abc")), Ok(None));
        assert!(chunks.add(key(1), 7, 3, bytes("def")).is_err());
        assert_eq!(chunks.add(key(1), 6, 0, bytes("abc")), Ok(None));
        assert!(chunks.add(key(1), 6, 3, bytes("defg")).is_err());
        assert!(chunks.add(key(1), 101, 0, bytes("abc")).is_err());
        assert!(chunks.add(key(1), 0, 0, bytes("")).is_err());
    }

    #[test]
    fn a_new_first_chunk_begins_anew() {
        let mut chunks = Chunks::new(100);
        assert_eq!(chunks.add(key(1), 6, 0, bytes("abc")), Ok(None));
        assert_eq!(chunks.add(key(1), 6, 0, bytes("abc")), Ok(None));
        assert_eq!(chunks.add(key(1), 6, 3, bytes("def")), Ok(Some(bytes("abcdef"))));
    }

    #[test]
    fn open_batches_are_bounded() {
        let mut chunks = Chunks::new(100);
        for n in 0..1000 {
            assert_eq!(chunks.add(key(n), 6, 0, bytes("abc")), Ok(None));
        }
        assert_eq!(chunks.open.len(), MAX_OPEN);
    }
}
