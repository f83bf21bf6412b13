//! From disk to a running core.
//!
//! Promises: the state is that before the stop, since it is a function of the stored commits and blocks; no round is proposed
//! twice; a disk that contradicts itself, or that lost what was signed, stops the node before it says a word.

use std::collections::BTreeSet;
use std::sync::Arc;

use rorqual_config::AuthorityIndex;
use rorqual_config::encoding::decode;

use super::Core;
use crate::commit::ledger::Snapshot;
use crate::dag::graph::Vertex;
use crate::effect::{Effect, Halt};
use crate::input::Recovered;
use crate::types::{BatchKey, BlockRef, CommitIndex, Delivery, Sequence, VerifiedBlock};

fn bad<T>(what: impl Into<String>) -> Result<T, Halt> {
    Err(Halt::BadRecovery(what.into()))
}

impl Core {
    pub(super) fn restore(&mut self, recovered: Recovered) -> Result<(), Halt> {
        if recovered.own_last.is_none() && !recovered.never_signed {
            return Err(Halt::Unmarked);
        }
        self.own.never_signed = recovered.never_signed;
        let executed = recovered.executed.map_or(CommitIndex(0), |(index, _)| index);
        self.executed = executed;
        self.counters.executed = executed.0;
        for (index, state) in recovered.state_digests.iter().chain(&recovered.executed) {
            self.checkpoints.executed(*index, *state);
        }
        let snapshot = match &recovered.snapshot {
            Some((index, bytes)) => Some(self.restore_snapshot(*index, bytes)?),
            None => None,
        };
        let late = self.restore_blocks(&recovered, snapshot.as_ref());
        for (reference, _) in snapshot.iter().flat_map(|snapshot| &snapshot.committed) {
            if !self.graph.commit(reference) {
                return bad(format!("block {reference:?}, which the snapshot names, is not there"));
            }
            self.graph.claim_delivery(reference);
        }
        let start = self.records.last.index;
        if executed < start && recovered.commits.first().is_none_or(|first| first.commit.index > executed.next()) {
            return bad(format!("execution is at commit {executed} and the commits after it are not there"));
        }
        // At and below the snapshot a commit is only delivered again.
        for delivery in recovered.commits.iter().filter(|delivery| delivery.commit.index > start) {
            self.replay(delivery)?;
        }
        if self.records.last.index < executed {
            return bad(format!("execution is at commit {executed}, the log ends at {}", self.records.last.index));
        }
        self.restore_certificate(&recovered);
        self.index.advance(self.ledger.leader_round.next());
        self.reindex()?;
        self.restore_last(&recovered);
        self.restore_own(&recovered);
        if let Some(held) = self.own.held.clone() {
            self.vouch_for_parents(&held);
        }
        self.recover_claims();
        self.await_unexecuted(&recovered, executed);
        for block in late {
            let news = self.tally.observe(&block, self.ledger.index);
            self.records.voted(news);
            self.to_link.push_back((block.author(), block));
        }
        Ok(())
    }

    fn restore_snapshot(&mut self, index: CommitIndex, bytes: &[u8]) -> Result<Snapshot, Halt> {
        let snapshot: Snapshot = match decode(bytes) {
            Ok(snapshot) => snapshot,
            Err(error) => return bad(format!("the snapshot after commit {index}: {error}")),
        };
        let reference = match snapshot.reference.filter(|reference| reference.index == index) {
            Some(reference) if snapshot.ledger.windows.len() == self.setup.committee.size() => reference,
            _ => return bad(format!("the snapshot after commit {index} is of something else")),
        };
        self.ledger = snapshot.ledger.clone();
        self.records.start_at(reference);
        self.graph.collect(self.ledger.gc_round(&self.setup.committee));
        self.checkpoints.ordered(index, self.ledger.digest(&snapshot.committed));
        Ok(snapshot)
    }

    /// Puts stored blocks into the graph in round order. Returns those whose parents are not all there.
    fn restore_blocks(&mut self, recovered: &Recovered, snapshot: Option<&Snapshot>) -> Vec<VerifiedBlock> {
        let of_snapshot = snapshot.into_iter().flat_map(|snapshot| snapshot.committed.iter().map(|(r, _)| *r));
        let of_commits = recovered.commits.iter().flat_map(|delivery| delivery.commit.blocks.iter().copied());
        let committed: BTreeSet<BlockRef> = of_snapshot.chain(of_commits).collect();
        let mut sorted: Vec<&VerifiedBlock> = recovered.blocks.iter().chain(&recovered.own_last).collect();
        sorted.sort_by_key(|block| block.reference());
        sorted.dedup_by_key(|block| block.reference());
        let mut late = Vec::new();
        let gc_round = self.graph.gc_round();
        let last = recovered.own_last.as_ref().map(VerifiedBlock::reference);
        for block in sorted.into_iter().filter(|block| block.round() > gc_round) {
            let linked = || block.parents().iter().all(|parent| self.graph.is_linked(parent));
            if committed.contains(&block.reference()) || (last != Some(block.reference()) && linked()) {
                self.graph.insert(Vertex::new(block.clone(), self.now.monotonic));
                self.clock.observe(block);
            } else if last != Some(block.reference()) {
                late.push(block.clone());
            }
        }
        late
    }

