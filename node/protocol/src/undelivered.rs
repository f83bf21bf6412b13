//! Payload of one author that is stored here although no commit has delivered it: what is taken in, what it costs, what goes.
//!
//! A batch that nobody asked for is taken only if it can still be delivered, is at most `ahead` above the highest delivered one,
//! and finds room; what is refused is not lost: once a block names it, it is fetched. A batch that was asked for is always
//! taken (the core asks for no more than its own limits allow) and pushes unasked ones out. An entry costs more than its bytes.
//!
//! Promises: unasked payload never costs more than the limit, nor are there more entries than the window is wide; what a commit
//! delivered is neither counted nor taken again; what was not asked for goes when its sequence is delivered or stale.

use std::collections::BTreeMap;

use rorqual_config::{AuthorityIndex, Digest};

use crate::commit::window::ReplayWindow;
use crate::types::{BatchKey, Sequence};

/// What an entry costs beside its content: keys, indexes, the place in memory.
pub const ENTRY_BYTES: u64 = 256;

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u32,
    /// A linked block names it: the core says when it may go.
    asked: bool,
}

impl Entry {
    fn cost(&self) -> u64 {
        u64::from(self.bytes) + ENTRY_BYTES
    }
}

/// One author's undelivered payload at this node.
#[derive(Debug)]
pub struct Undelivered {
    author: AuthorityIndex,
    window: ReplayWindow,
    ahead: u64,
    limit: u64,
    entries: BTreeMap<(Sequence, Digest), Entry>,
    bytes: u64,
    cost: u64,
}

impl Undelivered {
    /// Nothing is here yet. `window` says what of `author` was delivered, `limit` what unasked payload may cost, in bytes.
    pub fn new(author: AuthorityIndex, window: ReplayWindow, ahead: u64, limit: u64) -> Self {
        Self { author, window, ahead, limit, entries: BTreeMap::new(), bytes: 0, cost: 0 }
    }

    /// Whether a batch of this length that nobody asked for is taken.
    pub fn admits(&self, key: &BatchKey, bytes: u32) -> bool {
        let entry = Entry { bytes, asked: false };
        self.window.is_fresh(key.sequence)
            && key.sequence <= self.window.highest().plus(self.ahead)
            && !self.contains(key)
            && (self.entries.len() as u64) < self.window.width()
            && self.cost.saturating_add(entry.cost()) <= self.limit
    }

    /// A batch that is about to be written. Returns what has to go for it. What was delivered or is stale is not counted.
    pub fn add(&mut self, key: &BatchKey, bytes: u32, asked: bool) -> Vec<BatchKey> {
        match self.restore(key, bytes, asked) {
            true => self.push_out(),
            false => Vec::new(),
        }
    }

    /// A batch that is here already, found at a start. False if it was delivered or is stale: then it is not counted.
    pub fn restore(&mut self, key: &BatchKey, bytes: u32, asked: bool) -> bool {
        if !self.window.is_fresh(key.sequence) {
            return false;
        }
        self.forget(key);
        let entry = Entry { bytes, asked };
        (self.bytes, self.cost) = (self.bytes.saturating_add(u64::from(bytes)), self.cost.saturating_add(entry.cost()));
        self.entries.insert((key.sequence, key.digest), entry);
        true
    }

    /// Unasked batches with the highest sequences go while all together cost more than the limit.
    fn push_out(&mut self) -> Vec<BatchKey> {
        let mut over = self.cost.saturating_sub(self.limit);
        if over == 0 {
            return Vec::new();
        }
        let mut gone = Vec::new();
        for ((sequence, digest), entry) in self.entries.iter().rev().filter(|(_, entry)| !entry.asked) {
            gone.push(BatchKey { author: self.author, sequence: *sequence, digest: *digest });
            over = over.saturating_sub(entry.cost());
            if over == 0 {
                break;
            }
        }
        gone.retain(|key| self.forget(key));
        gone
    }

    /// A block names this batch: from now on the core says when it may go.
    pub fn ask(&mut self, key: &BatchKey) {
        if let Some(entry) = self.entries.get_mut(&(key.sequence, key.digest)) {
            entry.asked = true;
        }
    }

    /// The batch is not here any more. True if it was counted.
    pub fn forget(&mut self, key: &BatchKey) -> bool {
        let Some(entry) = self.entries.remove(&(key.sequence, key.digest)) else { return false };
        (self.bytes, self.cost) =
            (self.bytes.saturating_sub(u64::from(entry.bytes)), self.cost.saturating_sub(entry.cost()));
        true
    }

