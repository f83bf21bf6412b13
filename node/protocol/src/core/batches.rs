//! Our own payload from sealing to delivery.
//!
//! Promises: a batch is named only once it is stored here and handed to the kernel for peers that with us hold a quorum; in
//! sequence order; never so far above the oldest undelivered one that replay windows could lose the oldest; a batch whose
//! block was garbage-collected is named again with the same sequence and digest.

use std::collections::{BTreeMap, BTreeSet};

use rorqual_config::committee::AuthoritySet;
use rorqual_config::{AuthorityIndex, Committee};

use crate::types::{BatchRef, Sequence};

#[derive(Debug)]
struct OwnBatch {
    batch: BatchRef,
    handed: AuthoritySet,
    eligible: bool,
    /// A durable or coming own block names it.
    named: bool,
}

/// Own batches that are not delivered.
#[derive(Debug)]
pub struct OwnBatches {
    batches: BTreeMap<Sequence, OwnBatch>,
    /// Eligible and not named.
    ready: BTreeSet<Sequence>,
    next: Sequence,
    ahead: u64,
    announced: Option<Sequence>,
    /// Hand-overs that were reported before the write of their batch. Bounded by the batches that may be sealed ahead.
    early: BTreeMap<Sequence, AuthoritySet>,
    named_bytes: u64,
}

impl OwnBatches {
    /// None yet.
    pub fn new(ahead: u64) -> Self {
        Self {
            batches: BTreeMap::new(),
            ready: BTreeSet::new(),
            next: Sequence(1),
            ahead,
            announced: None,
            early: BTreeMap::new(),
            named_bytes: 0,
        }
    }

    /// How many are not delivered.
    pub fn pending(&self) -> usize {
        self.batches.len()
    }

    /// Payload in bytes of undelivered batches that own blocks name.
    pub fn named_bytes(&self) -> u64 {
        self.named_bytes
    }

    /// Whether some wait to be named.
    pub fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The lowest sequence that is not delivered.
    pub fn oldest(&self) -> Sequence {
        self.batches.first_key_value().map_or(self.next, |(sequence, _)| *sequence)
    }

    /// Sequences below this are taken.
    pub fn reserve(&mut self, next: Sequence) {
        self.next = self.next.max(next);
    }

    /// The batch maker sealed a batch.
    pub fn sealed(&mut self, batch: BatchRef, me: AuthorityIndex, committee: &Committee) {
        let mut handed = self.early.remove(&batch.sequence).unwrap_or_default();
        handed.insert(me);
        let eligible = committee.is_quorum(&handed);
        self.insert(OwnBatch { batch, handed, eligible, named: false });
    }

    /// A batch from disk. Its first dissemination is over: whoever misses it fetches it.
    pub fn restored(&mut self, batch: BatchRef) {
        self.insert(OwnBatch { batch, handed: AuthoritySet::EMPTY, eligible: true, named: false });
    }

    fn insert(&mut self, own: OwnBatch) {
        let sequence = own.batch.sequence;
        self.reserve(sequence.next());
        if own.eligible {
            self.ready.insert(sequence);
        }
        self.batches.insert(sequence, own);
    }

    /// A batch is in the kernel's hands for a peer.
    pub fn handed(&mut self, sequence: Sequence, peer: AuthorityIndex, me: AuthorityIndex, committee: &Committee) {
        if sequence >= self.next && sequence.above(self.next) <= self.ahead {
            // The peer's stream was faster than our disk.
            self.early.entry(sequence).or_default().insert(peer);
            return;
        }
        let Some(own) = self.batches.get_mut(&sequence).filter(|own| !own.eligible) else { return };
        own.handed.insert(me);
        own.handed.insert(peer);
        if committee.is_quorum(&own.handed) {
            own.eligible = true;
            self.ready.insert(sequence);
        }
    }

    /// Takes what the next own block names: at most `count` batches of at most `bytes` together.
    pub fn name(&mut self, count: usize, bytes: u64) -> Vec<BatchRef> {
        let limit = self.oldest().plus(self.ahead);
        let (mut named, mut total) = (Vec::new(), 0u64);
        while named.len() < count {
            let Some(sequence) = self.ready.first().copied().filter(|sequence| *sequence < limit) else { break };
            let Some(own) = self.batches.get_mut(&sequence) else {
                self.ready.remove(&sequence);
                continue;
            };
            total = total.saturating_add(own.batch.bytes.into());
            if total > bytes {
                break;
            }
            own.named = true;
            self.named_bytes = self.named_bytes.saturating_add(u64::from(own.batch.bytes));
            self.ready.remove(&sequence);
            named.push(own.batch);
        }
        named
    }

    /// An own block names these already (after a restart).
    pub fn already_named(&mut self, batches: &[BatchRef]) {
        for batch in batches {
            if let Some(own) = self.batches.get_mut(&batch.sequence).filter(|own| own.batch == *batch && !own.named) {
                own.named = true;
                self.named_bytes = self.named_bytes.saturating_add(u64::from(own.batch.bytes));
                self.ready.remove(&batch.sequence);
            }
        }
    }

    /// The own block that named these can never be committed, or was and they were not delivered: back to the front.
    /// Returns how many.
    pub fn requeue(&mut self, batches: &[BatchRef]) -> u64 {
        let mut count = 0;
        for batch in batches {
            if let Some(own) = self.batches.get_mut(&batch.sequence).filter(|own| own.batch == *batch && own.named) {
                own.named = false;
                self.named_bytes = self.named_bytes.saturating_sub(u64::from(own.batch.bytes));
                self.ready.insert(batch.sequence);
                count = u64::saturating_add(count, 1);
            }
        }
        count
    }

    /// A batch is delivered.
    pub fn delivered(&mut self, sequence: Sequence) {
        if let Some(own) = self.batches.remove(&sequence).filter(|own| own.named) {
            self.named_bytes = self.named_bytes.saturating_sub(u64::from(own.batch.bytes));
        }
        self.ready.remove(&sequence);
        self.reserve(sequence.next());
    }

    /// The oldest undelivered sequence and the sealing limit, when they changed.
    pub fn news(&mut self) -> Option<(Sequence, Sequence)> {
        // With nothing pending every new sequence moves the oldest; only what raises the limit is news then.
        let oldest = self.oldest();
        if self.announced == Some(oldest) {
            return None;
        }
        self.announced = Some(oldest);
        Some((oldest, oldest.plus(self.ahead)))
    }
}
