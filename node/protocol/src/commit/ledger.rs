//! What one commit hands to the next: index, leader round, time with its reference, and the replay windows; and its digest, which a later commit
//! binds (`aux`).
//!
//! Promises: a function of the commit prefix; equal at all nodes, and before and after a restart.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use rorqual_config::encoding::encode;
use rorqual_config::{Committee, Digest};

use super::time::CommitTime;
use super::window::ReplayWindow;
use crate::types::{BlockRef, CommitIndex, CommitRef, Round};

/// Certified states that wait for execution; it may be far behind while catching up.
const MAX_EXPECTED: usize = 1_024;

/// The state after a commit, as far as ordering is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ledger {
    /// The last commit decided.
    pub index: CommitIndex,
    /// Round of its leaders.
    pub leader_round: Round,
    /// Its time, and how the next one follows.
    pub time: CommitTime,
    /// One window an author.
    pub windows: Vec<ReplayWindow>,
}

/// A snapshot as it is stored: enough to go on from, together with the blocks above the garbage-collection round.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Snapshot {
    /// The state after the commit.
    pub ledger: Ledger,
    /// References of the committed blocks above the garbage-collection round, with the delivered flag of their slot.
    pub committed: Vec<(BlockRef, bool)>,
    /// The commit's name, where it is known: its own `aux` may still wait for execution.
    pub reference: Option<CommitRef>,
}

impl Ledger {
    /// Before the first commit.
    pub fn new(committee: &Committee) -> Self {
        let window = ReplayWindow::new(committee.protocol().replay_window);
        let windows = vec![window; committee.size()];
        Self { index: CommitIndex(0), leader_round: Round(0), time: CommitTime::default(), windows }
    }

    /// Blocks at or below this round can no longer be committed.
    pub fn gc_round(&self, committee: &Committee) -> Round {
        self.leader_round.minus(committee.protocol().gc_depth)
    }

    /// The ordering half of what `aux` binds.
    pub fn digest(&self, committed: &[(BlockRef, bool)]) -> Digest {
        Digest::of("aux/order", &[&encode(self), &encode(&committed.to_vec())])
    }
}

/// State digests after multiples of the checkpoint interval, until the commit one interval later has bound them.
#[derive(Debug)]
pub struct Checkpoints {
    interval: u64,
    order: BTreeMap<CommitIndex, Digest>,
    executed: BTreeMap<CommitIndex, Digest>,
    /// Values that certified commits bind, by the index of the state; compared when ours is known.
    expected: BTreeMap<CommitIndex, Digest>,
}

impl Checkpoints {
    /// Before the first commit: the state after commit 0 is known.
    pub fn new(committee: &Committee) -> Self {
        let ledger = Ledger::new(committee);
        let order = BTreeMap::from([(CommitIndex(0), ledger.digest(&[]))]);
        let executed = BTreeMap::from([(CommitIndex(0), Digest::default())]);
        let interval = committee.protocol().checkpoint_interval.max(1);
        Self { interval, order, executed, expected: BTreeMap::new() }
    }

    /// Whether the state after this commit is bound later.
    pub fn is_checkpoint(&self, index: CommitIndex) -> bool {
        index.0.is_multiple_of(self.interval)
    }

    /// The commit whose state the commit `index` binds, if it binds one.
    pub fn bound_by(&self, index: CommitIndex) -> Option<CommitIndex> {
        (index.0 > 0 && self.is_checkpoint(index)).then(|| index.minus(self.interval))
    }

    /// The ordering state after a checkpoint.
    pub fn ordered(&mut self, index: CommitIndex, digest: Digest) {
        self.order.insert(index, digest);
    }

    /// The execution state after a commit.
    pub fn executed(&mut self, index: CommitIndex, state: Digest) {
        if self.is_checkpoint(index) {
            self.executed.insert(index, state);
        }
    }

    /// A certified commit says that the state after `index` has this digest.
    pub fn expect(&mut self, index: CommitIndex, aux: Digest) {
        self.expected.insert(index, aux);
        // Those whose state is never reported, because a restart was after it, do not pile up.
        while self.expected.len() > MAX_EXPECTED {
            self.expected.pop_first();
        }
    }

    /// Our digest of the state after `index`, once both halves are known.
    pub fn aux(&self, index: CommitIndex) -> Option<Digest> {
        let (order, executed) = (self.order.get(&index)?, self.executed.get(&index)?);
        Some(Digest::of("aux", &[&index.0.to_le_bytes(), &order.0, &executed.0]))
    }

    /// The first state that is known to differ from what is certified.
    pub fn contradiction(&mut self) -> Option<CommitIndex> {
        if self.expected.is_empty() {
            return None;
        }
        let known: Vec<(CommitIndex, bool)> =
            self.expected.iter().filter_map(|(i, e)| self.aux(*i).map(|aux| (*i, aux != *e))).collect();
        for (index, _) in &known {
            self.expected.remove(index);
        }
        known.into_iter().find(|(_, differs)| *differs).map(|(index, _)| index)
    }

    /// Forgets states below `index` that nothing waits for any more.
    pub fn forget_below(&mut self, index: CommitIndex) {
        let oldest = self.expected.keys().next().copied().unwrap_or(index).min(index);
        self.order = self.order.split_off(&oldest);
        self.executed = self.executed.split_off(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::committee_with;

    #[test]
    fn a_certified_state_is_compared_with_ours_however_late_execution_comes() {
        let rules = rorqual_config::ProtocolParameters { checkpoint_interval: 4, ..Default::default() };
        let committee = committee_with(4, rules);
        let digest = |byte| Digest([byte; 32]);
        for differs in [false, true] {
            let mut checkpoints = Checkpoints::new(&committee);
            checkpoints.ordered(CommitIndex(4), digest(1));
            let aux = Digest::of("aux", &[&4u64.to_le_bytes(), &digest(1).0, &digest(2).0]);
            checkpoints.expect(CommitIndex(4), aux);
            // The commit that binds it is written, and later ones too.
            checkpoints.forget_below(CommitIndex(5));
            checkpoints.ordered(CommitIndex(8), digest(3));
            checkpoints.forget_below(CommitIndex(9));
            assert_eq!(checkpoints.contradiction(), None, "execution has not come so far");
            checkpoints.executed(CommitIndex(4), digest(if differs { 9 } else { 2 }));
            assert_eq!(checkpoints.contradiction(), differs.then_some(CommitIndex(4)));
            assert_eq!(checkpoints.contradiction(), None, "said once");
        }
    }
}
