//! Takes in payload from peers: decides what is taken, checks it, writes it. The write wakes whoever waits for it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_protocol::types::{BatchKey, Delivery, Sequence};
use rorqual_store::{Durability, Store, WriteBatch};

use super::quota::Quota;
use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::schema;

/// Payload smaller than this is copied out of the frame it came in, so that it does not keep a larger buffer alive.
const COPY_BELOW: usize = 16 << 10;

/// Shared by the tasks of all peers; each author has a lock of its own, held for map operations only.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    committee: Arc<Committee>,
    me: AuthorityIndex,
    store: Store,
    disk: Disk,
    quotas: Vec<Mutex<Quota>>,
    wanted: Mutex<HashSet<BatchKey>>,
    metrics: Arc<Metrics>,
}

impl Intake {
    /// `highest` is the highest delivered sequence of each author after recovery, `quota` the bytes of undelivered payload
    /// that one author may have here unasked.
    pub fn new(
        committee: Arc<Committee>,
        me: AuthorityIndex,
        store: Store,
        disk: Disk,
        highest: &[Sequence],
        quota: u64,
        metrics: Arc<Metrics>,
    ) -> Self {
        let rules = committee.protocol();
        let (window, ahead) = (rules.replay_window, rules.sequence_ahead);
        let quotas = highest.iter().map(|h| Mutex::new(Quota::new(window, ahead, quota, *h))).collect();
        Self(Arc::new(Inner { committee, me, store, disk, quotas, wanted: Mutex::default(), metrics }))
    }

    fn quota(&self, author: AuthorityIndex) -> MutexGuard<'_, Quota> {
        self.0.quotas[author.usize()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self) -> MutexGuard<'_, HashSet<BatchKey>> {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a chunk of this batch from `peer` is taken. `key.author` is in the committee.
    pub fn admits(&self, peer: AuthorityIndex, key: &BatchKey, total: u32) -> bool {
        if !self.0.disk.takes_from_peers() {
            return false;
        }
        if self.wanted().contains(key) {
            return true;
        }
        key.author == peer && key.author != self.0.me && self.quota(key.author).admits(key, total)
    }

    /// Whether somebody waits for this batch.
    pub fn is_wanted(&self, key: &BatchKey) -> bool {
        self.wanted().contains(key)
    }

    /// From now on this batch is taken from anyone.
    pub fn want(&self, key: BatchKey) {
        self.wanted().insert(key);
    }

    /// Nobody waits for this batch any more.
    pub fn unwant(&self, key: &BatchKey) {
        self.wanted().remove(key);
    }

    /// Checks a complete batch and writes it. Waits while the store's queue is full, and the peer's stream with it; does not
    /// wait for the write itself.
    ///
    /// # Errors
    /// What the sender did wrong. A store that fails ends the node by itself.
    pub async fn store(&self, peer: AuthorityIndex, key: BatchKey, content: Bytes) -> Result<(), &'static str> {
        let digest = BatchKey::digest_of(self.0.committee.epoch(), key.author, key.sequence, &content);
        if digest != key.digest {
            return Err("content that is not what its name says");
        }
        let bytes = content.len() as u32;
        self.quota(key.author).stored(&key, bytes);
        self.0.metrics.payload_received(peer, u64::from(bytes));
        let content = if content.len() < COPY_BELOW { Bytes::copy_from_slice(&content) } else { content };
        let mut batch = WriteBatch::new();
        batch.put(schema::PAYLOAD, schema::batch_key(&key), content);
        match self.0.store.try_write_batch(batch, Durability::Buffered) {
            Ok(_completion) => {}
            Err(refused) => {
                // The outcome of a failed store reaches the node through `Store::failed`.
                let _ = self.0.store.write_batch(refused.batch, Durability::Buffered).await;
            }
        }
        Ok(())
    }

    /// This batch was delivered before it came: it does not count against its author.
    pub fn settled(&self, key: &BatchKey) {
        self.quota(key.author).delivered(key);
    }

    /// A commit delivered these batches: they no longer count against their authors.
    pub fn delivered(&self, delivery: &Delivery) {
        for batch in &delivery.batches {
            self.quota(batch.author).delivered(&batch.key());
        }
    }

    /// Undelivered bytes of all authors that were taken in since the start.
    pub fn undelivered_bytes(&self) -> u64 {
        self.0.quotas.iter().map(|q| q.lock().unwrap_or_else(PoisonError::into_inner).bytes()).sum()
    }
}
