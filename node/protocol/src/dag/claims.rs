//! How much payload of each author is fetched and kept because uncommitted blocks name it. Without a bound one liar fills every
//! disk: each of its blocks may name other content for one sequence, and at most one is ever delivered.
//!
//! What we take of an author on our own initiative is charged to our own account with it, in the order of its rounds; beyond
//! the limit its blocks wait: they are linked, vote and count, but their payload is not fetched. One account is not enough: an
//! author that shows each of us other blocks fills every account with something else, then nobody could use what the others
//! reference, and no commit would ever make room. So every other member has an account with the author too, charged with the
//! waiting blocks that its blocks build on. An honest member references only what its own account has room for, so what it
//! pulls in has room in its account here.
//!
//! Promises: in each account no more bytes and names than the limit, whatever is linked; a block that waits is admitted once
//! there is room, lowest rounds first; a name is given back with its last block, or when its sequence is delivered or stale.

use std::collections::{BTreeMap, BTreeSet};

use rorqual_config::committee::AuthoritySet;
use rorqual_config::{AuthorityIndex, Digest};

use crate::types::{BatchKey, BatchRef, BlockRef, Sequence};

/// How much one account holds at most.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Payload in bytes.
    pub bytes: u64,
    /// Different batches.
    pub names: usize,
}

/// What one member has pulled in of one author. The length is part of a name: content of one length satisfies only blocks
/// that say so, and whoever lies about it pays for both.
#[derive(Debug, Default)]
struct Account {
    names: BTreeMap<BatchRef, u32>,
    bytes: u64,
}

impl Account {
    fn has_room(&self, names: &[BatchRef], limit: Limit) -> bool {
        let new = || names.iter().filter(|name| !self.names.contains_key(name));
        let bytes: u64 = new().map(|name| u64::from(name.bytes)).sum();
        self.bytes.saturating_add(bytes) <= limit.bytes && self.names.len().saturating_add(new().count()) <= limit.names
    }

    fn charge(&mut self, names: &[BatchRef]) {
        for name in names {
            let blocks = self.names.entry(*name).or_default();
            *blocks = blocks.saturating_add(1);
            self.bytes = self.bytes.saturating_add(if *blocks == 1 { u64::from(name.bytes) } else { 0 });
        }
    }

    fn credit(&mut self, name: &BatchRef) {
        let Some(blocks) = self.names.get_mut(name) else { return };
        *blocks = blocks.saturating_sub(1);
        if *blocks == 0 {
            self.strike(name);
        }
    }

    fn strike(&mut self, name: &BatchRef) {
        if self.names.remove(name).is_some() {
            self.bytes = self.bytes.saturating_sub(u64::from(name.bytes));
        }
    }
}

#[derive(Debug, Default)]
struct Author {
    /// Batches that admitted blocks name, with these blocks.
    names: BTreeMap<BatchRef, BTreeSet<BlockRef>>,
    accounts: BTreeMap<AuthorityIndex, Account>,
    /// Blocks that name something fresh, with the member whose account they are on.
    admitted: BTreeMap<BlockRef, AuthorityIndex>,
    /// Blocks that found no room, with the members whose blocks build on them.
    waiting: BTreeMap<BlockRef, AuthoritySet>,
}

impl Author {
    fn admit(&mut self, block: BlockRef, names: &[BatchRef], account: AuthorityIndex) {
        self.waiting.remove(&block);
        if names.is_empty() {
            return;
        }
        self.accounts.entry(account).or_default().charge(names);
        self.admitted.insert(block, account);
        for name in names {
            self.names.entry(*name).or_default().insert(block);
        }
    }

    fn has_room(&self, account: AuthorityIndex, names: &[BatchRef], limit: Limit) -> bool {
        names.is_empty() || self.accounts.get(&account).is_none_or(|account| account.has_room(names, limit))
    }
}

/// All accounts.
#[derive(Debug)]
pub struct Claims {
    me: AuthorityIndex,
    limit: Limit,
    authors: Vec<Author>,
}

impl Claims {
    /// Nothing is named. `limit` holds for each account.
    pub fn new(members: usize, me: AuthorityIndex, limit: Limit) -> Self {
        Self { me, limit, authors: (0..members).map(|_| Author::default()).collect() }
    }

