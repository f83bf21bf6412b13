//! When to give the space of deleted ranges back.
//!
//! RocksDB frees space when it compacts, and it compacts where much is written. A column of large values that is only
//! appended to and pruned is hardly ever compacted: its trees hold keys alone and stay small. So the store asks for it, at
//! most once in a while for each column, over all ranges deleted since. Such a compaction reads keys, not values.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sync::{Mutex, MutexGuard};

/// The shortest time between two compactions of a column.
const INTERVAL: Duration = Duration::from_secs(10);

/// A range of keys; an empty `to` means the end of the column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Bytes,
    pub(crate) to: Bytes,
}

impl Span {
    /// Whether the key is in the range.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.from[..] <= *key && (self.to.is_empty() || *key < self.to[..])
    }

    fn join(self, other: Span) -> Span {
        let open = self.to.is_empty() || other.to.is_empty();
        let to = if open { Bytes::new() } else { self.to.max(other.to) };
        Span { from: self.from.min(other.from), to }
    }
}

#[derive(Debug, Default)]
struct State {
    deleted: Option<Span>,
    running: bool,
    last: Option<Instant>,
}

/// The deleted ranges of one column that still take space. Time is given by the caller.
#[derive(Debug, Default)]
pub(crate) struct Reclaim {
    state: Mutex<State>,
}

impl Reclaim {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a deleted range. If it is time, returns what to compact now; the caller must say [`Reclaim::done`] after it.
    pub(crate) fn note(&self, deleted: Span, now: Instant) -> Option<Span> {
        let mut state = self.lock();
        let all = match state.deleted.take() {
            Some(earlier) => earlier.join(deleted),
            None => deleted,
        };
        let too_early = state.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL);
        if state.running || too_early {
            state.deleted = Some(all);
            return None;
        }
        state.running = true;
        Some(all)
    }

    pub(crate) fn done(&self, now: Instant) {
        let mut state = self.lock();
        state.running = false;
        state.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: &'static str, to: &'static str) -> Span {
        Span { from: Bytes::from(from), to: Bytes::from(to) }
    }

    #[test]
    fn ranges_deleted_meanwhile_are_joined_and_wait_for_their_time() {
        let reclaim = Reclaim::default();
        let start = Instant::now();
        assert_eq!(reclaim.note(span("a", "b"), start), Some(span("a", "b")));
        assert_eq!(reclaim.note(span("d", "e"), start), None);
        assert_eq!(reclaim.note(span("c", "d"), start + 2 * INTERVAL), None, "one at a time");
        reclaim.done(start + 2 * INTERVAL);
        assert_eq!(reclaim.note(span("c", "d"), start + 2 * INTERVAL), None);
        assert_eq!(reclaim.note(span("f", "g"), start + 3 * INTERVAL), Some(span("c", "g")));
    }

    #[test]
    fn an_open_end_stays_open() {
        assert_eq!(span("b", "").join(span("a", "c")), span("a", ""));
        assert_eq!(span("b", "d").join(span("c", "")), span("b", ""));
    }
}
