//! What is stored and not yet known to be on disk.
//!
//! A block leaves only after its durable point, the sync that covers it and everything written before it. So whatever that
//! durable point covered and the disk lacks at a later start proves that the block never left, and nothing else proves it
//! (protocol 1.17, restart). Records lie in one log, where a block is never found without what was written before it; payload
//! lies elsewhere and can be lost alone. That is why an own block is stored with its *cover*: the payload that was stored since
//! the last durable point that had completed began.
//!
//! Promises: every batch that the core has heard of is in the next cover until a durable point that began later has completed; a
//! cover on disk is deleted by the first write after its durable point, hence before anything that it names can be; the list is
//! bounded, since a node that does not propose asks for durable points of their own.

use std::collections::VecDeque;

use super::Core;
use crate::effect::{Cover, Write};
use crate::input::Token;
use crate::types::{BatchKey, BlockRef};

/// With so many batches listed, a durable point is asked for without a block.
const MANY: usize = 4_096;

/// Payload that is stored, in the order in which the core heard of it.
#[derive(Debug, Default)]
pub struct Undurable {
    listed: VecDeque<BatchKey>,
    /// How many were taken off the list.
    settled: u64,
    /// Durable points under way, and how many batches there had been when each began.
    points: VecDeque<(Token, u64)>,
    /// A cover is on disk whose durable point has completed.
    covered: bool,
}

impl Undurable {
    /// A batch can be read from the store.
    pub fn stored(&mut self, key: BatchKey) {
        self.listed.push_back(key);
    }

    /// The cover of a block whose durable point begins now.
    fn cover(&self, block: BlockRef) -> Cover {
        Cover { block, payload: self.listed.iter().copied().collect() }
    }

    /// A durable point begins: it covers everything listed.
    fn begun(&mut self, token: Token) {
        self.points.push_back((token, self.settled + self.listed.len() as u64));
    }

    /// A durable point has completed, and with it those that began before.
    fn completed(&mut self, token: Token) {
        while self.points.front().is_some_and(|(point, _)| *point <= token)
            && let Some((_, upto)) = self.points.pop_front()
        {
            let count = upto.saturating_sub(self.settled).min(self.listed.len() as u64);
            self.listed.drain(..count as usize);
            self.settled += count;
        }
    }

    /// How many batches are listed.
    pub fn len(&self) -> usize {
        self.listed.len()
    }
}

impl Core {
    /// What the durable point of this block, which begins now, has to put on disk.
    pub(super) fn cover(&self, block: BlockRef) -> Cover {
        self.undurable.cover(block)
    }

    /// Everything written so far is to be on disk before the returned token comes back.
    pub(super) fn begin_durable_point(&mut self) -> Token {
        let token = self.out.sync();
        self.undurable.begun(token);
        token
    }

    /// A durable point has completed. `own`: it was that of an own block.
    pub(super) fn end_durable_point(&mut self, token: Token, own: bool) {
        self.undurable.completed(token);
        self.undurable.covered |= own;
    }

    /// Deletes the cover on disk with the first write after its durable point, and keeps the list short.
    pub(super) fn settle_durable(&mut self) {
        if self.own.in_flight.is_some() {
            // Its write has put a new cover in the place of the old one.
            return;
        }
        if self.undurable.covered && self.out.writes() {
            self.undurable.covered = false;
            self.out.write(Write::Uncover);
        }
        if self.undurable.len() >= MANY && self.undurable.points.is_empty() {
            self.begin_durable_point();
        }
    }
}

#[cfg(test)]
mod tests {
    use rorqual_config::{AuthorityIndex, Digest};

    use super::*;
    use crate::types::{Round, Sequence};

    fn key(sequence: u64) -> BatchKey {
        BatchKey { author: AuthorityIndex(1), sequence: Sequence(sequence), digest: Digest::default() }
    }

    fn covered(undurable: &Undurable) -> Vec<u64> {
        let block = BlockRef { round: Round(1), author: AuthorityIndex(0), digest: Digest::default() };
        undurable.cover(block).payload.iter().map(|key| key.sequence.0).collect()
    }

    #[test]
    fn a_batch_is_listed_until_a_durable_point_that_began_after_it_has_completed() {
        let mut undurable = Undurable::default();
        undurable.stored(key(1));
        undurable.begun(Token(1));
        undurable.stored(key(2));
        assert_eq!(covered(&undurable), [1, 2]);
        undurable.begun(Token(2));
        undurable.stored(key(3));
        undurable.completed(Token(1));
        assert_eq!(covered(&undurable), [2, 3], "the second may have come after the first sync");
        undurable.completed(Token(2));
        assert_eq!(covered(&undurable), [3]);
        undurable.completed(Token(2));
        assert_eq!(covered(&undurable), [3]);
    }

    #[test]
    fn a_later_durable_point_covers_those_before_it() {
        let mut undurable = Undurable::default();
        undurable.stored(key(1));
        undurable.begun(Token(1));
        undurable.stored(key(2));
        undurable.begun(Token(4));
        undurable.completed(Token(4));
        assert_eq!(covered(&undurable), [0u64; 0]);
        undurable.stored(key(3));
        undurable.completed(Token(1));
        assert_eq!(covered(&undurable), [3]);
    }
}
