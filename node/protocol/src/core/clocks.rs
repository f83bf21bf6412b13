//! What the clocks of the members say, as far as their blocks show it; from that, what time the next commit will have.
//!
//! A clock is kept as the time that it showed when our monotonic clock was 0, so that a reading stays true while time passes. A
//! block tells the time of its author when it is fresh: when it references a block that we made a moment ago, in this life of the
//! process. Others may be as old as an outage.
//!
//! Promises: no rule of validity or order depends on any of this; with at most F liars the members' time lies between clocks of
//! honest members.

use std::time::Duration;

use rorqual_config::{AuthorityIndex, Committee};

use super::Core;
use crate::commit::linearize::weighted_median;
use crate::commit::time::CommitTime;
use crate::input::Now;
use crate::types::{BlockRef, Round, VerifiedBlock};

/// A block that references one of ours is fresh if ours was sent less than this ago, or two idle delays, whichever is longer.
const FRESH: Duration = Duration::from_secs(1);
/// Blocks in a row that may go without payload because a commit of their time would be in the past.
const MOST_WITHHELD: u32 = 3;
/// The part of the longest lifetime of an id by which a commit may be in the past and still take payload.
const LATE_PART: u32 = 4;

/// How far two clocks are apart that should agree, in milliseconds; positive where ours is ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deviation {
    /// From the median of the peers' clocks; none while too few of them are known.
    pub from_peers_ms: Option<i64>,
    /// From the time that the next commit would have now; none before the first commit and while we are behind.
    pub from_commits_ms: Option<i64>,
}

impl Deviation {
    /// The greater of both in size, in milliseconds.
    pub fn greatest_ms(&self) -> u64 {
        [self.from_peers_ms, self.from_commits_ms].into_iter().flatten().map(i64::unsigned_abs).max().unwrap_or(0)
    }
}

/// What is known about time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// That of commits.
    pub commits: CommitTime,
    /// The median of the clocks of members that with us hold a quorum, ours included, when our monotonic clock was 0; none while
    /// fewer are known. In milliseconds since the Unix epoch, like everything here.
    pub members_ms: Option<i64>,
    /// The same without ours.
    pub peers_ms: Option<i64>,
}

impl Times {
    /// What the median of a commit would be now: the members' time, or that of our own clock while too few others are known.
    pub fn median_ms(&self, now: Now) -> u64 {
        self.members_ms
            .map_or(now.wall_ms, |start| u64::try_from(start.saturating_add(milliseconds(now.monotonic))).unwrap_or(0))
    }

    /// The time of the next commit, if it were decided now. With a reference for commit time that is ahead of the clocks, without
    /// one it is theirs; it does not need to be known when the last commit was, so it holds after an outage, too.
    pub fn next_commit_ms(&self, now: Now) -> u64 {
        self.commits.next_ms(self.median_ms(now))
    }

    /// How far our clock is from where it should be. `behind` says that others have decided commits that we do not know.
    pub fn deviation(&self, now: Now, behind: bool) -> Deviation {
        let wall = i64::try_from(now.wall_ms).unwrap_or(i64::MAX);
        let ahead_of = |time: i64| wall.saturating_sub(time);
        let commits = || ahead_of(i64::try_from(self.next_commit_ms(now)).unwrap_or(i64::MAX));
        Deviation {
            from_peers_ms: self.peers_ms.map(|start| ahead_of(start.saturating_add(milliseconds(now.monotonic)))),
            from_commits_ms: (self.commits.last_ms() > 0 && !behind).then(commits),
        }
    }
}

/// The clocks of the others.
#[derive(Debug)]
pub struct Clocks {
    /// By author: the round of the block that showed it, and the clock.
    shown: Vec<Option<(Round, i64)>>,
    /// Our first block of this life.
    first_own: Option<Round>,
    /// Own blocks in a row without payload because of their time.
    withheld: u32,
}

impl Clocks {
    /// Nothing known.
    pub fn new(members: usize) -> Self {
        Self { shown: vec![None; members], first_own: None, withheld: 0 }
    }

