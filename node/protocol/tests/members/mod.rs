//! Committees of test members with deterministic keys.

use std::sync::Arc;

use rorqual_config::{AuthorityIndex, Committee, Digest, KeyPair, Member, ProtocolParameters, Stake};

pub fn key(author: AuthorityIndex) -> KeyPair {
    KeyPair::from_seed([author.0 as u8 + 1; 32])
}

pub fn committee(stakes: &[u64], protocol: ProtocolParameters) -> Arc<Committee> {
    let member = |(i, stake): (usize, &u64)| Member {
        name: format!("node-{i}"),
        public_key: key(AuthorityIndex(i as u16)).public(),
        stake: Stake(*stake),
        address: format!("127.0.0.1:{}", 9000 + i),
    };
    let members = stakes.iter().enumerate().map(member).collect();
    Arc::new(Committee::new(0, Digest::default(), members, protocol).expect("the test committee is valid"))
}
