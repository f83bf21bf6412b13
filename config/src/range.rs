//! The range of every number that comes from outside: rounds, sequences, commit indexes, positions and timestamps.
//!
//! Promises: what was checked where it entered is below [`LIMIT`], so that sums of two such numbers are exact. No honest
//! number comes near it: a round a microsecond reaches it after 146 000 years.

/// Rounds, sequences, commit indexes, positions of the log and timestamps in milliseconds are below this. What a peer sends at or above it breaks a
/// rule; what a client sends is answered with a refusal.
pub const LIMIT: u64 = 1 << 62;

/// Whether a number from outside may be taken in.
pub const fn in_range(number: u64) -> bool {
    number < LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_is_out() {
        assert!(in_range(0) && in_range(LIMIT - 1));
        assert!(!in_range(LIMIT) && !in_range(1 << 63) && !in_range(u64::MAX));
    }
}