    /// We make a block of this round.
    pub fn proposed(&mut self, round: Round) {
        self.first_own.get_or_insert(round);
    }

    /// Whether a block of ours was made in this life of the process.
    fn of_this_life(&self, own: &BlockRef) -> bool {
        self.first_own.is_some_and(|first| own.round >= first)
    }

    fn show(&mut self, author: AuthorityIndex, round: Round, clock: i64) {
        if let Some(shown) = self.shown.get_mut(author.usize())
            && shown.is_none_or(|(known, _)| known < round)
        {
            *shown = Some((round, clock));
        }
    }

    /// The medians of members and peers.
    fn medians(&self, own: i64, me: AuthorityIndex, committee: &Committee) -> (Option<i64>, Option<i64>) {
        let others = committee.authorities().filter(|author| *author != me);
        let known: Vec<(AuthorityIndex, i64)> =
            others.filter_map(|author| Some((author, self.shown.get(author.usize())?.as_ref()?.1))).collect();
        if !committee.is_quorum(&known.iter().map(|(author, _)| *author).chain([me]).collect()) {
            return (None, None);
        }
        let weighed = |(author, clock): (AuthorityIndex, i64)| (clock, committee.stake(author));
        let peers = weighted_median(known.iter().copied().map(weighed));
        (weighted_median(known.into_iter().chain([(me, own)]).map(weighed)), peers)
    }
}

impl Core {
    /// A block came from outside: if it is fresh, it shows the clock of its author.
    pub(super) fn observe_clock(&mut self, block: &VerifiedBlock) {
        let fresh = FRESH.max(self.setup.parameters.idle_delay * 2);
        let answers = |parent: &BlockRef| {
            parent.author == self.setup.me
                && self.clocks.of_this_life(parent)
                && self.graph.get(parent).is_some_and(|own| own.linked_at + fresh >= self.now.monotonic)
        };
        if block.author() != self.setup.me && block.parents().iter().any(answers) {
            let clock = start_of(block.block().core.timestamp_ms, self.now.monotonic);
            self.clocks.show(block.author(), block.round(), clock);
        }
    }

    /// What is known about time.
    pub(super) fn times(&self) -> Times {
        let own = start_of(self.now.wall_ms, self.now.monotonic);
        let (members_ms, peers_ms) = self.clocks.medians(own, self.setup.me, self.committee());
        Times { commits: self.ledger.time, members_ms, peers_ms }
    }

    /// Whether a commit of an own block with these parents could have a time so long past that no submission made today lies
    /// within the rules: in round 1, where genesis has no time, and in the first rounds after an outage of all nodes, whose
    /// parents are from before. Once more than half of the parents are fresh nobody can have a stale block of this round. Such a
    /// block goes without payload, though never more than a few in a row, since it may be the clocks that are wrong.
    pub(super) fn would_be_past(&mut self, round: Round, parents: &[BlockRef]) -> bool {
        let below = round.previous();
        let time = |parent: &BlockRef| match (below, parent.author == self.setup.me) {
            (Round(0), _) => Some(0),
            (_, true) => self.own.last.as_ref().map(|own| own.block().core.timestamp_ms),
            (_, false) => self.graph.get(parent).map(|vertex| vertex.block.block().core.timestamp_ms),
        };
        let strong = parents.iter().filter(|parent| parent.round == below);
        let median = weighted_median(strong.filter_map(|p| Some((time(p)?, self.committee().stake(p.author)))));
        let late = self.committee().protocol().max_lifetime / LATE_PART;
        let now = self.times().median_ms(self.now);
        let past =
            median.is_some_and(|median| i128::from(now).saturating_sub(i128::from(median)) > late.as_millis() as i128);
        self.clocks.withheld = if past { self.clocks.withheld.saturating_add(1) } else { 0 };
        past && self.clocks.withheld <= MOST_WITHHELD
    }
}

/// The time of a clock when our monotonic clock was 0.
fn start_of(time_ms: u64, monotonic: Duration) -> i64 {
    i64::try_from(time_ms).unwrap_or(i64::MAX).saturating_sub(milliseconds(monotonic))
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
