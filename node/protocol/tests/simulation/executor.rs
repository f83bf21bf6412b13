//! Execution: applies deliveries in order once all their payload is there. The state is a chain of digests.

use std::collections::VecDeque;
use std::sync::Arc;

use rorqual_config::Digest;
use rorqual_protocol::types::{CommitIndex, Delivery};

use super::disk::Disk;

pub struct Executor {
    waiting: VecDeque<Arc<Delivery>>,
    last: CommitIndex,
    /// The last commit that was put into the queue.
    queued: CommitIndex,
    state: Digest,
}

impl Executor {
    pub fn new(executed: Option<(CommitIndex, Digest)>) -> Self {
        let (last, state) = executed.unwrap_or_default();
        Self { waiting: VecDeque::new(), last, queued: last, state }
    }

    pub fn take(&mut self, delivery: Arc<Delivery>) {
        assert_eq!(delivery.commit.index, self.queued.next(), "a delivery is missing or repeated");
        self.queued = delivery.commit.index;
        self.waiting.push_back(delivery);
    }

    /// Applies the next delivery, if all its payload is there.
    pub fn execute(&mut self, disk: &Disk) -> Option<(Arc<Delivery>, Digest)> {
        let next = self.waiting.front()?;
        if !next.batches.iter().all(|batch| disk.has_payload(&batch.key())) {
            return None;
        }
        let next = self.waiting.pop_front()?;
        let mut state = Digest::of("test/state", &[&self.state.0, &next.commit.digest().0]);
        for batch in &next.batches {
            state = Digest::of("test/batch", &[&state.0, batch.key().to_string().as_bytes()]);
        }
        self.state = state;
        self.last = next.commit.index;
        Some((next, state))
    }
}
