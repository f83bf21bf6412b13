//! What to propose: parents, payload, votes.
//!
//! Promises: every reference is to a block that we may reference; a quorum of parents of the round before; at most one block
//! a round over all restarts, linked and sent only once it is durable; under stress blocks are empty, never missing.

use std::collections::BTreeSet;

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;

use super::pacemaker::Readiness;
use super::{Core, count};
use crate::commit::index::vote_of;
use crate::dag::graph::Vertex;
use crate::effect::{Effect, Halt, OwnWrite, Write};
use crate::input::Token;
use crate::types::{BatchRef, BlockCore, BlockRef, Round, VerifiedBlock};

/// A node that is always late, or that seems to reach nobody, gets its payload in with one block of this many.
const LATE_SHARE: u64 = 4;
/// Vertices looked at to find how much payload a parent newly pulls in.
const MAX_PULLED: usize = 1_024;

/// The parents chosen so far.
struct Choice<'a> {
    /// The round before the block's.
    below: Round,
    parents: Vec<&'a Vertex>,
    authors: AuthoritySet,
    pulled: BTreeSet<BlockRef>,
    unsettled_bytes: u64,
}

impl Core {
    /// Proposes if it is time; else asks to be woken when it may be.
    pub(super) fn propose(&mut self) {
        let mut audience = self.peers.subscribed;
        audience.insert(self.setup.me);
        if self.own.coming().is_some() || !self.knows_own_past() || !self.committee().is_quorum(&audience) {
            return;
        }
        let round = self.next_round();
        if !self.round_is_filled(round.previous()) {
            return self.ease_claims(round.previous());
        }
        self.pacemaker.held_up = None;
        let since = self.enter(round);
        match self.readiness(round, since) {
            Readiness::Wait(at) => self.out.wake(at),
            Readiness::Rest(at) => {
                (self.pacemaker.rested, self.pacemaker.push_at) = (true, None);
                self.out.wake(at);
            }
            Readiness::Now | Readiness::Behind => self.write_own(round),
        }
    }

    fn write_own(&mut self, round: Round) {
        let Some(parents) = self.choose_parents(round) else { return };
        let carries = !self.would_be_past(round, &parents) && self.may_carry_payload(round);
        let batches = if carries { self.take_payload() } else { Vec::new() };
        let votes = self.records.take_votes(self.committee().protocol().max_votes_per_block as usize);
        let core = BlockCore {
            epoch: self.committee().epoch(),
            round,
            author: self.setup.me,
            // Not bound to our last block: one start with a wrong clock would stay in every later block.
            timestamp_ms: self.now.wall_ms,
            parents,
            batches,
            end_epoch: false,
        };
        let block = VerifiedBlock::sign(core, votes, &self.setup.committee, &self.setup.key);
        let first = std::mem::take(&mut self.own.never_signed);
        let (cover, replaces) = (Some(self.cover(block.reference())), self.own.given_up.take());
        self.out.write(Write::Own(OwnWrite { block: block.clone(), cover, first, replaces }));
        let token = self.begin_durable_point();
        self.own.in_flight = Some((token, block));
        let now = self.now.monotonic;
        self.pacemaker.limiter.spend(now, 1);
        self.pacemaker.proposed_at = Some(now);
        self.clocks.proposed(round);
        count(&mut self.counters.proposed, 1);
    }

    /// After a restart: writes our last block again, synced, once everything that it stands for is here.
    pub(super) fn write_held(&mut self) {
        let Some(block) = &self.own.held else { return };
        let whole = block.parents().iter().all(|parent| self.graph.is_usable(parent))
            && block.votes().last().is_none_or(|vote| vote.index <= self.records.solid());
        // What is too old to be linked binds nobody any more; it only keeps its round taken.
        if !whole && block.round() > self.graph.gc_round() {
            return;
        }
        // It may have left already, so nothing that is lost from now on could prove that it did not: no cover.
        self.out.write(Write::Own(OwnWrite { block: block.clone(), cover: None, first: false, replaces: None }));
        let token = self.begin_durable_point();
        self.own.in_flight = self.own.held.take().map(|block| (token, block));
    }

