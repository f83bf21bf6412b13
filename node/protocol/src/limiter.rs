//! A token bucket, as the generic cell rate algorithm: the pace of own blocks, and what a peer may make us do. Pure: the caller
//! tells the time, so that the daemon and the simulation limit alike.
//!
//! Promises: in the long run no more than one token every period; saved-up time of at most the burst may be spent at once; debt
//! is bounded.

use std::time::Duration;

/// One token every `period` in the long run; saved-up time of at most `burst` may be spent at once.
#[derive(Clone, Debug)]
pub struct Limiter {
    period: Duration,
    burst: Duration,
    /// How far the budget may be overdrawn.
    debt: Duration,
    /// When the budget would be full again.
    full_at: Duration,
}

impl Limiter {
    /// A full budget that is never overdrawn: what is spent without waiting for it costs one period at most. A node that had to
    /// hurry after the others is not held back for it.
    pub fn new(period: Duration, burst: Duration) -> Self {
        Self { period, burst: burst.max(period), debt: Duration::ZERO, full_at: Duration::ZERO }
    }

    /// A full budget of `burst` tokens that comes back with `per_second`. One frame may overdraw it, by `debt` tokens at most, and
    /// the next one waits until that is paid: a frame is taken whole.
    pub fn per_second(per_second: u32, burst: u32, debt: u32) -> Self {
        let period = Duration::from_secs(1) / per_second.max(1);
        let burst = period.saturating_mul(burst.max(1));
        Self { period, burst, debt: period.saturating_mul(debt), full_at: Duration::ZERO }
    }

    /// When the next token is there; in the past if at once.
    pub fn ready_at(&self) -> Duration {
        self.full_at.saturating_add(self.period).saturating_sub(self.burst)
    }

    /// Tokens are spent, whether they are there or not.
    pub fn spend(&mut self, now: Duration, tokens: u32) {
        let most = now.saturating_add(self.burst).saturating_add(self.debt);
        let cost = self.period.saturating_mul(tokens);
        self.full_at = self.full_at.max(now).saturating_add(cost).min(most);
    }

    /// One token is there from now on, if none was.
    pub fn grant_one(&mut self, now: Duration) {
        self.full_at = self.full_at.min(now.saturating_add(self.burst).saturating_sub(self.period));
    }

    /// Spends one token if it is there.
    pub fn take(&mut self, now: Duration) -> bool {
        let there = self.ready_at() <= now;
        if there {
            self.spend(now, 1);
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_then_the_long_run_pace() {
        let mut limiter = Limiter::new(ms(5), ms(20));
        let now = ms(1000);
        let mut sent = 0;
        while limiter.ready_at() <= now {
            limiter.spend(now, 1);
            sent += 1;
        }
        assert_eq!((sent, limiter.ready_at()), (4, now + ms(5)));
        limiter.spend(now + ms(5), 1);
        assert_eq!(limiter.ready_at(), now + ms(10));
    }

    #[test]
    fn who_hurried_after_the_others_is_not_held_back_for_it() {
        let mut limiter = Limiter::new(ms(5), ms(20));
        let now = ms(1000);
        (0..10_000).for_each(|_| limiter.spend(now, 1));
        assert_eq!(limiter.ready_at(), now + ms(5));
    }

    #[test]
    fn a_frame_that_overdraws_is_paid_for_before_the_next_one() {
        let mut limiter = Limiter::per_second(1_000, 10, 150);
        let now = ms(1000);
        limiter.spend(now, 9);
        assert!(limiter.ready_at() <= now, "one token is left");
        limiter.spend(now, 150);
        assert_eq!(limiter.ready_at(), now + ms(150));
        (0..10_000).for_each(|_| limiter.spend(now, 150));
        assert_eq!(limiter.ready_at(), now + ms(151), "debt is bounded");
    }

    #[test]
    fn what_is_refused_costs_nothing() {
        let mut limiter = Limiter::per_second(1, 4, 0);
        let taken = |limiter: &mut Limiter, now| (0..100).filter(|_| limiter.take(now)).count();
        assert_eq!(taken(&mut limiter, ms(500)), 4);
        assert_eq!(taken(&mut limiter, ms(1_499)), 0);
        assert_eq!(taken(&mut limiter, ms(1_500)), 1);
        assert_eq!(taken(&mut limiter, ms(100_000)), 4);
    }
    #[test]
    fn a_granted_token_is_there_at_once_and_only_if_none_was() {
        let mut limiter = Limiter::per_second(1, 4, 10);
        let now = ms(10_000);
        limiter.spend(now, 14);
        assert_eq!(limiter.ready_at(), now + ms(11_000));
        limiter.grant_one(now);
        assert!(limiter.take(now) && !limiter.take(now), "one, and no more");
        assert_eq!(limiter.ready_at(), now + ms(1_000));
        let later = ms(100_000);
        limiter.grant_one(later);
        assert_eq!((0..100).filter(|_| limiter.take(later)).count(), 4, "a full budget gains nothing");
    }
}
