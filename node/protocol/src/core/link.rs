//! Linking: the one path by which a block enters the DAG, whatever released it.
//!
//! Promises: a worklist, never recursion; payload delays nothing but referencing; every wait for payload is owned by a block
//! or a commit.

use std::collections::BTreeSet;

use rorqual_config::AuthorityIndex;

use super::{Core, count};
use crate::dag::graph::Vertex;
use crate::dag::payload::Waiter;
use crate::effect::{Effect, Halt, Write};
use crate::types::commit::DeliveredBatch;
use crate::types::{BatchKey, BatchRef, BlockRef, CommitIndex, VerifiedBlock};

impl Core {
    /// Links all queued blocks and those that they release; suspends the ones with missing parents.
    pub(super) fn link_all(&mut self) -> Result<(), Halt> {
        while let Some((sender, block)) = self.to_link.pop_front() {
            let reference = block.reference();
            if self.graph.is_linked(&reference) {
                continue;
            }
            let missing: BTreeSet<BlockRef> =
                block.parents().iter().filter(|parent| !self.graph.is_linked(parent)).copied().collect();
            if missing.is_empty() {
                self.link(sender, block, true)?;
                let freed = self.suspended.resolve(&reference);
                self.to_link.extend(freed);
            } else {
                self.suspend(sender, block, missing);
            }
        }
        Ok(())
    }

    /// Puts a block whose parents are all linked into the graph.
    pub(super) fn link(&mut self, sender: AuthorityIndex, block: VerifiedBlock, write: bool) -> Result<(), Halt> {
        let own = block.author() == self.setup.me;
        if write && !own {
            self.out.write(Write::Block(block.clone()));
        }
        let mut vertex = Vertex::new(block.clone(), self.now.monotonic);
        if sender != self.setup.me {
            vertex.received_from.insert(sender);
        }
        vertex.reach = self.index.link(&block, &self.graph, &self.setup.committee)?;
        if !own {
            vertex.missing = self.unknown_payload(&block);
        }
        self.insert(vertex);
        if self.clock.round_of(block.author()) < block.round() {
            self.peers.advanced(block.author(), self.now.monotonic);
        }
        self.clock.observe(&block);
        self.adopt_parents(&block);
        self.claim(&block, sender);
        self.mark_history(&block);
        self.look_at_wakefulness(&block.reference());
        Ok(())
    }

    fn insert(&mut self, vertex: Vertex) {
        self.fetcher.done(&vertex.block.reference());
        self.graph.insert(vertex);
        self.push_soon();
        self.undecided = true;
        count(&mut self.counters.linked, 1);
    }

    /// Counts the block for its parents and lets it wait for those that are not usable.
    pub(super) fn adopt_parents(&mut self, block: &VerifiedBlock) {
        let (reference, mut unusable) = (block.reference(), 0);
        for parent in block.parents() {
            let Some(vertex) = self.graph.get_mut(parent) else { continue };
            vertex.referenced_by.insert(reference.author);
            if parent.round.next() == reference.round {
                vertex.strongly_referenced_by.insert(reference.author);
            }
            if !vertex.usable() {
                vertex.dependants.push(reference);
                unusable = u32::saturating_add(unusable, 1);
            }
        }
        if let Some(vertex) = self.graph.get_mut(&reference) {
            vertex.unusable_parents = unusable;
        }
    }

    /// Marks the block's history as known to its author, who must also hold all payload of it and is asked for what is
    /// missing at once. Stops at what is marked, so that each vertex is visited once for each author.
    pub(super) fn mark_history(&mut self, block: &VerifiedBlock) {
        let author = block.author();
        let mut stack = vec![block.reference()];
        let mut missing: Vec<BatchKey> = Vec::new();
        while let Some(reference) = stack.pop() {
            let Some(vertex) = self.graph.get_mut(&reference) else { continue };
            if vertex.committed || !vertex.in_history_of.insert(author) {
                continue;
            }
            if reference.author != author {
                missing.extend(&vertex.missing);
            }
            stack.extend(vertex.block.parents());
        }
        if author == self.setup.me {
            return;
        }
        for key in missing {
            if let Some(bytes) = self.payload.add_holder(&key, author) {
                self.out.effect(Effect::WaitBatch { key, bytes, holders: vec![author], urgent: true });
            }
        }
    }

    /// Waits for a batch named by `author` in a block that `sender` sent.
    pub(super) fn await_batch(
        &mut self,
        author: AuthorityIndex,
        batch: &BatchRef,
        sender: AuthorityIndex,
        waiter: Waiter,
        urgent: bool,
    ) {
        let key = batch.key(author);
        let mut news = self.payload.wait(key, batch.bytes, waiter);
        let mut holders = Vec::new();
        for holder in [author, sender] {
            if holder != self.setup.me && self.payload.add_holder(&key, holder).is_some() {
                holders.push(holder);
                news = true;
            }
        }
        if news {
            self.out.effect(Effect::WaitBatch { key, bytes: batch.bytes, holders, urgent });
        }
    }

    /// Waits for a batch that a commit delivers. A commit proves that an honest quorum held it, so `anybody` may be asked when
    /// those who hold it are not known: its author may be gone for good.
    pub(super) fn await_delivered(&mut self, delivered: &DeliveredBatch, index: CommitIndex, anybody: bool) {
        let (author, batch, waiter) = (delivered.author, &delivered.batch, Waiter::Commit(index));
        if !anybody {
            return self.await_batch(author, batch, author, waiter, true);
        }
        let (me, connected, members) = (self.setup.me, self.peers.connected, self.committee().size() as u64);
        let mut holders: Vec<AuthorityIndex> = self.committee().authorities().filter(|holder| *holder != me).collect();
        // The author first, the others from a different one for each batch, so that all serve.
        let first = batch.sequence.0.checked_rem(members).unwrap_or(0);
        let turn = |holder: AuthorityIndex| u64::from(holder.0).saturating_add(first).checked_rem(members);
        holders.sort_by_key(|holder| (!connected.contains(*holder), *holder != author, turn(*holder)));
        let key = delivered.key();
        let new = self.payload.wait(key, batch.bytes, waiter);
        holders.retain(|holder| self.payload.add_holder(&key, *holder).is_some());
        if new || !holders.is_empty() {
            self.out.effect(Effect::WaitBatch { key, bytes: batch.bytes, holders, urgent: true });
        }
    }

    /// A waiter needs this batch no more.
    pub(super) fn forget_batch(&mut self, key: BatchKey, waiter: Waiter) {
        if self.payload.forget(&key, waiter) {
            self.out.effect(Effect::CancelWait(key));
        }
    }

    /// The block is usable from now on: tells those that waited for it, and so on.
    pub(super) fn became_usable(&mut self, reference: &BlockRef) {
        let mut stack = vec![*reference];
        while let Some(reference) = stack.pop() {
            let Some(vertex) = self.graph.get_mut(&reference) else { continue };
            let dependants = std::mem::take(&mut vertex.dependants);
            self.look_at_wakefulness(&reference);
            self.relieve(dependants, &mut stack);
        }
    }

    /// One parent less that is not usable, for each of these; those that have become usable go on the stack.
    pub(super) fn relieve(&mut self, dependants: Vec<BlockRef>, stack: &mut Vec<BlockRef>) {
        for dependant in dependants {
            let Some(vertex) = self.graph.get_mut(&dependant) else { continue };
            vertex.unusable_parents = vertex.unusable_parents.saturating_sub(1);
            if vertex.usable() {
                stack.push(dependant);
            }
        }
    }
}
