//! The linked part of the DAG, by slot: every vertex has all its parents, or they lie at or below the garbage-collection
//! round (the uncertified DAG of Mysticeti-C).
//!
//! Promises: a vertex is found in constant time from its reference; iteration is by round, author, arrival, so that nothing
//! that leaves the core depends on hashing; at or below the garbage-collection round nothing is kept.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;

use super::reach::SlotSet;
use super::sent::Sent;
use crate::known::Names;
use crate::types::{BatchKey, BlockRef, Round, VerifiedBlock};

/// A linked block and what is known about it.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// The block.
    pub block: VerifiedBlock,
    /// When it was linked.
    pub linked_at: Duration,
    /// Part of a commit.
    pub committed: bool,
    /// Its batches that can still be delivered and are not known to be stored here.
    pub missing: BTreeSet<BatchKey>,
    /// We keep its payload only because another member's blocks build on it: our own do not.
    pub pulled: bool,
    /// It keeps us from resting.
    pub wakes: bool,
    /// Its parents that are not usable.
    pub unusable_parents: u32,
    /// Linked blocks that wait for this one to become usable.
    pub dependants: Vec<BlockRef>,
    /// Authors that have a block with this one in its history. Our own bit: it is in the history of our last block.
    pub in_history_of: AuthoritySet,
    /// Peers that sent it to us.
    pub received_from: AuthoritySet,
    /// Peers that we sent it to over the present connection.
    pub sent: Sent,
    /// Authors of blocks that have it as a parent.
    pub referenced_by: AuthoritySet,
    /// The same, blocks of the next round only.
    pub strongly_referenced_by: AuthoritySet,
    /// Leader slots with a certificate in its history.
    pub reach: SlotSet,
}

impl Vertex {
    /// A vertex about which nothing is known yet.
    pub fn new(block: VerifiedBlock, linked_at: Duration) -> Self {
        Self {
            block,
            linked_at,
            committed: false,
            missing: BTreeSet::new(),
            pulled: false,
            wakes: false,
            unusable_parents: 0,
            dependants: Vec::new(),
            in_history_of: AuthoritySet::EMPTY,
            received_from: AuthoritySet::EMPTY,
            sent: Sent::default(),
            referenced_by: AuthoritySet::EMPTY,
            strongly_referenced_by: AuthoritySet::EMPTY,
            reach: SlotSet::default(),
        }
    }

    /// Whether what references it may be referenced: all payload of its uncommitted history is stored, as far as it can still be
    /// delivered, or it is committed, which proves that an honest quorum held the payload.
    pub fn usable(&self) -> bool {
        self.committed || (self.missing.is_empty() && self.unusable_parents == 0)
    }

    /// Whether we may reference it ourselves: usable, and its author's payload has room on our own account.
    pub fn may_be_parent(&self) -> bool {
        self.usable() && (self.committed || !self.pulled)
    }

    /// Peers that surely have it: its author, who built on it, who sent it to us.
    pub fn known_by(&self) -> AuthoritySet {
        let mut known = self.in_history_of.union(self.received_from);
        known.insert(self.block.author());
        known
    }
}

/// One place for an author's block of a round. More than one vertex: the author equivocated.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// In order of arrival.
    pub variants: Vec<Vertex>,
    /// A block of this slot has delivered its payload: the first twin wins.
    pub delivered: bool,
}

/// All linked blocks above the garbage-collection round.
#[derive(Debug)]
pub struct Graph {
    members: usize,
    gc_round: Round,
    /// Row i holds round `gc_round + 1 + i`; a row is empty until its first block.
    rows: VecDeque<Vec<Slot>>,
    blocks: usize,
    /// Few, wherever they lie: what is done with them at every step must not look at all the others.
    uncommitted: BTreeSet<BlockRef>,
    waking: usize,
    /// What is held, for others to see.
    names: Names,
}

impl Graph {
    /// The empty graph of a committee of `members`: genesis only, which is never stored.
    pub fn new(members: usize) -> Self {
        Self {
            members,
            gc_round: Round(0),
            rows: VecDeque::new(),
            blocks: 0,
            uncommitted: BTreeSet::new(),
            waking: 0,
            names: Names::new(members),
        }
    }

    /// Nothing is kept at or below this round; references to it count as linked.
    pub fn gc_round(&self) -> Round {
        self.gc_round
    }

    /// What is held, as others see it.
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    /// How many blocks are held.
    pub fn len(&self) -> usize {
        self.blocks
    }

    /// Whether no block is held.
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Names of the blocks that are not committed, ascending.
    pub fn uncommitted(&self) -> &BTreeSet<BlockRef> {
        &self.uncommitted
    }

    /// How many blocks keep us from resting.
    pub fn waking(&self) -> usize {
        self.waking
    }

    /// Whether a block keeps us from resting.
    pub fn set_wakes(&mut self, reference: &BlockRef, wakes: bool) {
        let Some(vertex) = self.get_mut(reference) else { return };
        let before = std::mem::replace(&mut vertex.wakes, wakes);
        self.waking = self.waking.saturating_add(usize::from(wakes)).saturating_sub(usize::from(before));
    }

    fn place(&self, round: Round) -> Option<usize> {
        let offset = round.0.checked_sub(self.gc_round.next().0)?;
        usize::try_from(offset).ok().filter(|place| *place < self.rows.len())
    }

    /// The slot of an author in a round, if any block of that round is held.
    pub fn slot(&self, round: Round, author: AuthorityIndex) -> Option<&Slot> {
        self.rows[self.place(round)?].get(author.usize())
    }

