//! The one wire enum between nodes. Its version is [`rorqual_network::PROTOCOL_VERSION`], compared in the handshake.
//!
//! A frame is an encoded [`Message`] followed by a raw tail: blocks and payload are sliced out of the received frame and
//! never pass through the codec.

use bincode::{Decode, Encode};
use bytes::{Bytes, BytesMut};
use rorqual_config::CodecError;
use rorqual_config::encoding::{decode_header, encode};
use rorqual_network::Frame;
pub use rorqual_protocol::admission::MAX_HISTORY;
use rorqual_protocol::types::{BatchKey, BlockRef, CommitIndex, Round};

/// Blocks in one request on the priority stream.
pub const MAX_FETCH_BLOCKS: usize = 32;
/// Blocks in one request of catch-up.
pub const MAX_RANGE_BLOCKS: usize = 512;
/// Batches in one request.
pub const MAX_FETCH_BATCHES: usize = 16;
/// Bytes of payload in one chunk.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Bytes of blocks or records in one answer, beyond the first one.
pub const ANSWER_BYTES: usize = 1 << 20;

/// What nodes say to each other. The tail of each frame is named in its comment.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Message {
    /// Priority. The sender's own block. Tail: the block.
    OwnBlock,
    /// Priority. Blocks of others, ascending by round. Tail: the blocks, of these lengths.
    History {
        /// Length of each block in bytes.
        lengths: Vec<u32>,
    },
    /// Priority. Send me your own blocks from this round on, then every new one.
    Subscribe {
        /// From which round.
        from_round: Round,
    },
    /// Priority or bulk, a request. Answered by `Blocks`.
    FetchBlocks {
        /// Which.
        refs: Vec<BlockRef>,
    },
    /// The answer: `refs` of the request in order, the ones in `missing` left out. Tail: the blocks, of these lengths.
    Blocks {
        /// Length of each block in bytes.
        lengths: Vec<u32>,
        /// What is not here, or did not fit in the answer.
        missing: Vec<BlockRef>,
    },
    /// Bulk. A part of a batch. Tail: the bytes from `offset` on.
    BatchChunk {
        /// Which batch.
        key: BatchKey,
        /// Length of the batch.
        total: u32,
        /// Where this part belongs.
        offset: u32,
    },
    /// Bulk. Send me these batches; answered by `BatchChunk`s and `MissingBatches`.
    FetchBatches {
        /// Which.
        keys: Vec<BatchKey>,
    },
    /// Bulk. What of a `FetchBatches` is not here.
    MissingBatches {
        /// Which.
        keys: Vec<BatchKey>,
    },
    /// Bulk, a request. Answered by `Commits` or `Pruned`.
    FetchCommits {
        /// First index.
        from: CommitIndex,
        /// Last index wanted; the answer may end earlier, or a little later, at a certified commit.
        to: CommitIndex,
    },
    /// The answer. Tail: an encoded `(Vec<Commit>, Certificate)`.
    Commits,
    /// The answer of a node that has dropped what was asked for, or has no certificate for it yet.
    NoCommits {
        /// The first commit that is still here.
        first_index: CommitIndex,
    },
    /// Priority, a request. Answered by `Tip`.
    TipQuery,
    /// The answer. Tail: own block, then the asker's block, of these lengths.
    Tip {
        /// Length of the answering node's highest own block, 0 if it has none.
        own: u32,
        /// Length of the highest block by the asker, 0 if none is known.
        yours: u32,
        /// Garbage-collection round.
        gc_round: Round,
        /// Last commit.
        last_commit: CommitIndex,
    },
}

impl Message {
    /// A frame without a tail.
    pub fn frame(&self) -> Frame {
        self.with_tail(Bytes::new())
    }

    /// A frame with a tail, which is not copied.
    pub fn with_tail(&self, tail: Bytes) -> Frame {
        Frame { header: encode(self).into(), tail }
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`CodecError`]: the peer is broken or a liar.
    pub fn read(frame: &Bytes) -> Result<(Self, Bytes), CodecError> {
        decode_header(frame)
    }
}

/// Several byte strings as lengths and one tail.
pub fn join<'a>(parts: impl Iterator<Item = &'a Bytes>) -> (Vec<u32>, Bytes) {
    let mut tail = BytesMut::new();
    let mut lengths = Vec::new();
    for part in parts {
        lengths.push(part.len() as u32);
        tail.extend_from_slice(part);
    }
    (lengths, tail.freeze())
}

/// Splits a tail; `None` unless the lengths cover it exactly. The parts share the frame.
pub fn split(lengths: &[u32], mut tail: Bytes) -> Option<Vec<Bytes>> {
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        if *length as usize > tail.len() {
            return None;
        }
        parts.push(tail.split_to(*length as usize));
    }
    tail.is_empty().then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_travel_as_lengths_and_a_tail() {
        let parts = [Bytes::from_static(b"one"), Bytes::from_static(b""), Bytes::from_static(b"three")];
        let (lengths, tail) = join(parts.iter());
        assert_eq!(split(&lengths, tail.clone()).unwrap(), parts);
        assert_eq!(split(&lengths[..2], tail.clone()), None);
        assert_eq!(split(&[3, 0, 6], tail), None);
    }

    #[test]
    fn a_frame_is_read_back_with_its_tail() {
        let message = Message::History { lengths: vec![3] };
        let frame = message.with_tail(Bytes::from_static(b"abc"));
        let bytes: Bytes = [&frame.header[..], &frame.tail[..]].concat().into();
        assert_eq!(Message::read(&bytes).unwrap(), (message, Bytes::from_static(b"abc")));
    }

    #[test]
    fn rubbish_is_an_error_and_never_a_panic() {
        for length in 0..64 {
            let bytes = Bytes::from(vec![0xff; length]);
            assert!(Message::read(&bytes).is_err());
        }
    }
}
