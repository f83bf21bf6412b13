//! Waiting for payload: who wants it, who may have it, whom to ask next.

use std::collections::BTreeMap;

use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::BatchKey;

/// One wanted batch.
#[derive(Default)]
struct Wait {
    holders: Vec<AuthorityIndex>,
    asked: usize,
}

/// All wanted batches.
#[derive(Default)]
pub struct Waits(BTreeMap<BatchKey, Wait>);

impl Waits {
    /// Adds holders. Returns whether the wait is new, and the holders just learnt.
    pub fn add(&mut self, key: BatchKey, holders: Vec<AuthorityIndex>) -> (bool, Vec<AuthorityIndex>) {
        let new = !self.0.contains_key(&key);
        let wait = self.0.entry(key).or_default();
        let learnt: Vec<AuthorityIndex> = holders.into_iter().filter(|h| !wait.holders.contains(h)).collect();
        wait.holders.extend(&learnt);
        (new, learnt)
    }

    /// The wait has ended. True if there was one.
    pub fn end(&mut self, key: &BatchKey) -> bool {
        self.0.remove(key).is_some()
    }

    pub fn is_waiting(&self, key: &BatchKey) -> bool {
        self.0.contains_key(key)
    }

    /// The next holder to ask among those that `reachable` accepts.
    pub fn next_holder(
        &mut self,
        key: &BatchKey,
        reachable: impl Fn(AuthorityIndex) -> bool,
    ) -> Option<AuthorityIndex> {
        let wait = self.0.get_mut(key)?;
        let candidates: Vec<AuthorityIndex> = wait.holders.iter().copied().filter(|h| reachable(*h)).collect();
        wait.asked += 1;
        if candidates.is_empty() { None } else { Some(candidates[wait.asked % candidates.len()]) }
    }
}
