//! From decisions to records: linearise, deliver, collect garbage, bind the state, count votes.
//!
//! Promises: decisions run ahead of payload and of execution; records do not leave before their digest is known; a digest of
//! ours that an honest member contradicts stops the node.

use std::collections::BTreeSet;
use std::sync::Arc;

use rorqual_config::{AuthorityIndex, Digest};

use super::records::Pending;
use super::{Core, count};
use crate::commit::ledger::Snapshot;
use crate::commit::linearize;
use crate::commit::rule::{self, DecidedRound};
use crate::dag::graph::Vertex;
use crate::dag::payload::Waiter;
use crate::effect::{Effect, Halt, Write};
use crate::penalty::Rule;
use crate::types::commit::DeliveredBatch;
use crate::types::{BatchKey, BlockRef, Commit, CommitIndex, Delivery, Round, merkle};

impl Core {
    /// Decides what can be decided and commits at most one leader round. True if there was one.
    pub(super) fn commit_next(&mut self) -> Result<bool, Halt> {
        if !self.undecided {
            return Ok(false);
        }
        rule::decide(&mut self.index, &self.graph, &self.setup.committee, &mut self.counters.decisions)?;
        let Some(decided) = rule::emit(&mut self.index) else {
            self.undecided = false;
            return Ok(false);
        };
        self.commit_round(decided)?;
        Ok(true)
    }

    fn commit_round(&mut self, decided: DecidedRound) -> Result<(), Halt> {
        let DecidedRound { round, leaders } = decided;
        let gc_round = self.graph.gc_round();
        let blocks = self.mark_committed(round, &leaders)?;
        let Some((timestamp_ms, batches)) = self.advance_ledger(round, &leaders, &blocks) else {
            return Err(Halt::Invariant(format!("a parent of a leader of round {round} is not there")));
        };
        let commit = Commit {
            epoch: self.committee().epoch(),
            index: self.ledger.index,
            previous: Digest::default(),
            leader_round: round,
            leaders,
            timestamp_ms,
            gc_round,
            blocks_root: merkle::root(&blocks),
            blocks,
            batches_root: merkle::root(&batches),
            aux: None,
        };
        let pending = Pending { commit, batches, certified: None, certificate: None, votes: true, snapshot: None };
        self.after_commit(pending);
        Ok(())
    }

    fn mark_committed(&mut self, round: Round, leaders: &[BlockRef]) -> Result<Vec<BlockRef>, Halt> {
        let fresh = |leader: &BlockRef| self.graph.get(leader).is_some_and(|vertex| !vertex.committed);
        if !leaders.iter().all(fresh) {
            return Err(Halt::Invariant(format!("a leader of round {round} is not there or was committed before")));
        }
        Ok(linearize::order(&mut self.graph, round, leaders, self.setup.committee.size()))
    }

    /// Moves the ledger over the next commit, whose blocks are marked and above whose `gc_round` nothing was dropped; returns its
    /// time in milliseconds since the Unix epoch and what it delivers. `None` if a parent of its leaders is not there.
    pub(super) fn advance_ledger(
        &mut self,
        round: Round,
        leaders: &[BlockRef],
        blocks: &[BlockRef],
    ) -> Option<(u64, Vec<DeliveredBatch>)> {
        let median = linearize::median(&self.graph, round, leaders, &self.setup.committee)?;
        self.ledger.index = self.ledger.index.next();
        self.ledger.leader_round = round;
        let time = self.ledger.time.advance(median);
        Some((time, linearize::deliver(&mut self.graph, &mut self.ledger, blocks)))
    }

    /// Everything that follows from a decided commit, whether decided here or applied from a certified range.
    pub(super) fn after_commit(&mut self, mut pending: Pending) {
        let index = pending.commit.index;
        let missing = self.settle_payload(&pending);
        self.records.decided(index, missing);
        if !pending.batches.is_empty() {
            self.records.last_with_payload = index;
        }
        self.settle_own(&pending.commit.blocks, &pending.batches);
        self.settle_claims(&pending);
        self.collect_garbage();
        self.pacemaker.committed(self.base_timeout());
        self.catch_up.progressed(self.now.monotonic);
        if self.checkpoints.is_checkpoint(index) {
            let committed = self.graph.committed();
            self.checkpoints.ordered(index, self.ledger.digest(&committed));
            pending.snapshot = Some(Snapshot { ledger: self.ledger.clone(), committed, reference: None });
        }
        self.records.waiting.push_back(pending);
    }

