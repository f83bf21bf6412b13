//! Catching up through certified ranges.
//!
//! A node that is far behind does not run the commit rule over old blocks, whose votes may be gone at everybody: it applies
//! commits that an honest member decided (a weak certificate covers everything below it by the digest chain).
//!
//! Promises: requests under way, answers that wait, and commits applied ahead of their payload are bounded; an answer that starts too high waits, a gap is asked for
//! again; the range that all others wait for is asked of another server after a few round trips, whatever the first one does;
//! a range that comes too slowly is given up; only a certified digest that differs from ours stops the node, or the word of
//! all other members that they have dropped what it needs; the commit rule never runs over an applied range.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rorqual_config::AuthorityIndex;

use super::records::{Certified, Pending};
use super::requests::Requests;
use super::servers::{Candidate, Servers};
use super::{Core, count};
use crate::certificate::check::VerifiedRange;
use crate::dag::graph::Vertex;
use crate::effect::{Effect, Halt, Write};
use crate::types::{Commit, CommitIndex, VerifiedBlock, merkle};

/// Beyond this many batches of lag, live blocks are dropped.
const DROP_LAG: u64 = 5;
/// Any lag is caught up through ranges when the live rule has brought nothing for this long.
const STUCK: Duration = Duration::from_secs(2);
/// How long a server may take before its rate counts: this many times as long as the range at the head is waited for.
const START: u32 = 4;
/// Doublings of that where nobody has delivered at the least rate: links may be slower than it.
const MAX_LENIENCE: u32 = 6;

/// Requests, answers that wait, and those who answer.
#[derive(Debug)]
pub struct CatchUp {
    requests: Requests,
    answers: BTreeMap<CommitIndex, (AuthorityIndex, VerifiedRange)>,
    pub(super) servers: Servers,
    /// What was once asked for is asked for until it is here.
    until: CommitIndex,
    /// Ranges given up lately; each that comes takes as many back as there are members.
    given_up: u32,
    progressed_at: Duration,
}

impl CatchUp {
    /// Nothing asked.
    pub fn new(members: usize, now: Duration) -> Self {
        Self {
            requests: Requests::default(),
            answers: BTreeMap::new(),
            servers: Servers::new(members, now),
            until: CommitIndex(0),
            given_up: 0,
            progressed_at: now,
        }
    }

    /// Answers that wait for an earlier one.
    pub fn waiting(&self) -> usize {
        self.answers.len()
    }

    /// There was a commit.
    pub fn progressed(&mut self, now: Duration) {
        self.progressed_at = now;
    }

    /// A new link: whoever is there may be another than before.
    pub fn connected(&mut self, peer: AuthorityIndex) {
        self.servers.forget_claim(peer);
    }

    /// What was asked there will not be answered.
    pub fn disconnected(&mut self, peer: AuthorityIndex) {
        self.requests.disconnected(peer);
    }

