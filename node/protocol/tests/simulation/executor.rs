//! Execution: applies deliveries in order, one after another, each once all its payload is there, and takes its time. The
//! state is a chain of digests.

use std::collections::VecDeque;
use std::sync::Arc;

use rorqual_config::Digest;
use rorqual_protocol::types::{CommitIndex, Delivery};

use super::Time;
use super::disk::Disk;
use crate::random::Random;

/// How long execution works on a commit.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub low: Time,
    pub high: Time,
    /// Of a thousand commits so many take up to `slow` instead.
    pub slow_of_thousand: u64,
    pub slow: Time,
}

impl Default for Pace {
    fn default() -> Self {
        Self { low: 20, high: 300, slow_of_thousand: 5, slow: 40_000 }
    }
}

impl Pace {
    pub fn draw(&self, random: &mut Random) -> Time {
        if random.below(1_000) < self.slow_of_thousand {
            return random.between(self.high, self.slow.max(self.high));
        }
        random.between(self.low, self.high)
    }
}

pub struct Executor {
    waiting: VecDeque<Arc<Delivery>>,
    /// At work on the first of them.
    busy: bool,
    /// The last commit that was put into the queue.
    queued: CommitIndex,
    state: Digest,
}

impl Executor {
    pub fn new(executed: Option<(CommitIndex, Digest)>) -> Self {
        let (queued, state) = executed.unwrap_or_default();
        Self { waiting: VecDeque::new(), busy: false, queued, state }
    }

    pub fn take(&mut self, delivery: Arc<Delivery>) {
        assert_eq!(delivery.commit.index, self.queued.next(), "a delivery is missing or repeated");
        self.queued = delivery.commit.index;
        self.waiting.push_back(delivery);
    }

    /// Begins with the next delivery: true if it was idle and all payload of that is there.
    pub fn begin(&mut self, disk: &Disk) -> bool {
        let whole = |next: &Arc<Delivery>| next.batches.iter().all(|batch| disk.has_payload(&batch.key()));
        let begins = !self.busy && self.waiting.front().is_some_and(whole);
        self.busy |= begins;
        begins
    }

    /// The delivery it was at work on is applied.
    pub fn finish(&mut self) -> Option<(Arc<Delivery>, Digest)> {
        if !std::mem::take(&mut self.busy) {
            return None;
        }
        let next = self.waiting.pop_front()?;
        let mut state = Digest::of("test/state", &[&self.state.0, &next.commit.digest().0]);
        for batch in &next.batches {
            state = Digest::of("test/batch", &[&state.0, batch.key().to_string().as_bytes()]);
        }
        self.state = state;
        Some((next, state))
    }
}
