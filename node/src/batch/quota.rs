//! Which unsolicited payload of one author is taken in. Pure.
//!
//! A batch nobody asked for is taken only if its sequence may still be delivered (above the replay window's edge, at most
//! `ahead` above the highest delivered one) and the author's undelivered bytes here stay under a quota. What is refused is
//! not lost: once a linked header names it, it is fetched.

use std::collections::BTreeMap;

use rorqual_config::Digest;
use rorqual_protocol::types::{BatchKey, Sequence};

/// One author's undelivered payload at this node.
#[derive(Debug)]
pub struct Quota {
    window: u64,
    ahead: u64,
    limit: u64,
    highest: Sequence,
    undelivered: BTreeMap<(Sequence, Digest), u32>,
    bytes: u64,
}

impl Quota {
    /// Nothing taken in yet; `highest` is the highest delivered sequence of the author.
    pub fn new(window: u64, ahead: u64, limit: u64, highest: Sequence) -> Self {
        Self { window, ahead, limit, highest, undelivered: BTreeMap::new(), bytes: 0 }
    }

    /// Whether an unsolicited batch of this length is taken.
    pub fn admits(&self, key: &BatchKey, bytes: u32) -> bool {
        let edge = self.highest.minus(self.window);
        key.sequence > edge
            && key.sequence <= self.highest.plus(self.ahead)
            && !self.undelivered.contains_key(&(key.sequence, key.digest))
            && self.bytes.checked_add(u64::from(bytes)).is_some_and(|bytes| bytes <= self.limit)
    }

    /// The batch was stored.
    pub fn stored(&mut self, key: &BatchKey, bytes: u32) {
        if self.undelivered.insert((key.sequence, key.digest), bytes).is_none() {
            self.bytes = self.bytes.saturating_add(u64::from(bytes));
        }
    }

    /// The batch was delivered: it no longer counts, nor does what fell out of the window.
    pub fn delivered(&mut self, key: &BatchKey) {
        if let Some(bytes) = self.undelivered.remove(&(key.sequence, key.digest)) {
            self.bytes = self.bytes.saturating_sub(u64::from(bytes));
        }
        if key.sequence <= self.highest {
            return;
        }
        self.highest = key.sequence;
        let first_fresh = (self.highest.minus(self.window).next(), Digest([0; 32]));
        let fresh = self.undelivered.split_off(&first_fresh);
        let stale = std::mem::replace(&mut self.undelivered, fresh);
        let stale: u64 = stale.values().map(|bytes| u64::from(*bytes)).sum();
        self.bytes = self.bytes.saturating_sub(stale);
    }

    /// Undelivered bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use rorqual_config::AuthorityIndex;

    use super::*;

    fn key(n: u64, d: u8) -> BatchKey {
        BatchKey { author: AuthorityIndex(0), sequence: Sequence(n), digest: Digest([d; 32]) }
    }

    #[test]
    fn only_deliverable_sequences_under_the_quota_are_taken() {
        let mut quota = Quota::new(16, 8, 100, Sequence(20));
        assert!(!quota.admits(&key(4, 0), 1), "at the edge");
        assert!(quota.admits(&key(5, 0), 1));
        assert!(quota.admits(&key(28, 0), 100));
        assert!(!quota.admits(&key(29, 0), 1), "too far ahead");
        quota.stored(&key(21, 0), 60);
        assert!(!quota.admits(&key(21, 0), 1), "here already");
        assert!(quota.admits(&key(21, 1), 40), "the same sequence with other content is another batch");
        assert!(!quota.admits(&key(22, 0), 41), "over the quota");
    }

    #[test]
    fn delivery_and_age_give_the_quota_back() {
        let mut quota = Quota::new(16, 8, 100, Sequence(0));
        quota.stored(&key(1, 0), 40);
        quota.stored(&key(1, 1), 30);
        quota.delivered(&key(1, 0));
        assert_eq!(quota.bytes(), 30);
        quota.delivered(&key(17, 0));
        assert_eq!(quota.bytes(), 0, "the twin fell out of the window");
    }
}
