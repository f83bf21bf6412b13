//! How long an answer may take, from measured round trips.
//!
//! Promises: no round trip that fewer than stake V share lengthens the patience with anybody, so that a liar that answers pings
//! late gains nothing; without measurements the configured delay bound stands in.

use std::time::Duration;

use rorqual_config::{AuthorityIndex, Stake};

use super::Core;

/// Round trips that the range at the head may take before a second server is asked for it.
const RANGE_ROUND_TRIPS: u32 = 4;
/// Bounds of that.
const RANGE_PATIENCE: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(2)];
/// Bounds of the patience with a holder of blocks; the lower one is twice `payload_grace` where that is more.
const BLOCK_PATIENCE: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(2)];

impl Core {
    /// The smallest round trip such that connected peers with stake of at least `threshold` are no farther.
    fn round_trip_within(&self, threshold: Stake) -> Option<Duration> {
        let measured = |peer: AuthorityIndex| Some((self.delays.known(peer)?, self.committee().stake(peer)));
        let mut measured: Vec<(Duration, Stake)> = self.peers.connected.iter().filter_map(measured).collect();
        measured.sort_unstable();
        let mut stake = Stake(0);
        measured.into_iter().find_map(|(round_trip, of_peer)| {
            stake += of_peer;
            (stake >= threshold).then_some(round_trip)
        })
    }

    /// How long the range at the head is waited for before another server is asked too. At least one honest peer is no
    /// nearer, and where there is one that is far, nearer ones may serve as well.
    pub(super) fn range_patience(&self) -> Duration {
        let measured = self.round_trip_within(self.committee().validity());
        let round_trip = measured.unwrap_or(self.setup.parameters.delay_bound);
        round_trip.saturating_mul(RANGE_ROUND_TRIPS).clamp(RANGE_PATIENCE[0], RANGE_PATIENCE[1])
    }

    /// How long a holder of blocks is waited for before the next one is asked: two of its round trips, but no longer than
    /// for what a quorum shares with us.
    pub(super) fn block_patience(&self, peer: AuthorityIndex) -> Duration {
        let others = Stake(self.committee().quorum().0.saturating_sub(self.committee().stake(self.setup.me).0));
        let unmeasured = self.setup.parameters.delay_bound.saturating_mul(2);
        let most = self.round_trip_within(others).unwrap_or(unmeasured);
        let round_trip = self.delays.known(peer).map_or(most, |own| own.min(most));
        let least = BLOCK_PATIENCE[0].max(self.setup.parameters.payload_grace.saturating_mul(2)).min(BLOCK_PATIENCE[1]);
        round_trip.saturating_mul(2).clamp(least, BLOCK_PATIENCE[1])
    }
}
