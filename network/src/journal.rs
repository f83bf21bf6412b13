//! What the log says of one peer. Pure: the caller tells the time and writes the lines.
//!
//! Promises: every coming and going of a link is one line, the same failure again is none, and a peer that comes and goes
//! all the time, which it decides, fills no log: beyond a burst, one line in a while, with the number of lines left out.

use std::time::Duration;

use tokio::time::Instant;

/// Lines at once.
const BURST: u32 = 10;

/// One more line after so long.
const REFILL: Duration = Duration::from_secs(6);

/// The last failure, and how much may still be said.
pub(crate) struct Journal {
    last_failure: String,
    /// Whether the link was up since the last failure.
    up_since: bool,
    lines: u32,
    /// Up to when lines were given.
    given: Option<Instant>,
    unlogged: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self { last_failure: String::new(), up_since: false, lines: BURST, given: None, unlogged: 0 }
    }
}

impl Journal {
    /// Whether this failure tells anything new.
    pub(crate) fn is_news(&self, reason: &str) -> bool {
        self.up_since || self.last_failure != reason
    }

    /// Takes the right to one line: the number of lines left out before it, or none if it must be left out too.
    pub(crate) fn speak(&mut self, now: Instant) -> Option<u64> {
        let given = *self.given.get_or_insert(now);
        let more = now.saturating_duration_since(given).as_nanos() / REFILL.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.given = Some(given + REFILL.saturating_mul(more));
        self.lines = self.lines.saturating_add(more).min(BURST);
        if self.lines == 0 {
            self.unlogged += 1;
            return None;
        }
        self.lines -= 1;
        Some(std::mem::take(&mut self.unlogged))
    }

    /// The link is up.
    pub(crate) fn came_up(&mut self) {
        self.up_since = true;
    }

    /// There is no link, for this reason.
    pub(crate) fn failed(&mut self, reason: String) {
        self.up_since = false;
        self.last_failure = reason;
    }

    /// Why the last link ended or the last dial failed; empty if neither happened.
    pub(crate) fn last_failure(&self) -> &str {
        &self.last_failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_said_once_until_the_link_was_up() {
        let mut journal = Journal::default();
        assert!(journal.is_news("refused"));
        journal.failed("refused".into());
        assert!(!journal.is_news("refused"));
        assert!(journal.is_news("no route"));
        journal.came_up();
        assert!(journal.is_news("refused"), "it was up in between");
        assert_eq!(journal.last_failure(), "refused");
    }

    #[test]
    fn a_peer_that_comes_and_goes_cannot_fill_the_log() {
        let (mut journal, start) = (Journal::default(), Instant::now());
        let said: Vec<u64> = (0..60_000u64).filter_map(|ms| journal.speak(start + Duration::from_millis(ms))).collect();
        assert_eq!(said.len(), 10 + 9, "in one minute");
        let later = start + Duration::from_secs(3_600);
        let left_out = said.iter().sum::<u64>() + journal.speak(later).unwrap();
        assert_eq!(left_out + 19, 60_000, "what was left out is counted");
        assert_eq!((0..20).filter(|_| journal.speak(later).is_some()).count(), 9);
    }
}