    /// A block was linked that names these fresh batches. True if their payload is to be fetched; else the block waits.
    pub fn name(&mut self, block: BlockRef, fresh: &[BatchRef]) -> bool {
        let (me, limit, author) = (self.me, self.limit, &mut self.authors[block.author.usize()]);
        let admitted = fresh.is_empty() || author.waiting.is_empty() && author.has_room(me, fresh, limit);
        match admitted {
            true => author.admit(block, fresh, me),
            false => drop(author.waiting.insert(block, AuthoritySet::EMPTY)),
        }
        admitted
    }

    /// A block by `member` builds on `block`. True if that is news about a block that waits.
    pub fn pull(&mut self, block: &BlockRef, member: AuthorityIndex) -> bool {
        let waiting = self.authors[block.author.usize()].waiting.get_mut(block);
        waiting.is_some_and(|members| members.insert(member))
    }

    /// Admits blocks of an author that wait, lowest rounds first, as far as there is room. `fresh` says what a block names
    /// that can still be delivered. Returns the blocks admitted.
    pub fn retry(&mut self, author: AuthorityIndex, fresh: impl Fn(&BlockRef) -> Vec<BatchRef>) -> Vec<BlockRef> {
        let (me, limit, author) = (self.me, self.limit, &mut self.authors[author.usize()]);
        let waiting: Vec<(BlockRef, AuthoritySet)> = author.waiting.iter().map(|(b, by)| (*b, *by)).collect();
        let (mut full, mut admitted) = (AuthoritySet::EMPTY, Vec::new());
        for (block, by) in waiting {
            let open = std::iter::once(me).chain(by.iter()).filter(|account| !full.contains(*account));
            let open: Vec<AuthorityIndex> = open.collect();
            if open.is_empty() {
                continue;
            }
            let names = fresh(&block);
            for account in open {
                if author.has_room(account, &names, limit) {
                    author.admit(block, &names, account);
                    admitted.push(block);
                    break;
                }
                full.insert(account);
            }
        }
        admitted
    }

    /// A block is committed or collected. Returns which of its batches no other admitted block names.
    pub fn release(&mut self, block: &BlockRef, batches: &[BatchRef]) -> Vec<BatchRef> {
        let author = &mut self.authors[block.author.usize()];
        author.waiting.remove(block);
        let Some(account) = author.admitted.remove(block) else { return Vec::new() };
        let mut freed = Vec::new();
        for name in batches {
            let Some(blocks) = author.names.get_mut(name).filter(|blocks| blocks.contains(block)) else { continue };
            blocks.remove(block);
            if blocks.is_empty() {
                author.names.remove(name);
                freed.push(*name);
            }
            if let Some(account) = author.accounts.get_mut(&account) {
                account.credit(name);
            }
        }
        freed
    }

    /// No batch with one of these sequences will be delivered (any more). Returns those that were named, with their blocks.
    pub fn settle(
        &mut self,
        author: AuthorityIndex,
        sequences: std::ops::RangeInclusive<Sequence>,
    ) -> Vec<(BatchRef, BTreeSet<BlockRef>)> {
        let author = &mut self.authors[author.usize()];
        let first = |sequence| BatchRef { sequence, digest: Digest([0; 32]), bytes: 0 };
        let last = |sequence| BatchRef { sequence, digest: Digest([0xff; 32]), bytes: u32::MAX };
        let range = first(*sequences.start())..=last(*sequences.end());
        let names: Vec<BatchRef> = author.names.range(range).map(|(name, _)| *name).collect();
        let mut settled = Vec::with_capacity(names.len());
        for name in names {
            author.accounts.values_mut().for_each(|account| account.strike(&name));
            settled.extend(author.names.remove(&name).map(|blocks| (name, blocks)));
        }
        settled
    }

    /// Whether the block waits for room.
    pub fn is_waiting(&self, block: &BlockRef) -> bool {
        self.authors[block.author.usize()].waiting.contains_key(block)
    }

    /// Whether the block is on the account of another member than ourselves.
    pub fn is_pulled(&self, block: &BlockRef) -> bool {
        self.authors[block.author.usize()].admitted.get(block).is_some_and(|account| *account != self.me)
    }

    /// Whether an admitted block names this batch.
    pub fn is_named(&self, key: &BatchKey) -> bool {
        let name = |bytes| BatchRef { sequence: key.sequence, digest: key.digest, bytes };
        self.authors[key.author.usize()].names.range(name(0)..=name(u32::MAX)).next().is_some()
    }

    /// Blocks that wait for room.
    pub fn waiting(&self) -> usize {
        self.authors.iter().map(|author| author.waiting.len()).sum()
    }

    /// Batches that admitted blocks name.
    pub fn named(&self) -> usize {
        self.authors.iter().map(|author| author.names.len()).sum()
    }
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
