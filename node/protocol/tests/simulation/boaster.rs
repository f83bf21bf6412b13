//! Votes for commits far beyond what there is, and serves none of them.

use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::{CommitIndex, CommitRef, VerifiedBlock};

use super::outside::Outside;
use super::puppet::{Draft, Mischief};

pub struct Boaster {
    /// How far beyond.
    pub by: u64,
}

impl Mischief for Boaster {
    fn make(&mut self, mut draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let index = CommitIndex(out.oracle.commits() + self.by);
        let most = out.committee.protocol().max_votes_per_block as usize;
        draft.votes.retain(|vote| vote.index < index);
        draft.votes.truncate(most - 1);
        draft.votes.push(CommitRef { index, digest: Digest::of("test/boast", &[]) });
        let peers = draft.peers.clone();
        vec![(draft.sign(out), peers)]
    }
}
