//! Whether a block is valid, as the real daemon finds out from its bytes. Every answer is found once.

use std::collections::BTreeMap;
use std::sync::Arc;

use rorqual_config::{Committee, Digest};
use rorqual_protocol::types::VerifiedBlock;

pub struct Verifier {
    committee: Arc<Committee>,
    /// By the hash of the whole frame: the name of a block does not cover its signature.
    verdicts: BTreeMap<Digest, bool>,
}

impl Verifier {
    pub fn new(committee: Arc<Committee>) -> Self {
        Self { committee, verdicts: BTreeMap::new() }
    }

    pub fn accepts(&mut self, block: &VerifiedBlock) -> bool {
        let frame = Digest::of("test/frame", &[block.bytes()]);
        let committee = &self.committee;
        let verify = || VerifiedBlock::verify(block.bytes().clone(), committee).is_ok_and(|found| found == *block);
        *self.verdicts.entry(frame).or_insert_with(verify)
    }
}
