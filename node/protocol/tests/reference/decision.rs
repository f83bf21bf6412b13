//! What becomes of a leader slot.

use std::collections::{BTreeMap, BTreeSet};

use rorqual_protocol::types::{BlockRef, VerifiedBlock};

use super::{Slot, View};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    Commit(BlockRef),
    Skip,
    Undecided,
}

impl Decision {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Commit(_) => "commit",
            Self::Skip => "skip",
            Self::Undecided => "undecided",
        }
    }

    pub fn committed(&self) -> Option<BlockRef> {
        match self {
            Self::Commit(block) => Some(*block),
            _ => None,
        }
    }
}

impl View<'_> {
    /// The decision of every slot, from the last round backwards, since a slot may need the ones after it.
    pub fn decide_all(&self) -> BTreeMap<Slot, Decision> {
        let mut decisions = BTreeMap::new();
        for round in (1..=self.highest_round().0).rev() {
            for slot in self.slots_of(rorqual_protocol::types::Round(round)) {
                let direct = self.direct(slot);
                let decision = if direct == Decision::Undecided { self.indirect(slot, &decisions) } else { direct };
                decisions.insert(slot, decision);
            }
        }
        decisions
    }

    pub fn direct(&self, slot: Slot) -> Decision {
        let candidates = self.candidates(slot);
        for candidate in &candidates {
            let certificates = self.at_round(slot.0.plus(2)).filter(|c| self.certifies(c, candidate));
            if self.is_quorum(certificates.map(VerifiedBlock::author)) {
                return Decision::Commit(*candidate);
            }
        }
        let voters = || self.at_round(slot.0.next());
        let blamed = |candidate: &BlockRef| {
            self.is_quorum(voters().filter(|v| !supports(v, candidate)).map(VerifiedBlock::author))
        };
        if self.is_quorum(voters().map(VerifiedBlock::author)) && candidates.iter().all(blamed) {
            return Decision::Skip;
        }
        Decision::Undecided
    }

    /// By the anchor: the first slot at least three rounds later that is not skipped.
    fn indirect(&self, slot: Slot, later: &BTreeMap<Slot, Decision>) -> Decision {
        let anchor = later.range((slot.0.plus(3), 0)..).map(|(_, d)| d).find(|d| **d != Decision::Skip);
        let Some(Decision::Commit(anchor)) = anchor else { return Decision::Undecided };
        let history = self.history(anchor);
        let certified = |candidate: &&BlockRef| {
            let certificates = history.iter().filter(|r| r.round == slot.0.plus(2));
            certificates.filter_map(|r| self.blocks.get(r)).any(|c| self.certifies(c, candidate))
        };
        self.candidates(slot).iter().find(certified).map_or(Decision::Skip, |block| Decision::Commit(*block))
    }

    fn candidates(&self, slot: Slot) -> Vec<BlockRef> {
        let leader = self.leader(slot);
        self.at_round(slot.0).filter(|b| b.author() == leader).map(VerifiedBlock::reference).collect()
    }

    /// Whether the parents of a block two rounds later include a quorum of votes.
    fn certifies(&self, block: &VerifiedBlock, candidate: &BlockRef) -> bool {
        let parents = block.parents().iter().filter_map(|p| self.blocks.get(p));
        let votes = parents.filter(|p| p.round() == candidate.round.next() && supports(p, candidate));
        self.is_quorum(votes.map(VerifiedBlock::author))
    }

    /// The block and everything known that can be reached from it.
    pub fn history(&self, from: &BlockRef) -> BTreeSet<BlockRef> {
        let mut seen = BTreeSet::new();
        let mut open = vec![*from];
        while let Some(reference) = open.pop() {
            if let Some(block) = self.blocks.get(&reference)
                && seen.insert(reference)
            {
                open.extend(block.parents());
            }
        }
        seen
    }
}

fn supports(voter: &VerifiedBlock, candidate: &BlockRef) -> bool {
    voter.parents().contains(candidate)
}