    /// Applies a stored record to the ledger and checks that it is what we would decide again.
    fn replay(&mut self, delivery: &Delivery) -> Result<(), Halt> {
        let (commit, last) = (&delivery.commit, self.records.last);
        if commit.index != last.index.next() || commit.previous != last.digest {
            return bad(format!("commit {} does not follow commit {}", commit.index, last.index));
        }
        for reference in &commit.blocks {
            if !self.graph.commit(reference) {
                return bad(format!("block {reference:?} of commit {} is not there", commit.index));
            }
        }
        let moved = self.advance_ledger(commit.leader_round, &commit.leaders, &commit.blocks);
        let Some((_, delivered)) = moved.filter(|(time, _)| *time == commit.timestamp_ms) else {
            return bad(format!("commit {} is not at the time that its record says", commit.index));
        };
        if delivered != delivery.batches {
            return bad(format!("commit {} does not deliver what its record says", commit.index));
        }
        if !delivered.is_empty() {
            self.records.last_with_payload = commit.index;
        }
        self.graph.collect(self.ledger.gc_round(&self.setup.committee));
        if self.checkpoints.is_checkpoint(commit.index) {
            let digest = self.ledger.digest(&self.graph.committed());
            self.checkpoints.ordered(commit.index, digest);
        }
        if let (Some(state), Some(aux)) = (self.checkpoints.bound_by(commit.index), commit.aux) {
            self.checkpoints.expect(state, aux);
        }
        self.records.recorded(commit.header(), commit.reference(), true);
        Ok(())
    }

    fn restore_certificate(&mut self, recovered: &Recovered) {
        let Some(certificate) = &recovered.certificate else { return };
        self.tally.observe_certificate(certificate);
        let signers = certificate.signers.iter().map(|signer| signer.author).collect();
        match self.committee().is_quorum(&signers) {
            true => self.tally.set_certified(certificate.index()),
            false => self.records.weakly_certified = certificate.index(),
        }
    }

    /// Votes, reach, references and payload of everything in the graph, in round order.
    fn reindex(&mut self) -> Result<(), Halt> {
        let blocks: Vec<(VerifiedBlock, bool)> =
            self.graph.iter().map(|vertex| (vertex.block.clone(), vertex.committed)).collect();
        for (block, committed) in blocks {
            let reference = block.reference();
            let reach = self.index.link(&block, &self.graph, &self.setup.committee)?;
            let (foreign, missing) = (block.author() != self.setup.me, self.unknown_payload(&block));
            if let Some(vertex) = self.graph.get_mut(&reference) {
                vertex.reach = reach;
                if foreign && !committed {
                    vertex.missing = missing;
                }
            }
            self.adopt_parents(&block);
            match foreign {
                true if !committed => self.claim(&block, reference.author),
                false if !committed => self.vouch_for_parents(&block),
                _ => (),
            }
            self.mark_history(&block);
            self.look_at_wakefulness(&reference);
            let news = self.tally.observe(&block, self.ledger.index);
            self.records.voted(news);
        }
        Ok(())
    }

    /// Our last block, if no commit has it: it is the block of its round, unless it is proven that it never left. It is not
    /// judged by what we would make of it now: commits and the garbage-collection round that it was made under may be known
    /// again only once everything on disk is linked and decided on.
    fn restore_last(&mut self, recovered: &Recovered) {
        let Some(block) = recovered.own_last.clone() else { return };
        if self.graph.get(&block.reference()).is_some_and(|vertex| vertex.committed) {
            self.own.last = Some(block);
            return;
        }
        self.own.last = recovered.own_before.clone();
        let never_left = self.never_left(&block, recovered);
        if let Some(cover) = &recovered.cover {
            self.undurable.found(cover, !never_left);
        }
        match never_left {
            true => self.own.given_up = Some(block.reference()),
            false => self.own.held = Some(block),
        }
    }

    /// Whether the disk proves that the durable point of this own block never completed: its cover is there, and payload is not
    /// that it names. What is delivered or stale may have been deleted since, and so may anything once the cover is gone.
    fn never_left(&self, block: &VerifiedBlock, recovered: &Recovered) -> bool {
        let covered = recovered.cover.as_ref().is_some_and(|cover| cover.block == block.reference());
        let window = |author: AuthorityIndex| self.ledger.windows.get(author.usize());
        let lost = |key: &BatchKey| window(key.author).is_some_and(|window| window.is_fresh(key.sequence));
        block.round() > recovered.completed && covered && recovered.absent.iter().any(lost)
    }

    /// Own payload that is not delivered: in an uncommitted own block that can still commit, or to be named again.
    fn restore_own(&mut self, recovered: &Recovered) {
        let me = self.setup.me;
        self.batches.reserve(Sequence(self.ledger.windows[me.usize()].highest().0.saturating_add(1)));
        for batch in &recovered.own_batches {
            if self.ledger.windows[me.usize()].is_fresh(batch.sequence) {
                self.batches.restored(*batch);
            } else {
                self.batches.reserve(Sequence(batch.sequence.0.saturating_add(1)));
            }
        }
        let own = self.graph.iter().filter(|vertex| vertex.block.author() == me && !vertex.committed);
        let own = own.map(|vertex| &vertex.block).chain(&self.own.held);
        for block in own {
            self.batches.already_named(block.batches());
        }
    }

    /// Commits above what execution has applied are delivered again. Those that we may still vote for, too, are solid only
    /// when their payload is seen again: execution's word can be on disk although the payload was lost with the power.
    fn await_unexecuted(&mut self, recovered: &Recovered, executed: CommitIndex) {
        let (me, certified) = (self.setup.me, self.tally.certified());
        for delivery in recovered.commits.iter().filter(|d| d.commit.index > executed.min(certified)) {
            let index = delivery.commit.index;
            let mut missing: BTreeSet<BatchKey> = BTreeSet::new();
            for batch in delivery.batches.iter().filter(|batch| batch.author != me) {
                self.await_delivered(batch, index, true);
                missing.insert(batch.key());
            }
            self.records.decided(index, missing);
            if index > executed {
                self.out.effect(Effect::Deliver(Arc::new(delivery.clone())));
            }
        }
    }
}
