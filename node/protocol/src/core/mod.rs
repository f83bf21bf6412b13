//! The state machine: one step takes one input and says what to do.
//!
//! Promises: a pure function of its inputs (two cores fed the same say the same); an own block is linked and sent only after
//! its synced write; nothing a faulty minority sends reaches a panic, and what implies a faulty majority ends in
//! [`Effect::Halt`]. The rules are those of Mysticeti-C with the Starfish pacemaker; each child module is one part.

mod batches;
mod catch_up;
mod claim;
mod clocks;
mod commit;
mod cover;
mod delays;
mod durable;
mod ingress;
mod link;
mod output;
mod pacemaker;
mod patience;
mod peers;
mod penalties;
mod probation;
mod propose;
mod push;
mod ranges;
mod records;
mod recover;
mod requests;
mod servers;
mod status;
#[cfg(test)]
mod tests;
mod waits;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Committee, KeyPair};

use crate::certificate::tally::Tally;
use crate::commit::index::VoteIndex;
use crate::commit::ledger::{Checkpoints, Ledger};
use crate::commit::schedule::Schedule;
use crate::dag::claims::{Claims, Limit};
use crate::dag::clock::Clock;
use crate::dag::fetch::Fetcher;
use crate::dag::graph::Graph;
use crate::dag::payload::Payload;
use crate::dag::suspended::{Limits, Suspended};
use crate::effect::{Effect, Halt};
use crate::input::{Input, Now, Recovered, Token};
use crate::known::Known;
use crate::types::{BlockRef, CommitIndex, Round, VerifiedBlock, range};

use status::count;

pub use clocks::{Deviation, Times};
pub use status::{Counters, Footprint, Status};

/// What a core is made of.
#[derive(Clone)]
pub struct Setup {
    /// The committee and the common rules.
    pub committee: Arc<Committee>,
    /// Our place in it.
    pub me: AuthorityIndex,
    /// Signs our blocks.
    pub key: KeyPair,
    /// Timings and local limits.
    pub parameters: ConsensusParameters,
}

/// Our own blocks.
#[derive(Debug, Default)]
struct Own {
    /// The highest that is durable.
    last: Option<VerifiedBlock>,
    /// Being written; not linked and not sent yet.
    in_flight: Option<(Token, VerifiedBlock)>,
    /// Found on disk after a restart and not committed. It may have left, so it is the block of its round; it waits until what
    /// it stands for is seen again and is then written once more.
    held: Option<VerifiedBlock>,
    /// Found on disk after a restart, and what its durable point had to put there is not: it never left, its round is free.
    given_up: Option<BlockRef>,
    /// This data directory never signed.
    never_signed: bool,
}

impl Own {
    /// The block that is not linked yet: being written, or held after a restart.
    fn coming(&self) -> Option<&VerifiedBlock> {
        self.in_flight.as_ref().map(|(_, block)| block).or(self.held.as_ref())
    }
}

/// A wall clock beyond all range shows the last possible time: a block with its time would be refused by everybody.
fn possible(wall_ms: u64) -> u64 {
    wall_ms.min(range::LIMIT.saturating_sub(1))
}

/// The state machine.
pub struct Core {
    setup: Setup,
    now: Now,
    halted: bool,
    graph: Graph,
    clock: Clock,
    suspended: Suspended,
    fetcher: Fetcher,
    fetch_at: Option<Duration>,
    fetch_not_before: Duration,
    payload: Payload,
    /// What authors name, and for how much of it there is room.
    claims: Claims,
    to_link: VecDeque<(AuthorityIndex, VerifiedBlock)>,
    index: VoteIndex,
    /// Something was linked since slots were last looked at.
    undecided: bool,
    ledger: Ledger,
    /// The last commit that execution has reported.
    executed: CommitIndex,
    checkpoints: Checkpoints,
    records: records::Records,
    tally: Tally,
    own: Own,
    batches: batches::OwnBatches,
    pacemaker: pacemaker::Pacemaker,
    undurable: durable::Undurable,
    probation: probation::Probation,
    clocks: clocks::Clocks,
    peers: peers::Peers,
    delays: delays::Delays,
    waits: waits::Waits,
    catch_up: catch_up::CatchUp,
    counters: Counters,
    out: output::Output,
}

impl Core {
    /// Rebuilds the state from disk. The effects are carried out like those of `step`.
    ///
    /// # Errors
    /// [`Halt`] where the disk contradicts itself, or may have lost what this node signed.
    pub fn recover(setup: Setup, mut recovered: Recovered, now: Now) -> Result<(Self, Vec<Effect>), Halt> {
        ranges::check(&mut recovered, &setup.committee)?;
        let mut core = Self::empty(setup, now);
        core.restore(recovered)?;
        core.progress()?;
        let effects = core.out.finish();
        Ok((core, effects))
    }

