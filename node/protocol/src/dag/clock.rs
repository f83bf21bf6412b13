//! How far the network has got, as far as linked blocks tell.
//!
//! Promises: all values only grow; payload has no say here, so that a withheld payload hides nobody from the clock.

use rorqual_config::committee::AuthoritySet;
use rorqual_config::{AuthorityIndex, Committee};

use crate::types::{BlockRef, Round, VerifiedBlock};

/// The highest linked block of each author.
#[derive(Debug)]
pub struct Clock {
    highest: Vec<Option<VerifiedBlock>>,
    frontier: Round,
}

impl Clock {
    /// Nothing linked yet.
    pub fn new(members: usize) -> Self {
        Self { highest: vec![None; members], frontier: Round(0) }
    }

    /// A block was linked.
    pub fn observe(&mut self, block: &VerifiedBlock) {
        let place = &mut self.highest[block.author().usize()];
        if place.as_ref().is_none_or(|known| known.round() < block.round()) {
            *place = Some(block.clone());
        }
        self.frontier = self.frontier.max(block.round());
    }

    /// The highest round with any linked block.
    pub fn frontier(&self) -> Round {
        self.frontier
    }

    /// The highest linked round of an author.
    pub fn round_of(&self, author: AuthorityIndex) -> Round {
        self.highest_by(author).map_or(Round(0), VerifiedBlock::round)
    }

    /// The highest linked block of an author.
    pub fn highest_by(&self, author: AuthorityIndex) -> Option<&VerifiedBlock> {
        self.highest[author.usize()].as_ref()
    }

    /// The name of the highest linked block of an author.
    pub fn reference_by(&self, author: AuthorityIndex) -> Option<BlockRef> {
        self.highest_by(author).map(VerifiedBlock::reference)
    }

    /// Whether authors with a quorum of stake have a linked block at `round` or above.
    pub fn quorum_at(&self, round: Round, committee: &Committee) -> bool {
        let authors: AuthoritySet = committee.authorities().filter(|author| self.round_of(*author) >= round).collect();
        committee.is_quorum(&authors)
    }
}
