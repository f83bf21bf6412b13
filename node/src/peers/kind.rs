//! What one peer may send, by kind of message: how long a frame, how many a second, and what happens to more. One table, above
//! what an honest peer sends at full speed, looked at before a frame is decoded.
//!
//! Blocks are counted apart, one by one: `Admission` of the protocol crate.

use rorqual_config::Committee;
use rorqual_network::Stream;
use rorqual_protocol::admission::MAX_HISTORY;

use super::message::{CHUNK_BYTES, MAX_FETCH_BATCHES, MAX_FETCH_BLOCKS, MAX_RANGE_BLOCKS};

/// Encoded lengths: discriminant, counter of a list, reference, key.
const TAG: usize = 4;
const COUNT: usize = 8;
const REF: usize = 42;
const KEY: usize = 42;

/// A kind of message that may come unasked on a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Priority.
    OwnBlock,
    /// Priority.
    History,
    /// Priority.
    Subscribe,
    /// Priority: a few blocks.
    FetchBlocks,
    /// Bulk: many blocks of a range of commits.
    RangeBlocks,
    /// Bulk.
    BatchChunk,
    /// Bulk.
    FetchBatches,
    /// Bulk.
    MissingBatches,
    /// Bulk.
    FetchCommits,
    /// Priority.
    TipQuery,
}

/// What happens to a frame above the rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Above {
    /// It waits, and with it the stream: bulk that an honest peer may have much of.
    Wait,
    /// It is dropped: the peer asks again or somebody else. No honest peer asks so fast for long.
    Shed,
    /// It is dropped and counted as a broken rule; many of them end the link.
    Refuse,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Frames a second in the long run.
    pub per_second: u32,
    /// Frames at once.
    pub burst: u32,
    /// More.
    pub above: Above,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::OwnBlock,
        Self::History,
        Self::Subscribe,
        Self::FetchBlocks,
        Self::RangeBlocks,
        Self::BatchChunk,
        Self::FetchBatches,
        Self::MissingBatches,
        Self::FetchCommits,
        Self::TipQuery,
    ];

    /// The kind of a frame, by its first four bytes; `None` for what no peer sends unasked on this stream.
    pub fn of(stream: Stream, frame: &[u8]) -> Option<Self> {
        let tag = u32::from_le_bytes(frame.get(..TAG)?.try_into().ok()?);
        match (stream, tag) {
            (Stream::Priority, 0) => Some(Self::OwnBlock),
            (Stream::Priority, 1) => Some(Self::History),
            (Stream::Priority, 2) => Some(Self::Subscribe),
            (Stream::Priority, 3) => Some(Self::FetchBlocks),
            (Stream::Bulk, 3) => Some(Self::RangeBlocks),
            (Stream::Bulk, 5) => Some(Self::BatchChunk),
            (Stream::Bulk, 6) => Some(Self::FetchBatches),
            (Stream::Bulk, 7) => Some(Self::MissingBatches),
            (Stream::Bulk, 8) => Some(Self::FetchCommits),
            (Stream::Priority, 11) => Some(Self::TipQuery),
            _ => None,
        }
    }

    /// How many. A cluster at its fastest (one round in 5 ms, 400 of them at once after a pause, 200 MB/s of payload in chunks of
    /// 64 KiB, a reconnect with 8 192 batches that were not delivered, a member that lacks 600 rounds of everybody) stays below.
    pub fn limit(self) -> Limit {
        let (per_second, burst, above) = match self {
            Self::OwnBlock | Self::History => (4_000, 4_000, Above::Wait),
            Self::BatchChunk => (32_000, 72_000, Above::Wait),
            Self::FetchBlocks | Self::RangeBlocks => (2_000, 2_000, Above::Shed),
            Self::FetchBatches | Self::MissingBatches => (2_000, 4_000, Above::Shed),
            Self::FetchCommits => (500, 500, Above::Shed),
            Self::Subscribe | Self::TipQuery => (2, 8, Above::Refuse),
        };
        Limit { per_second, burst, above }
    }

    /// Longest frame in bytes, tail included.
    pub fn max_bytes(self, committee: &Committee) -> usize {
        let block = committee.protocol().max_block_bytes(committee.size());
        match self {
            Self::OwnBlock => block.saturating_add(TAG),
            Self::History => block.saturating_add(4).saturating_mul(MAX_HISTORY).saturating_add(TAG + COUNT),
            Self::Subscribe => TAG + 8,
            Self::FetchBlocks => TAG + COUNT + MAX_FETCH_BLOCKS * REF,
            Self::RangeBlocks => TAG + COUNT + MAX_RANGE_BLOCKS * REF,
            Self::BatchChunk => TAG + KEY + 8 + CHUNK_BYTES,
            Self::FetchBatches | Self::MissingBatches => TAG + COUNT + MAX_FETCH_BATCHES * KEY,
            Self::FetchCommits => TAG + 16 + 4,
            Self::TipQuery => TAG,
        }
    }
}