    /// Takes one input; says what to do.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        if self.halted {
            return Vec::new();
        }
        self.now = Now { monotonic: now.monotonic.max(self.now.monotonic), wall_ms: possible(now.wall_ms) };
        match self.take(input).and_then(|()| self.progress()) {
            Ok(()) => self.out.finish(),
            Err(reason) => {
                // Nothing of this step has left yet, and nothing will.
                self.halted = true;
                vec![Effect::Halt(reason)]
            }
        }
    }

    fn empty(setup: Setup, now: Now) -> Self {
        let (committee, parameters) = (&setup.committee, &setup.parameters);
        let members = committee.size();
        let limits = Limits { blocks: parameters.max_suspended_blocks, bytes: parameters.max_suspended_bytes };
        let names = usize::try_from(committee.protocol().replay_window).unwrap_or(usize::MAX);
        let room = Limit { bytes: parameters.author_quota_bytes, names };
        let mut fetcher = Fetcher::new(Duration::ZERO);
        fetcher.set_pause(parameters.delay_bound);
        Self {
            now: Now { wall_ms: possible(now.wall_ms), ..now },
            halted: false,
            graph: Graph::new(members),
            clock: Clock::new(members),
            suspended: Suspended::new(members, limits),
            fetcher,
            fetch_at: None,
            fetch_not_before: Duration::ZERO,
            payload: Payload::default(),
            claims: Claims::new(members, setup.me, room),
            to_link: VecDeque::new(),
            index: VoteIndex::new(Schedule::new(committee)),
            undecided: true,
            ledger: Ledger::new(committee),
            executed: CommitIndex(0),
            checkpoints: Checkpoints::new(committee),
            records: records::Records::new(committee),
            tally: Tally::new(members, CommitIndex(0)),
            own: Own::default(),
            batches: batches::OwnBatches::new(committee.protocol().sequence_ahead),
            pacemaker: pacemaker::Pacemaker::new(parameters),
            undurable: durable::Undurable::default(),
            probation: probation::Probation::new(committee),
            clocks: clocks::Clocks::new(members),
            peers: peers::Peers::new(members),
            delays: delays::Delays::new(members),
            waits: waits::Waits::new(members),
            catch_up: catch_up::CatchUp::new(members, now.monotonic),
            counters: Counters::default(),
            out: output::Output::default(),
            setup,
        }
    }

    fn take(&mut self, input: Input) -> Result<(), Halt> {
        match input {
            Input::Block { sender, block } => {
                self.observe_clock(&block);
                self.on_block(sender, block)?
            }
            Input::KnownBlocks { sender, refs } => self.on_known_blocks(sender, &refs),
            Input::BlocksUnavailable { peer, refs } => {
                refs.iter().for_each(|reference| self.fetcher.unavailable(reference, peer));
                self.fetch_at = Some(Duration::ZERO);
            }
            Input::BatchStored { key, bytes } => self.on_batch_stored(&key, bytes),
            Input::BatchSealed(batch) => {
                self.undurable.stored(batch.key(self.setup.me));
                self.batches.sealed(batch, self.setup.me, &self.setup.committee);
            }
            Input::BatchHandedToKernel { sequence, peer } => {
                self.batches.handed(sequence, peer, self.setup.me, &self.setup.committee);
            }
            Input::Timer => self.out.disarm(),
            Input::Persisted(token) => self.on_persisted(token)?,
            Input::Executed { index, state } => self.on_executed(index, state),
            Input::CertifiedCommits { sender, range } => self.on_range(sender, range)?,
            Input::CommitsUnavailable { peer, from, first_index } => {
                self.on_range_unavailable(peer, from, first_index)?
            }
            Input::RangeProgress { peer, from, bytes } => self.on_range_progress(peer, from, bytes),
            Input::PeerUp(peer) => self.on_peer_up(peer),
            Input::PeerDown(peer) => self.on_peer_down(peer),
            Input::Subscribed { peer, from_round } => self.on_subscribed(peer, from_round),
            Input::SendRefused { peer, refs } => self.on_send_refused(peer, &refs),
            Input::RoundTrip { peer, duration } => self.on_round_trip(peer, duration),
            Input::TipQueried { peer, request } => self.on_tip_queried(peer, request),
            Input::PeerTip { peer, tip } => self.on_tip(peer, *tip)?,
        }
        Ok(())
    }

    /// Everything that may follow from any input. Derived from state, never from the kind of input, so that nothing that
    /// became possible is forgotten.
    fn progress(&mut self) -> Result<(), Halt> {
        loop {
            self.link_all()?;
            if !self.commit_next()? && self.to_link.is_empty() {
                break;
            }
        }
        self.flush_records()?;
        self.settle_votes()?;
        self.pump_catch_up();
        self.write_held();
        self.look_for_leaders();
        self.propose();
        self.push_again();
        self.pump_fetches();
        self.pump_peers();
        self.announce_own();
        self.settle_durable();
        self.out.arm();
        Ok(())
    }

    /// Which blocks the core holds, for the tasks that verify.
    pub fn known(&self) -> Known {
        Known { linked: self.graph.names(), suspended: self.suspended.names(), me: self.setup.me }
    }

    fn committee(&self) -> &Committee {
        &self.setup.committee
    }

    fn own_round(&self) -> Round {
        self.own.last.as_ref().map_or(Round(0), VerifiedBlock::round)
    }

    fn announce_own(&mut self) {
        if let Some((oldest, limit)) = self.batches.news() {
            self.out.effect(Effect::OwnDelivered { oldest_undelivered: oldest });
            self.out.effect(Effect::SealBelow(limit));
        }
    }
}
