//! Catching up through certified ranges.
//!
//! A node that is far behind does not run the commit rule over old blocks, whose votes may be gone at everybody: it applies
//! commits that an honest member decided (a weak certificate covers everything below it by the digest chain).
//!
//! Promises: requests under way, answers that wait, and commits applied ahead of their payload are bounded; an answer that starts too high waits, a gap is asked for
//! again; only a certified digest that differs from ours stops the node; the commit rule never runs over an applied range.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rorqual_config::{AuthorityIndex, Stake};

use super::records::{Certified, Pending};
use super::{Core, count};
use crate::certificate::check::VerifiedRange;
use crate::dag::graph::Vertex;
use crate::effect::{Effect, Halt, Write};
use crate::types::{Commit, CommitIndex, VerifiedBlock, merkle};

/// Beyond this many batches of lag, live blocks are dropped.
const DROP_LAG: u64 = 5;
/// A request for a range is given up after this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A peer that failed is left alone for this long.
const PAUSE: Duration = Duration::from_secs(1);
/// Any lag is caught up through ranges when the live rule has brought nothing for this long.
const STUCK: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Request {
    to: CommitIndex,
    peer: AuthorityIndex,
    until: Duration,
}

/// Requests, and answers that wait.
#[derive(Debug)]
pub struct CatchUp {
    requests: BTreeMap<CommitIndex, Request>,
    answers: BTreeMap<CommitIndex, (AuthorityIndex, VerifiedRange)>,
    paused: BTreeMap<AuthorityIndex, Duration>,
    pruned: BTreeMap<AuthorityIndex, CommitIndex>,
    turn: usize,
    progressed_at: Duration,
}

impl CatchUp {
    /// Nothing asked.
    pub fn new(now: Duration) -> Self {
        let (requests, answers, paused, pruned) = Default::default();
        Self { requests, answers, paused, pruned, turn: 0, progressed_at: now }
    }

    /// Answers that wait for an earlier one.
    pub fn waiting(&self) -> usize {
        self.answers.len()
    }

    /// There was a commit.
    pub fn progressed(&mut self, now: Duration) {
        self.progressed_at = now;
        self.pruned.clear();
    }

    /// What was asked there will not be answered.
    pub fn disconnected(&mut self, peer: AuthorityIndex) {
        self.requests.retain(|_, request| request.peer != peer);
        self.paused.remove(&peer);
        self.pruned.remove(&peer);
    }

    /// The last index of the request or answer that covers `index`.
    fn covered(&self, index: CommitIndex) -> Option<CommitIndex> {
        let request = self.requests.range(..=index).next_back().map(|(_, request)| request.to);
        let ends = |(_, range): &(AuthorityIndex, VerifiedRange)| range.certificate().index();
        let answer = self.answers.range(..=index).next_back().map(|(_, answer)| ends(answer));
        request.into_iter().chain(answer).filter(|to| *to >= index).max()
    }
}

impl Core {
    /// How many commits an honest member is ahead of us at least.
    pub(super) fn lag(&self) -> u64 {
        let reached = self.tally.reached_by(self.committee().validity(), self.committee());
        reached.0.saturating_sub(self.ledger.index.0)
    }

    /// So far behind that live blocks are of no use yet.
    pub(super) fn drops_live_blocks(&self) -> bool {
        self.lag() > DROP_LAG * u64::from(self.setup.parameters.catch_up_batch)
    }

