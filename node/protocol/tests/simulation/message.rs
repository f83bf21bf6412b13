//! What nodes say to each other.

use bytes::Bytes;
use rorqual_protocol::input::Tip;
use rorqual_protocol::types::{BatchKey, BlockRef, Certificate, Commit, CommitIndex, Round, VerifiedBlock};

/// Commits, and the certificate of the last one.
pub type Records = (Vec<Commit>, Certificate);

/// Served commits, or the first index the server still has.
pub type Served = Result<Box<Records>, Option<CommitIndex>>;

#[derive(Clone, Debug)]
pub enum Message {
    Own(VerifiedBlock),
    History(Vec<VerifiedBlock>),
    Subscribe(Round),
    FetchBlocks {
        id: u64,
        refs: Vec<BlockRef>,
    },
    Blocks {
        id: u64,
        blocks: Vec<VerifiedBlock>,
        unknown: Vec<BlockRef>,
    },
    TipQuery {
        id: u64,
    },
    Tip(Box<Tip>),
    Batch(BatchKey),
    FetchBatch(BatchKey),
    FetchCommits {
        id: u64,
        from: CommitIndex,
        to: CommitIndex,
    },
    Commits {
        id: u64,
        served: Served,
    },
    FetchRangeBlocks {
        id: u64,
        refs: Vec<BlockRef>,
    },
    /// The first of them, at least one.
    RangeBlocks {
        id: u64,
        blocks: Vec<Bytes>,
    },
}

/// Messages of one stream stay in order; the two streams of a link overtake each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    Priority,
    Bulk,
}

impl Message {
    pub fn stream(&self) -> Stream {
        match self {
            Self::Batch(_) | Self::FetchBatch(_) => Stream::Bulk,
            Self::FetchCommits { .. } | Self::Commits { .. } => Stream::Bulk,
            Self::FetchRangeBlocks { .. } | Self::RangeBlocks { .. } => Stream::Bulk,
            _ => Stream::Priority,
        }
    }

    /// The blocks in it.
    pub fn blocks(&self) -> Vec<&VerifiedBlock> {
        match self {
            Self::Own(block) => vec![block],
            Self::History(blocks) | Self::Blocks { blocks, .. } => blocks.iter().collect(),
            Self::Tip(tip) => tip.own.iter().chain(&tip.yours).collect(),
            _ => Vec::new(),
        }
    }
}