#[cfg(test)]
mod tests {
    use rorqual_config::{AuthorityIndex, Digest};
    use rorqual_protocol::types::{BatchKey, BlockRef, CommitIndex, Round, Sequence};

    use super::*;
    use crate::peers::Message;

    /// A message of each kind, as long as an honest one may be, tail included.
    fn longest(kind: Kind, block: usize) -> (Stream, Message, usize) {
        let reference = BlockRef { round: Round(u64::MAX >> 2), author: AuthorityIndex(9), digest: Digest([9; 32]) };
        let key = BatchKey { author: AuthorityIndex(9), sequence: Sequence(u64::MAX >> 2), digest: Digest([9; 32]) };
        match kind {
            Kind::OwnBlock => (Stream::Priority, Message::OwnBlock, block),
            Kind::History => {
                (Stream::Priority, Message::History { lengths: vec![block as u32; MAX_HISTORY] }, MAX_HISTORY * block)
            }
            Kind::Subscribe => (Stream::Priority, Message::Subscribe { from_round: Round(u64::MAX >> 2) }, 0),
            Kind::FetchBlocks => {
                (Stream::Priority, Message::FetchBlocks { refs: vec![reference; MAX_FETCH_BLOCKS] }, 0)
            }
            Kind::RangeBlocks => (Stream::Bulk, Message::FetchBlocks { refs: vec![reference; MAX_RANGE_BLOCKS] }, 0),
            Kind::BatchChunk => (Stream::Bulk, Message::BatchChunk { key, total: u32::MAX, offset: 0 }, CHUNK_BYTES),
            Kind::FetchBatches => (Stream::Bulk, Message::FetchBatches { keys: vec![key; MAX_FETCH_BATCHES] }, 0),
            Kind::MissingBatches => (Stream::Bulk, Message::MissingBatches { keys: vec![key; MAX_FETCH_BATCHES] }, 0),
            Kind::FetchCommits => (
                Stream::Bulk,
                Message::FetchCommits { from: CommitIndex(1), to: CommitIndex(u64::MAX >> 2), offset: u32::MAX },
                0,
            ),
            Kind::TipQuery => (Stream::Priority, Message::TipQuery, 0),
        }
    }

    #[test]
    fn every_kind_is_recognised_and_its_longest_honest_frame_fits_exactly() {
        let committee = crate::peers::testing::committee(4);
        let block = committee.protocol().max_block_bytes(4);
        for kind in Kind::ALL {
            let (stream, message, tail) = longest(kind, block);
            let header = message.frame().header;
            assert_eq!(Kind::of(stream, &header), Some(kind));
            assert_eq!(header.len() + tail, kind.max_bytes(&committee), "{kind:?}");
        }
    }

    #[test]
    fn answers_and_rubbish_are_of_no_kind() {
        let blocks = Message::Blocks { lengths: Vec::new(), missing: Vec::new() };
        let commits = Message::Commits { lengths: Vec::new(), more: 0, ends: false };
        for message in [blocks, commits, Message::NoCommits { first_index: CommitIndex(1) }] {
            for stream in [Stream::Priority, Stream::Bulk] {
                assert_eq!(Kind::of(stream, &message.frame().header), None, "{message:?}");
            }
        }
        assert_eq!(Kind::of(Stream::Priority, &[0, 0, 0]), None);
        assert_eq!(Kind::of(Stream::Bulk, &Message::TipQuery.frame().header), None);
        assert_eq!(Kind::of(Stream::Priority, &Message::FetchBatches { keys: Vec::new() }.frame().header), None);
    }
}
