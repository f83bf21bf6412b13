//! When to propose: the Push pacemaker of Starfish, which keeps Mysticeti live.
//!
//! A round that can still matter is never skipped (a jump leaves holes with which F liars can prevent every direct commit);
//! a round waits for the leader and for a quorum of votes for the leader before it, until a timeout; a node that sees a
//! quorum ahead catches up without waiting.
//!
//! Promises: what is waited for is derived from state at each step, so no signal can be missed; timeouts grow while nothing
//! commits and return with the first commit.

use std::time::Duration;

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;
use rorqual_config::parameters::ConsensusParameters;

use super::waits::Awaited;
use super::{Core, count};
use crate::commit::index::vote_of;
use crate::dag::graph::Vertex;
use crate::limiter::Limiter;
use crate::types::Round;

/// Rounds without a commit before the timeout grows, if the committee is smaller than that.
const MIN_PATIENCE: u64 = 4;

/// Where we stand.
#[derive(Debug)]
pub struct Pacemaker {
    /// The round we want to propose for, and since when all it needs below is here.
    entered: Option<(Round, Duration)>,
    /// How long a round waits at present.
    pub leader_timeout: Duration,
    /// The round of the last commit or of the last growth of the timeout.
    progress: Round,
    /// When to push history again if we are still in the same round.
    pub push_at: Option<Duration>,
    /// The round was held back for lack of anything to order. Then all blocks are old enough to be pushed whoever has them,
    /// so that entering and proposing push nothing: what is missing somewhere shows after a timeout.
    pub rested: bool,
    /// When it was last entered after such a rest: before, silence was nothing unusual.
    pub woke_at: Duration,
    /// Since when a quorum of the round before the next own block waits for room for its payload.
    pub held_up: Option<Duration>,
    /// When we last proposed.
    pub proposed_at: Option<Duration>,
    /// The pace.
    pub limiter: Limiter,
}

impl Pacemaker {
    /// At the start of the process.
    pub fn new(parameters: &ConsensusParameters) -> Self {
        Self {
            entered: None,
            leader_timeout: parameters.leader_timeout,
            progress: Round(0),
            push_at: None,
            rested: false,
            woke_at: Duration::ZERO,
            held_up: None,
            proposed_at: None,
            limiter: Limiter::new(parameters.min_round_delay, parameters.round_burst),
        }
    }

    /// There was a commit: the delay bound was good enough.
    pub fn committed(&mut self, base: Duration) {
        self.leader_timeout = base;
        self.progress = self.entered.map_or(self.progress, |(round, _)| round);
    }
}

/// Whether to propose now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Yes.
    Now,
    /// Yes, and the network is ahead: neither pace nor idleness counts.
    Behind,
    /// Not before this time, unless something happens.
    Wait(Duration),
    /// The same, and only because there is nothing to order.
    Rest(Duration),
}

impl Core {
    /// The round of the next own block. Rounds above the network's commit round are never skipped; at or below it they cannot
    /// matter any more.
    pub(super) fn next_round(&self) -> Round {
        let committee = self.committee();
        let reached = self.tally.reached_by(committee.quorum(), committee);
        // At least one commit a round; votes lag our own commits, so this is usually below the last leader round.
        let index = self.ledger.index;
        let network = self.ledger.leader_round.plus(reached.above(index)).minus(index.above(reached));
        // Nothing is kept at the garbage-collection round itself, so no round that needs parents there can be filled.
        let kept = match self.graph.gc_round() {
            Round(0) => Round(0),
            collected => collected.next(),
        };
        self.own_round().max(network).max(kept).next()
    }

    /// Whether the round below is filled: a quorum of blocks that we may reference, our own only if it is our last.
    pub(super) fn round_is_filled(&self, below: Round) -> bool {
        if below.0 == 0 {
            return true;
        }
        let me = self.setup.me;
        let usable =
            self.graph.round(below).filter(|vertex| vertex.may_be_parent()).map(|vertex| vertex.block.author());
        let mut authors: AuthoritySet = usable.filter(|author| *author != me).collect();
        if self.own_round() == below {
            authors.insert(me);
        }
        self.committee().is_quorum(&authors)
    }

    /// Enters a round once: starts its clock, pushes history, looks back at who was referenced.
    pub(super) fn enter(&mut self, round: Round) -> Duration {
        if let Some((_, since)) = self.pacemaker.entered.filter(|(entered, _)| *entered == round) {
            return since;
        }
        let (now, parameters) = (self.now.monotonic, &self.setup.parameters);
        let patience = (self.setup.committee.size() as u64).max(MIN_PATIENCE);
        if self.pacemaker.entered.is_none() {
            // A node that starts in a high round has not waited for it.
            self.pacemaker.progress = self.pacemaker.progress.max(round);
        }
        if round >= self.pacemaker.progress.plus(patience) {
            let grown = self.pacemaker.leader_timeout + self.pacemaker.leader_timeout / 2;
            self.pacemaker.leader_timeout = grown.min(parameters.leader_timeout_cap.max(parameters.leader_timeout));
            self.pacemaker.progress = round;
        }
        self.pacemaker.leader_timeout = self.pacemaker.leader_timeout.max(self.base_timeout());
        self.pacemaker.entered = Some((round, now));
        self.pacemaker.push_at = Some(now + self.push_pause());
        self.await_leaders(round.previous());
        self.probation.enter(round, &self.graph, &self.setup.committee);
        match std::mem::take(&mut self.pacemaker.rested) {
            true => self.pacemaker.woke_at = now,
            false => self.push_history(),
        }
        now
    }

