//! A committee for tests.

use rorqual_config::{Committee, Digest, KeyPair, Member, ProtocolParameters, Stake};

/// The key of a member.
pub fn key(index: usize) -> KeyPair {
    KeyPair::from_seed([index as u8 + 1; 32])
}

/// Members with one vote each.
pub fn committee(size: usize) -> Committee {
    let member = |index: usize| Member {
        name: format!("node-{index}"),
        public_key: key(index).public(),
        stake: Stake(1),
        address: format!("127.0.0.1:{}", 9_000 + index),
    };
    Committee::new(0, Digest::default(), (0..size).map(member).collect(), ProtocolParameters::default()).unwrap()
}
