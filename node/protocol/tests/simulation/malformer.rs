//! Makes blocks that are not valid, each with a right signature where that is not what is wrong; and valid ones in between.

use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::{BatchRef, CommitIndex, CommitRef, Round, Sequence, VerifiedBlock};

use super::outside::Outside;
use super::puppet::{Draft, Mischief};
use crate::members;

/// How many ways there are.
const WAYS: u64 = 9;

pub struct Malformer;

impl Malformer {
    fn spoil(draft: &mut Draft, way: u64, out: &Outside) {
        let rules = out.committee.protocol();
        let core = &mut draft.core;
        match way {
            0 => core.parents.truncate(2),
            1 => core.parents.swap(0, 1),
            2 => core.epoch += 1,
            3 => core.round = Round(0),
            4 => {
                // One round older than a parent of another may be.
                let back = rules.gc_depth + 1;
                core.round = core.round.plus(back);
                core.parents[1].round = core.round.minus(back);
            }
            5 => {
                let batch = |sequence| BatchRef { sequence: Sequence(sequence), digest: Digest::default(), bytes: 1 };
                core.batches = (1..=u64::from(rules.max_batches_per_block) + 1).map(batch).collect();
            }
            6 => {
                let vote = |index| CommitRef { index: CommitIndex(index), digest: Digest::default() };
                draft.votes = (1..=u64::from(rules.max_votes_per_block) + 1).map(vote).collect();
            }
            7 => core.parents[1] = core.parents[2],
            _ => core.batches = vec![BatchRef { sequence: Sequence(0), digest: Digest::default(), bytes: 1 }],
        }
    }
}

impl Mischief for Malformer {
    fn make(&mut self, draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let (peers, way) = (draft.peers.clone(), out.random.below(WAYS + 1));
        let mut spoilt = draft.clone();
        let bad = if way < WAYS {
            Self::spoil(&mut spoilt, way, out);
            spoilt.sign(out)
        } else {
            // Whoever is next signs for it.
            let other = AuthorityIndex((draft.core.author.0 + 1) % out.committee.size() as u16);
            VerifiedBlock::sign(spoilt.core, spoilt.votes, &out.committee, &members::key(other))
        };
        // The bad one first or alone; it must not be what the next own block stands on.
        if out.random.chance(50) {
            return vec![(bad, peers)];
        }
        vec![(draft.sign(out), peers.clone()), (bad, peers)]
    }

    fn is_valid(&self) -> bool {
        false
    }
}