    /// The last index of the request or answer that covers `index`.
    fn covered(&self, index: CommitIndex) -> Option<CommitIndex> {
        let ends = |(_, range): &(AuthorityIndex, VerifiedRange)| range.certificate().index();
        let answer = self.answers.range(..=index).next_back().map(|(_, answer)| ends(answer));
        self.requests.covering(index).into_iter().chain(answer).filter(|to| *to >= index).max()
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

    /// Asks for ranges while behind, and asks others where the answer does not come.
    pub(super) fn pump_catch_up(&mut self) {
        let (now, lag) = (self.now.monotonic, self.lag());
        for (from, peer) in self.catch_up.requests.drop_below(self.ledger.index) {
            self.out.effect(Effect::CancelCommits { peer, from });
        }
        self.give_up_slow();
        let batch = u64::from(self.setup.parameters.catch_up_batch).max(1);
        // Commits come faster than their payload and its execution, which alone bound what waits here.
        let done = self.records.solid().min(self.executed);
        let full = self.ledger.index.0.saturating_sub(done.0) > self.setup.parameters.solid_lag;
        let stuck_at = self.catch_up.progressed_at.saturating_add(STUCK);
        if lag > 0 && !full {
            match lag >= batch || now >= stuck_at || self.ledger.index < self.catch_up.until {
                true => self.ask_for_ranges(lag, batch),
                false => self.out.wake(stuck_at),
            }
        }
        self.hedge_head();
        self.wake_for_ranges();
    }

    /// Asks for what nobody is asked for yet, as far ahead as answers may wait.
    fn ask_for_ranges(&mut self, lag: u64, batch: u64) {
        let target = self.ledger.index.plus(lag);
        let ahead = batch.saturating_mul(self.setup.parameters.catch_up_ahead.max(1) as u64);
        let horizon = self.ledger.index.plus(lag.min(ahead));
        let mut next = self.ledger.index.next();
        while next <= horizon && self.catch_up.requests.len() < self.setup.parameters.catch_up_parallel.max(1) {
            if let Some(end) = self.catch_up.covered(next) {
                next = end.next();
                continue;
            }
            let to = next.plus(batch.saturating_sub(1)).min(target);
            if !self.ask_for_range(next, to) {
                break;
            }
            next = to.next();
        }
    }

    /// Asks the best server that is not asked for this range yet; false if there is none.
    fn ask_for_range(&mut self, from: CommitIndex, to: CommitIndex) -> bool {
        let (now, gap) = (self.now.monotonic, self.range_patience());
        let asked = |peer: AuthorityIndex| {
            self.catch_up.requests.iter().any(|(first, request)| first == from && request.asked.contains_key(&peer))
        };
        let keeps = |peer: &AuthorityIndex| self.catch_up.servers.has_dropped(*peer, from).is_none();
        let connected: Vec<AuthorityIndex> = self.peers.connected.iter().filter(keeps).filter(|p| !asked(*p)).collect();
        // Whoever voted for the end has all of it; else for the beginning, and its answer ends earlier; else nobody is known to
        // have any, and who says that it does is not believed anyway.
        let reaches = |index: CommitIndex| {
            let that = connected.iter().filter(|peer| self.tally.highest_of(**peer) >= index);
            that.map(|peer| self.catch_up.requests.owed_by(*peer, now)).collect::<Vec<Candidate>>()
        };
        let candidates = [to, from, CommitIndex(0)].map(reaches);
        let mut wake = None;
        for candidates in candidates.iter().filter(|candidates| !candidates.is_empty()) {
            match self.catch_up.servers.choose(candidates, gap, now) {
                Ok(peer) => {
                    self.catch_up.servers.asked(peer, now);
                    self.catch_up.requests.ask(from, to, peer, now);
                    self.catch_up.until = self.catch_up.until.max(to);
                    self.out.effect(Effect::FetchCommits { peer, from, to });
                    count(&mut self.counters.range_fetches, 1);
                    return true;
                }
                Err(at) => wake = wake.into_iter().chain(at).min(),
            }
        }
        wake.into_iter().for_each(|at| self.out.wake(at));
        false
    }

    /// When the range at the head is asked of one more server, if nothing comes: after a few round trips, or twice what the best
    /// server takes for as much; later copies wait longer, so that a slow link is not filled with them.
    fn hedge_at(&self) -> Option<(CommitIndex, CommitIndex, Duration)> {
        let (from, request) = self.catch_up.requests.head()?;
        let commits = request.to.0.saturating_sub(from.0).saturating_add(1);
        let usual = commits.saturating_mul(2_000_000).checked_div(self.catch_up.servers.best_rate()).unwrap_or(0);
        let patience = self.range_patience().max(Duration::from_micros(usual));
        let copies = request.asked.len().saturating_sub(1).min(6);
        Some((from, request.to, request.newest().saturating_add(patience.saturating_mul(1 << copies))))
    }

    fn hedge_head(&mut self) {
        let Some((from, to, at)) = self.hedge_at() else { return };
        if at <= self.now.monotonic && self.ask_for_range(from, to) {
            count(&mut self.counters.range_hedges, 1);
        }
    }

    /// Gives up what misses its rate. Where nobody keeps it the links may be slower than that: then it is halved.
    fn give_up_slow(&mut self) {
        let (now, start) = (self.now.monotonic, self.range_start());
        let mut slow = Vec::new();
        for (from, request) in self.catch_up.requests.iter() {
            let late = request.asked.iter().filter(|(_, asked)| asked.gives_up_at(start) <= now);
            slow.extend(late.map(|(peer, _)| (from, *peer)));
        }
        for (from, peer) in slow {
            self.catch_up.given_up = self.catch_up.given_up.saturating_add(1);
            self.give_up(from, peer);
        }
    }

    fn range_start(&self) -> Duration {
        let members = u32::try_from(self.committee().size()).unwrap_or(u32::MAX).max(1);
        let lenience = self.catch_up.given_up.checked_div(members).unwrap_or(0).min(MAX_LENIENCE);
        self.range_patience().saturating_mul(START << lenience)
    }

    /// A server did not do what it was asked for in time.
    fn give_up(&mut self, from: CommitIndex, peer: AuthorityIndex) {
        let Some(asked) = self.catch_up.requests.drop_asked(from, peer) else { return };
        self.out.effect(Effect::CancelCommits { peer, from });
        let (now, rest) = (self.now.monotonic, self.range_patience());
        self.catch_up.servers.failed(peer, now.saturating_sub(asked.since), rest, now);
    }

    fn wake_for_ranges(&mut self) {
        let start = self.range_start();
        let asked = self.catch_up.requests.iter().flat_map(|(_, request)| request.asked.values());
        let late = asked.map(|asked| asked.gives_up_at(start)).min();
        let hedge = self.hedge_at().map(|(_, _, at)| at).filter(|at| *at > self.now.monotonic);
        late.into_iter().chain(hedge).for_each(|at| self.out.wake(at));
    }

    pub(super) fn on_range_progress(&mut self, peer: AuthorityIndex, from: CommitIndex, bytes: u64) {
        self.catch_up.requests.progressed(peer, from, bytes);
    }

    pub(super) fn on_range_unavailable(
        &mut self,
        peer: AuthorityIndex,
        from: CommitIndex,
        first_index: Option<CommitIndex>,
    ) -> Result<(), Halt> {
        let Some(asked) = self.catch_up.requests.drop_asked(from, peer) else { return Ok(()) };
        let (now, rest) = (self.now.monotonic, self.range_patience());
        self.catch_up.servers.failed(peer, now.saturating_sub(asked.since), rest, now);
        let Some(first) = first_index.filter(|first| *first > from) else { return Ok(()) };
        // A log that begins above what an honest member has reached is a lie, and counts as one that begins there.
        let reached = self.tally.reached_by(self.committee().validity(), self.committee());
        self.catch_up.servers.begins(peer, first.min(reached.max(from).next()));
        match self.dropped_by_all() {
            Some(first) => Err(Halt::BehindRetention { ours: self.ledger.index, first }),
            None => Ok(()),
        }
    }

    /// Members that say that they have dropped the commit we need next.
    pub(super) fn dropped_by(&self) -> Vec<AuthorityIndex> {
        let next = self.ledger.index.next();
        let dropped = |peer: &AuthorityIndex| self.catch_up.servers.has_dropped(*peer, next).is_some();
        self.committee().authorities().filter(dropped).collect()
    }

    /// The lowest index that others still have, once every other member, connected or not, has said that it does not have our
    /// next commit. Less proves nothing: the claims of F may be lies, and whoever has not answered may be the one that has it.
    fn dropped_by_all(&self) -> Option<CommitIndex> {
        let (me, next) = (self.setup.me, self.ledger.index.next());
        let others = self.committee().authorities().filter(|peer| *peer != me);
        let claims: Option<Vec<CommitIndex>> =
            others.map(|peer| self.catch_up.servers.has_dropped(peer, next)).collect();
        claims?.into_iter().min()
    }

    pub(super) fn on_range(&mut self, sender: AuthorityIndex, range: VerifiedRange) -> Result<(), Halt> {
        let Some(first) = range.commits().first().map(|commit| commit.index) else { return Ok(()) };
        let asked = self.settle_request(sender, first, range.commits().len() as u64);
        if first > self.ledger.index.next() {
            if asked && self.catch_up.answers.len() < self.setup.parameters.catch_up_ahead {
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

    /// The first answer wins. Who was asked earlier was slow, and is not waited for elsewhere either; who was asked later is
    /// told to stop, without charge. False if `sender` was not asked.
    fn settle_request(&mut self, sender: AuthorityIndex, from: CommitIndex, commits: u64) -> bool {
        let Some(won) = self.catch_up.requests.drop_asked(from, sender) else { return false };
        let now = self.now.monotonic;
        self.catch_up.servers.delivered(sender, commits, now.saturating_sub(won.since));
        let members = u32::try_from(self.committee().size()).unwrap_or(u32::MAX);
        self.catch_up.given_up = self.catch_up.given_up.saturating_sub(members);
        let Some(request) = self.catch_up.requests.answered(from) else { return true };
        let (rest, old) = (self.range_patience(), now.saturating_sub(self.range_patience()));
        for (peer, asked) in request.asked {
            self.out.effect(Effect::CancelCommits { peer, from });
            if asked.since < won.since {
                self.catch_up.servers.failed(peer, now.saturating_sub(asked.since), rest, now);
                for from in self.catch_up.requests.open_at(peer, old) {
                    self.catch_up.requests.drop_asked(from, peer);
                    self.out.effect(Effect::CancelCommits { peer, from });
                }
            }
        }
        true
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
