//! Payload of others on a node's disk that no commit has delivered: taken in and given up by the rules of the daemon.

use std::collections::BTreeSet;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_protocol::Core;
use rorqual_protocol::types::{BatchKey, Delivery};
use rorqual_protocol::undelivered::Undelivered;

use super::disk::Disk;

pub struct Stock {
    me: AuthorityIndex,
    authors: Vec<Undelivered>,
}

impl Stock {
    pub fn new(me: AuthorityIndex, core: &Core, parameters: &ConsensusParameters, committee: &Committee) -> Self {
        let (ahead, limit) = (committee.protocol().sequence_ahead, parameters.author_quota_bytes);
        let author = |author| Undelivered::new(author, core.window(author).clone(), ahead, limit);
        Self { me, authors: committee.authorities().map(author).collect() }
    }

    /// Counts what is on the disk after a restart. Returns what can never be delivered.
    pub fn restore(&mut self, kept: &BTreeSet<BatchKey>, disk: &Disk) -> Vec<BatchKey> {
        let mut stale = Vec::new();
        for (key, batch) in disk.undelivered().filter(|(key, _)| key.author != self.me) {
            let counted = self.authors[key.author.usize()].restore(&key, batch.bytes, kept.contains(&key));
            if !counted && !kept.contains(&key) {
                stale.push(key);
            }
        }
        stale
    }

    pub fn admits(&self, sender: AuthorityIndex, key: &BatchKey, bytes: u32) -> bool {
        sender == key.author && key.author != self.me && self.authors[key.author.usize()].admits(key, bytes)
    }

    pub fn add(&mut self, key: &BatchKey, bytes: u32, asked: bool) -> Vec<BatchKey> {
        if key.author == self.me { Vec::new() } else { self.authors[key.author.usize()].add(key, bytes, asked) }
    }

    pub fn ask(&mut self, key: &BatchKey) {
        self.authors[key.author.usize()].ask(key);
    }

    pub fn forget(&mut self, keys: &[BatchKey]) {
        for key in keys {
            self.authors[key.author.usize()].forget(key);
        }
    }

    pub fn delivered(&mut self, delivery: &Delivery) -> Vec<BatchKey> {
        delivery.batches.iter().flat_map(|batch| self.authors[batch.author.usize()].delivered(&batch.key())).collect()
    }
}
