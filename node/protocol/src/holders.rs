//! Which holder of a batch is asked for it, and for how long it is waited for.
//!
//! The daemon and the simulator ask by the same rules. Promises: each holder is asked once before any is asked again, after a
//! pause that doubles; a holder that is mute, or brings other things at a crawl, costs one patience, and is asked last until it
//! has delivered what it was asked for; how long that is depends on the best of all holders and not on the one that is waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use rorqual_config::AuthorityIndex;
use rorqual_config::committee::AuthoritySet;

/// Pauses between two rounds over all holders of a batch.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// Bytes a second of a good holder, as long as nothing was measured.
const USUAL_RATE: u64 = 64 << 20;

/// How holders did.
#[derive(Debug)]
pub struct Holders {
    patience: Duration,
    /// How often each let us wait in vain since it last delivered.
    misses: BTreeMap<AuthorityIndex, u32>,
    /// Bytes a second of each.
    rates: BTreeMap<AuthorityIndex, u64>,
}

impl Holders {
    /// Nothing is known. `patience`: how long the smallest batch may take; a round trip and the read of a disk.
    pub fn new(patience: Duration) -> Self {
        Self { patience, misses: BTreeMap::new(), rates: BTreeMap::new() }
    }

    /// How long a holder may take that owes this many bytes: twice what the best one needs for them.
    pub fn patience(&self, owed: u64) -> Duration {
        let rate = self.rates.values().copied().max().unwrap_or(USUAL_RATE).max(1);
        let transfer = Duration::from_micros(owed.saturating_mul(2_000_000).checked_div(rate).unwrap_or(u64::MAX));
        self.patience.saturating_add(transfer).min(PAUSE[1])
    }

    /// What it was asked for came, after this long; it owed this many bytes when it was asked.
    fn delivered(&mut self, peer: AuthorityIndex, owed: u64, took: Duration) {
        self.misses.remove(&peer);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let rate = owed.saturating_mul(1_000_000).checked_div(micros).unwrap_or(u64::MAX);
        // A small batch tells of the round trip, not of the transfer.
        if took > self.patience {
            let known = self.rates.entry(peer).or_insert(rate);
            *known = (*known / 8).saturating_mul(7).saturating_add(rate / 8);
        }
    }

    fn missed(&mut self, peer: AuthorityIndex) {
        let misses = self.misses.entry(peer).or_default();
        *misses = misses.saturating_add(1);
    }
}

/// One holder was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Whom.
    pub peer: AuthorityIndex,
    since: Duration,
    until: Duration,
    owed: u64,
}

/// What to do about a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ask this one, and look again at this time.
    Ask(AuthorityIndex, Duration),
    /// Look again at this time.
    Wait(Duration),
    /// Look again when this one has room for another question.
    Stall(AuthorityIndex),
}

/// One batch that is wanted.
#[derive(Debug, Default)]
pub struct Question {
    holders: Vec<AuthorityIndex>,
    tried: AuthoritySet,
    asked: Option<Asked>,
    rounds: u32,
}

impl Question {
    /// Who is asked at present.
    pub fn asked(&self) -> Option<Asked> {
        self.asked
    }

    /// Adds holders; whether there is a new one.
    pub fn learn(&mut self, holders: impl IntoIterator<Item = AuthorityIndex>) -> bool {
        let known = self.holders.len();
        for holder in holders {
            if !self.holders.contains(&holder) {
                self.holders.push(holder);
            }
        }
        self.holders.len() > known
    }

    /// A holder says that it does not have it, or another one is to be asked at once: nobody is asked any more.
    pub fn release(&mut self) -> Option<Asked> {
        self.asked.take()
    }

    /// Whether the patience with whoever is asked is over.
    pub fn is_late(&self, now: Duration) -> bool {
        self.asked.is_some_and(|asked| asked.until <= now)
    }

    /// Ends the wait in vain for whoever is asked.
    pub fn give_up(&mut self, holders: &mut Holders) -> Option<Asked> {
        let asked = self.asked.take()?;
        holders.missed(asked.peer);
        Some(asked)
    }

    /// The batch is here: `asked` has answered, or somebody else was faster.
    pub fn arrived(&mut self, holders: &mut Holders, now: Duration) -> Option<Asked> {
        let asked = self.asked.take()?;
        holders.delivered(asked.peer, asked.owed, now.saturating_sub(asked.since));
        Some(asked)
    }