    fn slot_mut(&mut self, round: Round, author: AuthorityIndex) -> Option<&mut Slot> {
        let place = self.place(round)?;
        self.rows[place].get_mut(author.usize())
    }

    /// The vertices of a slot in order of arrival.
    pub fn variants(&self, round: Round, author: AuthorityIndex) -> &[Vertex] {
        self.slot(round, author).map_or(&[], |slot| &slot.variants)
    }

    /// The vertex of this name.
    pub fn get(&self, reference: &BlockRef) -> Option<&Vertex> {
        let variants = self.variants(reference.round, reference.author);
        variants.iter().find(|vertex| vertex.block.reference().digest == reference.digest)
    }

    /// The vertex of this name, to be changed.
    pub fn get_mut(&mut self, reference: &BlockRef) -> Option<&mut Vertex> {
        let slot = self.slot_mut(reference.round, reference.author)?;
        slot.variants.iter_mut().find(|vertex| vertex.block.reference().digest == reference.digest)
    }

    /// Whether the block is linked or too old to matter.
    pub fn is_linked(&self, reference: &BlockRef) -> bool {
        reference.round <= self.gc_round || self.get(reference).is_some()
    }

    /// Whether the block may be referenced or is too old to matter.
    pub fn is_usable(&self, reference: &BlockRef) -> bool {
        reference.round <= self.gc_round || self.get(reference).is_some_and(Vertex::usable)
    }

    /// All vertices of a round by author.
    pub fn round(&self, round: Round) -> impl Iterator<Item = &Vertex> {
        let row = self.place(round).map(|place| &self.rows[place]);
        row.into_iter().flatten().flat_map(|slot| &slot.variants)
    }

    /// Everything, ascending by round.
    pub fn iter(&self) -> impl Iterator<Item = &Vertex> {
        self.rows.iter().flatten().flat_map(|slot| &slot.variants)
    }

    /// Everything, ascending by round, to be changed. Which blocks there are and their committed flags must stay.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Vertex> {
        self.rows.iter_mut().flatten().flat_map(|slot| &mut slot.variants)
    }

    /// Everything of `rounds` above the garbage-collection round up to the end, ascending.
    pub fn above(&mut self, round: Round) -> impl Iterator<Item = &mut Vertex> {
        let first = usize::try_from(round.0.saturating_sub(self.gc_round.0)).unwrap_or(usize::MAX);
        self.rows.iter_mut().skip(first).flatten().flat_map(|slot| &mut slot.variants)
    }

    /// The highest round with a row.
    pub fn top(&self) -> Round {
        self.gc_round.plus(self.rows.len() as u64)
    }

    /// Adds a vertex above the garbage-collection round. The caller has bounded the round and knows it is new.
    pub fn insert(&mut self, vertex: Vertex) {
        let (round, author) = (vertex.block.round(), vertex.block.author());
        if round <= self.gc_round || author.usize() >= self.members {
            return;
        }
        let place = round.previous().above(self.gc_round) as usize;
        while self.rows.len() <= place {
            self.rows.push_back(Vec::new());
        }
        let row = &mut self.rows[place];
        if row.is_empty() {
            row.resize_with(self.members, Slot::default);
        }
        self.blocks = self.blocks.saturating_add(1);
        self.names.insert(&vertex.block.reference());
        if !vertex.committed {
            self.uncommitted.insert(vertex.block.reference());
        }
        row[author.usize()].variants.push(vertex);
    }

    /// Marks a block committed. False if it is not held or was committed before.
    pub fn commit(&mut self, reference: &BlockRef) -> bool {
        let Some(vertex) = self.get_mut(reference).filter(|vertex| !vertex.committed) else {
            return false;
        };
        vertex.committed = true;
        vertex.sent.clear();
        self.set_wakes(reference, false);
        self.uncommitted.remove(reference);
        true
    }

    /// Claims the payload of a slot for the block that asks first. True exactly once a slot.
    pub fn claim_delivery(&mut self, reference: &BlockRef) -> bool {
        match self.slot_mut(reference.round, reference.author) {
            Some(slot) => !std::mem::replace(&mut slot.delivered, true),
            None => false,
        }
    }

    /// Raises the garbage-collection round and returns what fell below it, ascending by round.
    pub fn collect(&mut self, gc_round: Round) -> Vec<Vertex> {
        let mut dropped = Vec::new();
        while self.gc_round < gc_round {
            self.gc_round = self.gc_round.next();
            match self.rows.pop_front() {
                Some(row) => dropped.extend(row.into_iter().flat_map(|slot| slot.variants)),
                None => self.gc_round = gc_round,
            }
        }
        self.blocks = self.blocks.saturating_sub(dropped.len());
        self.names.collect(self.gc_round);
        for vertex in dropped.iter().filter(|vertex| !vertex.committed) {
            self.uncommitted.remove(&vertex.block.reference());
            self.waking = self.waking.saturating_sub(usize::from(vertex.wakes));
        }
        dropped
    }

    /// References of all committed blocks with the delivered flag of their slot, ascending: part of the checkpoint state.
    pub fn committed(&self) -> Vec<(BlockRef, bool)> {
        let mut refs: Vec<(BlockRef, bool)> = Vec::new();
        for slot in self.rows.iter().flatten() {
            let committed = slot.variants.iter().filter(|vertex| vertex.committed);
            refs.extend(committed.map(|vertex| (vertex.block.reference(), slot.delivered)));
        }
        refs.sort_unstable();
        refs
    }
}
