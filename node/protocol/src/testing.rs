//! Small committees and blocks for unit tests.

use std::sync::Arc;

use rorqual_config::{AuthorityIndex, Committee, Digest, KeyPair, Member, ProtocolParameters, Stake};

use crate::types::{BlockCore, BlockRef, Round};

/// The key of member `index`.
pub fn key(index: usize) -> KeyPair {
    KeyPair::from_seed([index as u8 + 1; 32])
}

/// `n` members of stake 1 under the given rules.
pub fn committee_with(n: usize, rules: ProtocolParameters) -> Arc<Committee> {
    let members = (0..n).map(|i| Member {
        name: format!("node-{i}"),
        public_key: key(i).public(),
        stake: Stake(1),
        address: format!("127.0.0.1:{}", 9000 + i),
    });
    Arc::new(Committee::new(0, Digest::default(), members.collect(), rules).unwrap())
}

/// `n` members of stake 1 under the default rules.
pub fn committee(n: usize) -> Arc<Committee> {
    committee_with(n, ProtocolParameters::default())
}

/// A well-formed empty block of round 1: own genesis first, then all others.
pub fn block_core(committee: &Committee, author: u16, round: u64) -> BlockCore {
    let author = AuthorityIndex(author);
    let others = committee.authorities().filter(|a| *a != author);
    let parents = std::iter::once(author).chain(others).map(|a| BlockRef::genesis(committee.chain_id(), a)).collect();
    let (round, batches) = (Round(round), Vec::new());
    BlockCore { epoch: committee.epoch(), round, author, timestamp_ms: 1, parents, batches, end_epoch: false }
}
