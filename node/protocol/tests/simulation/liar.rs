//! Votes for commits that do not exist or for none at all, and falls silent when that hurts most.

use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::VerifiedBlock;

use super::Time;
use super::outside::Outside;
use super::puppet::{Draft, Mischief};

pub struct Liar {
    /// Votes for nothing, instead of for wrong digests.
    pub abstains: bool,
    /// From when on it says nothing.
    pub silent_from: Time,
}

impl Mischief for Liar {
    fn make(&mut self, mut draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        if out.now >= self.silent_from {
            return Vec::new();
        }
        if self.abstains {
            draft.votes.clear();
        }
        for vote in &mut draft.votes {
            vote.digest = Digest::of("test/lie", &[&vote.digest.0]);
        }
        let peers = draft.peers.clone();
        vec![(draft.sign(out), peers)]
    }
}
