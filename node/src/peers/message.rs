//! The one wire enum between nodes. Its version is [`rorqual_network::PROTOCOL_VERSION`], compared in the handshake.
//!
//! A frame is an encoded [`Message`] followed by a raw tail: blocks and payload are sliced out of the received frame and
//! never pass through the codec.

use bincode::{Decode, Encode};
use bytes::{Bytes, BytesMut};
use rorqual_config::CodecError;
use rorqual_config::encoding::{decode_header, encode};
use rorqual_config::range::{LIMIT, in_range};
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
    /// Bulk, a request. Answered by `Commits` or `NoCommits`.
    FetchCommits {
        /// First index.
        from: CommitIndex,
        /// Last index wanted; the answer may end earlier, or a little later, at a certified commit.
        to: CommitIndex,
        /// Bytes of the first one's record that are here already.
        offset: u32,
    },
    /// The answer: a page of records from the first index on. Tail: the encoded commits, of these lengths, the first from the
    /// offset on; then, if the range ends here, the encoded certificate of the last.
    Commits {
        /// Length of each part in bytes; none is empty.
        lengths: Vec<u32>,
        /// Bytes of the last record that did not fit; 0 if it is whole.
        more: u32,
        /// Whether the certificate follows. If not, the range goes on where the page ends.
        ends: bool,
    },
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

    /// Reads a frame; every number in it is in range.
    ///
    /// # Errors
    /// [`Unreadable`]: the peer is broken or a liar.
    pub fn read(frame: &Bytes) -> Result<(Self, Bytes), Unreadable> {
        let (message, tail): (Self, Bytes) = decode_header(frame)?;
        match message.highest() {
            number if in_range(number) => Ok((message, tail)),
            number => Err(Unreadable::OutOfRange(number)),
        }
    }

    /// The highest of its rounds, sequences and indexes. Lengths, authors and places are held against what they are about.
    fn highest(&self) -> u64 {
        let of_refs = |refs: &[BlockRef]| refs.iter().map(|reference| reference.round.0).max().unwrap_or(0);
        let of_keys = |keys: &[BatchKey]| keys.iter().map(|key| key.sequence.0).max().unwrap_or(0);
        match self {
            Self::OwnBlock | Self::History { lengths: _ } | Self::TipQuery => 0,
            Self::Commits { lengths: _, more: _, ends: _ } => 0,
            Self::Subscribe { from_round } => from_round.0,
            Self::FetchBlocks { refs } | Self::Blocks { lengths: _, missing: refs } => of_refs(refs),
            Self::BatchChunk { key, total: _, offset: _ } => key.sequence.0,
            Self::FetchBatches { keys } | Self::MissingBatches { keys } => of_keys(keys),
            Self::FetchCommits { from, to, offset: _ } => from.0.max(to.0),
            Self::NoCommits { first_index } => first_index.0,
            Self::Tip { own: _, yours: _, gc_round, last_commit } => gc_round.0.max(last_commit.0),
        }
    }
}

/// Why a frame is no message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not an encoding.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A round, sequence or index that no honest node can name.
    #[error("it names the number {0}; all numbers are below {LIMIT}")]
    OutOfRange(u64),
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
    use rorqual_config::{AuthorityIndex, Digest};
    use rorqual_protocol::types::Sequence;

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

    /// Every message with this number in each place where it has one.
    fn with_number(number: u64) -> Vec<Message> {
        let digest = Digest([1; 32]);
        let author = AuthorityIndex(u16::try_from(number).unwrap_or(u16::MAX));
        let refs =
            || vec![BlockRef { round: Round(1), author, digest }, BlockRef { round: Round(number), author, digest }];
        let key = |n| BatchKey { author, sequence: Sequence(n), digest };
        let keys = || vec![key(1), key(number)];
        let short = u32::try_from(number).unwrap_or(u32::MAX);
        let index = CommitIndex(number);
        vec![
            Message::Subscribe { from_round: Round(number) },
            Message::FetchBlocks { refs: refs() },
            Message::Blocks { lengths: vec![short], missing: refs() },
            Message::BatchChunk { key: key(number), total: short, offset: short },
            Message::FetchBatches { keys: keys() },
            Message::MissingBatches { keys: keys() },
            Message::FetchCommits { from: index, to: CommitIndex(1), offset: short },
            Message::FetchCommits { from: CommitIndex(1), to: index, offset: short },
            Message::NoCommits { first_index: index },
            Message::Tip { own: short, yours: short, gc_round: Round(number), last_commit: CommitIndex(1) },
            Message::Tip { own: short, yours: short, gc_round: Round(1), last_commit: index },
        ]
    }

    #[test]
    fn every_number_of_every_message_is_below_the_limit() {
        let read = |message: &Message| Message::read(&message.frame().header);
        for number in [0, 1, LIMIT - 1] {
            for message in with_number(number) {
                assert_eq!(read(&message), Ok((message, Bytes::new())));
            }
        }
        for number in [LIMIT, LIMIT + 1, 1 << 63, u64::MAX] {
            for message in with_number(number) {
                assert_eq!(read(&message), Err(Unreadable::OutOfRange(number)), "{message:?}");
            }
        }
    }

    #[test]
    fn lengths_that_sum_to_more_than_there_is_are_refused() {
        let tail = Bytes::from_static(b"abc");
        for length in [4, u32::MAX] {
            assert_eq!(split(&[length], tail.clone()), None);
            assert_eq!(split(&[3, length], tail.clone()), None);
        }
    }

    #[test]
    fn rubbish_is_an_error_and_never_a_panic() {
        for length in 0..64 {
            let bytes = Bytes::from(vec![0xff; length]);
            assert!(Message::read(&bytes).is_err());
        }
    }
}