    fn take_payload(&mut self) -> Vec<BatchRef> {
        let rules = self.setup.committee.protocol();
        // Beyond this our peers could have no room for it, and without them no commit would make room.
        let allowance = rules.author_allowance_bytes().saturating_sub(self.batches.named_bytes());
        self.batches.name(rules.max_batches_per_block as usize, rules.max_block_payload_bytes.min(allowance))
    }

    /// Our block is durable: now it counts and leaves.
    pub(super) fn on_persisted(&mut self, token: Token) -> Result<(), Halt> {
        let block = self.own.in_flight.take_if(|(waiting, _)| *waiting == token);
        self.end_durable_point(token, block.is_some());
        let Some((_, block)) = block else { return Ok(()) };
        self.own.last = Some(block.clone());
        let news = self.tally.observe(&block, self.ledger.index);
        self.records.voted(news);
        if block.round() <= self.graph.gc_round() {
            // The world has moved on while we wrote.
            count(&mut self.counters.requeued, self.batches.requeue(block.batches()));
        }
        self.to_link.push_back((self.setup.me, block.clone()));
        self.link_all()?;
        let subscribed = self.peers.subscribed;
        self.mark_sent(&block.reference(), subscribed);
        for peer in subscribed.iter() {
            self.out.effect(Effect::SendOwn { peer, block: block.clone() });
        }
        self.pacemaker.push_at = Some(self.now.monotonic + self.push_pause());
        if !self.pacemaker.rested {
            self.push_history();
        }
        Ok(())
    }

    /// Own block before, then one for each author in ascending order. `None` if a quorum of the round before is not there.
    fn choose_parents(&self, round: Round) -> Option<Vec<BlockRef>> {
        let (me, committee) = (self.setup.me, self.committee());
        let genesis = |author| BlockRef::genesis(committee.chain_id(), author);
        let own = self.own.last.as_ref().map_or(genesis(me), VerifiedBlock::reference);
        let others = committee.authorities().filter(|author| *author != me);
        if round.0 == 1 {
            return Some(std::iter::once(own).chain(others.map(genesis)).collect());
        }
        let mut choice = self.choose_strong(round);
        let mut strong = choice.authors;
        if own.round == round.previous() {
            strong.insert(me);
        }
        if !committee.is_quorum(&strong) {
            return None;
        }
        for author in others.filter(|author| !strong.contains(*author)) {
            let late = self.late_parent(author, round).filter(|vertex| self.affords(&choice, vertex).is_some());
            if let Some(vertex) = late {
                self.choose(&mut choice, vertex);
            }
        }
        choice.parents.sort_unstable_by_key(|vertex| vertex.block.author());
        Some(std::iter::once(own).chain(choice.parents.iter().map(|vertex| vertex.block.reference())).collect())
    }

