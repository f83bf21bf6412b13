//! The incremental vote index: what each linked block says about the leader slots of the two rounds below it.
//!
//! A block of round r+1 votes for the block of a leader slot of round r that is among its parents, and blames the slot if
//! none is. A block of round r+2 whose parents of round r+1 hold a quorum of votes for one block is a certificate for it
//! (Mysticeti-C). Each block also carries the set of slots with a certificate in its history; the digest is kept once a slot,
//! since two certified digests would need a quorum intersection without an honest member.
//!
//! Promises: constant work for each parent, no recursion, no store reads; slots below the cursor are gone.

use std::collections::{BTreeMap, VecDeque};

use rorqual_config::committee::AuthoritySet;
use rorqual_config::{AuthorityIndex, Committee, Digest};

use super::rule::Decision;
use super::schedule::Schedule;
use crate::dag::graph::Graph;
use crate::dag::reach::SlotSet;
use crate::effect::Halt;
use crate::types::{Round, VerifiedBlock};

/// One leader slot and what is known about it.
#[derive(Clone, Debug)]
pub struct LeaderSlot {
    /// Its round.
    pub round: Round,
    /// Its author.
    pub leader: AuthorityIndex,
    /// Who voted for which digest; `None` is a blame. An equivocating voter may stand on several sides, once on each.
    pub votes: BTreeMap<Option<Digest>, AuthoritySet>,
    /// Authors with any block of the voting round.
    pub voters: AuthoritySet,
    /// Authors of certificates, by certified digest.
    pub certificates: BTreeMap<Digest, AuthoritySet>,
    /// What became of it; never changes once set.
    pub decision: Option<Decision>,
}

impl LeaderSlot {
    fn new(round: Round, leader: AuthorityIndex) -> Self {
        let (votes, certificates) = (BTreeMap::new(), BTreeMap::new());
        Self { round, leader, votes, voters: AuthoritySet::EMPTY, certificates, decision: None }
    }

    /// Authors with a block of the voting round that does not vote for `digest`.
    pub fn non_voters(&self, digest: &Digest) -> AuthoritySet {
        let others = self.votes.iter().filter(|(vote, _)| vote.as_ref() != Some(digest));
        others.fold(AuthoritySet::EMPTY, |set, (_, authors)| set.union(*authors))
    }

    /// The digest with a certificate, if there is one.
    pub fn certified(&self) -> Option<Digest> {
        self.certificates.keys().next().copied()
    }
}

/// The digest that `block` votes for in the slot of `leader` in `round`, the round before its own.
pub fn vote_of(block: &VerifiedBlock, round: Round, leader: AuthorityIndex) -> Option<Digest> {
    block.parents().iter().find(|p| p.author == leader && p.round == round).map(|p| p.digest)
}

/// All leader slots from the cursor on.
#[derive(Debug)]
pub struct VoteIndex {
    schedule: Schedule,
    cursor: Round,
    rounds: VecDeque<Vec<LeaderSlot>>,
}

impl VoteIndex {
    /// Nothing decided, nothing linked.
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, cursor: Round(1), rounds: VecDeque::new() }
    }

    /// The lowest round that is not emitted.
    pub fn cursor(&self) -> Round {
        self.cursor
    }

    /// The leader schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// How many rounds of slots are held.
    pub fn len(&self) -> usize {
        self.rounds.len()
    }

    /// Whether no slot is held.
    pub fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// The slots of a round at or above the cursor, if any vote for a round as high was seen.
    pub fn slots(&self, round: Round) -> &[LeaderSlot] {
        let place = round.0.checked_sub(self.cursor.0).map(|offset| offset as usize);
        place.and_then(|place| self.rounds.get(place)).map_or(&[], Vec::as_slice)
    }

    /// The same, to be changed.
    pub fn slots_mut(&mut self, round: Round) -> &mut [LeaderSlot] {
        let place = round.0.checked_sub(self.cursor.0).map(|offset| offset as usize);
        place.and_then(|place| self.rounds.get_mut(place)).map_or(&mut [], Vec::as_mut_slice)
    }

    /// The number of a slot in [`SlotSet`]s.
    pub fn number(&self, round: Round, offset: usize) -> u64 {
        // Linked rounds are in range, and a round has at most two slots: this is exact.
        round.0.saturating_mul(self.schedule.per_round()).saturating_add(offset as u64)
    }

    /// Moves the cursor up; what lies below is forgotten.
    pub fn advance(&mut self, cursor: Round) {
        while self.cursor < cursor {
            self.cursor = self.cursor.next();
            if self.rounds.pop_front().is_none() {
                self.cursor = cursor;
            }
        }
    }

    fn grow(&mut self, round: Round) {
        while self.cursor.plus(self.rounds.len() as u64) <= round {
            let next = self.cursor.plus(self.rounds.len() as u64);
            self.rounds.push_back(self.schedule.leaders(next).map(|leader| LeaderSlot::new(next, leader)).collect());
        }
    }

    /// Takes in a block whose parents are all linked, and returns what its history certifies.
    ///
    /// # Errors
    /// [`Halt`] where a quorum certified two blocks of one slot.
    pub fn link(&mut self, block: &VerifiedBlock, graph: &Graph, committee: &Committee) -> Result<SlotSet, Halt> {
        let round = block.round();
        let mut reach = SlotSet::default();
        let floor = self.number(self.cursor, 0);
        for parent in block.parents() {
            if let Some(vertex) = graph.get(parent) {
                reach.union_from(&vertex.reach, floor);
            }
        }
        if round > self.cursor {
            self.vote(block, round.previous());
        }
        if round > self.cursor.next() {
            self.certify(block, round.minus(2), graph, committee, &mut reach)?;
        }
        Ok(reach)
    }

    fn vote(&mut self, block: &VerifiedBlock, round: Round) {
        self.grow(round);
        for slot in self.slots_mut(round) {
            slot.voters.insert(block.author());
            slot.votes.entry(vote_of(block, round, slot.leader)).or_default().insert(block.author());
        }
    }

    fn certify(
        &mut self,
        block: &VerifiedBlock,
        round: Round,
        graph: &Graph,
        committee: &Committee,
        reach: &mut SlotSet,
    ) -> Result<(), Halt> {
        let voting = round.next();
        let voters = || block.parents().iter().filter(|p| p.round == voting).filter_map(|p| graph.get(p));
        let first = self.number(round, 0);
        for (offset, slot) in self.slots_mut(round).iter_mut().enumerate() {
            let mut tally: BTreeMap<Digest, AuthoritySet> = BTreeMap::new();
            for voter in voters() {
                if let Some(digest) = vote_of(&voter.block, round, slot.leader) {
                    tally.entry(digest).or_default().insert(voter.block.author());
                }
            }
            let Some((digest, _)) = tally.into_iter().find(|(_, authors)| committee.is_quorum(authors)) else {
                continue;
            };
            slot.certificates.entry(digest).or_default().insert(block.author());
            reach.insert(first.saturating_add(offset as u64));
            if slot.certificates.len() > 1 {
                return Err(Halt::Invariant(format!("two certified blocks by {} in round {round}", slot.leader)));
            }
            let late = slot.decision.is_some_and(|d| d != Decision::Commit(digest));
            if late && committee.is_quorum(&slot.certificates[&digest]) {
                return Err(Halt::Invariant(format!("the skipped slot of {} in round {round} commits", slot.leader)));
            }
        }
        Ok(())
    }
}
