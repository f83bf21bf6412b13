//! Whom to ask for ranges: what each member delivered when it was asked, and who rests.
//!
//! Promises: a server is judged by what it delivered and how long that took, never by what it says of itself; one that failed
//! or was slow rests, each time twice as long up to a limit, and one delivery forgives it; while anybody may be asked somebody
//! is, so that rest never turns into standstill; what was observed long ago counts less and less.

use std::time::Duration;

use rorqual_config::AuthorityIndex;

use crate::types::CommitIndex;

/// Longest rest.
const MAX_REST: Duration = Duration::from_secs(5);
/// Observations count half after this long.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// One member as a server.
#[derive(Clone, Debug, Default)]
struct Server {
    /// Commits that it delivered.
    delivered: u64,
    /// Microseconds that its requests took.
    busy: u64,
    /// Failures since its last delivery.
    failures: u32,
    rests_until: Duration,
    asked_at: Option<Duration>,
    /// It says that its log begins here.
    begins: Option<CommitIndex>,
}

/// One that may be asked, and what it owes us at present.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Who.
    pub peer: AuthorityIndex,
    /// Open requests.
    pub open: u64,
    /// How long they have taken so far, added up.
    pub waiting: Duration,
}

/// All members.
#[derive(Debug)]
pub struct Servers {
    servers: Vec<Server>,
    aged_at: Duration,
    /// Who comes first where nothing tells them apart.
    turn: usize,
}

impl Servers {
    /// Nothing is known yet.
    pub fn new(members: usize, now: Duration) -> Self {
        Self { servers: vec![Server::default(); members], aged_at: now, turn: 0 }
    }

    /// It delivered this many commits in this time.
    pub fn delivered(&mut self, peer: AuthorityIndex, commits: u64, took: Duration) {
        let server = &mut self.servers[peer.usize()];
        server.delivered = server.delivered.saturating_add(commits);
        server.busy = server.busy.saturating_add(micros(took));
        (server.failures, server.rests_until) = (0, Duration::ZERO);
    }

    /// It delivered nothing in this time; it rests, first for `rest`.
    pub fn failed(&mut self, peer: AuthorityIndex, took: Duration, rest: Duration, now: Duration) {
        let server = &mut self.servers[peer.usize()];
        server.busy = server.busy.saturating_add(micros(took));
        let rest = rest.saturating_mul(1 << server.failures.min(16)).min(MAX_REST);
        server.failures = server.failures.saturating_add(1);
        server.rests_until = now.saturating_add(rest);
    }

    /// It says that its log begins at this index.
    pub fn begins(&mut self, peer: AuthorityIndex, first: CommitIndex) {
        self.servers[peer.usize()].begins = Some(first);
    }

    /// Forgets what a peer said of its log: it may be another one now.
    pub fn forget_claim(&mut self, peer: AuthorityIndex) {
        self.servers[peer.usize()].begins = None;
    }

    /// Where its log begins above `index`, if it says so.
    pub fn has_dropped(&self, peer: AuthorityIndex, index: CommitIndex) -> Option<CommitIndex> {
        self.servers[peer.usize()].begins.filter(|first| *first > index)
    }

    /// It is asked now.
    pub fn asked(&mut self, peer: AuthorityIndex, now: Duration) {
        self.servers[peer.usize()].asked_at = Some(now);
        self.turn = self.turn.wrapping_add(1);
    }

    /// The best of these: who is likely to answer first. If all rest, the one with the fewest failures, unless all were asked
    /// less than `gap` ago: then the time at which one may be asked again.
    pub fn choose(
        &mut self,
        candidates: &[Candidate],
        gap: Duration,
        now: Duration,
    ) -> Result<AuthorityIndex, Option<Duration>> {
        self.age(now);
        let rate = |server: &Server| server.delivered.saturating_mul(1_000_000).checked_div(server.busy).unwrap_or(0);
        let best = self.servers.iter().map(rate).max().unwrap_or(0);
        let fresh = candidates.iter().filter(|candidate| self.of(candidate).rests_until <= now);
        if let Some(chosen) = fresh.min_by_key(|candidate| self.cost(candidate, best, gap)) {
            return Ok(chosen.peer);
        }
        let ready = |candidate: &Candidate| {
            self.of(candidate)
                .asked_at
                .map_or(now, |asked| asked.saturating_add(gap))
                .min(self.of(candidate).rests_until)
        };
        let due = candidates.iter().filter(|candidate| ready(candidate) <= now);
        let least_bad = due.min_by_key(|candidate| (self.of(candidate).failures, self.of(candidate).rests_until));
        least_bad.map(|candidate| candidate.peer).ok_or_else(|| candidates.iter().map(ready).min())
    }

    /// Commits a second of the best server.
    pub fn best_rate(&self) -> u64 {
        let rate = |server: &Server| server.delivered.saturating_mul(1_000_000).checked_div(server.busy).unwrap_or(0);
        self.servers.iter().map(rate).max().unwrap_or(0)
    }

    fn of(&self, candidate: &Candidate) -> &Server {
        &self.servers[candidate.peer.usize()]
    }

    /// What an answer is likely to cost: time for each commit, for all that is open there. Nobody starts at nothing: each is
    /// credited with having been as good as the best for `gap`, so that one that was never asked is tried.
    fn cost(&self, candidate: &Candidate, best: u64, gap: Duration) -> (u64, usize) {
        let server = self.of(candidate);
        let gap = micros(gap);
        let busy = server.busy.saturating_add(micros(candidate.waiting)).saturating_add(gap);
        let credit = best.saturating_mul(gap) / 1_000_000;
        let delivered = server.delivered.saturating_add(credit).max(1);
        let cost = busy
            .saturating_mul(1_000)
            .saturating_mul(candidate.open.saturating_add(1))
            .checked_div(delivered)
            .unwrap_or(u64::MAX);
        let members = self.servers.len().max(1);
        let turn = members.saturating_sub(self.turn.checked_rem(members).unwrap_or(0));
        (cost, candidate.peer.usize().saturating_add(turn).checked_rem(members).unwrap_or(0))
    }

    /// Lets old observations fade.
    fn age(&mut self, now: Duration) {
        let mut halvings = 0;
        while self.aged_at.saturating_add(HALF_LIFE) <= now && halvings < 64 {
            self.aged_at = self.aged_at.saturating_add(HALF_LIFE);
            halvings = u32::saturating_add(halvings, 1);
        }
        if halvings == 64 {
            self.aged_at = now;
        }
        for server in &mut self.servers {
            server.delivered = server.delivered.checked_shr(halvings).unwrap_or(0);
            server.busy = server.busy.checked_shr(halvings).unwrap_or(0);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "servers_tests.rs"]
mod tests;
