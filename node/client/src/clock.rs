//! Commit time as a client can know it: what a node last said, and what has passed since.
//!
//! No wall clock of the client is used, only how much time passes. What a node says is its estimate of the time that the next
//! commit would have; its last word counts, also where it is less than before: a node that did not hear its peers yet knows only
//! its own clock, which may be wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

#[derive(Debug)]
pub struct CommitClock {
    start: Instant,
    /// Commit time at `start`, in milliseconds since the Unix epoch.
    origin: AtomicU64,
}

impl CommitClock {
    pub fn new(commit_time_ms: u64) -> Self {
        Self { start: Instant::now(), origin: AtomicU64::new(commit_time_ms) }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes in what the node says.
    pub fn hear(&self, commit_time_ms: u64) {
        self.origin.store(commit_time_ms.saturating_sub(self.elapsed_ms()), Ordering::Relaxed);
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
        assert!((40_000..41_000).contains(&clock.now_ms()), "the last word counts");
    }
}
