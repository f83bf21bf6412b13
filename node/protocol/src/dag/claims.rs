//! How much payload of each author is fetched and kept because uncommitted blocks name it. Without a bound one liar fills every
//! disk: each of its blocks may name other content for one sequence, and at most one is ever delivered.
//!
//! What we take of an author on our own initiative is charged to our own account with it, in the order of its rounds; beyond
//! the limit its blocks wait: they are linked, vote and count, but their payload is not fetched. One account is not enough: an
//! author that shows each of us other blocks fills every account with something else, then nobody could use what the others
//! reference, and no commit would ever make room. So every other member has an account with the author too, charged with the
//! waiting blocks that its blocks build on. An honest member references only what is on its own account with all that the
//! author has written below, and after a restart what it has referenced comes first; so what it pulls in has room in its account
//! here.
//!
//! That holds only if what a member saw through an accomplice of the author counts nowhere else. So the accounts of others
//! give way: while a round stands still for want of room they are eased, twice as much each time, until the next commit.
//!
//! Promises: in each account no more bytes and names than the limit, whatever is linked, but for what eases it; a block that waits
//! is admitted once there is room, lowest rounds first; a name is given back with its last block, or when its sequence is
//! delivered or stale.

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
    /// Those of them that are on the account of another member than ourselves.
    pulled: BTreeSet<BlockRef>,
    /// Blocks that found no room, with the members whose blocks build on them.
    waiting: BTreeMap<BlockRef, AuthoritySet>,
}

impl Author {
    fn admit(&mut self, block: BlockRef, names: &[BatchRef], account: AuthorityIndex, me: AuthorityIndex) {
        self.waiting.remove(&block);
        if names.is_empty() {
            return;
        }
        self.accounts.entry(account).or_default().charge(names);
        self.admitted.insert(block, account);
        if account != me {
            self.pulled.insert(block);
        }
        for name in names {
            self.names.entry(*name).or_default().insert(block);
        }
    }

    /// Puts a block on our own account that is on another's.
    fn adopt(&mut self, block: BlockRef, names: &[BatchRef], me: AuthorityIndex) {
        self.pulled.remove(&block);
        if let Some(account) = self.admitted.insert(block, me).and_then(|before| self.accounts.get_mut(&before)) {
            names.iter().for_each(|name| account.credit(name));
        }
        self.accounts.entry(me).or_default().charge(names);
    }

    fn has_room(&self, account: AuthorityIndex, names: &[BatchRef], limit: Limit) -> bool {
        let empty = Account::default();
        names.is_empty() || self.accounts.get(&account).unwrap_or(&empty).has_room(names, limit)
    }
}

/// All accounts.
#[derive(Debug)]
pub struct Claims {
    me: AuthorityIndex,
    limit: Limit,
    /// How often the accounts of others were doubled since the last commit.
    eased: u32,
    /// Nothing is admitted before everything on disk is here.
    recovering: bool,
    authors: Vec<Author>,
}

/// What there was room for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Blocks that wait no more.
    pub blocks: Vec<BlockRef>,
    /// Blocks that have moved from another account to our own.
    pub adopted: Vec<BlockRef>,
}

impl Claims {
    /// Nothing is named, and nothing is admitted before [`Self::recover`]. `limit` holds for each account.
    pub fn new(members: usize, me: AuthorityIndex, limit: Limit) -> Self {
        let authors = (0..members).map(|_| Author::default()).collect();
        Self { me, limit, eased: 0, recovering: true, authors }
    }

    /// The accounts of others hold twice as much until [`Self::tighten`].
    pub fn ease(&mut self) {
        self.eased = self.eased.saturating_add(1);
    }

    /// There was a commit. What is in the accounts stays there.
    pub fn tighten(&mut self) {
        self.eased = 0;
    }

    fn limit_of_others(&self) -> Limit {
        let times = 1_u64.checked_shl(self.eased).unwrap_or(u64::MAX);
        let names = self.limit.names.saturating_mul(usize::try_from(times).unwrap_or(usize::MAX));
        Limit { bytes: self.limit.bytes.saturating_mul(times), names }
    }

