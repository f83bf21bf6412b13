//! Frames that vanish while the link stays up, as when a queue is full or the receiver drops what it cannot take in.

use std::ops::Range;

use rorqual_config::AuthorityIndex;

use super::Time;
use super::message::Message;
use crate::random::Random;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Own,
    History,
    Subscribe,
    Fetch,
    Blocks,
    TipQuery,
    Tip,
    Payload,
    FetchPayload,
    FetchCommits,
    Commits,
}

/// Every kind.
pub const ALL: &[Kind] = &[
    Kind::Own,
    Kind::History,
    Kind::Subscribe,
    Kind::Fetch,
    Kind::Blocks,
    Kind::TipQuery,
    Kind::Tip,
    Kind::Payload,
    Kind::FetchPayload,
    Kind::FetchCommits,
    Kind::Commits,
];

impl Kind {
    pub fn of(message: &Message) -> Self {
        match message {
            Message::Own(_) => Self::Own,
            Message::History(_) => Self::History,
            Message::Subscribe(_) => Self::Subscribe,
            Message::FetchBlocks { .. } => Self::Fetch,
            Message::Blocks { .. } => Self::Blocks,
            Message::TipQuery { .. } => Self::TipQuery,
            Message::Tip(_) => Self::Tip,
            Message::Batch(_) => Self::Payload,
            Message::FetchBatch(_) => Self::FetchPayload,
            Message::FetchCommits { .. } | Message::FetchRangeBlocks { .. } => Self::FetchCommits,
            Message::Commits { .. } | Message::RangeBlocks { .. } => Self::Commits,
        }
    }
}

/// Frames of these kinds are lost with this chance.
#[derive(Clone, Debug)]
pub struct Loss {
    pub during: Range<Time>,
    pub kinds: &'static [Kind],
    /// Sent by one of these; empty: by anybody.
    pub from: Vec<AuthorityIndex>,
    /// Sent to one of these; empty: to anybody.
    pub to: Vec<AuthorityIndex>,
    pub percent: u64,
    /// The sender is told, as by a full queue.
    pub told: bool,
}

impl Loss {
    /// Silent, of everybody, from the beginning until then.
    pub fn new(kinds: &'static [Kind], percent: u64, until: Time) -> Self {
        Self { during: 0..until, kinds, from: Vec::new(), to: Vec::new(), percent, told: false }
    }

    /// Whether it takes this frame. Chance is asked only where it can.
    pub fn takes(
        &self,
        now: Time,
        from: AuthorityIndex,
        to: AuthorityIndex,
        message: &Message,
        random: &mut Random,
    ) -> bool {
        let matches = |nodes: &[AuthorityIndex], node| nodes.is_empty() || nodes.contains(&node);
        self.during.contains(&now)
            && self.kinds.contains(&Kind::of(message))
            && matches(&self.from, from)
            && matches(&self.to, to)
            && random.chance(self.percent)
    }
}
