//! Which payload is fetched and how long it is kept: the core's side of [`crate::dag::claims`].
//!
//! Promises: a sequence that is stale in our replay window is stale in every later commit, so its payload is neither fetched
//! nor waited for; an author's payload beyond the limit is not fetched until there is room; what no commit delivers and no
//! block names any more is deleted, but for our own.

use std::collections::{BTreeMap, BTreeSet};

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;

use super::records::Pending;
use super::{Core, count};
use crate::commit::ledger::Ledger;
use crate::dag::graph::{Graph, Vertex};
use crate::dag::payload::Waiter;
use crate::effect::Effect;
use crate::types::{BatchKey, BatchRef, BlockRef, Round, Sequence, VerifiedBlock};

impl Core {
    /// The batches that a block names and that a commit can still deliver.
    pub(super) fn fresh(&self, block: &VerifiedBlock) -> Vec<BatchRef> {
        let window = &self.ledger.windows[block.author().usize()];
        block.batches().iter().filter(|batch| window.is_fresh(batch.sequence)).copied().collect()
    }

    /// What is missing of a block by another that is about to be linked, before anything of it is known to be stored.
    pub(super) fn unknown_payload(&self, block: &VerifiedBlock) -> BTreeSet<BatchKey> {
        self.fresh(block).iter().map(|batch| batch.key(block.author())).collect()
    }

    /// Asks for the payload of a block just linked, and for payload that it is the first to build on.
    pub(super) fn claim(&mut self, block: &VerifiedBlock, sender: AuthorityIndex) {
        let (author, reference) = (block.author(), block.reference());
        if author == self.setup.me {
            return;
        }
        let fresh = self.fresh(block);
        if self.claims.name(reference, &fresh) {
            for batch in &fresh {
                self.await_named(batch, sender, reference, false);
            }
        }
        for parent in block.parents().iter().filter(|parent| parent.author != author) {
            self.pull(*parent, author);
        }
    }

    /// What an own block references had room on our own account: said of those on disk while we recover. Later ones reference nothing
    /// that is not there.
    pub(super) fn vouch_for_parents(&mut self, own: &VerifiedBlock) {
        let me = self.setup.me;
        for parent in own.parents().iter().filter(|parent| parent.author != me) {
            self.pull(*parent, me);
        }
    }

    fn await_named(&mut self, batch: &BatchRef, sender: AuthorityIndex, reference: BlockRef, urgent: bool) {
        self.undurable.keep(&batch.key(reference.author));
        self.await_batch(reference.author, batch, sender, Waiter::Block(reference), urgent);
    }

    /// A block by `member` builds on `parent`, and so on the blocks of the same author below, down to what is committed. One that
    /// does not wait may stand on one that does.
    fn pull(&mut self, parent: BlockRef, member: AuthorityIndex) {
        let (mut at, mut news) = (Some(parent), false);
        while let Some(reference) = at {
            let Some(vertex) = self.graph.get(&reference).filter(|vertex| !vertex.committed) else { break };
            let waits = self.claims.is_waiting(&reference);
            if waits && !self.claims.pull(&reference, member) {
                break;
            }
            news |= waits;
            at = vertex.block.parents().first().copied();
        }
        if news {
            self.admit_waiting(parent.author);
        }
    }

    /// Lets blocks of an author in for which there is room now.
    fn admit_waiting(&mut self, author: AuthorityIndex) {
        let admitted = self.claims.retry(author, deliverable(&self.graph, &self.ledger));
        for reference in admitted.adopted {
            if let Some(vertex) = self.graph.get_mut(&reference) {
                vertex.pulled = false;
            }
        }
        for reference in admitted.blocks {
            self.admitted(&reference);
        }
    }

    /// Everything on disk is in the graph: what was referenced before the stop is let in first, then the rest.
    pub(super) fn recover_claims(&mut self) {
        for reference in self.claims.recover(deliverable(&self.graph, &self.ledger)) {
            self.admitted(&reference);
        }
        self.retry_claims();
    }

    fn retry_claims(&mut self) {
        let authors: Vec<AuthorityIndex> = self.committee().authorities().collect();
        authors.into_iter().for_each(|author| self.admit_waiting(author));
    }

    /// The round below the next own block is not filled. If a quorum of it is here and only waits for room, for as long as a
    /// round waits for a leader, the others' accounts are eased: whatever fills them must not hold up everybody.
    pub(super) fn ease_claims(&mut self, below: Round) {
        let mut authors: AuthoritySet = self.graph.round(below).map(|vertex| vertex.block.author()).collect();
        if self.own_round() != below {
            authors.remove(self.setup.me);
        }
        if self.claims.waiting() == 0 || !self.committee().is_quorum(&authors) {
            self.pacemaker.held_up = None;
            return;
        }
        let now = self.now.monotonic;
        let due = *self.pacemaker.held_up.get_or_insert(now) + self.pacemaker.leader_timeout;
        if due > now {
            self.out.wake(due);
            return;
        }
        self.claims.ease();
        count(&mut self.counters.eased, 1);
        self.pacemaker.held_up = Some(now);
        self.out.wake(now + self.pacemaker.leader_timeout);
        self.retry_claims();
    }

