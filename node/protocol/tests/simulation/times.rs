//! When commits were first executed, and the time that they say: whether commit time runs as the clocks do.

use rorqual_protocol::types::Commit;

use super::daemon::EPOCH_MS;
use super::{MILLISECOND, Time};

#[derive(Default)]
pub struct Times {
    /// In the order of commits.
    seen: Vec<(Time, u64)>,
}

impl Times {
    pub fn executed(&mut self, commit: &Commit, now: Time) {
        if commit.index.0 == self.seen.len() as u64 + 1 {
            self.seen.push((now, commit.timestamp_ms));
        }
    }

    fn during(&self, span: std::ops::Range<Time>) -> Vec<(Time, u64)> {
        self.seen.iter().filter(|(at, _)| span.contains(at)).copied().collect()
    }

    /// The most by which commit time was ahead of a clock that is right, in milliseconds.
    pub fn most_ahead(&self, span: std::ops::Range<Time>) -> i64 {
        let ahead = |(at, time): (Time, u64)| time as i64 - (EPOCH_MS + at / MILLISECOND) as i64;
        self.during(span).into_iter().map(ahead).max().expect("there were commits")
    }

    /// The longest that commit time stood still, in milliseconds, if it runs at nine tenths of the pace of time otherwise.
    pub fn longest_stand(&self, span: std::ops::Range<Time>) -> i64 {
        let seen = self.during(span);
        assert!(seen.len() > 20, "only {} commits", seen.len());
        let stood = |(i, (at, time)): (usize, &(Time, u64))| {
            let later = seen[i..].iter();
            let passed = |later: &(Time, u64)| ((later.0 - at) / MILLISECOND) as i64;
            later.map(|other| passed(other) - (other.1 - time) as i64 * 10 / 9).max().unwrap_or(0)
        };
        seen.iter().enumerate().map(stood).max().unwrap_or(0)
    }

    /// The part of passing time that commit time went on by.
    pub fn pace(&self, span: std::ops::Range<Time>) -> f64 {
        let seen = self.during(span);
        let ((from, first), (to, last)) = (seen[0], seen[seen.len() - 1]);
        (last - first) as f64 / ((to - from) / MILLISECOND) as f64
    }
}
