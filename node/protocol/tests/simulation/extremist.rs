//! Writes valid blocks with the largest numbers that the rules allow, or with the smallest.

use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::range::LIMIT;
use rorqual_protocol::types::{BatchRef, CommitIndex, CommitRef, Sequence, VerifiedBlock};

use super::outside::Outside;
use super::puppet::{Draft, Mischief};

pub struct Extremist;

impl Mischief for Extremist {
    fn make(&mut self, mut draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let mut low_or_high = |high: u64| if out.random.chance(50) { high } else { out.random.below(2) };
        draft.core.timestamp_ms = low_or_high(LIMIT - 1);
        let step = low_or_high(20_000);
        if low_or_high(2) == 2 {
            let sequence = Sequence(LIMIT - 1 - step);
            let digest = Digest::of("test/extreme", &[&draft.core.round.0.to_le_bytes()]);
            let batch = BatchRef { sequence, digest, bytes: 10 };
            out.oracle.seal(batch.key(draft.core.author), batch, out.now);
            draft.core.batches.push(batch);
        }
        let most = out.committee.protocol().max_votes_per_block as usize;
        // It has seen its own.
        draft.votes.retain(|vote| vote.index < CommitIndex(LIMIT - 1));
        draft.votes.truncate(most - 1);
        draft.votes.push(CommitRef { index: CommitIndex(LIMIT - 1), digest: Digest::default() });
        let (block, peers) = (draft.clone().sign(out), draft.peers);
        let block = VerifiedBlock::verify(block.bytes().clone(), &out.committee).expect("the rules allow it");
        vec![(block, peers)]
    }

    fn has_payload(&self) -> bool {
        true
    }
}
