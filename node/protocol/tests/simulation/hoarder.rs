//! Fills the disks of others with payload that exists and that no commit will ever deliver.

use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::{BatchKey, BatchRef, Sequence, VerifiedBlock};

use super::outside::Outside;
use super::puppet::{Draft, Mischief};

/// What its blocks name.
#[derive(Clone, Copy, Debug)]
pub enum Hoarder {
    /// Other content for the same sequence, eight blocks long.
    OneSequence,
    /// One sequence far up, and then sequences that it has made stale.
    Stale,
    /// Two blocks a round, each with payload under a sequence of its own, shown to all: one of them will not be referenced.
    Chain,
    /// The same, each peer being shown one of them.
    Crowd,
}

/// As much as one block may name.
pub fn fill(author: AuthorityIndex, sequence: u64, salt: u64, out: &mut Outside) -> BatchRef {
    let (sequence, bytes) = (Sequence(sequence), out.committee.protocol().max_block_payload_bytes as u32);
    let content = format!("{author:?} {sequence:?} {salt}");
    let digest = BatchKey::digest_of(out.committee.epoch(), author, sequence, content.as_bytes());
    let batch = BatchRef { sequence, digest, bytes };
    out.oracle.seal(batch.key(author), batch, out.now);
    batch
}

impl Mischief for Hoarder {
    fn make(&mut self, mut draft: Draft, out: &mut Outside) -> Vec<(VerifiedBlock, Vec<AuthorityIndex>)> {
        let (author, round, mut peers) = (draft.core.author, draft.core.round.0, draft.peers.clone());
        let far = 1_000_000;
        let sequence = match self {
            Self::OneSequence => round / 8 + 1,
            Self::Stale if round < 4 => far,
            Self::Stale => round,
            Self::Chain | Self::Crowd => 2 * round,
        };
        draft.core.batches = vec![fill(author, sequence, round, out)];
        if matches!(self, Self::OneSequence | Self::Stale) {
            return vec![(draft.sign(out), peers)];
        }
        let mut twin = draft.clone();
        twin.core.batches = vec![fill(author, sequence + 1, round, out)];
        let others = match self {
            Self::Crowd => {
                out.random.shuffle(&mut peers);
                peers.split_off(peers.len() / 2)
            }
            _ => peers.clone(),
        };
        vec![(draft.sign(out), peers), (twin.sign(out), others)]
    }
}