    /// Committed blocks are usable, whatever is missing; what is delivered and missing is now awaited by the commit.
    fn settle_payload(&mut self, pending: &Pending) -> BTreeSet<BatchKey> {
        let Pending { commit, batches, certified, .. } = pending;
        let (index, blocks) = (commit.index, &commit.blocks);
        let mut absent: BTreeSet<BatchKey> = BTreeSet::new();
        let mut waited: Vec<(BlockRef, BatchKey)> = Vec::new();
        // What found no room was asked of nobody.
        let mut unasked: BTreeSet<AuthorityIndex> = BTreeSet::new();
        for reference in blocks {
            if self.claims.is_waiting(reference) {
                unasked.insert(reference.author);
            }
            if let Some(vertex) = self.graph.get_mut(reference) {
                waited.extend(std::mem::take(&mut vertex.missing).into_iter().map(|key| (*reference, key)));
            }
            self.became_usable(reference);
        }
        absent.extend(waited.iter().map(|(_, key)| *key));
        let mut missing = BTreeSet::new();
        for delivered in batches.iter().filter(|delivered| absent.contains(&delivered.key())) {
            // A commit of our own decision was voted for by blocks that we have: their authors are asked already.
            let anybody = certified.is_some() || unasked.contains(&delivered.author);
            self.await_delivered(delivered, index, anybody);
            missing.insert(delivered.key());
        }
        for (reference, key) in waited {
            self.forget_batch(key, Waiter::Block(reference));
        }
        missing
    }

    /// Own payload that is delivered is done; own payload of a committed block that was not delivered goes again.
    fn settle_own(&mut self, blocks: &[BlockRef], batches: &[DeliveredBatch]) {
        let me = self.setup.me;
        for delivered in batches.iter().filter(|delivered| delivered.author == me) {
            self.batches.delivered(delivered.batch.sequence);
        }
        for reference in blocks.iter().filter(|reference| reference.author == me) {
            if let Some(vertex) = self.graph.get(reference) {
                let window = &self.ledger.windows[me.usize()];
                let (fresh, stale): (Vec<_>, Vec<_>) =
                    vertex.block.batches().iter().partition(|batch| window.is_fresh(batch.sequence));
                count(&mut self.counters.requeued, self.batches.requeue(&fresh));
                // Never to be delivered: another content was, under the same sequence.
                stale.iter().for_each(|batch| self.batches.delivered(batch.sequence));
            }
        }
    }

    /// Raises the garbage-collection round to what the last commit says.
    pub(super) fn collect_garbage(&mut self) {
        let round = self.ledger.gc_round(&self.setup.committee);
        if round <= self.graph.gc_round() {
            return;
        }
        let dropped = self.graph.collect(round);
        self.settle_collected(&dropped);
        for vertex in dropped {
            self.drop_vertex(vertex);
        }
        let (free, change) = self.suspended.collect(round);
        self.release(change);
        self.to_link.extend(free);
    }

    fn drop_vertex(&mut self, vertex: Vertex) {
        let reference = vertex.block.reference();
        let mut stack = Vec::new();
        self.relieve(vertex.dependants, &mut stack);
        for usable in stack {
            self.became_usable(&usable);
        }
        for key in vertex.missing {
            self.forget_batch(key, Waiter::Block(reference));
        }
        if reference.author == self.setup.me && !vertex.committed {
            // It can never be committed anywhere: the garbage-collection round is a function of the commit prefix.
            count(&mut self.counters.requeued, self.batches.requeue(vertex.block.batches()));
        }
    }

