//! Takes in payload from peers: decides what is taken, checks it, writes it. The write wakes whoever waits for it.
//!
//! With payload that no commit has delivered goes a row in the column `undelivered`, and with the record of the commit that
//! delivers it the row goes: so a start knows what is here for whose account, and what a crash has left behind.
//!
//! Promises: what is counted for an author is what is on disk; payload that nobody needs is deleted, and who waits for a batch
//! while it is being deleted waits for the deletion first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_protocol::types::{BatchKey, Delivery};
use rorqual_protocol::undelivered::Undelivered;
use rorqual_store::{Direction, Durability, Store, StoreError, WriteBatch};
use tokio::sync::watch;

use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::schema;

/// Payload smaller than this is copied out of the frame it came in, so that it does not keep a larger buffer alive.
const COPY_BELOW: usize = 16 << 10;
/// Batches deleted in one write.
const DELETE: usize = 512;
/// Rows read at once.
const PAGE: usize = 4_096;

/// Shared by the tasks of all peers; each author has a lock of its own, held for map operations and for a place in the store's
/// queue only.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    committee: Arc<Committee>,
    me: AuthorityIndex,
    store: Store,
    disk: Disk,
    authors: Vec<Mutex<Author>>,
    /// What is waited for, with its length.
    wanted: Mutex<HashMap<BatchKey, u32>>,
    metrics: Arc<Metrics>,
}

struct Author {
    undelivered: Undelivered,
    /// Becomes true when the newest deletion is applied.
    deleted: Option<watch::Receiver<bool>>,
}

impl Intake {
    /// `undelivered` counts nothing yet, one for each author.
    pub fn new(
        committee: Arc<Committee>,
        me: AuthorityIndex,
        store: Store,
        disk: Disk,
        undelivered: Vec<Undelivered>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let author = |undelivered| Mutex::new(Author { undelivered, deleted: None });
        let authors = undelivered.into_iter().map(author).collect();
        Self(Arc::new(Inner { committee, me, store, disk, authors, wanted: Mutex::default(), metrics }))
    }

    fn author(&self, author: AuthorityIndex) -> MutexGuard<'_, Author> {
        self.0.authors[author.usize()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self) -> MutexGuard<'_, HashMap<BatchKey, u32>> {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the undelivered payload that is here at a start, before anything else comes, and deletes what can never be
    /// delivered, but for `kept`.
    ///
    /// # Errors
    /// What the store says.
    pub async fn restore(&self, kept: &BTreeSet<BatchKey>) -> Result<(), StoreError> {
        let (mut from, mut stale) = (Vec::new(), Vec::new());
        loop {
            let page =
                self.0.store.iterate(schema::UNDELIVERED, &from, &[], PAGE, usize::MAX, Direction::Forward).await?;
            let Some((last, _)) = page.last() else { break };
            // The smallest key above the last one.
            from = [&last[..], &[0]].concat();
            for (key, bytes) in &page {
                let row = schema::parse_batch_key(key).zip(schema::parse_length(bytes));
                let Some((key, bytes)) = row.filter(|(key, _)| self.0.committee.contains(key.author)) else { continue };
                let counted = self.author(key.author).undelivered.restore(&key, bytes, kept.contains(&key));
                if !counted && !kept.contains(&key) {
                    stale.push(key);
                }
            }
        }
        self.delete(stale);
        Ok(())
    }

    /// Whether a chunk of this batch from `peer` is taken. `key.author` is in the committee.
    pub fn admits(&self, peer: AuthorityIndex, key: &BatchKey, total: u32) -> bool {
        self.0.disk.takes_from_peers()
            && (self.is_wanted(key, total) || self.admits_unasked(peer, key, total, &self.author(key.author)))
    }

    /// Whether somebody waits for this batch. Content longer than what a block names is not what was asked for: nobody has room
    /// for it.
    pub fn is_wanted(&self, key: &BatchKey, total: u32) -> bool {
        self.wanted().get(key).is_some_and(|named| total <= *named)
    }

    fn admits_unasked(&self, peer: AuthorityIndex, key: &BatchKey, total: u32, author: &Author) -> bool {
        key.author == peer && key.author != self.0.me && author.undelivered.admits(key, total)
    }