    /// Remembers since when the leaders of a round are awaited.
    fn await_leaders(&mut self, round: Round) {
        let now = self.now.monotonic;
        for leader in self.index.schedule().leaders(round) {
            match leader == self.setup.me || self.has_come(round, leader) {
                true => self.waits.came(leader, Duration::ZERO),
                false => self.waits.begin(round, leader, now),
            }
        }
    }

    /// Measures the waits for leaders that have come since.
    pub(super) fn look_for_leaders(&mut self) {
        let come: Vec<Awaited> =
            self.waits.open().filter(|awaited| self.has_come(awaited.round, awaited.leader)).copied().collect();
        for awaited in come {
            self.waits.end(awaited, self.now.monotonic, self.pacemaker.leader_timeout);
        }
    }

    fn has_come(&self, round: Round, leader: AuthorityIndex) -> bool {
        self.graph.variants(round, leader).iter().any(Vertex::may_be_parent)
    }

    /// Whether `round`, entered at `since`, may be proposed for.
    pub(super) fn readiness(&mut self, round: Round, since: Duration) -> Readiness {
        let now = self.now.monotonic;
        let (timeout, bound) = (since + self.pacemaker.leader_timeout, since + self.delay_bound());
        if self.is_behind(round, now >= bound) {
            return Readiness::Behind;
        }
        let complete = self.leaders_are_here(round) && self.votes_are_here(round);
        if !complete && now < timeout {
            let seen_ahead = self.clock.quorum_at(round, self.committee()) && bound > now;
            return Readiness::Wait(if seen_ahead { bound.min(timeout) } else { timeout });
        }
        let paced = self.pacemaker.limiter.ready_at();
        if paced > now {
            return Readiness::Wait(paced);
        }
        if let Some(at) = self.idle_until().filter(|at| *at > now) {
            return Readiness::Rest(at);
        }
        if !complete {
            count(&mut self.counters.timeouts, 1);
        }
        Readiness::Now
    }

    /// Every leader of the round below has a block that we may reference, or is muted.
    fn leaders_are_here(&self, round: Round) -> bool {
        let below = round.previous();
        let mut leaders = self.index.schedule().leaders(below);
        leaders.all(|leader| {
            // If we lead and have passed that round, nobody can bring our block any more.
            leader == self.setup.me || self.has_come(below, leader) || self.is_muted(leader)
        })
    }

    /// Every leader slot two rounds below is decided, or a quorum of blocks that we may reference votes for one block of it.
    fn votes_are_here(&self, round: Round) -> bool {
        let slot_round = round.minus(2);
        if slot_round < self.index.cursor() || slot_round.0 == 0 {
            return true;
        }
        let slots = self.index.slots(slot_round);
        !slots.is_empty()
            && slots.iter().all(|slot| slot.decision.is_some() || self.quorum_of_votes(slot.round, slot.leader, true))
    }

    /// Whether a quorum of (usable) blocks of the voting round votes for one block of the slot.
    fn quorum_of_votes(&self, round: Round, leader: AuthorityIndex, usable_only: bool) -> bool {
        let variants = self.graph.variants(round, leader).iter();
        let mut digests = variants.map(|vertex| vertex.block.reference().digest);
        digests.any(|digest| {
            let voters = self.graph.round(round.next()).filter(|vertex| !usable_only || vertex.usable());
            let votes = voters.filter(|vertex| vote_of(&vertex.block, round, leader) == Some(digest));
            self.committee().is_quorum(&votes.map(|vertex| vertex.block.author()).collect())
        })
    }

    /// The network has gone on: a quorum is at this round or above, and nothing that can still be had is left out.
    fn is_behind(&self, round: Round, waited: bool) -> bool {
        if !self.clock.quorum_at(round, self.committee()) {
            return false;
        }
        if waited {
            return true;
        }
        let below = round.previous();
        let mut leaders = self.index.schedule().leaders(below);
        let leaders_usable =
            leaders.all(|leader| self.graph.variants(below, leader).iter().all(|vertex| vertex.usable()));
        let slots = self.index.slots(round.minus(2)).iter().filter(|slot| slot.decision.is_none());
        leaders_usable
            && slots.into_iter().all(|slot| {
                !self.quorum_of_votes(slot.round, slot.leader, false)
                    || self.quorum_of_votes(slot.round, slot.leader, true)
            })
    }

    /// A leader nobody waits for: not connected, and silent for many rounds; or its twins were seen, and nobody is to stand on them.
    /// Local; liveness only.
    pub(super) fn is_muted(&self, leader: AuthorityIndex) -> bool {
        let silent = self.clock.frontier().above(self.clock.round_of(leader));
        let gone = !self.peers.connected.contains(leader) && silent > self.setup.parameters.mute_after;
        leader != self.setup.me && (gone || self.is_convicted(leader))
    }

    /// With nothing to order, the time of the next own block. Empty commits must not keep the system awake.
    fn idle_until(&self) -> Option<Duration> {
        let busy = self.batches.any_ready()
            || self.graph.waking() > 0
            || self.records.last_with_payload > self.tally.certified();
        if busy {
            return None;
        }
        self.pacemaker.proposed_at.map(|at| at + self.setup.parameters.idle_delay)
    }
}
