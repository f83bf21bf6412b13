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

use std::collections::{BTreeSet, VecDeque};

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
    /// What the block being written has to put on disk.
    coming: BTreeSet<BatchKey>,
    /// A cover is on disk whose durable point has completed.
    covered: bool,
    /// To be deleted, once the block being written is durable.
    put_off: BTreeSet<BatchKey>,
    /// The cover that was on disk at the start.
    pub found: Vec<BatchKey>,
}

impl Undurable {
    /// A batch can be read from the store.
    pub fn stored(&mut self, key: BatchKey) {
        self.listed.push_back(key);
    }

    /// The cover of a block whose durable point begins now. It takes the place of the one before.
    fn cover(&mut self, block: BlockRef) -> Cover {
        self.covered = false;
        self.coming = self.listed.iter().copied().collect();
        Cover { block, payload: self.listed.iter().copied().collect() }
    }

    /// After a start: this cover is on disk, and its block `left`, or may have.
    pub fn found(&mut self, cover: &Cover, left: bool) {
        self.found.clone_from(&cover.payload);
        self.covered = left;
    }

    /// Keeps this from being deleted for now, if the block being written has to put it on disk. True if so.
    pub fn put_off(&mut self, key: BatchKey) -> bool {
        let covered = self.coming.contains(&key);
        if covered {
            self.put_off.insert(key);
        }
        covered
    }

    /// Somebody needs this again, or for ever.
    pub fn keep(&mut self, key: &BatchKey) {
        self.put_off.remove(key);
    }

    /// These are being deleted: no later cover may name them.
    pub fn forget(&mut self, keys: &[BatchKey]) {
        let gone: BTreeSet<&BatchKey> = keys.iter().collect();
        let mut place = self.settled;
        let mut kept = VecDeque::with_capacity(self.listed.len());
        let mut points = std::mem::take(&mut self.points);
        let mut shift = 0u64;
        let mut at = 0;
        for key in self.listed.drain(..) {
            while let Some((_, upto)) = points.get_mut(at).filter(|(_, upto)| *upto <= place) {
                *upto = upto.saturating_sub(shift);
                at = at.saturating_add(1);
            }
            place = place.saturating_add(1);
            match gone.contains(&key) {
                true => shift = shift.saturating_add(1),
                false => kept.push_back(key),
            }
        }
        points.iter_mut().skip(at).for_each(|(_, upto)| *upto = upto.saturating_sub(shift));
        (self.listed, self.points) = (kept, points);
    }

    /// A durable point begins: it covers everything listed.
    fn begun(&mut self, token: Token) {
        self.points.push_back((token, self.settled.saturating_add(self.listed.len() as u64)));
    }

    /// A durable point has completed, and with it those that began before.
    fn completed(&mut self, token: Token) {
        while self.points.front().is_some_and(|(point, _)| *point <= token)
            && let Some((_, upto)) = self.points.pop_front()
        {
            let count = upto.saturating_sub(self.settled).min(self.listed.len() as u64);
            self.listed.drain(..count as usize);
            self.settled = self.settled.saturating_add(count);
        }
    }

    /// How many batches are listed.
    pub fn len(&self) -> usize {
        self.listed.len()
    }
}

impl Core {
    /// What the durable point of this block, which begins now, has to put on disk.
    pub(super) fn cover(&mut self, block: BlockRef) -> Cover {
        self.undurable.cover(block)
    }

    /// Everything written so far is to be on disk before the returned token comes back.
    pub(super) fn begin_durable_point(&mut self) -> Token {
        let token = self.out.sync();
        self.undurable.begun(token);
        token
    }

    /// A durable point has completed. `own`: it was that of an own block, and what was put off for it may be deleted.
    pub(super) fn end_durable_point(&mut self, token: Token, own: bool) {
        self.undurable.completed(token);
        if own {
            self.undurable.covered = true;
            self.undurable.coming.clear();
            let put_off = std::mem::take(&mut self.undurable.put_off);
            self.drop_payload(put_off);
        }
    }

    /// Deletes the cover on disk if its durable point has completed.
    pub(super) fn uncover(&mut self) {
        if std::mem::take(&mut self.undurable.covered) {
            self.out.write(Write::Uncover);
        }
    }

    /// Deletes the cover with the first write after its durable point, and keeps the list short.
    pub(super) fn settle_durable(&mut self) {
        if self.out.writes() {
            self.uncover();
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

    fn covered(undurable: &mut Undurable) -> Vec<u64> {
        let block = BlockRef { round: Round(1), author: AuthorityIndex(0), digest: Digest::default() };
        undurable.cover(block).payload.iter().map(|key| key.sequence.0).collect()
    }

    #[test]
    fn a_batch_is_listed_until_a_durable_point_that_began_after_it_has_completed() {
        let mut undurable = Undurable::default();
        undurable.stored(key(1));
        undurable.begun(Token(1));
        undurable.stored(key(2));
        assert_eq!(covered(&mut undurable), [1, 2]);
        undurable.begun(Token(2));
        undurable.stored(key(3));
        undurable.completed(Token(1));
        assert_eq!(covered(&mut undurable), [2, 3], "the second may have come after the first sync");
        undurable.completed(Token(2));
        assert_eq!(covered(&mut undurable), [3]);
        undurable.completed(Token(2));
        assert_eq!(covered(&mut undurable), [3]);
    }

    #[test]
    fn what_is_deleted_is_in_no_later_cover_and_moves_no_border() {
        let mut undurable = Undurable::default();
        (1..=3).for_each(|sequence| undurable.stored(key(sequence)));
        undurable.begun(Token(1));
        (4..=5).for_each(|sequence| undurable.stored(key(sequence)));
        undurable.begun(Token(2));
        undurable.stored(key(6));
        undurable.forget(&[key(2), key(4)]);
        assert_eq!(covered(&mut undurable), [1, 3, 5, 6]);
        undurable.completed(Token(1));
        assert_eq!(covered(&mut undurable), [5, 6]);
        undurable.forget(&[key(6)]);
        undurable.stored(key(7));
        undurable.completed(Token(2));
        assert_eq!(covered(&mut undurable), [7]);
    }

    #[test]
    fn what_the_block_being_written_covers_is_not_deleted_before_it_is_durable() {
        let mut undurable = Undurable::default();
        undurable.stored(key(1));
        assert!(!undurable.put_off(key(1)));
        covered(&mut undurable);
        undurable.stored(key(2));
        assert!(undurable.put_off(key(1)) && !undurable.put_off(key(2)));
    }

    #[test]
    fn a_later_durable_point_covers_those_before_it() {
        let mut undurable = Undurable::default();
        undurable.stored(key(1));
        undurable.begun(Token(1));
        undurable.stored(key(2));
        undurable.begun(Token(4));
        undurable.completed(Token(4));
        assert_eq!(covered(&mut undurable), [0u64; 0]);
        undurable.stored(key(3));
        undurable.completed(Token(1));
        assert_eq!(covered(&mut undurable), [3]);
    }
}
