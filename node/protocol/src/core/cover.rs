//! Payload that nobody needs any more, and the covers of own blocks.
//!
//! A cover on disk says what must be there if its block has left (see `durable`). So nothing that it names is deleted before it is
//! itself.
//!
//! Promises: what the block being written has to put on disk is deleted only once that block is durable; before anything at all is
//! deleted, a cover whose durable point has completed goes; what is put off is no more than one cover.

use std::collections::BTreeSet;

use super::Core;
use super::status::count;
use crate::effect::{Effect, Write};
use crate::types::BatchKey;
use crate::types::commit::DeliveredBatch;

impl Core {
    /// Deletes payload that no commit delivers and no block needs, or puts that off.
    pub(super) fn drop_payload(&mut self, keys: impl IntoIterator<Item = BatchKey>) {
        let mut free = Vec::new();
        for key in keys {
            if self.claims.is_named(&key) || self.undurable.put_off(key) {
                continue;
            }
            free.push(key);
        }
        if free.is_empty() {
            return;
        }
        self.uncover();
        self.undurable.forget(&free);
        count(&mut self.counters.payload_dropped, free.len() as u64);
        self.out.effect(Effect::DropPayload(free));
    }

    /// Payload that must not be swept at the start that had these effects, though it may look stale: the newest own block stands
    /// for it, or a commit delivers it whose record is not on disk yet.
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
        self.undurable.found.iter().copied().chain(delivered).collect()
    }
}
