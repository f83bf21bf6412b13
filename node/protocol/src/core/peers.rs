//! Links: who is connected, who follows our blocks, who has shown us its tip.
//!
//! Promises: "sent" marks die with the connection; a peer whose blocks had to be dropped is subscribed to again, and so is one
//! that is connected and says nothing, ever more rarely; a subscription that is repeated costs what is new; before the
//! first proposal peers that with us hold a quorum have shown their tips, without a time limit, and a block of ours that we
//! do not know stops the node: signing again could equivocate.

use std::collections::BTreeMap;
use std::time::Duration;

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;

use super::Core;
use crate::effect::{Effect, Halt};
use crate::input::Tip;
use crate::penalty::Rule;
use crate::types::{BlockRef, CommitIndex, Round, VerifiedBlock};

/// A question about tips or a subscription is repeated after this long.
const RETRY: Duration = Duration::from_secs(1);
/// A peer that says nothing is subscribed to again after 4 D, but not sooner than this, then after twice as long each time.
const MIN_SILENCE: Duration = Duration::from_millis(250);
/// Longest pause between two subscriptions, if 4 D is not longer.
const MAX_SILENCE: Duration = Duration::from_secs(5);
/// Doublings beyond which that is reached whatever D is.
const MAX_DOUBLINGS: u32 = 16;

/// Why blocks of a peer were dropped, which tells when it is worth to ask for them again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// Too far ahead, or too many waiting, when frontier and last commit were these: again once one of them has moved.
    Ahead(Round, CommitIndex),
    /// We were behind with commits or with their payload: again once we are not.
    Behind,
}

/// What is known about links.
#[derive(Debug)]
pub struct Peers {
    /// Links that are up.
    pub connected: AuthoritySet,
    /// Peers that get our new blocks.
    pub subscribed: AuthoritySet,
    /// Peers that have shown their tip since we started.
    pub tips: AuthoritySet,
    asked_tips_at: Option<Duration>,
    /// Peers whose blocks were dropped, and why.
    behind: BTreeMap<AuthorityIndex, Dropped>,
    subscribed_at: BTreeMap<AuthorityIndex, Duration>,
    /// What each peer's subscription has brought us.
    quiet: Vec<Quiet>,
    advanced_at: Vec<Duration>,
    /// Our round when a subscription was last answered.
    answered: Vec<Round>,
    /// How often each member broke a rule that no honest one breaks.
    penalties: Vec<u64>,
}

/// A peer of which nothing comes over the subscription.
#[derive(Clone, Copy, Default, Debug)]
struct Quiet {
    /// Since when.
    since: Duration,
    /// How often it was subscribed to again since then.
    repeated: u32,
}

impl Peers {
    /// Nobody is connected.
    pub fn new(members: usize) -> Self {
        Self {
            connected: AuthoritySet::EMPTY,
            subscribed: AuthoritySet::EMPTY,
            tips: AuthoritySet::EMPTY,
            asked_tips_at: None,
            behind: BTreeMap::new(),
            subscribed_at: BTreeMap::new(),
            quiet: vec![Quiet::default(); members],
            advanced_at: vec![Duration::ZERO; members],
            answered: vec![Round(0); members],
            penalties: vec![0; members],
        }
    }

    /// A member broke a rule that no honest one breaks.
    pub fn penalise(&mut self, peer: AuthorityIndex) {
        if let Some(count) = self.penalties.get_mut(peer.usize()) {
            *count = count.saturating_add(1);
        }
    }

    /// How often it did.
    pub fn penalties(&self, peer: AuthorityIndex) -> u64 {
        self.penalties.get(peer.usize()).copied().unwrap_or(0)
    }

    /// An own block of a peer came from itself, unasked.
    pub fn heard(&mut self, peer: AuthorityIndex, now: Duration) {
        let quiet = &mut self.quiet[peer.usize()];
        (quiet.since, quiet.repeated) = (now, 0);
    }

    /// A peer has written a block of a higher round than any before.
    pub fn advanced(&mut self, peer: AuthorityIndex, now: Duration) {
        self.advanced_at[peer.usize()] = now;
    }