    /// From now on this batch of so many bytes is taken from anyone. What may be here of it can be read once the deletion that
    /// is returned has been applied.
    pub fn want(&self, key: BatchKey, bytes: u32) -> Option<watch::Receiver<bool>> {
        let mut wanted = self.wanted();
        let named = wanted.entry(key).or_default();
        *named = bytes.max(*named);
        drop(wanted);
        let mut author = self.author(key.author);
        author.undelivered.ask(&key);
        author.deleted.clone().filter(|deleted| !*deleted.borrow())
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
        self.0.metrics.payload_received(peer, u64::from(bytes));
        let content = if content.len() < COPY_BELOW { Bytes::copy_from_slice(&content) } else { content };
        if let Some(full) = self.write(peer, key, bytes, content) {
            // The outcome of a failed store reaches the node through `Store::failed`.
            let _ = full.await;
        }
        Ok(())
    }

    /// Gives the batch its place in the store's queue. The write, if it has to wait for room.
    fn write(
        &self,
        peer: AuthorityIndex,
        key: BatchKey,
        bytes: u32,
        content: Bytes,
    ) -> Option<rorqual_store::Completion> {
        // Under the lock: writes and deletions of one batch come to the store in the order in which they are counted.
        let mut author = self.author(key.author);
        let asked = self.is_wanted(&key, bytes);
        if !asked && !self.admits_unasked(peer, &key, bytes, &author) {
            // Nobody wants it any more.
            self.0.metrics.payload_unsolicited();
            return None;
        }
        let mut batch = WriteBatch::new();
        batch.set_bulk();
        batch.put(schema::PAYLOAD, schema::batch_key(&key), content);
        if key.author != self.0.me {
            let gone = author.undelivered.add(&key, bytes, asked);
            if author.undelivered.contains(&key) {
                batch.put(schema::UNDELIVERED, schema::batch_key(&key), schema::length(bytes));
            }
            self.delete_locked(&mut author, &gone);
        }
        match self.0.store.try_write_batch(batch, Durability::Buffered) {
            Ok(_completion) => None,
            Err(refused) => Some(self.0.store.write_batch(refused.batch, Durability::Buffered)),
        }
    }

    /// Deletes payload that nobody needs any more and no commit delivers.
    pub fn delete(&self, keys: impl IntoIterator<Item = BatchKey>) {
        let mut by_author: BTreeMap<AuthorityIndex, Vec<BatchKey>> = BTreeMap::new();
        for key in keys {
            by_author.entry(key.author).or_default().push(key);
        }
        for (author, keys) in by_author {
            let mut author = self.author(author);
            for key in &keys {
                author.undelivered.forget(key);
            }
            self.delete_locked(&mut author, &keys);
        }
    }

    fn delete_locked(&self, author: &mut Author, keys: &[BatchKey]) {
        for keys in keys.chunks(DELETE) {
            let mut batch = WriteBatch::new();
            batch.set_bulk();
            for key in keys {
                batch.delete(schema::PAYLOAD, schema::batch_key(key));
                batch.delete(schema::UNDELIVERED, schema::batch_key(key));
            }
            let completion = self.0.store.write_batch(batch, Durability::Buffered);
            let (done, deleted) = watch::channel(false);
            author.deleted = Some(deleted);
            tokio::spawn(async move {
                // A store that fails ends the node by itself.
                let _ = completion.await;
                done.send_replace(true);
            });
        }
    }

    /// The record of a commit that delivers these batches is about to be written, and takes their rows along: they no longer
    /// count against their authors. What can never be delivered now and was not asked for goes.
    pub fn delivered(&self, delivery: &Delivery) {
        for batch in delivery.batches.iter().filter(|batch| batch.author != self.0.me) {
            let mut author = self.author(batch.author);
            let gone = author.undelivered.delivered(&batch.key());
            self.delete_locked(&mut author, &gone);
        }
    }

    /// Undelivered bytes of all authors that are here.
    pub fn undelivered_bytes(&self) -> u64 {
        self.0.authors.iter().map(|a| a.lock().unwrap_or_else(PoisonError::into_inner).undelivered.bytes()).sum()
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