    /// Asks for ranges while behind.
    pub(super) fn pump_catch_up(&mut self) {
        let (now, lag) = (self.now.monotonic, self.lag());
        let batch = u64::from(self.setup.parameters.catch_up_batch).max(1);
        // Commits come faster than their payload and its execution, which alone bound what waits here.
        let done = self.records.solid().min(self.executed);
        if lag == 0 || self.ledger.index.0.saturating_sub(done.0) > self.setup.parameters.solid_lag {
            return;
        }
        let stuck_at = self.catch_up.progressed_at + STUCK;
        if lag < batch && now < stuck_at {
            self.out.wake(stuck_at);
            return;
        }
        self.catch_up.requests.retain(|_, request| request.until > now);
        let target = self.ledger.index.plus(lag);
        let horizon =
            self.ledger.index.plus(lag.min(batch.saturating_mul(self.setup.parameters.catch_up_ahead.max(1) as u64)));
        let mut next = self.ledger.index.next();
        while next <= horizon && self.catch_up.requests.len() < self.setup.parameters.catch_up_parallel.max(1) {
            if let Some(end) = self.catch_up.covered(next) {
                next = end.next();
                continue;
            }
            let to = next.plus(batch.saturating_sub(1)).min(target);
            let Some(peer) = self.choose_server(next, to) else { break };
            self.catch_up.requests.insert(next, Request { to, peer, until: now + PATIENCE });
            self.out.effect(Effect::FetchCommits { peer, from: next, to });
            count(&mut self.counters.range_fetches, 1);
            next = to.next();
        }
        self.catch_up.paused.retain(|_, until| *until > now);
        let times = self.catch_up.requests.values().map(|request| request.until);
        if let Some(at) = times.chain(self.catch_up.paused.values().copied()).min() {
            self.out.wake(at);
        }
    }

    /// The next connected peer that voted for the end of the range or later, in turn.
    fn choose_server(&mut self, from: CommitIndex, to: CommitIndex) -> Option<AuthorityIndex> {
        let serves = |peer: &AuthorityIndex| {
            self.tally.highest_of(*peer) >= to
                && !self.catch_up.paused.contains_key(peer)
                && self.catch_up.pruned.get(peer).is_none_or(|first| *first <= from)
        };
        let candidates: Vec<AuthorityIndex> = self.peers.connected.iter().filter(serves).collect();
        let place = self.catch_up.turn.checked_rem(candidates.len())?;
        self.catch_up.turn = self.catch_up.turn.wrapping_add(1);
        candidates.get(place).copied()
    }

    pub(super) fn on_range_unavailable(
        &mut self,
        peer: AuthorityIndex,
        from: CommitIndex,
        first_index: Option<CommitIndex>,
    ) -> Result<(), Halt> {
        if self.catch_up.requests.get(&from).is_none_or(|request| request.peer != peer) {
            return Ok(());
        }
        self.catch_up.requests.remove(&from);
        let next = self.ledger.index.next();
        let Some(first) = first_index.filter(|first| *first > next && from == next) else {
            self.catch_up.paused.insert(peer, self.now.monotonic + PAUSE);
            return Ok(());
        };
        self.catch_up.pruned.insert(peer, first);
        // Everybody who could serve us has dropped it, and an honest member is among them.
        let gone: Stake = self.catch_up.pruned.keys().map(|peer| self.committee().stake(*peer)).sum();
        let mut serving = self.peers.connected.iter().filter(|peer| self.tally.highest_of(*peer) >= next);
        let all = serving.all(|peer| self.catch_up.pruned.contains_key(&peer));
        let enough = gone >= self.committee().validity()
            && gone + self.committee().stake(self.setup.me) >= self.committee().quorum();
        if all && enough {
            let first = self.catch_up.pruned.values().min().copied().unwrap_or(first);
            return Err(Halt::BehindRetention { ours: self.ledger.index, first });
        }
        Ok(())
    }

    pub(super) fn on_range(&mut self, sender: AuthorityIndex, range: VerifiedRange) -> Result<(), Halt> {
        let Some(first) = range.commits().first().map(|commit| commit.index) else { return Ok(()) };
        let from = self.catch_up.requests.iter().find(|(from, request)| **from == first && request.peer == sender);
        let asked = from.map(|(from, _)| *from);
        if let Some(from) = asked {
            self.catch_up.requests.remove(&from);
        }
        if first > self.ledger.index.next() {
            if asked.is_some() && self.catch_up.answers.len() < self.setup.parameters.catch_up_ahead {
                self.catch_up.answers.insert(first, (sender, range));
            }
            return Ok(());
        }
        self.apply_range(sender, range)?;
        while let Some(entry) = self.catch_up.answers.first_entry() {
            if *entry.key() > self.ledger.index.next() {
                break;
            }
            let (sender, range) = entry.remove();
            self.apply_range(sender, range)?;
        }
        Ok(())
    }

