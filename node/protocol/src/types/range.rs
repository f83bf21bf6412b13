//! The range of every number that comes from outside: rounds, sequences, commit indexes and timestamps.
//!
//! Promises: what was checked where it entered is below [`LIMIT`], so that sums of two such numbers are exact. No honest
//! number comes near it: a round a microsecond reaches it after 146 000 years.

/// Rounds, sequences, commit indexes and timestamps in milliseconds are below this. What a peer sends at or above it breaks a
/// rule; what a client sends is answered with a refusal.
pub const LIMIT: u64 = 1 << 62;

/// Whether a number from outside may be taken in.
pub const fn in_range(number: u64) -> bool {
    number < LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Round;

    #[test]
    fn the_limit_itself_is_out_and_sums_below_it_are_exact() {
        assert!(in_range(0) && in_range(LIMIT - 1));
        assert!(!in_range(LIMIT) && !in_range(1 << 63) && !in_range(u64::MAX));
        assert_eq!(Round(LIMIT - 1).plus(LIMIT - 1), Round(2 * (LIMIT - 1)));
    }

    #[test]
    fn arithmetic_is_total() {
        assert_eq!(Round(u64::MAX).plus(u64::MAX), Round(u64::MAX));
        assert_eq!(Round(u64::MAX).next(), Round(u64::MAX));
        assert_eq!((Round(0).previous(), Round(0).minus(u64::MAX)), (Round(0), Round(0)));
        assert_eq!((Round(7).above(Round(4)), Round(4).above(Round(7))), (3, 0));
    }
}
