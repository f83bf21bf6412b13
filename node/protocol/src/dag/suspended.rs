//! Blocks that wait for parents, and the references they want.
//!
//! Promises: bounded per sender and in total; over a limit the highest rounds of the heaviest sender go first (evicting the
//! lowest would throw away exactly what is needed next); a wanted reference is owned by the suspended blocks that want it and
//! dies with the last of them; it is *needed* once a block of another author stands behind it: what only its own author asks for may be
//! one chain of twins after the other.

use std::collections::{BTreeMap, BTreeSet};

use rorqual_config::AuthorityIndex;

use crate::known::Names;
use crate::types::{BlockRef, Round, VerifiedBlock};

/// The total over all senders is this many times what one sender may have.
const TOTAL_FACTOR: u64 = 4;

#[derive(Debug)]
struct Entry {
    block: VerifiedBlock,
    sender: AuthorityIndex,
    missing: BTreeSet<BlockRef>,
    /// A block of another author waits for it, directly or not.
    needed: bool,
}

#[derive(Clone, Debug, Default)]
struct Account {
    bytes: u64,
    refs: BTreeSet<BlockRef>,
}

/// Limits of what may wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Blocks for one sender.
    pub blocks: usize,
    /// Bytes for one sender.
    pub bytes: u64,
}

/// Blocks whose parents are not all linked.
#[derive(Debug)]
pub struct Suspended {
    limits: Limits,
    entries: BTreeMap<BlockRef, Entry>,
    /// For each missing parent the blocks that wait for it.
    wanted: BTreeMap<BlockRef, BTreeSet<BlockRef>>,
    accounts: Vec<Account>,
    bytes: u64,
    /// What waits, for others to see.
    names: Names,
}

/// What a change did to the wanted references.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Nobody wants these any more.
    pub unwanted: Vec<BlockRef>,
    /// Blocks thrown out.
    pub evicted: Vec<BlockRef>,
    /// Nowhere here, and needed by a block that came in.
    pub needed: Vec<BlockRef>,
}

impl Suspended {
    /// Nothing waits.
    pub fn new(members: usize, limits: Limits) -> Self {
        let (accounts, names) = (vec![Account::default(); members], Names::new(members));
        Self { limits, entries: BTreeMap::new(), wanted: BTreeMap::new(), accounts, bytes: 0, names }
    }

    /// What waits, as others see it.
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    /// How many blocks wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many references are wanted.
    pub fn wanted_len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether the block waits here.
    pub fn contains(&self, reference: &BlockRef) -> bool {
        self.entries.contains_key(reference)
    }

    /// Whether a waiting block needs this one.
    pub fn is_wanted(&self, reference: &BlockRef) -> bool {
        self.wanted.contains_key(reference)
    }

    /// Whether a waiting block of another author needs this one, directly or through others.
    pub fn is_needed(&self, reference: &BlockRef) -> bool {
        let needs = |child: &BlockRef| {
            child.author != reference.author || self.entries.get(child).is_some_and(|entry| entry.needed)
        };
        self.wanted.get(reference).into_iter().flatten().any(needs)
    }

    /// Tells the parents of a waiting block that they are needed, and theirs.
    fn spread_need(&mut self, from: BlockRef, absent: &mut Vec<BlockRef>) {
        let mut stack = vec![from];
        while let Some(child) = stack.pop() {
            let Some(entry) = self.entries.get(&child) else { continue };
            let (all, missing) = (entry.needed, entry.missing.clone());
            for parent in missing.into_iter().filter(|parent| all || parent.author != child.author) {
                match self.entries.get_mut(&parent) {
                    None => absent.push(parent),
                    Some(entry) if !entry.needed => {
                        entry.needed = true;
                        stack.push(parent);
                    }
                    Some(_) => (),
                }
            }
        }
    }

    /// Authors of the blocks that wait for `reference`: they must hold it.
    pub fn wanted_by(&self, reference: &BlockRef) -> impl Iterator<Item = AuthorityIndex> {
        self.wanted.get(reference).into_iter().flatten().map(|child| child.author)
    }

    /// Blocks of this slot that wait.
    pub fn variants(&self, round: Round, author: AuthorityIndex) -> Vec<&VerifiedBlock> {
        let from = BlockRef { round, author, digest: rorqual_config::Digest([0; 32]) };
        let to = BlockRef { round, author, digest: rorqual_config::Digest([0xff; 32]) };
        self.entries.range(from..=to).map(|(_, entry)| &entry.block).collect()
    }