    /// Applies a verified range that starts at or below our next commit.
    fn apply_range(&mut self, sender: AuthorityIndex, range: VerifiedRange) -> Result<(), Halt> {
        let certificate = Arc::new(range.certificate().clone());
        let (last, mut blocks, mut applied) = (certificate.index(), range.blocks(), Vec::new());
        self.tally.observe_certificate(&certificate);
        for commit in range.commits() {
            let (of_commit, rest) = blocks.split_at(commit.blocks.len());
            blocks = rest;
            let certified = Certified { digest: commit.digest(), aux: commit.aux };
            if commit.index <= self.ledger.index {
                self.compare(commit, certified)?;
                continue;
            }
            let ending = (commit.index == last).then(|| certificate.clone());
            self.apply(sender, commit, certified, of_commit, ending)?;
            applied.extend(of_commit.iter().map(VerifiedBlock::reference));
        }
        // Only now: the live rule must not run in the middle of a range.
        for reference in applied {
            let freed = self.suspended.resolve(&reference);
            self.to_link.extend(freed);
        }
        if self.committee().is_quorum(&certificate.signers.iter().map(|signer| signer.author).collect()) {
            self.tally.set_certified(last);
        }
        Ok(())
    }

    /// A certified commit that we have decided ourselves.
    fn compare(&mut self, commit: &Commit, certified: Certified) -> Result<(), Halt> {
        self.records.adopt(commit.index, certified);
        let Some(header) = self.records.header(commit.index) else { return Ok(()) };
        let (index, ours, theirs) = (commit.index, header.digest(), certified.digest);
        if ours == theirs {
            return Ok(());
        }
        Err(Halt::Fork { index, ours, theirs, stake: self.committee().validity().0 })
    }

    fn apply(
        &mut self,
        sender: AuthorityIndex,
        commit: &Commit,
        certified: Certified,
        blocks: &[VerifiedBlock],
        certificate: Option<Arc<crate::types::Certificate>>,
    ) -> Result<(), Halt> {
        let diverged = |what: &str| Err(Halt::StateDiverged { index: commit.index.previous(), what: what.into() });
        let follows = self.records.waiting.is_empty() && commit.previous != self.records.last.digest;
        if follows {
            let (index, ours) = (self.records.last.index, self.records.last.digest);
            let stake = self.committee().validity().0;
            return Err(Halt::Fork { index, ours, theirs: commit.previous, stake });
        }
        if commit.gc_round != self.graph.gc_round() || commit.leader_round <= self.ledger.leader_round {
            return diverged("the garbage-collection round");
        }
        for block in blocks {
            self.adopt_certified(sender, block)?;
        }
        for reference in &commit.blocks {
            if !self.graph.commit(reference) {
                return diverged("a block is committed twice");
            }
        }
        // The reference of commit time follows from the medians, and these from the blocks of this commit and those before.
        let moved = self.advance_ledger(commit.leader_round, &commit.leaders, &commit.blocks);
        let Some((_, batches)) = moved.filter(|(time, _)| *time == commit.timestamp_ms) else {
            return diverged("the commit time");
        };
        if merkle::root(&batches) != commit.batches_root {
            return diverged("the delivered payload");
        }
        let votes = certificate.is_some();
        let certified = Some(certified);
        let (commit, snapshot) = (Commit { aux: None, ..commit.clone() }, None);
        self.index.advance(commit.leader_round.next());
        self.undecided = true;
        self.after_commit(Pending { commit, batches, certified, certificate, votes, snapshot });
        count(&mut self.counters.certified_commits, 1);
        Ok(())
    }

    /// Puts a block of a certified commit into the graph without looking at its ancestors.
    fn adopt_certified(&mut self, sender: AuthorityIndex, block: &VerifiedBlock) -> Result<(), Halt> {
        let reference = block.reference();
        self.fetcher.done(&reference);
        if self.graph.get(&reference).is_some() {
            return Ok(());
        }
        self.check_own(block)?;
        let news = self.tally.observe(block, self.ledger.index);
        self.records.voted(news);
        let change = self.suspended.discard(&reference);
        self.release(change);
        let mut vertex = Vertex::new(block.clone(), self.now.monotonic);
        vertex.received_from.insert(sender);
        if reference.author != self.setup.me {
            vertex.missing = block.batches().iter().map(|batch| batch.key(reference.author)).collect();
        }
        self.out.write(Write::Block(block.clone()));
        self.graph.insert(vertex);
        self.clock.observe(block);
        count(&mut self.counters.linked, 1);
        Ok(())
    }
}
