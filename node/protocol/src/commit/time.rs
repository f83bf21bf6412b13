//! Commit time: from the medians of commits to a time that ascends and that no clock can freeze.
//!
//! A commit's median may lie behind the time of the commit before: a clock that ran ahead was corrected, or a leader chose
//! other parents. Then time goes on from where it is at nine tenths of the pace of the medians until these have caught up.
//!
//! Promises: a function of the medians so far, hence equal at all nodes; strictly ascending; while the medians go on it goes on
//! too; medians that swing within a span gain less than three times that span in all, however often they swing. Both of the
//! last need that a reference stays where it is until the medians have caught up, but for its median, which may only fall.
//! Nothing overflows; times of valid blocks are so far below the end of the range that nothing stops there either.

use bincode::{Decode, Encode};

/// Commit time was ahead of the medians here and has been since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Reference {
    /// Commit time, in milliseconds since the Unix epoch.
    time_ms: u64,
    /// The lowest median since then, in milliseconds since the Unix epoch.
    median_ms: u64,
}

/// The time of the last commit, and how the next one follows from its median.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct CommitTime {
    last_ms: u64,
    reference: Option<Reference>,
}

impl CommitTime {
    /// The time of the last commit, in milliseconds since the Unix epoch; 0 before the first.
    pub fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// The next commit has this median; returns its time. Both in milliseconds since the Unix epoch.
    pub fn advance(&mut self, median_ms: u64) -> u64 {
        if let Some(reference) = &mut self.reference {
            reference.median_ms = reference.median_ms.min(median_ms);
        }
        let next = self.last_ms.saturating_add(1);
        let slow = self.reference.map_or(0, |reference| {
            let passed = median_ms.saturating_sub(reference.median_ms);
            reference.time_ms.saturating_add(nine_tenths(passed))
        });
        self.last_ms = median_ms.max(next).max(slow);
        if self.last_ms == median_ms {
            self.reference = None;
        } else {
            self.reference.get_or_insert(Reference { time_ms: self.last_ms, median_ms });
        }
        self.last_ms
    }

    /// The time that the next commit would have with this median.
    pub fn next_ms(mut self, median_ms: u64) -> u64 {
        self.advance(median_ms)
    }
}

/// Rounded down.
fn nine_tenths(value: u64) -> u64 {
    // Of each tenth first, so that nothing overflows.
    (value / 10).saturating_mul(9).saturating_add((value % 10).saturating_mul(9) / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_follows_the_lowest_median_and_its_time_stays() {
        let mut time = CommitTime::default();
        // Back by 500, then lower still, then on from there: nine tenths of what passes since the lowest one.
        let times = [1_000, 500, 400, 500, 600, 300, 400].map(|median| time.advance(median));
        assert_eq!(times, [1_000, 1_001, 1_002, 1_091, 1_181, 1_182, 1_183]);
        assert_eq!(time.advance(1_390), 1_001 + 981, "of 1 090 since the lowest");
        assert_eq!(time.advance(9_000), 9_000);
        assert_eq!([8_000, 8_500].map(|median| time.advance(median)), [9_001, 9_451], "a new reference");
    }
}
