//! Whose fresh blocks deserve to be referenced before others have done so.
//!
//! An author that shows its payload to one node only costs everybody a fetch before that node can be referenced. Its blocks
//! have few strong references, and that is what is averaged here, from the DAG alone (the idea of Sui's ancestor exclusion,
//! without its extra messages). An author below the validity threshold is on probation: its newest blocks are linked only
//! once they are settled, or needed. In one round of eight nobody is on probation, at all nodes alike, so that a returning
//! author can show that it is well; only those rounds count while it is on probation.
//!
//! Whoever has signed two blocks of one round is on probation until that round is collected, and age alone settles none of its
//! blocks: each of them may stand on a chain of twins that nobody else has. The others are a quorum without it.
//!
//! Promises: local and for liveness only; no author that everybody references in time is ever on probation.

use rorqual_config::{AuthorityIndex, Committee};

use crate::dag::graph::Graph;
use crate::types::Round;

/// Scores are stake times this.
const SCALE: u64 = 1_024;
/// A round moves the average by one part in this.
const WEIGHT: u64 = 8;
/// One round in this many is a chance for everybody.
const CHANCE: u64 = 8;
/// A round is looked at when our own round is this far above it: late references had time to come.
const DISTANCE: u64 = 3;

/// Average stake that references each author in time.
#[derive(Debug)]
pub struct Probation {
    scores: Vec<u64>,
    below: u64,
    seen: Round,
    /// The highest round of which two blocks of an author were seen.
    twins: Vec<Round>,
}

impl Probation {
    /// Nobody is on probation.
    pub fn new(committee: &Committee) -> Self {
        let scores = vec![committee.total().0.saturating_mul(SCALE); committee.size()];
        let twins = vec![Round(0); committee.size()];
        Self { scores, below: committee.validity().0.saturating_mul(SCALE), seen: Round(0), twins }
    }

    /// Two blocks of this author and round were seen.
    pub fn convict(&mut self, author: AuthorityIndex, round: Round) {
        let twins = &mut self.twins[author.usize()];
        *twins = round.max(*twins);
    }

    /// Whether two blocks of this author and of one round above `gc_round` were seen.
    pub fn is_convicted(&self, author: AuthorityIndex, gc_round: Round) -> bool {
        self.twins[author.usize()] > gc_round
    }

    /// Whether a block of this author and round must be settled before it is linked.
    pub fn applies(&self, author: AuthorityIndex, round: Round) -> bool {
        !round.0.is_multiple_of(CHANCE) && self.scores[author.usize()] < self.below
    }

    /// We are about to propose for `round`: rounds that had their time are counted.
    pub fn enter(&mut self, round: Round, graph: &Graph, committee: &Committee) {
        let last = round.minus(DISTANCE);
        let first = self.seen.next().max(last.minus(CHANCE)).max(Round(1));
        self.seen = self.seen.max(last);
        let mut looked_at = first;
        while looked_at <= last {
            for author in committee.authorities() {
                if self.applies(author, looked_at) {
                    continue;
                }
                let counted = graph.variants(looked_at, author).iter();
                let stake = counted.map(|vertex| committee.stake_of(&vertex.strongly_referenced_by).0).max();
                let score = &mut self.scores[author.usize()];
                if let Some(stake) = stake {
                    let share = stake.saturating_mul(SCALE) / WEIGHT;
                    *score = score.saturating_sub(*score / WEIGHT).saturating_add(share);
                }
            }
            looked_at = looked_at.next();
        }
    }
}
