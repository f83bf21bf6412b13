//! Counts and latencies, for the second that runs and for the whole measurement.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::{Latency, Second};

/// Longest latency that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(600);

/// Everything that is counted; owned by one thread.
pub struct Recorder {
    warm_up: Duration,
    second: Histogram<u64>,
    whole: Histogram<u64>,
    series: Vec<Second>,
    /// Transactions handed to a connection.
    pub submitted: u64,
    /// Transactions with a committed receipt.
    pub committed: u64,
    /// Transactions that were refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Committed after the warm-up and before the end of the schedule.
    pub committed_in_window: u64,
}

impl Recorder {
    /// What was intended before `warm_up` is counted, but not measured.
    pub fn new(warm_up: Duration) -> Self {
        // The bounds are constants that hdrhistogram accepts; it can refuse only bounds that make no sense.
        let histogram = || {
            Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3)
                .unwrap_or_else(|_| unreachable!("constant bounds"))
        };
        Self {
            warm_up,
            second: histogram(),
            whole: histogram(),
            series: Vec::new(),
            submitted: 0,
            committed: 0,
            rejected: BTreeMap::new(),
            committed_in_window: 0,
        }
    }

    /// Transactions that were intended at these times, and committed at `now`; all counted from the start.
    pub fn committed(&mut self, intended: impl Iterator<Item = Duration>, now: Duration, end: Duration) {
        for intended in intended {
            let micros = now.saturating_sub(intended).as_micros() as u64;
            self.second.saturating_record(micros);
            self.committed += 1;
            if intended >= self.warm_up {
                self.whole.saturating_record(micros);
            }
            if now >= self.warm_up && now < end {
                self.committed_in_window += 1;
            }
        }
    }

    /// Transactions that were refused.
    pub fn rejected(&mut self, reason: &str, transactions: u64) {
        match self.rejected.get_mut(reason) {
            Some(count) => *count += transactions,
            None => {
                self.rejected.insert(reason.to_owned(), transactions);
            }
        }
    }

    /// All that were refused.
    pub fn all_rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Transactions handed over that nothing was heard of yet.
    pub fn outstanding(&self) -> u64 {
        self.submitted.saturating_sub(self.committed + self.all_rejected())
    }

    /// Closes the second that ran; `behind` transactions are due and not handed over.
    pub fn close_second(&mut self, t_s: u64, behind: u64) -> Second {
        let second = Second {
            t_s,
            tps: self.second.len(),
            p50_ms: millis(self.second.value_at_quantile(0.5)),
            p99_ms: millis(self.second.value_at_quantile(0.99)),
            outstanding: self.outstanding(),
            behind,
        };
        self.second.reset();
        self.series.push(second.clone());
        second
    }

    /// All seconds that were closed.
    pub fn series(&self) -> &[Second] {
        &self.series
    }

    /// Latencies of everything intended after the warm-up.
    pub fn latency(&self) -> Latency {
        Latency {
            mean: self.whole.mean() / 1e3,
            p50: millis(self.whole.value_at_quantile(0.5)),
            p90: millis(self.whole.value_at_quantile(0.9)),
            p99: millis(self.whole.value_at_quantile(0.99)),
            max: millis(self.whole.max()),
        }
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_is_counted_but_not_measured() {
        let mut recorder = Recorder::new(Duration::from_secs(1));
        recorder.submitted = 30;
        let second = Duration::from_secs(1);
        recorder.committed([Duration::ZERO; 10].into_iter(), Duration::from_millis(900), 3 * second);
        recorder.committed([second; 5].into_iter(), Duration::from_millis(1_010), 3 * second);
        recorder.committed([2 * second; 5].into_iter(), 4 * second, 3 * second);
        recorder.rejected("overloaded", 3);
        recorder.rejected("overloaded", 3);
        assert_eq!((recorder.committed, recorder.committed_in_window), (20, 5));
        assert_eq!((recorder.outstanding(), recorder.all_rejected()), (4, 6));
        let latency = recorder.latency();
        assert!((9.9..10.1).contains(&latency.p50), "{latency:?}");
        assert!((1_999.0..2_002.0).contains(&latency.max), "{latency:?}");
    }

    #[test]
    fn a_second_holds_its_own_receipts_only() {
        let mut recorder = Recorder::new(Duration::ZERO);
        recorder.submitted = 3;
        recorder.committed([Duration::ZERO; 2].into_iter(), Duration::from_millis(4), Duration::from_secs(9));
        assert_eq!(recorder.close_second(1, 0).tps, 2);
        recorder.committed([Duration::ZERO; 1].into_iter(), Duration::from_millis(8), Duration::from_secs(9));
        let second = recorder.close_second(2, 7);
        assert_eq!((second.tps, second.outstanding, second.behind), (1, 0, 7));
        assert!((7.9..8.1).contains(&second.p50_ms));
        assert_eq!(recorder.series().len(), 2);
    }
}