    /// When the peer last wrote something new, whoever showed it to us.
    pub fn advanced_at(&self, peer: AuthorityIndex) -> Duration {
        self.advanced_at[peer.usize()]
    }

    /// A block of `peer` was dropped and will be wanted later.
    pub fn dropped(&mut self, peer: AuthorityIndex, why: Dropped) {
        let known = self.behind.entry(peer).or_insert(why);
        if why == Dropped::Behind {
            *known = why;
        }
    }
}

impl Core {
    pub(super) fn on_peer_up(&mut self, peer: AuthorityIndex) {
        if peer == self.setup.me || !self.committee().contains(peer) {
            return;
        }
        self.on_peer_down(peer);
        self.peers.connected.insert(peer);
        self.settle_delays();
        self.peers.heard(peer, self.now.monotonic);
        self.catch_up.connected(peer);
        self.subscribe(peer);
        if !self.knows_own_past() {
            self.out.effect(Effect::TipQuery { peer });
        }
        self.fetch_at = Some(Duration::ZERO);
    }

    pub(super) fn on_peer_down(&mut self, peer: AuthorityIndex) {
        if !self.committee().contains(peer) {
            return;
        }
        self.peers.connected.remove(peer);
        self.peers.subscribed.remove(peer);
        self.peers.behind.remove(&peer);
        self.fetcher.disconnected(peer);
        self.fetch_at = Some(Duration::ZERO);
        self.catch_up.disconnected(peer);
        for vertex in self.graph.iter_mut() {
            vertex.sent.forget(peer);
        }
        self.settle_delays();
    }

    fn subscribe(&mut self, peer: AuthorityIndex) {
        let from_round = self.clock.round_of(peer).max(self.graph.gc_round()).next();
        self.peers.subscribed_at.insert(peer, self.now.monotonic);
        self.peers.behind.remove(&peer);
        self.out.effect(Effect::Subscribe { peer, from_round });
    }

    /// A peer follows our blocks. The first time over a link it gets those from the round on that it names; when it says so again
    /// only what we wrote since the last time, so that each block goes out twice at most: a few bytes must not cost the whole
    /// graph. What else it lacks is pushed to it.
    pub(super) fn on_subscribed(&mut self, peer: AuthorityIndex, from_round: Round) {
        if !self.peers.connected.contains(peer) {
            return;
        }
        let last = self.own_round();
        let answered = std::mem::replace(&mut self.peers.answered[peer.usize()], last);
        let from = if self.peers.subscribed.insert(peer) { from_round } else { from_round.max(answered.next()) };
        let mut at = from.max(self.graph.gc_round().next());
        let mut blocks = Vec::new();
        while at <= last {
            blocks.extend(self.graph.variants(at, self.setup.me).iter().map(|vertex| vertex.block.clone()));
            at = at.next();
        }
        // After a long absence our last block is below what the graph holds.
        let last = self.own.last.iter().filter(|last| last.round() >= from);
        blocks.extend(last.filter(|last| self.graph.get(&last.reference()).is_none()).cloned());
        for block in blocks {
            self.mark_sent(&block.reference(), [peer].into_iter().collect());
            self.out.effect(Effect::SendOwn { peer, block });
        }
        self.push_soon();
    }

    /// Whether enough peers have shown that they know no block of ours that we do not know.
    pub(super) fn knows_own_past(&self) -> bool {
        let mut shown = self.peers.tips;
        shown.insert(self.setup.me);
        self.committee().is_quorum(&shown)
    }

    pub(super) fn on_tip_queried(&mut self, peer: AuthorityIndex, request: u64) {
        if !self.committee().contains(peer) {
            return;
        }
        let tip = Tip {
            own: self.own.last.clone(),
            yours: self.clock.highest_by(peer).cloned(),
            gc_round: self.graph.gc_round(),
            last_commit: self.ledger.index,
        };
        self.out.effect(Effect::SendTip { peer, request, tip: Box::new(tip) });
    }

