//! Blocks and payload coming in, cheapest test first.
//!
//! Promises: commit votes are observed before anything is dropped; "seen" means linked or suspended and nothing earlier, so
//! that a block that was dropped can come again; per slot only two blocks are taken unless a block of another author needs more: an
//! equivocator's own chains never do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rorqual_config::AuthorityIndex;

use super::peers::Dropped;
use super::{Core, count};
use crate::dag::payload::Waiter;
use crate::dag::suspended::Change;
use crate::effect::{Effect, Halt};
use crate::penalty::Rule;
use crate::types::{BatchKey, BatchRef, BlockRef, VerifiedBlock};

/// More twins of a slot are taken only when a block needs them.
const MAX_UNASKED_VARIANTS: usize = 2;

impl Core {
    pub(super) fn on_block(&mut self, sender: AuthorityIndex, block: VerifiedBlock) -> Result<(), Halt> {
        let reference = block.reference();
        if !self.committee().contains(sender) || !self.committee().contains(reference.author) {
            return Ok(());
        }
        if reference.author == sender && !self.suspended.is_wanted(&reference) {
            // Not asked for, so it comes from our subscription.
            self.peers.heard(sender, self.now.monotonic);
        }
        if let Some(vertex) = self.graph.get_mut(&reference) {
            vertex.received_from.insert(sender);
            return Ok(());
        }
        if self.suspended.contains(&reference) {
            self.fetcher.came(&reference, sender);
            return Ok(());
        }
        self.check_own(&block)?;
        self.observe_votes(&block);
        if reference.round <= self.graph.gc_round() {
            self.fetcher.came(&reference, sender);
            return Ok(());
        }
        let wanted = self.suspended.is_wanted(&reference);
        let frontier = self.clock.frontier();
        let far = reference.round.0 > frontier.0.saturating_add(self.setup.parameters.max_ahead);
        let swamped = self.too_far_from_solid() && reference.round > frontier && !wanted;
        if self.drops_live_blocks() || far || swamped {
            count(&mut self.counters.dropped, 1);
            let ahead = Dropped::Ahead(frontier, self.ledger.index);
            self.peers.dropped(sender, if far { ahead } else { Dropped::Behind });
            return Ok(());
        }
        if !self.admit_variant(sender, &block) {
            self.fetcher.done(&reference);
            return Ok(());
        }
        self.fetcher.came(&reference, sender);
        self.to_link.push_back((sender, block));
        self.link_all()
    }

    /// Copies of blocks that were here when somebody looked. One that has gone since and is wanted is asked for again.
    pub(super) fn on_known_blocks(&mut self, sender: AuthorityIndex, refs: &[BlockRef]) {
        if !self.committee().contains(sender) {
            return;
        }
        for reference in refs {
            if let Some(vertex) = self.graph.get_mut(reference) {
                vertex.received_from.insert(sender);
            } else if self.suspended.contains(reference) {
                self.fetcher.done(reference);
            } else if self.suspended.is_wanted(reference) {
                self.fetcher.want(*reference, sender);
                self.fetch_at = Some(Duration::ZERO);
            }
        }
    }

    /// Whether another block of this slot may come in; shows evidence of the second.
    fn admit_variant(&mut self, sender: AuthorityIndex, block: &VerifiedBlock) -> bool {
        let (round, author) = (block.round(), block.author());
        let linked = self.graph.variants(round, author).iter().map(|vertex| &vertex.block);
        let known: Vec<VerifiedBlock> = linked.chain(self.suspended.variants(round, author)).cloned().collect();
        if let [other] = &known[..] {
            count(&mut self.counters.equivocations, 1);
            let blocks = [other.clone(), block.clone()];
            self.out.effect(Effect::Evidence { author, blocks });
            self.probation.convict(author, round);
            self.penalise(author, Rule::Equivocation);
        }
        let admitted = known.len() < MAX_UNASKED_VARIANTS || self.suspended.is_needed(&block.reference());
        if !admitted {
            count(&mut self.counters.dropped, 1);
            // Others may have had to link more of them; their author cannot have signed them honestly.
            if sender == author {
                self.penalise(author, Rule::Twins);
            }
        }
        admitted
    }

