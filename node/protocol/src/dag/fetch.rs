//! The pull side of repair: which missing block is asked of whom, and when again.
//!
//! Promises: at most 32 references a request and a few requests a peer at once; a newly learnt holder is asked at once; after
//! an answer "unknown" or a timeout the next holder is asked, and once all were tried the round begins again after a pause
//! that doubles. Pull alone can stall a network, so this is repair: the push of the pacemaker is the main path.

use std::collections::BTreeMap;
use std::time::Duration;

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;

use crate::types::BlockRef;

/// References in one request.
pub const MAX_REFS: usize = 32;
/// Requests to one peer at once.
const MAX_REQUESTS: usize = 4;
/// With no more than this many missing blocks there is no pause between looks at all of them.
const CROWD: usize = 256;
/// Bounds of the time that one request may take.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest pause between two rounds over all holders.
const MAX_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Want {
    holders: AuthoritySet,
    tried: AuthoritySet,
    /// Who is asked, and until when we wait for the answer.
    asked: Option<(AuthorityIndex, Duration)>,
    /// Not before this time.
    after: Duration,
    rounds: u32,
}

/// One request to send.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Whom.
    pub peer: AuthorityIndex,
    /// Which, at most [`MAX_REFS`].
    pub refs: Vec<BlockRef>,
}

/// All missing blocks.
#[derive(Debug)]
pub struct Fetcher {
    wants: BTreeMap<BlockRef, Want>,
    timeout: Duration,
    /// Some wait until a holder has answered what it was asked before.
    stalled: bool,
    /// A holder has.
    room: bool,
}

impl Fetcher {
    /// Nothing is missing. `timeout`: how long one request may take.
    pub fn new(timeout: Duration) -> Self {
        Self { wants: BTreeMap::new(), timeout, stalled: false, room: false }
    }

    /// How long one request may take from now on, when links are as far apart as this: a request is answered within a few
    /// delays or never.
    pub fn set_timeout(&mut self, delay_bound: Duration) {
        self.timeout = (delay_bound * 4).clamp(MIN_TIMEOUT, MAX_TIMEOUT);
    }

