//! A second committer, written straight from the definitions: it looks at all blocks again for every question, keeps no
//! index, and is as slow as it is obvious. What the core commits must be what this says.

mod decision;
mod linear;

use std::collections::{BTreeMap, BTreeSet};

use rorqual_config::committee::AuthoritySet;
use rorqual_config::{AuthorityIndex, Committee, Digest};
use rorqual_protocol::types::commit::DeliveredBatch;
use rorqual_protocol::types::{BlockRef, CommitIndex, Delivery, Round, VerifiedBlock};

use decision::Decision;
use linear::Linear;

/// What a commit must say, digests of whole structures left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NaiveCommit {
    pub index: CommitIndex,
    pub leader_round: Round,
    pub leaders: Vec<BlockRef>,
    pub timestamp_ms: u64,
    pub gc_round: Round,
    pub blocks: Vec<BlockRef>,
    pub batches: Vec<DeliveredBatch>,
}

impl From<&Delivery> for NaiveCommit {
    fn from(delivery: &Delivery) -> Self {
        let commit = &delivery.commit;
        Self {
            index: commit.index,
            leader_round: commit.leader_round,
            leaders: commit.leaders.clone(),
            timestamp_ms: commit.timestamp_ms,
            gc_round: commit.gc_round,
            blocks: commit.blocks.clone(),
            batches: delivery.batches.clone(),
        }
    }
}

/// The garbage-collection round after these commits.
pub fn gc_round(committee: &Committee, commits: &[NaiveCommit]) -> Round {
    commits.last().map_or(Round(0), |c| c.leader_round.minus(committee.protocol().gc_depth))
}

/// All commits that follow from these blocks.
pub fn commits<'a>(committee: &Committee, blocks: impl IntoIterator<Item = &'a VerifiedBlock>) -> Vec<NaiveCommit> {
    let blocks = blocks.into_iter().map(|b| (b.reference(), b.clone())).collect();
    let view = View { committee, blocks };
    let decisions = view.decide_all();
    let mut linear = Linear::new(&view);
    let mut commits = Vec::new();
    let mut round = Round(1);
    loop {
        let slots: Option<Vec<&Decision>> = view.slots_of(round).map(|slot| decisions.get(&slot)).collect();
        let Some(slots) = slots else { return commits };
        if slots.contains(&&Decision::Undecided) {
            return commits;
        }
        let leaders: Vec<BlockRef> = slots.iter().filter_map(|d| d.committed()).collect();
        if !leaders.is_empty() {
            commits.push(linear.commit(round, leaders));
        }
        round = round.next();
    }
}

/// The ways in which slots were decided, so that a test can tell whether it saw them all.
pub fn ways<'a>(
    committee: &Committee,
    blocks: impl IntoIterator<Item = &'a VerifiedBlock>,
) -> BTreeSet<(bool, &'static str)> {
    let blocks = blocks.into_iter().map(|b| (b.reference(), b.clone())).collect();
    let view = View { committee, blocks };
    let way = |(slot, decision): (&Slot, &Decision)| (view.direct(*slot) != Decision::Undecided, decision.name());
    view.decide_all().iter().map(way).collect()
}

/// The part of `blocks` that a node can link: every parent linked, or at or below the garbage-collection round.
pub fn linkable(blocks: &[VerifiedBlock], gc_round: Round) -> Vec<VerifiedBlock> {
    let mut linked: BTreeMap<BlockRef, VerifiedBlock> = BTreeMap::new();
    let mut ascending = blocks.to_vec();
    ascending.sort_by_key(VerifiedBlock::reference);
    for block in ascending {
        if block.parents().iter().all(|p| p.round <= gc_round || p.round == Round(0) || linked.contains_key(p)) {
            linked.insert(block.reference(), block);
        }
    }
    linked.into_values().collect()
}

/// A leader slot: round, then offset in the round.
type Slot = (Round, u32);

struct View<'a> {
    committee: &'a Committee,
    blocks: BTreeMap<BlockRef, VerifiedBlock>,
}

impl View<'_> {
    fn slots_of(&self, round: Round) -> impl Iterator<Item = Slot> + use<> {
        (0..self.committee.protocol().leaders_per_round).map(move |offset| (round, offset))
    }

    fn highest_round(&self) -> Round {
        self.blocks.keys().map(|r| r.round).max().unwrap_or_default()
    }

    fn leader(&self, (round, offset): Slot) -> AuthorityIndex {
        AuthorityIndex(((round.0 + u64::from(offset)) % self.committee.size() as u64) as u16)
    }

    fn at_round(&self, round: Round) -> impl Iterator<Item = &VerifiedBlock> {
        let first = |round| BlockRef { round, author: AuthorityIndex(0), digest: Digest::default() };
        self.blocks.range(first(round)..first(round.next())).map(|(_, block)| block)
    }

    fn is_quorum(&self, authors: impl IntoIterator<Item = AuthorityIndex>) -> bool {
        self.committee.is_quorum(&authors.into_iter().collect::<AuthoritySet>())
    }
}