    /// Lets a block wait for its missing parents and asks for those that are nowhere.
    pub(super) fn suspend(&mut self, sender: AuthorityIndex, block: VerifiedBlock, missing: BTreeSet<BlockRef>) {
        let author = block.author();
        let absent: Vec<BlockRef> = missing.iter().filter(|parent| !self.suspended.contains(parent)).copied().collect();
        let reference = block.reference();
        let mut change = self.suspended.insert(sender, block, missing);
        let needed = std::mem::take(&mut change.needed);
        self.release(change);
        if !self.suspended.contains(&reference) {
            return;
        }
        for parent in absent.into_iter().filter(|parent| !self.is_superfluous(parent)).collect::<Vec<_>>() {
            self.fetcher.want(parent, sender);
            self.fetcher.want(parent, author);
        }
        // Some of them were of no use to anybody else until now.
        needed.into_iter().for_each(|parent| self.fetcher.want(parent, sender));
        self.fetch_at = Some(Duration::ZERO);
    }

    /// A twin more than is taken, and nobody but its author needs it.
    fn is_superfluous(&self, reference: &BlockRef) -> bool {
        let (round, author) = (reference.round, reference.author);
        let here =
            self.graph.variants(round, author).len().saturating_add(self.suspended.variants(round, author).len());
        here >= MAX_UNASKED_VARIANTS && !self.suspended.is_needed(reference)
    }

    /// Drops what nobody wants any more from the fetcher. An evicted block that others still want is asked for again.
    pub(super) fn release(&mut self, change: Change) {
        count(&mut self.counters.evicted, change.evicted.len() as u64);
        for reference in &change.unwanted {
            self.fetcher.done(reference);
        }
        for reference in change.evicted.iter().filter(|reference| reference.round > self.graph.gc_round()) {
            let holders: Vec<AuthorityIndex> = self.suspended.wanted_by(reference).collect();
            for holder in holders {
                self.fetcher.want(*reference, holder);
            }
            self.peers.dropped(reference.author, Dropped::Ahead(self.clock.frontier(), self.ledger.index));
        }
    }

    /// Sends the fetch requests that are due.
    pub(super) fn pump_fetches(&mut self) {
        let now = self.now.monotonic;
        if self.fetcher.is_empty() {
            self.fetch_at = None;
            return;
        }
        if self.fetcher.take_room() {
            self.fetch_at = Some(Duration::ZERO);
        }
        self.fetch_at = self.fetch_at.map(|at| at.max(self.fetch_not_before));
        if self.fetch_at.is_some_and(|at| at <= now) {
            let connected = self.peers.connected;
            let patience: BTreeMap<AuthorityIndex, Duration> =
                connected.iter().map(|peer| (peer, self.block_patience(peer))).collect();
            let (requests, next) =
                self.fetcher.due(now, connected, |peer| patience.get(&peer).copied().unwrap_or_default());
            self.fetch_at = next;
            self.fetch_not_before = now + self.fetcher.pause();
            for request in requests {
                count(&mut self.counters.fetches, 1);
                self.out.effect(Effect::FetchBlocks { peer: request.peer, refs: request.refs });
            }
        }
        if let Some(at) = self.fetch_at.filter(|at| *at > now) {
            self.out.wake(at);
        }
    }

    pub(super) fn on_batch_stored(&mut self, key: &BatchKey, bytes: u32) {
        self.undurable.stored(*key);
        for waiter in self.payload.stored(key) {
            match waiter {
                Waiter::Block(reference) => {
                    let Some(vertex) = self.graph.get_mut(&reference) else { continue };
                    let named = |batch: &BatchRef| batch.key(reference.author) == *key && batch.bytes == bytes;
                    if !vertex.block.batches().iter().any(named) {
                        // It stays incomplete until it is collected; so it does at everybody.
                        self.penalise(reference.author, Rule::PayloadLength);
                        continue;
                    }
                    vertex.missing.remove(key);
                    if vertex.usable() {
                        self.became_usable(&reference);
                    }
                }
                Waiter::Commit(index) => self.records.stored(index, key),
            }
        }
    }
}
