//! Receipts that wait: from the moment a submission is taken to the moment execution has written what became of it.
//!
//! A slot belongs to one submission of one connection. It travels with the submission to the batch that is being made, waits
//! here under the batch's name, and is resolved by execution. Bounded by credit: a slot gives its weight back when it goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rorqual_client::{BatchId, Outcome, Placed, Refusal};
use rorqual_protocol::types::{BatchKey, CommitIndex};

use super::outbox::Outbox;

/// The right to answer one submission. Dropping it unresolved answers nothing; the client gets its credit back.
pub struct ReceiptSlot {
    outbox: Arc<Outbox>,
    tag: u64,
    weight: u64,
}

impl ReceiptSlot {
    /// For a submission that was charged at `outbox` and counted in at its gate.
    pub(super) fn new(outbox: Arc<Outbox>, tag: u64, weight: u64) -> Self {
        Self { outbox, tag, weight }
    }

    /// Sends the receipt, at once and without waiting. Nothing happens if the client has gone.
    pub fn resolve(mut self, outcome: Outcome) {
        let weight = std::mem::take(&mut self.weight);
        self.outbox.settle(weight, Some((self.tag, outcome)));
    }

    /// Sends a refusal.
    pub fn refuse(self, refusal: Refusal) {
        self.resolve(Outcome::Refused(refusal));
    }
}

impl Drop for ReceiptSlot {
    fn drop(&mut self) {
        // Resolved slots have no weight left; every other one has some.
        if self.weight > 0 {
            self.outbox.settle(self.weight, None);
        }
    }
}

/// What execution made of one submission of an own batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// Applied now.
    Committed {
        /// Position of its first transaction.
        first_position: u64,
    },
    /// Applied before.
    Already {
        /// The commit that applied it.
        commit: CommitIndex,
        /// Position of its first transaction.
        first_position: u64,
        /// The batch that brought it.
        batch: BatchKey,
    },
    /// Commit time was past its deadline.
    Expired,
    /// Its deadline was further ahead than the rules allow.
    DeadlineTooFar,
    /// This author had as many ids alive as the rules allow.
    TooManyLiveIds,
    /// It, or one of its transactions, was larger than the rules allow.
    TooLarge,
    /// The batch could not be decoded.
    Malformed,
}

/// Waiting receipts of sealed own batches. Cheap to clone; all clones share them.
#[derive(Clone, Default)]
pub struct Receipts(Arc<Mutex<HashMap<BatchKey, Vec<ReceiptSlot>>>>);

impl Receipts {
    fn lock(&self) -> MutexGuard<'_, HashMap<BatchKey, Vec<ReceiptSlot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An own batch was sealed; its submissions in order.
    pub fn sealed(&self, key: BatchKey, slots: Vec<ReceiptSlot>) {
        let before = self.lock().insert(key, slots);
        // Settled outside the lock.
        drop(before);
    }

    /// Execution has written what became of an own batch, submission by submission. Batches sealed before a restart have nobody
    /// waiting. If there are fewer outcomes than submissions, the last one holds for the rest: an undecodable batch has one.
    pub fn applied(&self, key: &BatchKey, commit: CommitIndex, outcomes: &[Applied]) {
        let Some(slots) = self.lock().remove(key) else { return };
        for (number, slot) in slots.into_iter().enumerate() {
            if let Some(applied) = outcomes.get(number).or(outcomes.last()) {
                let limit = slot.outbox.gate().facts().max_transaction_bytes;
                slot.resolve(outcome(applied, key, commit, limit));
            }
        }
    }

    /// How many batches have receipts waiting.
    pub fn batches(&self) -> usize {
        self.lock().len()
    }
}

/// What the client hears.
fn outcome(applied: &Applied, key: &BatchKey, commit: CommitIndex, limit: u64) -> Outcome {
    match *applied {
        Applied::Committed { first_position } => {
            Outcome::Committed(Placed { commit: commit.0, first_position, batch: batch_id(key) })
        }
        Applied::Already { commit, first_position, ref batch } => {
            Outcome::Already(Placed { commit: commit.0, first_position, batch: batch_id(batch) })
        }
        Applied::Expired => Outcome::Refused(Refusal::Expired),
        Applied::DeadlineTooFar => Outcome::Refused(Refusal::DeadlineTooFar),
        Applied::TooManyLiveIds => Outcome::Refused(Refusal::TooManyLiveIds),
        Applied::TooLarge => Outcome::Refused(Refusal::TooLarge { limit }),
        Applied::Malformed => Outcome::Refused(Refusal::Malformed),
    }
}

/// A batch as clients name it.
pub fn batch_id(key: &BatchKey) -> BatchId {
    BatchId { author: key.author, sequence: key.sequence.0, digest: key.digest }
}