    /// How many blocks are missing.
    pub fn len(&self) -> usize {
        self.wants.len()
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// Asks for a block, or names another holder of one that is asked for.
    pub fn want(&mut self, reference: BlockRef, holder: AuthorityIndex) {
        let want = self.wants.entry(reference).or_default();
        if want.holders.insert(holder) {
            want.after = Duration::ZERO;
        }
    }

    /// The block came, or nobody wants it any more.
    pub fn done(&mut self, reference: &BlockRef) {
        let want = self.wants.remove(reference);
        self.room |= self.stalled && want.is_some_and(|want| want.asked.is_some());
    }

    /// Whether a holder that others wait for has room since this was last asked.
    pub fn take_room(&mut self) -> bool {
        std::mem::take(&mut self.room)
    }

    /// How long to leave [`Fetcher::due`] alone after a call: it looks at everything, and a peer decides how much that is.
    pub fn pause(&self) -> Duration {
        let crowd = self.wants.len().saturating_sub(CROWD) as u64;
        Duration::from_nanos(crowd.saturating_mul(250))
    }

    /// A peer does not have the block.
    pub fn unavailable(&mut self, reference: &BlockRef, peer: AuthorityIndex) {
        if let Some(want) = self.wants.get_mut(reference).filter(|w| w.asked.is_some_and(|(asked, _)| asked == peer)) {
            want.asked = None;
        }
    }

    /// A link broke: what was asked there will not be answered.
    pub fn disconnected(&mut self, peer: AuthorityIndex) {
        for want in self.wants.values_mut().filter(|want| want.asked.is_some_and(|(asked, _)| asked == peer)) {
            want.asked = None;
        }
    }

    /// The requests that are due, lowest rounds first, and when to look again.
    pub fn due(&mut self, now: Duration, connected: AuthoritySet) -> (Vec<Request>, Option<Duration>) {
        self.stalled = false;
        if self.wants.is_empty() {
            return (Vec::new(), None);
        }
        let mut load: BTreeMap<AuthorityIndex, usize> = BTreeMap::new();
        for want in self.wants.values_mut() {
            match want.asked {
                Some((_, until)) if until <= now => want.asked = None,
                Some((peer, _)) => add_one(&mut load, peer),
                None => (),
            }
        }
        let (mut asks, mut next): (BTreeMap<AuthorityIndex, Vec<BlockRef>>, Option<Duration>) = Default::default();
        let mut sooner = |time: Duration| next = Some(next.map_or(time, |known| known.min(time)));
        for (reference, want) in &mut self.wants {
            if let Some((_, until)) = want.asked {
                sooner(until);
                continue;
            }
            let room = |peer: &AuthorityIndex| load.get(peer).copied().unwrap_or(0) < MAX_REFS * MAX_REQUESTS;
            let candidates = || want.holders.iter().filter(|peer| connected.contains(*peer));
            let untried = || candidates().filter(|peer| !want.tried.contains(*peer));
            if untried().next().is_none() {
                if candidates().next().is_none() {
                    // Whoever connects may have it; the link's arrival wakes us.
                    want.holders = want.holders.union(connected);
                    want.tried = AuthoritySet::EMPTY;
                } else if !want.tried.is_empty() {
                    // Everybody was asked: widen to all peers, pause, begin again.
                    want.tried = AuthoritySet::EMPTY;
                    want.holders = want.holders.union(connected);
                    want.after = now + (self.timeout * (1 << want.rounds.min(6))).min(MAX_PAUSE);
                    want.rounds = want.rounds.saturating_add(1);
                }
            }
            if want.after > now {
                sooner(want.after);
                continue;
            }
            let candidates = want.holders.iter().filter(|p| connected.contains(*p) && !want.tried.contains(*p));
            // The least loaded first, so that one slow holder does not serve all.
            let Some(peer) = candidates.filter(room).min_by_key(|p| (load.get(p).copied().unwrap_or(0), *p)) else {
                self.stalled = true;
                sooner(now + self.timeout);
                continue;
            };
            add_one(&mut load, peer);
            want.tried.insert(peer);
            want.asked = Some((peer, now + self.timeout));
            sooner(now + self.timeout);
            asks.entry(peer).or_default().push(*reference);
        }
        let split = |(peer, refs): (AuthorityIndex, Vec<BlockRef>)| {
            let parts: Vec<Request> = refs.chunks(MAX_REFS).map(|refs| Request { peer, refs: refs.to_vec() }).collect();
            parts
        };
        (asks.into_iter().flat_map(split).collect(), next)
    }
}

fn add_one(load: &mut BTreeMap<AuthorityIndex, usize>, peer: AuthorityIndex) {
    let asked = load.entry(peer).or_default();
    *asked = asked.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use rorqual_config::Digest;

    use super::*;
    use crate::types::Round;

    fn reference(round: u64) -> BlockRef {
        BlockRef { round: Round(round), author: AuthorityIndex(0), digest: Digest::default() }
    }

    const A: AuthorityIndex = AuthorityIndex(1);
    const B: AuthorityIndex = AuthorityIndex(2);

    #[test]
    fn holders_are_tried_in_turn_then_all_peers_after_a_pause() {
        let second = Duration::from_secs(1);
        let mut fetcher = Fetcher::new(second);
        let connected: AuthoritySet = [A, B].into_iter().collect();
        fetcher.want(reference(5), A);
        let (requests, next) = fetcher.due(Duration::ZERO, connected);
        assert_eq!(requests, [Request { peer: A, refs: vec![reference(5)] }]);
        assert_eq!(next, Some(second));
        assert_eq!(fetcher.due(second / 2, connected).0, []);
        fetcher.unavailable(&reference(5), A);
        let (requests, next) = fetcher.due(second / 2, connected);
        assert_eq!((requests, next), (vec![], Some(second / 2 + second)));
        // A holder just learnt is asked at once, pause or not.
        fetcher.want(reference(5), AuthorityIndex(3));
        let all: AuthoritySet = [A, B, AuthorityIndex(3)].into_iter().collect();
        assert_eq!(fetcher.due(second / 2, all).0.len(), 1);
        fetcher.done(&reference(5));
        assert!(fetcher.is_empty());
    }

    #[test]
    fn requests_are_small_and_few() {
        let mut fetcher = Fetcher::new(Duration::from_secs(1));
        for round in 1..=200 {
            fetcher.want(reference(round), A);
        }
        let (requests, _) = fetcher.due(Duration::ZERO, [A].into_iter().collect());
        assert_eq!(requests.len(), MAX_REQUESTS);
        assert!(requests.iter().all(|request| request.refs.len() == MAX_REFS));
        assert_eq!(requests[0].refs[0], reference(1));
        // An answer makes room for the next one; looking at a crowd again is not for every block that comes.
        assert!(!fetcher.take_room());
        fetcher.done(&reference(1));
        assert!(fetcher.take_room() && !fetcher.take_room());
        let next = reference((MAX_REQUESTS * MAX_REFS) as u64 + 1);
        assert_eq!(fetcher.due(Duration::ZERO, [A].into_iter().collect()).0, [Request { peer: A, refs: vec![next] }]);
        assert_eq!(fetcher.pause(), Duration::ZERO);
        (200..20_000).for_each(|round| fetcher.want(reference(round), A));
        assert!(fetcher.pause() > Duration::from_millis(1));
    }
}
