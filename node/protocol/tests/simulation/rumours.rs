//! Names payload that nobody has, in every block.

use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::{BatchRef, Sequence, VerifiedBlock};

use super::outside::Outside;
use super::puppet::{Draft, Mischief};

pub struct Rumours;

impl Mischief for Rumours {
    fn make(&mut self, mut draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let (sequence, peers) = (Sequence(draft.core.round.0), draft.peers.clone());
        let digest = Digest::of("test/rumour", &[&sequence.0.to_le_bytes()]);
        draft.core.batches = vec![BatchRef { sequence, digest, bytes: 100 }];
        vec![(draft.sign(out), peers)]
    }
}
