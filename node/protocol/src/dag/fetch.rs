//! The pull side of repair: which missing block is asked of whom, and when again.
//!
//! Promises: at most 32 references a request and a few requests a peer at once; a newly learnt holder is asked at once; after
//! an answer "unknown", or once the patience with a holder is over, the next one is asked, at first the known holders and then
//! everybody; once all were tried the round begins again after a pause that doubles. Who let us wait in vain is asked last until
//! it has answered. Pull alone can stall a network, so this is repair: the push of the pacemaker is the main path.

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
/// Bounds of the first pause between two rounds over all holders.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_FIRST_PAUSE: Duration = Duration::from_secs(2);
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
    /// First pause between two rounds over all holders.
    pause: Duration,
    /// How often each let us wait in vain since it last answered.
    misses: BTreeMap<AuthorityIndex, u32>,
    /// Some wait until a holder has answered what it was asked before.
    stalled: bool,
    /// A holder has.
    room: bool,
}

impl Fetcher {
    /// Nothing is missing. `pause`: between the first two rounds over all holders.
    pub fn new(pause: Duration) -> Self {
        Self { wants: BTreeMap::new(), pause, misses: BTreeMap::new(), stalled: false, room: false }
    }

    /// The first pause between two rounds over all holders from now on, when links are as far apart as this.
    pub fn set_pause(&mut self, delay_bound: Duration) {
        self.pause = (delay_bound * 4).clamp(MIN_PAUSE, MAX_FIRST_PAUSE);
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

    /// The block came from `sender`.
    pub fn came(&mut self, reference: &BlockRef, sender: AuthorityIndex) {
        let asked = self.wants.get(reference).and_then(|want| want.asked);
        if asked.is_some_and(|(peer, _)| peer == sender) {
            self.misses.remove(&sender);
        }
        self.done(reference);
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

    /// What is asked of whom at present; who was waited for in vain is not any more.
    fn open(&mut self, now: Duration) -> BTreeMap<AuthorityIndex, usize> {
        let mut load: BTreeMap<AuthorityIndex, usize> = BTreeMap::new();
        let mut late = AuthoritySet::EMPTY;
        for want in self.wants.values_mut() {
            match want.asked {
                Some((peer, until)) if until <= now => {
                    late.insert(peer);
                    want.asked = None;
                }
                Some((peer, _)) => add_one(&mut load, peer),
                None => (),
            }
        }
        for peer in late.iter() {
            let misses = self.misses.entry(peer).or_default();
            *misses = misses.saturating_add(1);
        }
        load
    }

    /// The requests that are due, lowest rounds first, and when to look again. `patience`: how long each peer may take.
    pub fn due(
        &mut self,
        now: Duration,
        connected: AuthoritySet,
        patience: impl Fn(AuthorityIndex) -> Duration,
    ) -> (Vec<Request>, Option<Duration>) {
        self.stalled = false;
        if self.wants.is_empty() {
            return (Vec::new(), None);
        }
        let mut load = self.open(now);
        let patience: BTreeMap<AuthorityIndex, Duration> =
            connected.iter().map(|peer| (peer, patience(peer))).collect();
        let misses = |peer: AuthorityIndex| self.misses.get(&peer).copied().unwrap_or(0);
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
                } else if want.rounds == 0 && connected.iter().any(|peer| !want.holders.contains(peer)) {
                    // Those who should have it do not give it: at once, whoever else may.
                    want.holders = want.holders.union(connected);
                } else if !want.tried.is_empty() {
                    // Everybody was asked: pause, begin again.
                    want.tried = AuthoritySet::EMPTY;
                    want.holders = want.holders.union(connected);
                    want.after = now + (self.pause * (1 << want.rounds.min(6))).min(MAX_PAUSE);
                    want.rounds = want.rounds.saturating_add(1);
                }
            }
            if want.after > now {
                sooner(want.after);
                continue;
            }
            let candidates = want.holders.iter().filter(|p| connected.contains(*p) && !want.tried.contains(*p));
            // The least loaded first of those that answer, so that one slow holder does not serve all.
            let order = |p: &AuthorityIndex| (misses(*p), load.get(p).copied().unwrap_or(0), *p);
            let Some(peer) = candidates.filter(room).min_by_key(order) else {
                self.stalled = true;
                sooner(now + self.pause);
                continue;
            };
            let until = now + patience.get(&peer).copied().unwrap_or(self.pause);
            add_one(&mut load, peer);
            want.tried.insert(peer);
            want.asked = Some((peer, until));
            sooner(until);
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

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn holders_are_tried_in_turn_then_all_peers_then_again_after_a_pause() {
        let mut fetcher = Fetcher::new(SECOND);
        let patience = |_| SECOND;
        let connected: AuthoritySet = [A, B].into_iter().collect();
        fetcher.want(reference(5), A);
        let (requests, next) = fetcher.due(Duration::ZERO, connected, patience);
        assert_eq!(requests, [Request { peer: A, refs: vec![reference(5)] }]);
        assert_eq!(next, Some(SECOND));
        assert_eq!(fetcher.due(SECOND / 2, connected, patience).0, []);
        fetcher.unavailable(&reference(5), A);
        assert_eq!(fetcher.due(SECOND / 2, connected, patience).0[0].peer, B);
        fetcher.unavailable(&reference(5), B);
        let (requests, next) = fetcher.due(SECOND / 2, connected, patience);
        assert_eq!((requests, next), (vec![], Some(SECOND / 2 + SECOND)));
        // A holder just learnt is asked at once, pause or not.
        fetcher.want(reference(5), AuthorityIndex(3));
        let all: AuthoritySet = [A, B, AuthorityIndex(3)].into_iter().collect();
        assert_eq!(fetcher.due(SECOND / 2, all, patience).0.len(), 1);
        fetcher.done(&reference(5));
        assert!(fetcher.is_empty());
    }

    #[test]
    fn a_mute_holder_costs_its_patience_once_and_is_asked_last_until_it_answers() {
        let mut fetcher = Fetcher::new(SECOND);
        let patience = |peer| if peer == A { SECOND / 100 } else { SECOND };
        let connected: AuthoritySet = [A, B].into_iter().collect();
        fetcher.want(reference(5), A);
        let (requests, next) = fetcher.due(Duration::ZERO, connected, patience);
        assert_eq!((requests[0].peer, next), (A, Some(SECOND / 100)));
        assert_eq!(fetcher.due(SECOND / 100, connected, patience).0[0].peer, B);
        fetcher.came(&reference(5), B);
        let ask = |fetcher: &mut Fetcher, round| {
            [A, B].into_iter().for_each(|holder| fetcher.want(reference(round), holder));
            fetcher.due(SECOND / 50, connected, patience).0[0].peer
        };
        assert_eq!(ask(&mut fetcher, 6), B);
        fetcher.unavailable(&reference(6), B);
        assert_eq!(ask(&mut fetcher, 6), A);
        fetcher.came(&reference(6), A);
        assert_eq!(ask(&mut fetcher, 7), A);
    }

    #[test]
    fn requests_are_small_and_few() {
        let mut fetcher = Fetcher::new(Duration::from_secs(1));
        for round in 1..=200 {
            fetcher.want(reference(round), A);
        }
        let (requests, _) = fetcher.due(Duration::ZERO, [A].into_iter().collect(), |_| SECOND);
        assert_eq!(requests.len(), MAX_REQUESTS);
        assert!(requests.iter().all(|request| request.refs.len() == MAX_REFS));
        assert_eq!(requests[0].refs[0], reference(1));
        // An answer makes room for the next one; looking at a crowd again is not for every block that comes.
        assert!(!fetcher.take_room());
        fetcher.done(&reference(1));
        assert!(fetcher.take_room() && !fetcher.take_room());
        let next = reference((MAX_REQUESTS * MAX_REFS) as u64 + 1);
        assert_eq!(
            fetcher.due(Duration::ZERO, [A].into_iter().collect(), |_| SECOND).0,
            [Request { peer: A, refs: vec![next] }]
        );
        assert_eq!(fetcher.pause(), Duration::ZERO);
        (200..20_000).for_each(|round| fetcher.want(reference(round), A));
        assert!(fetcher.pause() > Duration::from_millis(1));
    }
}
