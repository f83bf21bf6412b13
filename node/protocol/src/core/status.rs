//! What the core tells about itself: for metrics, `status` and tests.

use std::time::Duration;

use rorqual_config::AuthorityIndex;

use super::{Core, Times};
use crate::commit::rule::Tally;
use crate::commit::window::ReplayWindow;
use crate::types::{CommitIndex, Round, Sequence};

/// Events since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what is counted")]
pub struct Counters {
    pub proposed: u64,
    pub linked: u64,
    pub commits: u64,
    pub certified_commits: u64,
    pub decisions: Tally,
    pub timeouts: u64,
    pub fetches: u64,
    pub range_fetches: u64,
    pub range_hedges: u64,
    pub pushed: u64,
    pub dropped: u64,
    pub evicted: u64,
    pub equivocations: u64,
    pub requeued: u64,
    pub payload_dropped: u64,
    pub eased: u64,
    pub executed: u64,
}

/// Adds to one of the [`Counters`].
pub fn count(counter: &mut u64, events: u64) {
    *counter = counter.saturating_add(events);
}

/// Where the core stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Round of our last durable block.
    pub round: Round,
    /// The highest round with a linked block.
    pub frontier: Round,
    /// The last commit decided.
    pub last_commit: CommitIndex,
    /// The last commit whose record is written.
    pub last_record: CommitIndex,
    /// The highest commit whose payload is complete.
    pub solid: CommitIndex,
    /// The garbage-collection round.
    pub gc_round: Round,
    /// What a quorum has voted for.
    pub quorum_commit_index: CommitIndex,
    /// The highest commit with a full certificate here.
    pub highest_certified: CommitIndex,
    /// Commits an honest member is ahead of us.
    pub lag: u64,
    /// Members that say that they have dropped the commit we need next. Once all others do, the node stops.
    pub dropped_by: Vec<AuthorityIndex>,
    /// Leaders that no round waits for.
    pub muted: Vec<AuthorityIndex>,
    /// The round trip within which a quorum is reached, as links measured it; zero before enough was.
    pub quorum_round_trip: Duration,
    /// D at present.
    pub delay_bound: Duration,
    /// How long a round waits for its leader at present.
    pub leader_timeout: Duration,
    /// Own batches that are not delivered.
    pub pending_own_batches: usize,
    /// Time of commits, clocks of members.
    pub times: Times,
    /// Events.
    pub events: Counters,
    /// Sizes.
    pub footprint: Footprint,
}

/// How much the core holds: every one of these is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what is counted")]
pub struct Footprint {
    pub blocks: usize,
    pub suspended: usize,
    pub wanted: usize,
    pub fetching: usize,
    pub payload_waits: usize,
    pub payload_named: usize,
    pub over_quota: usize,
    pub tally_entries: usize,
    pub leader_rounds: usize,
    pub records_waiting: usize,
    pub unsolid_commits: usize,
    pub ranges_waiting: usize,
}

impl Status {
    /// How leader slots were decided, for metrics.
    pub fn decisions(&self) -> [(&'static str, u64); 4] {
        let tally = &self.events.decisions;
        [
            ("direct_commit", tally.direct_commits),
            ("indirect_commit", tally.indirect_commits),
            ("direct_skip", tally.direct_skips),
            ("indirect_skip", tally.indirect_skips),
        ]
    }

    /// Names and numbers of events, for metrics.
    pub fn happened(&self) -> [(&'static str, u64); 15] {
        let events = &self.events;
        [
            ("proposed", events.proposed),
            ("linked", events.linked),
            ("certified_commit", events.certified_commits),
            ("timeout", events.timeouts),
            ("fetch", events.fetches),
            ("range_fetch", events.range_fetches),
            ("range_hedge", events.range_hedges),
            ("pushed", events.pushed),
            ("dropped", events.dropped),
            ("evicted", events.evicted),
            ("equivocation", events.equivocations),
            ("requeued", events.requeued),
            ("payload_dropped", events.payload_dropped),
            ("eased", events.eased),
            ("executed", events.executed),
        ]
    }

    /// Names and sizes of what is held, for metrics.
    pub fn held(&self) -> [(&'static str, usize); 12] {
        let sizes = &self.footprint;
        [
            ("blocks", sizes.blocks),
            ("suspended", sizes.suspended),
            ("wanted", sizes.wanted),
            ("fetching", sizes.fetching),
            ("payload_waits", sizes.payload_waits),
            ("payload_named", sizes.payload_named),
            ("over_quota", sizes.over_quota),
            ("tally_entries", sizes.tally_entries),
            ("leader_rounds", sizes.leader_rounds),
            ("records_waiting", sizes.records_waiting),
            ("unsolid_commits", sizes.unsolid_commits),
            ("ranges_waiting", sizes.ranges_waiting),
        ]
    }
}

impl Core {
    /// Where the core stands.
    pub fn status(&self) -> Status {
        let committee = self.committee();
        Status {
            round: self.own_round(),
            frontier: self.clock.frontier(),
            last_commit: self.ledger.index,
            last_record: self.records.last.index,
            solid: self.records.solid(),
            gc_round: self.graph.gc_round(),
            quorum_commit_index: self.tally.reached_by(committee.quorum(), committee),
            highest_certified: self.tally.certified(),
            lag: self.lag(),
            dropped_by: self.dropped_by(),
            muted: committee.authorities().filter(|author| self.is_muted(*author)).collect(),
            quorum_round_trip: self.delays.quorum(),
            delay_bound: self.delay_bound(),
            leader_timeout: self.pacemaker.leader_timeout,
            pending_own_batches: self.batches.pending(),
            times: self.times(),
            events: self.counters,
            footprint: self.footprint(),
        }
    }

    /// The highest sequence of an author's batches that a commit has delivered.
    pub fn highest_delivered(&self, author: AuthorityIndex) -> Sequence {
        self.ledger.windows[author.usize()].highest()
    }

    /// Which of an author's sequences can still be delivered.
    pub fn window(&self, author: AuthorityIndex) -> &ReplayWindow {
        &self.ledger.windows[author.usize()]
    }

    /// How much the core holds.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            blocks: self.graph.len(),
            suspended: self.suspended.len(),
            wanted: self.suspended.wanted_len(),
            fetching: self.fetcher.len(),
            payload_waits: self.payload.len(),
            payload_named: self.claims.named(),
            over_quota: self.claims.waiting(),
            tally_entries: self.tally.len(),
            leader_rounds: self.index.len(),
            records_waiting: self.records.waiting.len(),
            unsolid_commits: self.records.unsolid_len(),
            ranges_waiting: self.catch_up.waiting(),
        }
    }
}