    /// The next step where nobody is asked or the patience is not over. `owed`: what a holder owes with this batch, none if it
    /// has no room for it; `reaches`: who can be asked at all.
    pub fn next(
        &mut self,
        holders: &Holders,
        now: Duration,
        reaches: impl Fn(AuthorityIndex) -> bool,
        owed: impl Fn(AuthorityIndex) -> Option<u64>,
    ) -> Step {
        if let Some(asked) = self.asked {
            return Step::Wait(asked.until);
        }
        let misses = |peer: AuthorityIndex| holders.misses.get(&peer).copied().unwrap_or(0);
        let untried = self.holders.iter().copied().filter(|peer| !self.tried.contains(*peer) && reaches(*peer));
        let ranked = untried.min_by_key(|peer| (owed(*peer).is_none(), misses(*peer)));
        let Some(peer) = ranked else {
            self.tried = AuthoritySet::EMPTY;
            let pause = PAUSE[0].saturating_mul(1 << self.rounds.min(8)).min(PAUSE[1]);
            self.rounds = self.rounds.saturating_add(1);
            return Step::Wait(now.saturating_add(pause));
        };
        let Some(owed) = owed(peer) else { return Step::Stall(peer) };
        let until = now.saturating_add(holders.patience(owed));
        self.tried.insert(peer);
        self.asked = Some(Asked { peer, since: now, until, owed });
        Step::Ask(peer, until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const A: AuthorityIndex = AuthorityIndex(1);
    const B: AuthorityIndex = AuthorityIndex(2);

    fn asks(question: &mut Question, holders: &Holders, now: Duration) -> Step {
        question.next(holders, now, |_| true, |_| Some(1_000))
    }

    #[test]
    fn a_mute_holder_costs_one_patience_and_comes_last_from_then_on() {
        let mut holders = Holders::new(10 * MS);
        let mut question = Question::default();
        question.learn([A, B]);
        let Step::Ask(A, until) = asks(&mut question, &holders, MS) else { panic!("A is first") };
        assert!(until < 12 * MS && !question.is_late(10 * MS) && question.is_late(until));
        question.give_up(&mut holders);
        assert!(matches!(asks(&mut question, &holders, until), Step::Ask(B, _)));
        question.arrived(&mut holders, until + MS);
        let mut other = Question::default();
        other.learn([A, B]);
        assert!(matches!(asks(&mut other, &holders, until), Step::Ask(B, _)));
        other.release();
        assert!(matches!(asks(&mut other, &holders, until), Step::Ask(A, _)));
        other.arrived(&mut holders, until + MS);
        let mut third = Question::default();
        third.learn([A, B]);
        assert!(matches!(asks(&mut third, &holders, until), Step::Ask(A, _)), "a delivery forgives");
    }

    #[test]
    fn all_are_asked_then_all_again_after_pauses_that_double() {
        let mut holders = Holders::new(10 * MS);
        let (mut question, mut now, mut pauses) = (Question::default(), Duration::ZERO, Vec::new());
        question.learn([A, B]);
        while pauses.len() < 6 {
            match asks(&mut question, &holders, now) {
                Step::Ask(_, until) => {
                    now = until;
                    question.give_up(&mut holders);
                }
                Step::Wait(at) => {
                    pauses.push((at - now).as_millis());
                    now = at;
                }
                Step::Stall(_) => panic!("there is room"),
            }
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 2_000]);
    }

    #[test]
    fn patience_follows_the_best_holder_and_full_hands_are_passed_over() {
        let mut holders = Holders::new(10 * MS);
        let eight = 8 << 20;
        assert!(holders.patience(eight) > 100 * MS);
        for (peer, took) in [(A, 80 * MS), (B, 8_000 * MS)] {
            let mut question = Question::default();
            question.learn([peer]);
            assert!(matches!(question.next(&holders, MS, |_| true, |_| Some(eight)), Step::Ask(..)));
            question.arrived(&mut holders, MS + took);
        }
        assert!(holders.patience(eight) < 200 * MS, "one that crawls makes nobody wait");
        let mut question = Question::default();
        question.learn([A, B]);
        let full = |peer: AuthorityIndex| (peer != A).then_some(1);
        assert!(matches!(question.next(&holders, MS, |_| true, full), Step::Ask(B, _)));
        question.release();
        assert_eq!(question.next(&holders, MS, |_| true, full), Step::Stall(A));
        assert!(matches!(question.next(&holders, MS, |_| false, full), Step::Wait(_)), "nobody can be reached");
    }
}