    /// Lets a block wait for `missing` at the cost of `sender`; throws out what exceeds the limits, perhaps this very block.
    pub fn insert(&mut self, sender: AuthorityIndex, block: VerifiedBlock, missing: BTreeSet<BlockRef>) -> Change {
        let reference = block.reference();
        for parent in &missing {
            self.wanted.entry(*parent).or_default().insert(reference);
        }
        let size = block.bytes().len() as u64;
        let account = &mut self.accounts[sender.usize()];
        account.bytes = account.bytes.saturating_add(size);
        account.refs.insert(reference);
        self.bytes = self.bytes.saturating_add(size);
        let needed = self.is_needed(&reference);
        self.entries.insert(reference, Entry { block, sender, missing, needed });
        self.names.insert(&reference);
        let mut change = Change::default();
        self.spread_need(reference, &mut change.needed);
        while let Some(victim) = self.victim(sender) {
            self.remove(&victim, &mut change.unwanted);
            change.evicted.push(victim);
        }
        change
    }

    /// The block that has to go, if a limit is exceeded.
    fn victim(&self, sender: AuthorityIndex) -> Option<BlockRef> {
        let over = |account: &Account| account.refs.len() > self.limits.blocks || account.bytes > self.limits.bytes;
        let payer = if over(&self.accounts[sender.usize()]) {
            &self.accounts[sender.usize()]
        } else if self.entries.len() as u64 > TOTAL_FACTOR.saturating_mul(self.limits.blocks as u64)
            || self.bytes > TOTAL_FACTOR.saturating_mul(self.limits.bytes)
        {
            self.accounts.iter().max_by_key(|account| account.bytes)?
        } else {
            return None;
        };
        payer.refs.last().copied()
    }

    fn remove(&mut self, reference: &BlockRef, unwanted: &mut Vec<BlockRef>) -> Option<VerifiedBlock> {
        let entry = self.entries.remove(reference)?;
        self.names.remove(reference);
        let size = entry.block.bytes().len() as u64;
        let account = &mut self.accounts[entry.sender.usize()];
        account.bytes = account.bytes.saturating_sub(size);
        account.refs.remove(reference);
        self.bytes = self.bytes.saturating_sub(size);
        for parent in &entry.missing {
            if let Some(children) = self.wanted.get_mut(parent) {
                children.remove(reference);
                if children.is_empty() {
                    self.wanted.remove(parent);
                    unwanted.push(*parent);
                }
            }
        }
        Some(entry.block)
    }

    /// Takes a block out that got in another way; those that wait for it go on waiting.
    pub fn discard(&mut self, reference: &BlockRef) -> Change {
        let mut change = Change::default();
        self.remove(reference, &mut change.unwanted);
        change
    }

    /// `parent` is linked: returns the blocks that now have all parents, with who paid for them.
    pub fn resolve(&mut self, parent: &BlockRef) -> Vec<(AuthorityIndex, VerifiedBlock)> {
        let mut free = Vec::new();
        for child in self.wanted.remove(parent).unwrap_or_default() {
            let Some(entry) = self.entries.get_mut(&child) else { continue };
            entry.missing.remove(parent);
            if entry.missing.is_empty() {
                let sender = entry.sender;
                free.extend(self.remove(&child, &mut Vec::new()).map(|block| (sender, block)));
            }
        }
        free
    }

    /// Everything at or below `round` counts as linked from now on: waiting blocks there are gone, those above that wait for
    /// nothing else are returned.
    pub fn collect(&mut self, round: Round) -> (Vec<(AuthorityIndex, VerifiedBlock)>, Change) {
        let mut change = Change::default();
        let old: Vec<BlockRef> = self.entries.keys().take_while(|r| r.round <= round).copied().collect();
        for reference in old {
            self.remove(&reference, &mut change.unwanted);
            change.evicted.push(reference);
        }
        let satisfied: Vec<BlockRef> = self.wanted.keys().take_while(|r| r.round <= round).copied().collect();
        let mut free = Vec::new();
        for parent in satisfied {
            free.extend(self.resolve(&parent));
            change.unwanted.push(parent);
        }
        (free, change)
    }
}

#[cfg(test)]
#[path = "suspended_tests.rs"]
mod tests;