    /// A commit delivered the batch: it no longer counts. Returns unasked batches that can never be delivered now.
    pub fn delivered(&mut self, key: &BatchKey) -> Vec<BatchKey> {
        self.forget(key);
        if !self.window.deliver(key.sequence) {
            return Vec::new();
        }
        let first = |sequence: Sequence| (sequence, Digest([0; 32]));
        let edge = self.window.edge();
        let stale = self.entries.range(..first(edge.next()));
        let twins = self.entries.range(first(key.sequence)..=(key.sequence, Digest([0xff; 32])));
        let unasked = stale.chain(twins).filter(|(_, entry)| !entry.asked);
        let name = |(sequence, digest): &(Sequence, Digest)| BatchKey {
            author: self.author,
            sequence: *sequence,
            digest: *digest,
        };
        let mut gone: Vec<BatchKey> = unasked.map(|(place, _)| name(place)).collect();
        gone.retain(|key| self.forget(key));
        gone
    }

    /// Whether the batch is here and counted.
    pub fn contains(&self, key: &BatchKey) -> bool {
        self.entries.contains_key(&(key.sequence, key.digest))
    }

    /// Undelivered bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHOR: AuthorityIndex = AuthorityIndex(0);

    fn key(n: u64, d: u8) -> BatchKey {
        BatchKey { author: AUTHOR, sequence: Sequence(n), digest: Digest([d; 32]) }
    }

    /// Room for `bytes` in `entries`.
    fn undelivered(highest: u64, bytes: u64, entries: u64) -> Undelivered {
        let mut window = ReplayWindow::new(16);
        window.deliver(Sequence(highest));
        Undelivered::new(AUTHOR, window, 8, bytes + entries * ENTRY_BYTES)
    }

    #[test]
    fn only_deliverable_sequences_are_taken_unasked() {
        let undelivered = undelivered(20, 100, 1);
        assert!(!undelivered.admits(&key(4, 0), 1), "at the edge");
        assert!(undelivered.admits(&key(5, 0), 1));
        assert!(!undelivered.admits(&key(20, 1), 1), "delivered");
        assert!(undelivered.admits(&key(28, 0), 100));
        assert!(!undelivered.admits(&key(29, 0), 1), "too far ahead");
    }

    #[test]
    fn entries_cost_more_than_their_bytes_and_their_number_is_bounded() {
        let mut undelivered = undelivered(20, 100, 2);
        undelivered.add(&key(21, 0), 60, false);
        assert!(!undelivered.admits(&key(21, 0), 1), "here already");
        assert!(undelivered.admits(&key(21, 1), 40), "the same sequence with other content is another batch");
        assert!(!undelivered.admits(&key(22, 0), 41), "over the limit");
        undelivered.add(&key(22, 0), 0, false);
        assert!(!undelivered.admits(&key(23, 0), 0), "an empty third entry");
        let mut many = self::undelivered(20, 0, 100);
        (0..16).for_each(|d| assert_eq!(many.add(&key(21, d), 0, false), []));
        assert!(!many.admits(&key(22, 0), 0), "as many entries as the window is wide");
    }

    #[test]
    fn delivery_and_age_give_room_back_and_name_what_goes() {
        let mut undelivered = undelivered(1, 1_000, 10);
        for (n, d, asked) in [(2, 0, false), (2, 1, false), (2, 2, true), (3, 0, false), (4, 0, true)] {
            undelivered.add(&key(n, d), 40, asked);
        }
        assert_eq!(undelivered.delivered(&key(2, 0)), [key(2, 1)], "its twin, but not the one that the core asked for");
        assert_eq!(undelivered.bytes(), 120);
        assert_eq!(undelivered.delivered(&key(20, 0)), [key(3, 0)], "what fell out of the window");
        assert!(undelivered.forget(&key(4, 0)) && undelivered.forget(&key(2, 2)));
        assert_eq!((undelivered.bytes(), undelivered.cost), (0, 0));
        undelivered.add(&key(20, 0), 40, true);
        assert_eq!(undelivered.bytes(), 0, "delivered before it came");
    }

    #[test]
    fn what_was_asked_for_pushes_unasked_payload_out() {
        let mut undelivered = undelivered(0, 100, 2);
        assert_eq!(undelivered.add(&key(1, 0), 50, false), []);
        assert_eq!(undelivered.add(&key(2, 0), 50, false), []);
        undelivered.ask(&key(2, 0));
        assert_eq!(undelivered.add(&key(3, 0), 1, true), [key(1, 0)]);
        assert_eq!(undelivered.add(&key(4, 0), 100, true), [], "the core has limits of its own");
        assert_eq!(undelivered.bytes(), 151);
    }

    #[test]
    fn what_lies_at_the_edge_goes_and_what_lies_above_it_stays() {
        let mut undelivered = undelivered(1, 1_000, 10);
        undelivered.add(&key(4, 0), 1, false);
        undelivered.add(&key(5, 0), 1, false);
        assert_eq!(undelivered.delivered(&key(20, 0)), [key(4, 0)]);
        assert!(undelivered.contains(&key(5, 0)) && !undelivered.contains(&key(4, 0)));
    }
}