    /// Parents of the round before: the leader, everybody in good standing or settled, and whoever is needed for a quorum of
    /// parents or of votes.
    fn choose_strong(&self, round: Round) -> Choice<'_> {
        let (me, below) = (self.setup.me, round.previous());
        let targets = self.vote_targets(round);
        let variant = |author| self.preferred_variant(below, author, &targets);
        let others = || self.committee().authorities().filter(|author| *author != me);
        let (parents, pulled) = Default::default();
        let mut choice = Choice { below, parents, authors: AuthoritySet::EMPTY, pulled, unsettled_bytes: 0 };
        let leaders: AuthoritySet = self.index.schedule().leaders(below).collect();
        for author in others().filter(|author| leaders.contains(*author)) {
            let votes = |vertex: &&Vertex| !self.is_convicted(author) || self.is_settled(vertex);
            variant(author).into_iter().filter(votes).for_each(|vertex| self.choose(&mut choice, vertex));
        }
        for vertex in others().filter(|author| !leaders.contains(*author)).filter_map(variant) {
            let trusted = self.is_settled(vertex) || !self.is_on_probation(vertex.block.author(), below);
            if trusted && self.affords(&choice, vertex).is_some() {
                self.choose(&mut choice, vertex);
            }
        }
        let own = self.own.last.as_ref().filter(|own| own.round() == below);
        for vertex in others().filter_map(variant) {
            let author = vertex.block.author();
            if choice.authors.contains(author) {
                continue;
            }
            let mut strong = choice.authors;
            if own.is_some() {
                strong.insert(me);
            }
            let votes_missing = targets.iter().any(|(slot, target)| {
                let votes = |block: &VerifiedBlock| vote_of(block, slot.round, slot.author) == Some(*target);
                let chosen = choice.parents.iter().map(|vertex| &vertex.block).chain(own);
                let voters: AuthoritySet = chosen.filter(|b| votes(b)).map(VerifiedBlock::author).collect();
                votes(&vertex.block) && !self.committee().is_quorum(&voters)
            });
            if votes_missing || !self.committee().is_quorum(&strong) {
                self.choose(&mut choice, vertex);
            }
        }
        choice
    }

    /// For each leader slot two rounds below the digest for which a quorum of usable blocks votes.
    fn vote_targets(&self, round: Round) -> Vec<(BlockRef, rorqual_config::Digest)> {
        let slot_round = round.minus(2);
        if slot_round.0 == 0 {
            return Vec::new();
        }
        let leaders = self.index.schedule().leaders(slot_round);
        let variants = leaders.flat_map(|leader| self.graph.variants(slot_round, leader));
        let certified = variants.filter(|leader| {
            let reference = leader.block.reference();
            let voters = self.graph.round(slot_round.next()).filter(|vertex| vertex.usable());
            let votes = voters.filter(|v| vote_of(&v.block, slot_round, reference.author) == Some(reference.digest));
            self.committee().is_quorum(&votes.map(|vertex| vertex.block.author()).collect())
        });
        certified.map(|leader| (leader.block.reference(), leader.block.reference().digest)).collect()
    }

    /// The usable block of an author to reference: of several the one that votes with a quorum, else the first received.
    fn preferred_variant(
        &self,
        round: Round,
        author: AuthorityIndex,
        targets: &[(BlockRef, rorqual_config::Digest)],
    ) -> Option<&Vertex> {
        let usable = || self.graph.variants(round, author).iter().filter(|vertex| vertex.may_be_parent());
        let agrees = |vertex: &&Vertex| {
            targets.iter().all(|(slot, digest)| vote_of(&vertex.block, slot.round, slot.author) == Some(*digest))
        };
        usable().find(agrees).or_else(|| usable().next())
    }

    /// The highest settled block of an author below the round before that our history lacks.
    fn late_parent(&self, author: AuthorityIndex, round: Round) -> Option<&Vertex> {
        let lowest = self.graph.gc_round().max(round.minus(self.committee().protocol().gc_depth).previous());
        let mut at = self.clock.round_of(author).min(round.previous());
        while at > lowest {
            let mut variants = self.graph.variants(at, author).iter();
            if variants.clone().any(|vertex| vertex.committed || vertex.in_history_of.contains(self.setup.me)) {
                return None;
            }
            if let Some(vertex) = variants.find(|vertex| vertex.may_be_parent() && self.is_settled(vertex)) {
                return Some(vertex);
            }
            at = at.previous();
        }
        None
    }

    /// Whether twins of this author were seen, not long ago.
    pub(super) fn is_convicted(&self, author: AuthorityIndex) -> bool {
        self.probation.is_convicted(author, self.graph.gc_round())
    }

    fn is_on_probation(&self, author: AuthorityIndex, round: Round) -> bool {
        self.is_convicted(author) || self.probation.applies(author, round)
    }

    /// Others have it: an honest member references it, or it has been here for a while.
    fn is_settled(&self, vertex: &Vertex) -> bool {
        let by_age = !self.is_convicted(vertex.block.author());
        by_age && vertex.linked_at + self.settling_time() <= self.now.monotonic
            || self.committee().stake_of(&vertex.referenced_by) >= self.committee().validity()
    }

    /// The unsettled payload that this parent would newly pull in, if the choice can bear it.
    fn affords(&self, choice: &Choice<'_>, vertex: &Vertex) -> Option<u64> {
        let (_, bytes) = self.pulled_by(choice, vertex);
        let total = choice.unsettled_bytes.saturating_add(bytes);
        (bytes == 0 || total <= self.setup.parameters.max_unsettled_bytes).then_some(bytes)
    }

    fn choose<'a>(&self, choice: &mut Choice<'a>, vertex: &'a Vertex) {
        let (pulled, bytes) = self.pulled_by(choice, vertex);
        choice.pulled.extend(pulled);
        choice.unsettled_bytes = choice.unsettled_bytes.saturating_add(bytes);
        choice.authors.insert(vertex.block.author());
        choice.parents.push(vertex);
    }

    /// Unsettled blocks that our history gains with this parent, and their payload in bytes. A fresh block of an author in
    /// good standing is as good as settled: everybody is being sent its payload.
    fn pulled_by(&self, choice: &Choice<'_>, vertex: &Vertex) -> (Vec<BlockRef>, u64) {
        let (mut found, mut bytes, mut stack) = (BTreeSet::new(), 0u64, vec![vertex]);
        while let Some(vertex) = stack.pop() {
            let reference = vertex.block.reference();
            let known = vertex.committed || vertex.in_history_of.contains(self.setup.me);
            if known || self.is_settled(vertex) || choice.pulled.contains(&reference) || found.len() >= MAX_PULLED {
                continue;
            }
            if found.insert(reference) {
                let fresh = reference.round == choice.below && !self.is_on_probation(reference.author, choice.below);
                let payload = vertex.block.batches().iter().map(|batch| u64::from(batch.bytes));
                bytes = bytes.saturating_add(if fresh { 0 } else { payload.sum::<u64>() });
                stack.extend(vertex.block.parents().iter().filter_map(|parent| self.graph.get(parent)));
            }
        }
        (found.into_iter().collect(), bytes)
    }

    /// Whether the next block may carry payload. A block under stress is empty: silence would stop the clock. Who is late or
    /// far may be so for ever, so a share of its blocks carries payload all the same; blocks are counted, since the rounds that
    /// it fills may never be multiples of anything.
    fn may_carry_payload(&self, round: Round) -> bool {
        let far = self.clock.quorum_at(round.next(), self.committee()) || self.reaches_nobody();
        let stalled = round.0.saturating_sub(self.ledger.leader_round.0) > self.setup.parameters.uncommitted_cap;
        (!far || self.counters.proposed.is_multiple_of(LATE_SHARE)) && !stalled && !self.too_far_from_solid()
    }

    /// Execution's payload is too far behind decisions.
    pub(super) fn too_far_from_solid(&self) -> bool {
        self.ledger.index.0.saturating_sub(self.records.solid().0) > self.setup.parameters.solid_lag
    }

    /// Too many own blocks that no quorum has in its history though it had the time to: our link up is bad. What is younger says
    /// nothing, since to a node that is far from the others many rounds pass before any answer can be here.
    fn reaches_nobody(&self) -> bool {
        let patience = self.patience().max(self.delays.quorum() * 2);
        let (mut at, mut count) = (self.own.last.as_ref().map(VerifiedBlock::reference), 0);
        while let Some(vertex) = at.and_then(|reference| self.graph.get(&reference)) {
            if vertex.committed || self.committee().is_quorum(&vertex.in_history_of) {
                return false;
            }
            count = u64::saturating_add(count, u64::from(vertex.linked_at + patience <= self.now.monotonic));
            if count > self.setup.parameters.propagation_limit {
                return true;
            }
            at = vertex.block.parents().first().copied();
        }
        false
    }
}
