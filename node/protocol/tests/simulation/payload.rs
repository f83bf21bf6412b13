//! Waiting for payload: who wants it, who may have it, whom to ask next. By the rules of the daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use rorqual_config::AuthorityIndex;
use rorqual_protocol::holders::{Holders, Question, Step};
use rorqual_protocol::types::BatchKey;

use super::{MILLISECOND, Time};

/// All wanted batches.
pub struct Waits {
    questions: BTreeMap<BatchKey, Question>,
    holders: Holders,
}

impl Waits {
    /// `grace`: how long payload may lag behind the block that names it.
    pub fn new(grace: Duration) -> Self {
        let patience = Duration::from_millis(10).max(grace * 2);
        Self { questions: BTreeMap::new(), holders: Holders::new(patience) }
    }

    /// Adds holders. Returns whether the wait is new, and whether a holder is.
    pub fn add(&mut self, key: BatchKey, holders: Vec<AuthorityIndex>) -> (bool, bool) {
        let new = !self.questions.contains_key(&key);
        let question = self.questions.entry(key).or_default();
        let learnt = question.learn(holders);
        if learnt {
            question.release();
        }
        (new, learnt)
    }

    /// The payload is here. True if there was a wait for it.
    pub fn arrived(&mut self, key: &BatchKey, now: Time) -> bool {
        let Some(mut question) = self.questions.remove(key) else { return false };
        question.arrived(&mut self.holders, Duration::from_micros(now));
        true
    }

    /// Whether somebody waits for it.
    pub fn is_waiting(&self, key: &BatchKey) -> bool {
        self.questions.contains_key(key)
    }

    /// Nobody waits any more.
    pub fn cancel(&mut self, key: &BatchKey) {
        self.questions.remove(key);
    }

    /// Whom to ask now, and when to look again; nothing for a batch that nobody waits for.
    pub fn next(
        &mut self,
        key: &BatchKey,
        now: Time,
        reachable: impl Fn(AuthorityIndex) -> bool,
    ) -> Option<(Option<AuthorityIndex>, Time)> {
        let (question, now) = (self.questions.get_mut(key)?, Duration::from_micros(now));
        if question.is_late(now) {
            question.give_up(&mut self.holders);
        }
        let (whom, until) = match question.next(&self.holders, now, reachable, |_| Some(1)) {
            Step::Ask(holder, until) => (Some(holder), until),
            Step::Wait(until) => (None, until),
            Step::Stall(_) => (None, now + Duration::from_micros(100 * MILLISECOND)),
        };
        Some((whom, until.as_micros() as Time))
    }
}
