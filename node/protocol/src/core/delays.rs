//! What links measure, and the delay bound D that follows from it.
//!
//! D is what a block and the fetch of what it needs may take within the nearest quorum: one way, `payload_grace`, a round trip.
//! The configured values are floors, `leader_timeout_cap` is the cap: liveness needs a timeout of at least 2 D, and that is how
//! far a timeout can grow.
//!
//! Promises: F liars cannot raise D above what the slowest honest member makes it, since what counts is the round trip within
//! which peers reach a quorum of stake together with us; a member that nobody needs does not count.

use std::time::Duration;

use rorqual_config::committee::{AuthoritySet, Stake};
use rorqual_config::{AuthorityIndex, Committee};

use super::Core;

/// No measurement counts for more.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(60);

/// Round trips, and what follows from them.
#[derive(Debug)]
pub struct Delays {
    round_trips: Vec<Option<Duration>>,
    /// Within which a quorum is reached; zero before enough is known.
    quorum: Duration,
}

impl Delays {
    /// Nothing measured.
    pub fn new(members: usize) -> Self {
        Self { round_trips: vec![None; members], quorum: Duration::ZERO }
    }

    /// A measurement; the average moves by an eighth.
    fn measured(&mut self, peer: AuthorityIndex, duration: Duration) {
        let Some(known) = self.round_trips.get_mut(peer.usize()) else { return };
        let duration = duration.min(MAX_ROUND_TRIP);
        *known = Some(known.map_or(duration, |average| (average * 7 + duration) / 8));
    }

    /// Looks again at who is nearest.
    fn settle(&mut self, me: AuthorityIndex, connected: AuthoritySet, committee: &Committee) {
        let known = connected.iter().filter_map(|peer| Some((self.round_trips[peer.usize()]?, peer)));
        let mine = std::iter::once((Duration::ZERO, me));
        self.quorum = within_quorum(known.chain(mine), committee).unwrap_or_default();
    }

    /// The measured round trip to a peer.
    pub fn known(&self, peer: AuthorityIndex) -> Option<Duration> {
        self.round_trips.get(peer.usize()).copied().flatten()
    }

    /// The round trip to a peer; zero before it was measured.
    pub fn round_trip(&self, peer: AuthorityIndex) -> Duration {
        self.round_trips[peer.usize()].unwrap_or_default()
    }

    /// The round trip within which we reach a quorum; zero before enough is known.
    pub fn quorum(&self) -> Duration {
        self.quorum
    }
}

/// The least duration such that the authors with no longer ones hold a quorum; none if all together do not. At most F of stake
/// that lies cannot raise it above the longest honest one.
pub fn within_quorum(
    durations: impl Iterator<Item = (Duration, AuthorityIndex)>,
    committee: &Committee,
) -> Option<Duration> {
    let mut sorted: Vec<(Duration, AuthorityIndex)> = durations.collect();
    sorted.sort_unstable();
    let mut stake = Stake(0);
    for (duration, author) in sorted {
        stake += committee.stake(author);
        if stake >= committee.quorum() {
            return Some(duration);
        }
    }
    None
}

impl Core {
    pub(super) fn on_round_trip(&mut self, peer: AuthorityIndex, duration: Duration) {
        self.delays.measured(peer, duration);
        self.settle_delays();
    }

    /// Links, or what they measure, have changed.
    pub(super) fn settle_delays(&mut self) {
        self.delays.settle(self.setup.me, self.peers.connected, &self.setup.committee);
        self.fetcher.set_pause(self.delay_bound());
    }

    /// D.
    pub(super) fn delay_bound(&self) -> Duration {
        let parameters = &self.setup.parameters;
        let measured = self.delays.quorum() * 3 / 2 + parameters.payload_grace;
        measured.min(parameters.leader_timeout_cap / 2).max(parameters.delay_bound)
    }

    /// 4 D: what was handed to a link so long ago and shows nowhere counts as lost.
    pub(super) fn patience(&self) -> Duration {
        self.delay_bound() * 4
    }

    /// How old a block must be that most peers surely have.
    pub(super) fn settling_time(&self) -> Duration {
        self.setup.parameters.settle.max(self.delays.quorum().min(self.delay_bound()))
    }

    /// How long a round waits for its leader while all goes well; at least twice D.
    pub(super) fn base_timeout(&self) -> Duration {
        let parameters = &self.setup.parameters;
        let (floor, cap) = (parameters.leader_timeout, parameters.leader_timeout_cap);
        let waited = self.waits.typical(&self.setup.committee) * 5 / 2;
        waited.max(self.delay_bound() * 2).min(cap).max(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::committee;

    #[test]
    fn one_liar_of_four_cannot_move_what_counts_and_too_few_count_for_nothing() {
        let committee = committee(4);
        let ms = |ms: [u64; 4]| {
            (0u16..).zip(ms).map(|(author, ms)| (Duration::from_millis(ms), AuthorityIndex(author))).collect::<Vec<_>>()
        };
        let of = |durations: Vec<_>| within_quorum(durations.into_iter(), &committee);
        assert_eq!(of(ms([0, 3, 2, 50_000])), Some(Duration::from_millis(3)));
        assert_eq!(of(ms([0, 3, 2, 0])), Some(Duration::from_millis(2)));
        assert_eq!(of(ms([0, 3, 2, 1])[..2].to_vec()), None);
    }
}
