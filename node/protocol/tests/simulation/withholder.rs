//! Names payload in its blocks and keeps it back.

use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::VerifiedBlock;

use super::outside::Outside;
use super::puppet::{Draft, Mischief};

/// Who gets the payload.
#[derive(Clone, Copy, Debug)]
pub enum Withholder {
    /// Nobody.
    FromAll,
    /// One peer, just before the block.
    ButForOne(AuthorityIndex),
}

impl Withholder {
    fn favours(&self, peer: AuthorityIndex) -> bool {
        matches!(self, Self::ButForOne(one) if *one == peer)
    }
}

impl Mischief for Withholder {
    fn make(&mut self, draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let peers = draft.peers.clone();
        vec![(draft.sign(out), peers)]
    }

    fn spread(&self, peers: &[AuthorityIndex]) -> Vec<AuthorityIndex> {
        peers.iter().copied().filter(|peer| self.favours(*peer)).collect()
    }

    fn gives_payload(&self, peer: AuthorityIndex) -> bool {
        self.favours(peer)
    }

    fn has_payload(&self) -> bool {
        true
    }
}