    /// Completes and writes the records whose `aux` is known.
    pub(super) fn flush_records(&mut self) -> Result<(), Halt> {
        if let Some(index) = self.checkpoints.contradiction() {
            return Err(Halt::StateDiverged { index, what: "order or execution".into() });
        }
        while let Some(front) = self.records.waiting.front() {
            let bound = self.checkpoints.bound_by(front.commit.index);
            let certified = front.certified;
            let aux = match (bound, certified) {
                (None, _) => None,
                (Some(state), _) if self.checkpoints.aux(state).is_some() => self.checkpoints.aux(state),
                (Some(state), Some(certified)) => {
                    if let Some(aux) = certified.aux {
                        self.checkpoints.expect(state, aux);
                    }
                    certified.aux
                }
                (Some(_), None) => break,
            };
            let Some(pending) = self.records.waiting.pop_front() else { break };
            self.write_record(pending, aux)?;
            if let Some(state) = bound {
                self.checkpoints.forget_below(state.next());
            }
        }
        self.records.settle(self.tally.certified());
        Ok(())
    }

    fn write_record(&mut self, pending: Pending, aux: Option<Digest>) -> Result<(), Halt> {
        let Pending { mut commit, batches, certified, certificate, votes, snapshot } = pending;
        commit.previous = self.records.last.digest;
        commit.aux = aux;
        let (header, reference) = (commit.header(), commit.reference());
        if let Some(certified) = certified.filter(|certified| certified.digest != reference.digest) {
            let (index, theirs) = (reference.index, certified.digest);
            if let Some(state) = self.checkpoints.bound_by(index).filter(|_| aux != certified.aux) {
                return Err(Halt::StateDiverged { index: state, what: "order or execution".into() });
            }
            let stake = self.committee().validity().0;
            return Err(Halt::Fork { index, ours: reference.digest, theirs, stake });
        }
        let delivery = Arc::new(Delivery { commit, batches });
        self.out.write(Write::Commit(delivery.clone()));
        if let Some(mut snapshot) = snapshot {
            snapshot.reference = Some(reference);
            let bytes = Arc::new(rorqual_config::encoding::encode(&snapshot));
            self.records.keep_snapshot(reference.index, bytes);
        }
        if let Some(certificate) = certificate {
            self.out.write(Write::Certificate(certificate));
        }
        self.out.effect(Effect::Deliver(delivery));
        count(&mut self.counters.commits, 1);
        self.records.recorded(header, reference, votes);
        Ok(())
    }

    /// Looks at the votes that came or that a new record makes countable: a fork, or a certificate.
    pub(super) fn settle_votes(&mut self) -> Result<(), Halt> {
        let news = self.records.take_news();
        if news.is_empty() {
            return Ok(());
        }
        let committee = self.setup.committee.clone();
        for index in &news {
            let Some(header) = self.records.header(*index) else { continue };
            let ours = header.digest();
            if let Some((stake, theirs)) = self.tally.against(*index, &ours, &committee)
                && stake >= committee.validity()
            {
                return Err(Halt::Fork { index: *index, ours, theirs, stake: stake.0 });
            }
            for voter in self.tally.dissenters(*index, &ours).iter() {
                self.penalise(voter, Rule::VoteAgainst);
            }
        }
        // One certificate covers everything below it: the highest full one of this step, and a weak one only above that.
        for index in news.iter().rev().filter(|index| **index > self.tally.certified()) {
            let Some(header) = self.records.header(*index) else { continue };
            if let Some(full) = self.tally.certificate(header, committee.quorum(), &committee) {
                self.out.write(Write::Certificate(Arc::new(full)));
                self.tally.set_certified(*index);
                break;
            }
            if *index > self.records.weakly_certified
                && let Some(weak) = self.tally.certificate(header, committee.validity(), &committee)
            {
                self.out.write(Write::Certificate(Arc::new(weak)));
                self.records.weakly_certified = *index;
            }
        }
        self.tally.prune(self.records.last.index);
        Ok(())
    }

    pub(super) fn on_executed(&mut self, index: CommitIndex, state: Digest) {
        self.executed = self.executed.max(index);
        self.counters.executed = self.executed.0;
        self.checkpoints.executed(index, state);
        for (index, bytes) in self.records.take_snapshots(index) {
            self.out.write(Write::Snapshot { index, bytes });
        }
    }
}
