//! The pace of own blocks: a token bucket, as the generic cell rate algorithm. A fixed least delay would make a node behind a
//! slow link skip rounds and fall further behind.

use std::time::Duration;

/// One block every `period` in the long run; saved-up time of at most `burst` may be spent at once.
#[derive(Debug)]
pub struct Limiter {
    period: Duration,
    burst: Duration,
    /// When the budget would be full again.
    full_at: Duration,
}

impl Limiter {
    /// A full budget.
    pub fn new(period: Duration, burst: Duration) -> Self {
        Self { period, burst, full_at: Duration::ZERO }
    }

    /// When the next block may leave; in the past if at once.
    pub fn ready_at(&self) -> Duration {
        (self.full_at + self.period).saturating_sub(self.burst.max(self.period))
    }

    /// A block leaves.
    pub fn spend(&mut self, now: Duration) {
        self.full_at = self.full_at.max(now) + self.period;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_long_run_pace() {
        let ms = Duration::from_millis;
        let mut limiter = Limiter::new(ms(5), ms(20));
        let now = ms(1000);
        let mut sent = 0;
        while limiter.ready_at() <= now {
            limiter.spend(now);
            sent += 1;
        }
        assert_eq!((sent, limiter.ready_at()), (4, now + ms(5)));
        limiter.spend(now + ms(5));
        assert_eq!(limiter.ready_at(), now + ms(10));
    }
}
