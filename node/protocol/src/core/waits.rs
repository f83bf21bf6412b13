//! How long rounds lately waited for leaders that came: what a leader timeout is made of.
//!
//! For each leader the newest waits are kept, if it came while it was waited for: whoever comes later was away, and for how long
//! says nothing about links. Of each leader the longest counts (the 99th percentile of so few), and of the leaders the one within
//! which a quorum of stake comes: a percentile over all waits would belong to liars, who lead up to a third of the rounds and
//! could always come just before the timeout, which would grow by that and let them come later still, up to the cap.
//!
//! Promises: a function of what it was told; a fixed amount of memory; F liars cannot raise it above the longest honest wait.

use std::collections::VecDeque;
use std::time::Duration;

use rorqual_config::{AuthorityIndex, Committee};

use super::delays::within_quorum;
use crate::types::Round;

/// Waits kept for each leader.
const KEPT: usize = 16;
/// Leaders that may still come.
const MAX_OPEN: usize = 16;

/// A leader that was not here when the round above its own was entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Awaited {
    /// The leader's round.
    pub round: Round,
    /// The leader.
    pub leader: AuthorityIndex,
    since: Duration,
}

/// The newest waits.
#[derive(Debug)]
pub struct Waits {
    recent: Vec<VecDeque<Duration>>,
    open: VecDeque<Awaited>,
}

impl Waits {
    /// Nothing known.
    pub fn new(members: usize) -> Self {
        Self { recent: vec![VecDeque::new(); members], open: VecDeque::new() }
    }

    /// The round above is entered without the leader.
    pub fn begin(&mut self, round: Round, leader: AuthorityIndex, now: Duration) {
        self.open.push_back(Awaited { round, leader, since: now });
        if self.open.len() > MAX_OPEN {
            self.open.pop_front();
        }
    }

    /// Who may still come.
    pub fn open(&self) -> impl Iterator<Item = &Awaited> {
        self.open.iter()
    }

    /// The leader has come. It counts if it was waited for no longer than `timeout`.
    pub fn end(&mut self, awaited: Awaited, now: Duration, timeout: Duration) {
        self.open.retain(|open| *open != awaited);
        let wait = now.saturating_sub(awaited.since);
        if wait <= timeout {
            self.came(awaited.leader, wait);
        }
    }

    /// The leader came after this wait; zero if it was there before it was needed.
    pub fn came(&mut self, leader: AuthorityIndex, wait: Duration) {
        let Some(recent) = self.recent.get_mut(leader.usize()) else { return };
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(wait);
    }

    /// The wait within which leaders with a quorum of stake come; zero before so many have come.
    pub fn typical(&self, committee: &Committee) -> Duration {
        let longest = committee.authorities().filter_map(|author| {
            let longest = self.recent[author.usize()].iter().max()?;
            Some((*longest, author))
        });
        within_quorum(longest, committee).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::committee;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_quorum_of_leaders_counts_and_one_late_liar_does_not() {
        let committee = committee(4);
        let mut waits = Waits::new(4);
        assert_eq!(waits.typical(&committee), Duration::ZERO);
        waits.came(AuthorityIndex(0), Duration::ZERO);
        waits.came(AuthorityIndex(1), 3 * MS);
        assert_eq!(waits.typical(&committee), Duration::ZERO, "two of four say nothing");
        for _ in 0..100 {
            waits.came(AuthorityIndex(3), 4_000 * MS);
        }
        waits.came(AuthorityIndex(2), 2 * MS);
        assert_eq!(waits.typical(&committee), 3 * MS);
    }

    #[test]
    fn old_waits_are_forgotten_and_memory_is_bounded() {
        let committee = committee(4);
        let mut waits = Waits::new(4);
        for author in 0..4 {
            waits.came(AuthorityIndex(author), 900 * MS);
        }
        assert_eq!(waits.typical(&committee), 900 * MS);
        for author in (0..4).cycle().take(4 * KEPT) {
            waits.came(AuthorityIndex(author), MS);
        }
        assert_eq!(waits.typical(&committee), MS);
        assert!(waits.recent.iter().all(|recent| recent.len() == KEPT));
        for round in 0..1_000 {
            waits.begin(Round(round), AuthorityIndex(1), MS);
        }
        assert_eq!(waits.open().count(), MAX_OPEN);
        let last = *waits.open().last().expect("some are open");
        waits.end(last, 41 * MS, 50 * MS);
        assert_eq!(waits.open().count(), MAX_OPEN - 1);
        assert_eq!(waits.recent[1].back(), Some(&(40 * MS)));
        // Who comes when nobody waits any more was away.
        let last = *waits.open().last().expect("some are open");
        waits.end(last, 52 * MS, 50 * MS);
        assert_eq!((waits.open().count(), waits.recent[1].back()), (MAX_OPEN - 2, Some(&(40 * MS))));
    }
}
