//! What the newest own block stands for, and what may therefore not be deleted yet.
//!
//! A block of ours left only because the payload that it stands for was on disk; a restart that misses some of it concludes
//! that the block never left. So payload that nobody needs any more stays until a newer own block, which does not stand for
//! it, is durable.
//!
//! Promises: nothing that the newest durable own block or the one being written stands for is deleted; everything else is at
//! once; what is put off is no more than what one block stands for.

use std::collections::BTreeSet;

use super::Core;
use crate::effect::{Effect, Write};
use crate::types::commit::DeliveredBatch;
use crate::types::{BatchKey, BatchRef, BlockRef};

/// Payload that own blocks stand for.
#[derive(Debug, Default)]
pub struct Cover {
    durable: BTreeSet<BatchKey>,
    coming: Option<BTreeSet<BatchKey>>,
    /// To be deleted once no own block stands for it.
    put_off: BTreeSet<BatchKey>,
}

impl Cover {
    /// After a restart: the newest own block on disk stands for these.
    pub fn found(keys: impl IntoIterator<Item = BatchKey>) -> Self {
        Self { durable: keys.into_iter().collect(), ..Self::default() }
    }

    /// An own block that stands for these is being written.
    pub fn begin(&mut self, keys: BTreeSet<BatchKey>) {
        self.coming = Some(keys);
    }

    /// It is durable. Returns what may be deleted now. A block from before a restart, written once more, stands for what it
    /// stood for.
    pub fn end(&mut self) -> Vec<BatchKey> {
        let Some(coming) = self.coming.take() else { return Vec::new() };
        self.durable = coming;
        let put_off = std::mem::take(&mut self.put_off);
        let (kept, free): (BTreeSet<BatchKey>, BTreeSet<BatchKey>) =
            put_off.into_iter().partition(|key| self.durable.contains(key));
        self.put_off = kept;
        free.into_iter().collect()
    }

    fn protects(&self, key: &BatchKey) -> bool {
        self.durable.contains(key) || self.coming.as_ref().is_some_and(|coming| coming.contains(key))
    }

    /// Somebody needs this again, or for ever.
    pub fn keep(&mut self, key: &BatchKey) {
        self.put_off.remove(key);
    }

    /// What own blocks stand for.
    pub fn keys(&self) -> impl Iterator<Item = &BatchKey> {
        self.durable.iter().chain(self.coming.iter().flatten())
    }
}

impl Core {
    /// What a new own block on these parents stands for: its own payload, and that of its uncommitted history as far as it can
    /// still be delivered.
    pub(super) fn cover_of(&self, parents: &[BlockRef], batches: &[BatchRef]) -> BTreeSet<BatchKey> {
        let mut keys: BTreeSet<BatchKey> = batches.iter().map(|batch| batch.key(self.setup.me)).collect();
        let (mut seen, mut stack) = (BTreeSet::new(), parents.to_vec());
        while let Some(reference) = stack.pop() {
            let Some(vertex) = self.graph.get(&reference).filter(|vertex| !vertex.committed) else { continue };
            if seen.insert(reference) {
                keys.extend(self.fresh(&vertex.block).iter().map(|batch| batch.key(reference.author)));
                stack.extend(vertex.block.parents());
            }
        }
        keys
    }

    /// Deletes payload that no commit delivers and no block needs, or puts that off.
    pub(super) fn drop_payload(&mut self, keys: impl IntoIterator<Item = BatchKey>) {
        let mut free = Vec::new();
        for key in keys {
            if self.cover.protects(&key) {
                self.cover.put_off.insert(key);
            } else if !self.claims.is_named(&key) {
                free.push(key);
            }
        }
        if !free.is_empty() {
            self.counters.payload_dropped += free.len() as u64;
            self.out.effect(Effect::DropPayload(free));
        }
    }

    /// Payload that must not be swept at the start that had these effects, though it may look stale: own blocks stand for it, or
    /// a commit delivers it whose record is not on disk yet.
    pub fn kept_at_start(&self, effects: &[Effect]) -> BTreeSet<BatchKey> {
        let writes = effects.iter().flat_map(|effect| match effect {
            Effect::Persist { writes, .. } => &writes[..],
            _ => &[],
        });
        let written = writes.filter_map(|write| match write {
            Write::Commit(delivery) => Some(&delivery.batches),
            _ => None,
        });
        let waiting = self.records.waiting.iter().map(|pending| &pending.batches);
        let delivered = written.chain(waiting).flatten().map(DeliveredBatch::key);
        self.cover.keys().copied().chain(delivered).collect()
    }
}