    pub(super) fn on_tip(&mut self, peer: AuthorityIndex, tip: Tip) -> Result<(), Halt> {
        if !self.peers.connected.contains(peer) {
            return Ok(());
        }
        if let Some(yours) = &tip.yours {
            self.check_own(yours)?;
        }
        self.peers.tips.insert(peer);
        let foreign = tip.own.iter().any(|own| own.author() != peer)
            || tip.yours.iter().any(|yours| yours.author() != self.setup.me);
        if foreign {
            self.penalise(peer, Rule::ForeignTip);
        }
        match tip.own.filter(|own| own.author() == peer) {
            Some(own) => self.on_block(peer, own),
            None => Ok(()),
        }
    }

    /// A valid block of ours that somebody shows: do we know it?
    pub(super) fn check_own(&self, block: &VerifiedBlock) -> Result<(), Halt> {
        if block.author() != self.setup.me {
            return Ok(());
        }
        let (reference, last) = (block.reference(), self.own.last.as_ref());
        let known: Vec<BlockRef> = last.into_iter().chain(self.own.coming()).map(VerifiedBlock::reference).collect();
        if known.contains(&reference) {
            return Ok(());
        }
        let ours = known.iter().map(|own| own.round).max().unwrap_or_default();
        let slot = self.graph.variants(reference.round, self.setup.me);
        let twin = slot.iter().any(|vertex| vertex.block.reference() != reference);
        if reference.round >= ours || twin {
            return Err(Halt::Amnesia { ours, theirs: reference.round });
        }
        Ok(())
    }

    /// Repeats what was not answered, and subscribes again where blocks were dropped and things have moved.
    pub(super) fn pump_peers(&mut self) {
        let now = self.now.monotonic;
        if !self.knows_own_past() && !self.peers.connected.is_empty() {
            let at = *self.peers.asked_tips_at.get_or_insert(now) + RETRY;
            if at <= now {
                self.peers.asked_tips_at = Some(now);
                for peer in self.peers.connected.iter().filter(|peer| !self.peers.tips.contains(*peer)) {
                    self.out.effect(Effect::TipQuery { peer });
                }
            }
            self.out.wake(self.peers.asked_tips_at.unwrap_or(now) + RETRY);
        }
        if self.drops_live_blocks() {
            return;
        }
        let here = Dropped::Ahead(self.clock.frontier(), self.ledger.index);
        let takes = !self.too_far_from_solid();
        let again = |why: Dropped| if why == Dropped::Behind { takes } else { why != here };
        let due: Vec<AuthorityIndex> =
            self.peers.behind.iter().filter(|(_, why)| again(**why)).map(|(peer, _)| *peer).collect();
        for peer in due {
            let at = self.peers.subscribed_at.get(&peer).map_or(now, |last| *last + RETRY);
            match at <= now {
                true if self.peers.connected.contains(peer) => self.subscribe(peer),
                true => drop(self.peers.behind.remove(&peer)),
                false => self.out.wake(at),
            }
        }
        self.pump_subscriptions();
    }

    /// Subscribes again to connected peers of which nothing comes: the subscription may be lost, or what it brought. While there
    /// is nothing to order silence is nothing unusual.
    fn pump_subscriptions(&mut self) {
        let (now, rests, woke_at) = (self.now.monotonic, self.pacemaker.rested, self.pacemaker.woke_at);
        let patience = self.patience().max(MIN_SILENCE);
        let usual = if rests { self.setup.parameters.idle_delay * 2 } else { Duration::ZERO };
        for peer in self.peers.connected.iter() {
            let quiet = self.peers.quiet[peer.usize()];
            let asked = self.peers.subscribed_at.get(&peer).copied().unwrap_or_default();
            let wait = patience.saturating_mul(1 << quiet.repeated.min(MAX_DOUBLINGS)).min(MAX_SILENCE.max(patience));
            let at = quiet.since.max(asked).max(if rests { Duration::ZERO } else { woke_at }) + wait + usual;
            if at > now {
                self.out.wake(at);
                continue;
            }
            let quiet = &mut self.peers.quiet[peer.usize()];
            quiet.repeated = quiet.repeated.saturating_add(1);
            self.subscribe(peer);
        }
    }
}
