//! How many TLS handshakes are begun: each costs this node a signature and two curve multiplications (some 150 µs) before the
//! other side has shown who it is.
//!
//! Promises: however many connections come, handshakes cost a bounded share of a core; half of what may be begun at once is
//! kept for addresses of members, so that strangers from elsewhere do not hold up a member that comes back. A flood from a
//! member's own address delays that member's return, but no link that is up.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rorqual_config::committee::AuthorityIndex;
use tokio::time::Instant;

use crate::Peer;

/// A token bucket, of which strangers get the upper half, and the addresses that are no strangers'.
pub(crate) struct Pace {
    per_second: f64,
    burst: f64,
    state: Mutex<State>,
}

struct State {
    tokens: f64,
    filled: Instant,
    /// One address a member: named in the committee, or the one from which it last showed its key.
    members: HashMap<AuthorityIndex, IpAddr>,
}

impl Pace {
    /// `per_second` handshakes in the long run, `burst` at once; at least one and two.
    pub(crate) fn new(per_second: u32, burst: u32, peers: &[Peer]) -> Self {
        // Names are not looked up here: their owners are known once they have shown their keys.
        let address = |peer: &Peer| Some((peer.index, peer.address.parse::<SocketAddr>().ok()?.ip()));
        let burst = f64::from(burst.max(2));
        let members = peers.iter().filter_map(address).collect();
        let state = State { tokens: burst, filled: Instant::now(), members };
        Self { per_second: f64::from(per_second.max(1)), burst, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member has shown its key from this address.
    pub(crate) fn remember(&self, member: AuthorityIndex, address: IpAddr) {
        self.lock().members.insert(member, address);
    }

    /// Whether a member is known to be at this address.
    pub(crate) fn is_members(&self, address: IpAddr) -> bool {
        self.lock().members.values().any(|known| *known == address)
    }

    /// Waits until a handshake with this address may begin. Those who wait are served in no order, so that nobody can get
    /// ahead by being early.
    pub(crate) async fn turn(&self, address: IpAddr) {
        while let Err(pause) = self.try_turn(address, Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }

    fn try_turn(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let known = self.is_members(address);
        let mut state = self.lock();
        let passed = now.saturating_duration_since(state.filled);
        state.tokens = (state.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
        state.filled = state.filled.max(now);
        let floor = if known { 0.0 } else { self.burst / 2.0 };
        if state.tokens - 1.0 >= floor {
            state.tokens -= 1.0;
            return Ok(());
        }
        // Rounded up: a pause of nothing would be a busy loop.
        let missing = floor + 1.0 - state.tokens;
        Err(Duration::from_secs_f64(missing / self.per_second).max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rorqual_config::KeyPair;

    const MEMBER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

    fn pace(address: &str) -> Pace {
        let public_key = KeyPair::from_seed([1; 32]).public();
        let peer = Peer { index: AuthorityIndex(0), name: "node-0".into(), public_key, address: address.into() };
        Pace::new(10, 8, &[peer])
    }

    #[test]
    fn strangers_leave_half_of_the_burst_to_members() {
        let (pace, now) = (pace("10.0.0.1:9600"), Instant::now());
        let taken = |address| (0..100).take_while(|_| pace.try_turn(address, now).is_ok()).count();
        assert_eq!(taken(STRANGER), 4);
        assert_eq!(taken(MEMBER), 4);
        let pause = pace.try_turn(MEMBER, now).unwrap_err();
        assert!(pace.try_turn(MEMBER, now + pause + Duration::from_micros(1)).is_ok(), "the pause is long enough");
    }

    #[test]
    fn the_long_run_is_bounded_whoever_comes() {
        let (pace, start) = (pace("10.0.0.1:9600"), Instant::now());
        let turns = (0..10_000u64).filter(|ms| {
            let (now, even) = (start + Duration::from_millis(*ms), ms.is_multiple_of(2));
            pace.try_turn(if even { MEMBER } else { STRANGER }, now).is_ok()
        });
        let turns = turns.count();
        assert!((100..=8 + 100).contains(&turns), "{turns} in ten seconds");
    }

    #[test]
    fn a_member_behind_a_name_is_known_once_it_has_shown_its_key() {
        let pace = pace("node-0.example.org:9600");
        assert!(!pace.is_members(MEMBER));
        pace.remember(AuthorityIndex(0), MEMBER);
        assert!(pace.is_members(MEMBER));
        pace.remember(AuthorityIndex(0), STRANGER);
        assert!(!pace.is_members(MEMBER), "one address a member");
    }
}
