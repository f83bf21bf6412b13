//! Frames that reach nobody: pings, pongs, keep-alives, answers to no question. They cost little, but no consumer holds them back.
//!
//! Promises: an honest peer, also one that answers a thousand questions too late, is never near the limit; one that sends nothing
//! else at the speed of the wire loses its link. Pure: the caller tells the time.

use std::time::Duration;

use tokio::time::Instant;

/// Frames in the long run.
const PERIOD: Duration = Duration::from_millis(10);

/// Frames at once: four times the questions that can be open.
const BURST: u32 = 4_096;

/// The budget of one stream.
pub(crate) struct Chatter {
    /// When the budget would be full again.
    full_at: Instant,
}

impl Chatter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// One more; false if it is one too many.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + PERIOD;
        let within = full_at <= now + PERIOD * BURST;
        if within {
            self.full_at = full_at;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_hundred_a_second() {
        let start = Instant::now();
        let mut chatter = Chatter::new(start);
        let taken = |chatter: &mut Chatter, now| (0..10_000).filter(|_| chatter.take(now)).count();
        assert_eq!(taken(&mut chatter, start), 4_096);
        assert_eq!(taken(&mut chatter, start + Duration::from_secs(1)), 100);
        assert_eq!(taken(&mut chatter, start + Duration::from_secs(100)), 4_096);
    }
}
