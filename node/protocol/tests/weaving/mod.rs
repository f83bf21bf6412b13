//! Random DAGs: as bad as at most F equivocators, slow links and silent members can make them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rorqual_config::committee::AuthoritySet;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_protocol::types::{BatchRef, BlockCore, BlockRef, Round, Sequence, VerifiedBlock};

use crate::random::Random;
use crate::{drawing, members};

/// How a DAG is woven. Chances are percentages.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub rounds: u64,
    /// Who writes blocks. Everybody else is silent.
    pub voters: Vec<AuthorityIndex>,
    /// Voters that may write several blocks for one round.
    pub equivocators: AuthoritySet,
    /// An author writes nothing in a round.
    pub absent: u64,
    /// A parent beyond the quorum is left out.
    pub dropped: u64,
    /// The same for the leader of the round.
    pub dropped_leader: u64,
    /// An older block is referenced for an author without a strong parent.
    pub weak: u64,
}

impl Pattern {
    /// A pattern for a committee whose last member writes nothing.
    pub fn random(committee: &Committee, rounds: u64, random: &mut Random) -> Self {
        let voters: Vec<AuthorityIndex> = committee.authorities().take(committee.size() - 1).collect();
        let faulty = random.below((voters.len() as u64 - 1) / 3 + 1);
        let mut shuffled = voters.clone();
        random.shuffle(&mut shuffled);
        Self {
            rounds,
            voters,
            equivocators: shuffled.into_iter().take(faulty as usize).collect(),
            absent: random.below(25),
            dropped: random.below(100),
            dropped_leader: random.below(100),
            weak: random.below(100),
        }
    }
}

struct Weaver<'a> {
    committee: &'a Arc<Committee>,
    pattern: &'a Pattern,
    random: &'a mut Random,
    /// Every variant of every slot.
    slots: BTreeMap<(Round, AuthorityIndex), Vec<BlockRef>>,
    blocks: Vec<VerifiedBlock>,
}

/// Blocks in an order in which parents come first.
pub fn weave(committee: &Arc<Committee>, pattern: &Pattern, random: &mut Random) -> Vec<VerifiedBlock> {
    let genesis = |a| ((Round(0), a), vec![BlockRef::genesis(committee.chain_id(), a)]);
    let slots = committee.authorities().map(genesis).collect();
    let mut weaver = Weaver { committee, pattern, random, slots, blocks: Vec::new() };
    for round in 1..=pattern.rounds {
        weaver.round(Round(round));
    }
    weaver.blocks
}

impl Weaver<'_> {
    fn round(&mut self, round: Round) {
        let mut authors = self.pattern.voters.clone();
        self.random.shuffle(&mut authors);
        let mut present = AuthoritySet::EMPTY;
        for author in authors {
            // Without a quorum there would be no next round.
            if self.committee.is_quorum(&present) && self.random.chance(self.pattern.absent) {
                continue;
            }
            present.insert(author);
            let twins = if self.pattern.equivocators.contains(author) { self.random.between(1, 2) } else { 1 };
            for twin in 0..twins {
                let block = self.block(round, author, twin);
                self.slots.entry((round, author)).or_default().push(block.reference());
                self.blocks.push(block);
            }
        }
    }

    fn block(&mut self, round: Round, author: AuthorityIndex, twin: u64) -> VerifiedBlock {
        let parents = self.parents(round, author);
        let core = BlockCore {
            epoch: self.committee.epoch(),
            round,
            author,
            timestamp_ms: 1000 + 10 * round.0 + self.random.below(40),
            parents,
            batches: self.batches(round, author, twin),
            end_epoch: false,
        };
        VerifiedBlock::sign(core, Vec::new(), self.committee, &members::key(author))
    }

    fn variant(&mut self, round: Round, author: AuthorityIndex) -> Option<BlockRef> {
        let variants = self.slots.get(&(round, author))?;
        Some(*self.random.pick(variants))
    }

    fn parents(&mut self, round: Round, author: AuthorityIndex) -> Vec<BlockRef> {
        let own_rounds = (0..round.0).rev().map(Round);
        let own_round = own_rounds.into_iter().find(|r| self.slots.contains_key(&(*r, author))).unwrap_or_default();
        let mut parents: Vec<BlockRef> = self.variant(own_round, author).into_iter().collect();
        let previous = round.previous();
        let mut strong = AuthoritySet::EMPTY;
        if own_round == previous {
            strong.insert(author);
        }
        let leader = AuthorityIndex((previous.0 % self.committee.size() as u64) as u16);
        let mut others: Vec<AuthorityIndex> = self.committee.authorities().filter(|a| *a != author).collect();
        self.random.shuffle(&mut others);
        // Whoever is likely to be dropped goes last, since the first ones are taken until there is a quorum.
        if self.random.chance(self.pattern.dropped_leader) {
            others.sort_by_key(|a| *a == leader);
        }
        for other in others {
            let enough = self.committee.is_quorum(&strong);
            let chance = if other == leader { self.pattern.dropped_leader } else { self.pattern.dropped };
            if enough && self.random.chance(chance) {
                parents.extend(self.weak_parent(round, other));
                continue;
            }
            match self.variant(previous, other) {
                Some(parent) => {
                    strong.insert(other);
                    parents.push(parent);
                }
                None => parents.extend(self.weak_parent(round, other)),
            }
        }
        parents
    }

    fn weak_parent(&mut self, round: Round, author: AuthorityIndex) -> Option<BlockRef> {
        if round < Round(2) || !self.random.chance(self.pattern.weak) {
            return None;
        }
        let depth = self.committee.protocol().gc_depth;
        let oldest = round.minus(depth.min(6)).0.max(1);
        let round = Round(self.random.between(oldest, round.0 - 1)).minus(1);
        if round == Round(0) { None } else { self.variant(round, author) }
    }

    /// Sequences of nearby rounds overlap: re-proposals, duplicates in twins, and stale ones.
    fn batches(&mut self, round: Round, author: AuthorityIndex, twin: u64) -> Vec<BatchRef> {
        let mut sequences: Vec<u64> =
            (0..self.random.below(3)).map(|_| (2 * round.0 + self.random.below(6)).saturating_sub(3).max(1)).collect();
        if self.random.chance(5) {
            sequences.push(2 * round.0 + 20 + twin);
        }
        sequences.sort_unstable();
        sequences.dedup();
        sequences.into_iter().map(|s| drawing::batch(author, Sequence(s))).collect()
    }
}