    /// A block was linked that names these fresh batches. True if their payload is to be fetched; else the block waits.
    pub fn name(&mut self, block: BlockRef, fresh: &[BatchRef]) -> bool {
        let (me, limit, author) = (self.me, self.limit, &mut self.authors[block.author.usize()]);
        let next = !self.recovering && author.waiting.is_empty() && author.pulled.is_empty();
        let admitted = fresh.is_empty() || next && author.has_room(me, fresh, limit);
        match admitted {
            true => author.admit(block, fresh, me, me),
            false => drop(author.waiting.insert(block, AuthoritySet::EMPTY)),
        }
        admitted
    }

    /// Everything on disk is linked. What our own blocks build on is on our own account again, whatever else has come; it
    /// had room there when they were made. Returns the blocks admitted; [`Self::retry`] admits others.
    pub fn recover(&mut self, fresh: impl Fn(&BlockRef) -> Vec<BatchRef>) -> Vec<BlockRef> {
        self.recovering = false;
        let mut admitted = Vec::new();
        for author in &mut self.authors {
            let waiting = author.waiting.iter().filter(|(_, by)| by.contains(self.me));
            let referenced: Vec<BlockRef> = waiting.map(|(block, _)| *block).collect();
            referenced.iter().for_each(|block| author.admit(*block, &fresh(block), self.me, self.me));
            admitted.extend(referenced);
        }
        admitted
    }

    /// A block by `member` builds on `block`. True if that is news about a block that waits.
    pub fn pull(&mut self, block: &BlockRef, member: AuthorityIndex) -> bool {
        let waiting = self.authors[block.author.usize()].waiting.get_mut(block);
        waiting.is_some_and(|members| members.insert(member))
    }

    /// Admits blocks of an author that wait, lowest rounds first, as far as there is room, and takes to our own account what
    /// is on others' before it takes what is above. `fresh` says what a block names that can still be delivered.
    pub fn retry(&mut self, author: AuthorityIndex, fresh: impl Fn(&BlockRef) -> Vec<BatchRef>) -> Admitted {
        let mut admitted = Admitted::default();
        if self.recovering {
            return admitted;
        }
        let (me, limit, others) = (self.me, self.limit, self.limit_of_others());
        let author = &mut self.authors[author.usize()];
        let pulled = author.pulled.iter().map(|block| (*block, AuthoritySet::EMPTY));
        let waiting = author.waiting.iter().map(|(block, by)| (*block, *by));
        let mut open: Vec<(BlockRef, AuthoritySet)> = pulled.chain(waiting).collect();
        open.sort_unstable_by_key(|(block, _)| *block);
        let mut full = AuthoritySet::EMPTY;
        for (block, by) in open {
            let is_pulled = author.pulled.contains(&block);
            let accounts = std::iter::once(me).chain(by.iter()).filter(|account| !full.contains(*account));
            let accounts: Vec<AuthorityIndex> = accounts.collect();
            if accounts.is_empty() {
                continue;
            }
            let names = fresh(&block);
            for account in accounts {
                let limit = if account == me { limit } else { others };
                if !author.has_room(account, &names, limit) {
                    full.insert(account);
                } else if is_pulled {
                    author.adopt(block, &names, me);
                    admitted.adopted.push(block);
                    break;
                } else {
                    author.admit(block, &names, account, me);
                    admitted.blocks.push(block);
                    break;
                }
            }
        }
        admitted
    }

    /// A block is committed or collected. Returns which of its batches no other admitted block names.
    pub fn release(&mut self, block: &BlockRef, batches: &[BatchRef]) -> Vec<BatchRef> {
        let author = &mut self.authors[block.author.usize()];
        author.waiting.remove(block);
        author.pulled.remove(block);
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
        self.authors[block.author.usize()].pulled.contains(block)
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
