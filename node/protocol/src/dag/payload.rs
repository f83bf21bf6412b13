//! Payload that is waited for, and by whom.
//!
//! Promises: every wait that was announced ends in "stored" or is cancelled when its last waiter is gone, so that the batch
//! of a dropped block is not waited for for ever.

use std::collections::{BTreeMap, BTreeSet};

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;

use crate::types::{BatchKey, BlockRef, CommitIndex};

/// Who needs a batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Waiter {
    /// A linked block that names it: it becomes usable.
    Block(BlockRef),
    /// A commit that delivers it: it becomes solid.
    Commit(CommitIndex),
}

#[derive(Debug, Default)]
struct Wait {
    waiters: BTreeSet<Waiter>,
    holders: AuthoritySet,
    bytes: u32,
}

/// All batches that are waited for.
#[derive(Debug, Default)]
pub struct Payload {
    waits: BTreeMap<BatchKey, Wait>,
}

impl Payload {
    /// How many batches are waited for.
    pub fn len(&self) -> usize {
        self.waits.len()
    }

    /// Whether nothing is waited for.
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Adds a waiter. True if nobody waited for this batch before.
    pub fn wait(&mut self, key: BatchKey, bytes: u32, waiter: Waiter) -> bool {
        let wait = self.waits.entry(key).or_default();
        let new = wait.waiters.is_empty();
        wait.waiters.insert(waiter);
        wait.bytes = bytes;
        new
    }

    /// A peer is learnt to hold the batch. Its length, if that is news about a batch that is waited for.
    pub fn add_holder(&mut self, key: &BatchKey, holder: AuthorityIndex) -> Option<u32> {
        let wait = self.waits.get_mut(key)?;
        wait.holders.insert(holder).then_some(wait.bytes)
    }

    /// Whether the batch is waited for.
    pub fn is_awaited(&self, key: &BatchKey) -> bool {
        self.waits.contains_key(key)
    }

    /// The batch is stored: returns who waited.
    pub fn stored(&mut self, key: &BatchKey) -> BTreeSet<Waiter> {
        self.waits.remove(key).map(|wait| wait.waiters).unwrap_or_default()
    }

    /// A waiter is gone. True if it was the last: the wait is over.
    pub fn forget(&mut self, key: &BatchKey, waiter: Waiter) -> bool {
        let Some(wait) = self.waits.get_mut(key) else { return false };
        wait.waiters.remove(&waiter);
        let over = wait.waiters.is_empty();
        if over {
            self.waits.remove(key);
        }
        over
    }
}