    fn admitted(&mut self, reference: &BlockRef) {
        let (me, pulled) = (self.setup.me, self.claims.is_pulled(reference));
        let Some(fresh) = self.graph.get(reference).map(|vertex| self.fresh(&vertex.block)) else { return };
        let keys: BTreeSet<BatchKey> = fresh.iter().map(|batch| batch.key(reference.author)).collect();
        let Some(vertex) = self.graph.get_mut(reference) else { return };
        vertex.missing = keys;
        vertex.pulled = pulled;
        let (holders, usable) = (vertex.in_history_of, vertex.usable());
        for batch in &fresh {
            self.await_named(batch, reference.author, *reference, true);
            let key = batch.key(reference.author);
            let others = holders.iter().filter(|holder| *holder != me);
            let others: Vec<AuthorityIndex> =
                others.filter(|holder| self.payload.add_holder(&key, *holder).is_some()).collect();
            if !others.is_empty() {
                self.out.effect(Effect::WaitBatch { key, bytes: batch.bytes, holders: others, urgent: true });
            }
        }
        if usable {
            self.became_usable(reference);
        }
    }

    /// After a commit: names of its blocks are given back, what it delivered or made stale is waited for no more, and what
    /// nobody needs goes.
    pub(super) fn settle_claims(&mut self, pending: &Pending) {
        let me = self.setup.me;
        self.claims.tighten();
        let delivered: BTreeSet<BatchKey> = pending.batches.iter().map(|batch| batch.key()).collect();
        delivered.iter().for_each(|key| self.undurable.keep(key));
        let mut gone: BTreeSet<BatchKey> = BTreeSet::new();
        let mut changed: BTreeSet<AuthorityIndex> = BTreeSet::new();
        for reference in pending.commit.blocks.iter().filter(|reference| reference.author != me) {
            let Some(vertex) = self.graph.get(reference) else { continue };
            let freed = self.claims.release(reference, vertex.block.batches());
            gone.extend(freed.iter().map(|batch| batch.key(reference.author)));
            changed.insert(reference.author);
        }
        for (author, sequences) in settled(pending) {
            let edge = self.ledger.windows[author.usize()].edge();
            let singles = sequences.into_iter().filter(|sequence| *sequence > edge).map(|s| s..=s);
            for range in std::iter::once(Sequence(0)..=edge).chain(singles) {
                for (name, blocks) in self.claims.settle(author, range) {
                    gone.insert(name.key(author));
                    blocks.iter().for_each(|block| self.needs_no_more(block, &name.key(author)));
                }
            }
        }
        self.drop_payload(gone.difference(&delivered).copied());
        changed.into_iter().for_each(|author| self.admit_waiting(author));
    }

    /// The batch will not be delivered through this block.
    fn needs_no_more(&mut self, reference: &BlockRef, key: &BatchKey) {
        self.forget_batch(*key, Waiter::Block(*reference));
        let Some(vertex) = self.graph.get_mut(reference) else { return };
        let usable = vertex.missing.remove(key) && vertex.usable();
        match usable {
            true => self.became_usable(reference),
            false => self.look_at_wakefulness(reference),
        }
    }

    /// Blocks fell below the garbage-collection round: so does payload that only they named.
    pub(super) fn settle_collected(&mut self, dropped: &[Vertex]) {
        let me = self.setup.me;
        let mut freed: BTreeMap<AuthorityIndex, Vec<BatchKey>> = BTreeMap::new();
        for vertex in dropped.iter().filter(|vertex| !vertex.committed && vertex.block.author() != me) {
            let reference = vertex.block.reference();
            let names = self.claims.release(&reference, vertex.block.batches());
            freed.entry(reference.author).or_default().extend(names.iter().map(|name| name.key(reference.author)));
        }
        for (author, keys) in freed {
            self.drop_payload(keys);
            self.admit_waiting(author);
        }
    }

    /// Whether an uncommitted block keeps us from resting: we may reference it, and it names payload that can be delivered.
    /// What nobody can complete must not keep everybody awake.
    pub(super) fn look_at_wakefulness(&mut self, reference: &BlockRef) {
        let Some(vertex) = self.graph.get(reference) else { return };
        let window = &self.ledger.windows[reference.author.usize()];
        let wakes = !vertex.committed
            && vertex.usable()
            && vertex.block.batches().iter().any(|batch| window.is_fresh(batch.sequence));
        self.graph.set_wakes(reference, wakes);
    }
}

/// What a block names that a commit can still deliver.
fn deliverable<'a>(graph: &'a Graph, ledger: &'a Ledger) -> impl Fn(&BlockRef) -> Vec<BatchRef> + 'a {
    |reference| {
        let window = &ledger.windows[reference.author.usize()];
        let batches = graph.get(reference).map_or(&[][..], |vertex| vertex.block.batches());
        batches.iter().filter(|batch| window.is_fresh(batch.sequence)).copied().collect()
    }
}

/// The sequences that a commit delivers, by author.
fn settled(pending: &Pending) -> BTreeMap<AuthorityIndex, Vec<Sequence>> {
    let mut settled: BTreeMap<AuthorityIndex, Vec<Sequence>> = BTreeMap::new();
    for delivered in &pending.batches {
        settled.entry(delivered.author).or_default().push(delivered.batch.sequence);
    }
    settled
}
