//! When each transaction is due: a pure function of the rate.

use std::time::Duration;

/// The share of one connection in the schedule of the whole run.
///
/// Transaction `k` of the run is due at `k / rate` after the start; connection `c` of `n` carries those with `k mod n = c`.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: u64,
    connections: u64,
    connection: u64,
    total: u64,
}

impl Pace {
    /// The share of `connection` out of `connections` in `rate` transactions a second for `duration`.
    pub fn new(rate: u64, duration: Duration, connections: u64, connection: u64) -> Self {
        let all = (u128::from(rate) * duration.as_nanos() / 1_000_000_000) as u64;
        let total = (all + connections - 1).saturating_sub(connection) / connections;
        Self { rate, connections, connection, total }
    }

    /// How many transactions this share has.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// When transaction `index` of this share is due, after the start.
    pub fn intended(&self, index: u64) -> Duration {
        let place = u128::from(index) * u128::from(self.connections) + u128::from(self.connection);
        Duration::from_nanos((place * 1_000_000_000 / u128::from(self.rate)) as u64)
    }

    /// How many transactions of this share are due once `elapsed` has passed since the start.
    pub fn due(&self, elapsed: Duration) -> u64 {
        // Transaction 0 of the run is due at once, hence the one more.
        let all = (elapsed.as_nanos() * u128::from(self.rate) / 1_000_000_000) as u64 + 1;
        let own = (all + self.connections - 1).saturating_sub(self.connection) / self.connections;
        own.min(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_rate() {
        for (rate, connections) in [(1, 4), (1_000, 3), (10_000, 4), (7, 1)] {
            let shares: Vec<_> =
                (0..connections).map(|c| Pace::new(rate, Duration::from_secs(20), connections, c)).collect();
            assert_eq!(shares.iter().map(Pace::total).sum::<u64>(), rate * 20);
            let due: u64 = shares.iter().map(|share| share.due(Duration::from_millis(9_999))).sum();
            assert_eq!(due, rate * 9_999 / 1_000 + 1);
        }
    }

    #[test]
    fn what_is_due_was_intended_before() {
        for connection in 0..3 {
            let pace = Pace::new(997, Duration::from_secs(2), 3, connection);
            for millis in 0..2_500 {
                let elapsed = Duration::from_millis(millis);
                let due = pace.due(elapsed);
                assert!(due == 0 || pace.intended(due - 1) <= elapsed);
                // A nanosecond of rounding down in `intended` at most.
                assert!(due == pace.total() || pace.intended(due) + Duration::from_nanos(1) > elapsed);
            }
            assert_eq!(pace.due(Duration::from_secs(3)), pace.total());
        }
    }
}
