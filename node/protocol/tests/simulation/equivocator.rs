//! Writes two blocks for every round.

use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::VerifiedBlock;

use super::outside::Outside;
use super::puppet::{Draft, Mischief};

/// Who sees which of the two.
#[derive(Clone, Copy, Debug)]
pub enum Equivocator {
    /// Disjoint halves, drawn anew every round.
    Halves,
    /// Everybody sees both.
    Both,
}

impl Mischief for Equivocator {
    fn make(&mut self, draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let mut peers = draft.peers.clone();
        out.random.shuffle(&mut peers);
        let mut other = draft.clone();
        other.core.timestamp_ms += 1;
        let (first, second) = match self {
            Self::Halves => {
                let second = peers.split_off(peers.len() / 2);
                (peers, second)
            }
            Self::Both => (peers.clone(), peers),
        };
        vec![(draft.sign(out), first), (other.sign(out), second)]
    }

    /// Both twins name the same batch.
    fn has_payload(&self) -> bool {
        true
    }
}
