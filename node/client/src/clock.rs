//! Commit time as a client can know it: what a node last said, and what has passed since.
//!
//! No wall clock of the client is used, only how much time passes. Commit time follows the clocks of the nodes, so between two
//! commits it is taken to go on at the same pace. A node that repeats itself is idle or stuck, and tells nothing new.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

#[derive(Debug)]
pub struct CommitClock {
    start: Instant,
    /// The last commit time heard, in milliseconds since the Unix epoch.
    heard: AtomicU64,
    /// Commit time at `start`, in milliseconds.
    origin: AtomicU64,
}

impl CommitClock {
    pub fn new(commit_time_ms: u64) -> Self {
        Self { start: Instant::now(), heard: AtomicU64::new(commit_time_ms), origin: AtomicU64::new(commit_time_ms) }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes in what the node says.
    pub fn hear(&self, commit_time_ms: u64) {
        if self.heard.fetch_max(commit_time_ms, Ordering::Relaxed) < commit_time_ms {
            self.origin.store(commit_time_ms.saturating_sub(self.elapsed_ms()), Ordering::Relaxed);
        }
    }

    /// Commit time now, about, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.origin.load(Ordering::Relaxed).saturating_add(self.elapsed_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_what_was_heard_last() {
        let clock = CommitClock::new(1_000);
        assert!((1_000..2_000).contains(&clock.now_ms()));
        clock.hear(50_000);
        assert!((50_000..51_000).contains(&clock.now_ms()));
        clock.hear(40_000);
        assert!(clock.now_ms() >= 50_000, "commit time never goes back");
    }
}
