//! Ranges that are asked for, and of whom.
//!
//! Promises: ranges do not overlap; a range is asked of each server at most once at a time; who has been asked and is not
//! wanted any more is named, so that its answer can be given up.

use std::collections::BTreeMap;
use std::time::Duration;

use rorqual_config::AuthorityIndex;

use super::servers::Candidate;
use crate::types::CommitIndex;

/// Bytes a second that a server has to deliver of each range, once its time to begin is over.
const LEAST_RATE: u64 = 64 << 10;
/// A range may take this long in all.
const WHOLE: Duration = Duration::from_secs(60);

/// One server that was asked for a range.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// When.
    pub since: Duration,
    /// Bytes that have come.
    pub bytes: u64,
}

impl Asked {
    /// When it will have missed its rate, if nothing more comes. `start`: how long it may take before the rate counts.
    pub fn gives_up_at(&self, start: Duration) -> Duration {
        let earned = Duration::from_micros(self.bytes.saturating_mul(1_000_000) / LEAST_RATE);
        self.since.saturating_add(start.saturating_add(earned).min(WHOLE))
    }
}

/// One range.
#[derive(Debug)]
pub struct Request {
    /// The last index wanted.
    pub to: CommitIndex,
    /// Who is asked.
    pub asked: BTreeMap<AuthorityIndex, Asked>,
}

impl Request {
    /// When a server was last asked.
    pub fn newest(&self) -> Duration {
        self.asked.values().map(|asked| asked.since).max().unwrap_or_default()
    }
}

/// All of them, by first index.
#[derive(Debug, Default)]
pub struct Requests(BTreeMap<CommitIndex, Request>);

impl Requests {
    /// How many ranges.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The lowest range: the one that all others wait for.
    pub fn head(&self) -> Option<(CommitIndex, &Request)> {
        self.0.first_key_value().map(|(from, request)| (*from, request))
    }

    /// All, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (CommitIndex, &Request)> {
        self.0.iter().map(|(from, request)| (*from, request))
    }

    /// The end of the range that covers `index`.
    pub fn covering(&self, index: CommitIndex) -> Option<CommitIndex> {
        let last = self.0.range(..=index).next_back();
        last.map(|(_, request)| request.to).filter(|to| *to >= index)
    }

    /// `peer` is asked for `from..=to`.
    pub fn ask(&mut self, from: CommitIndex, to: CommitIndex, peer: AuthorityIndex, now: Duration) {
        let request = self.0.entry(from).or_insert_with(|| Request { to, asked: BTreeMap::new() });
        request.asked.insert(peer, Asked { since: now, bytes: 0 });
    }

    /// So many bytes of a range have come from `peer` by now.
    pub fn progressed(&mut self, peer: AuthorityIndex, from: CommitIndex, bytes: u64) {
        if let Some(asked) = self.0.get_mut(&from).and_then(|request| request.asked.get_mut(&peer)) {
            asked.bytes = asked.bytes.max(bytes);
        }
    }

    /// `peer` is not asked for the range at `from` any more. A range that nobody is asked for is forgotten.
    pub fn drop_asked(&mut self, from: CommitIndex, peer: AuthorityIndex) -> Option<Asked> {
        let request = self.0.get_mut(&from)?;
        let asked = request.asked.remove(&peer);
        if request.asked.is_empty() {
            self.0.remove(&from);
        }
        asked
    }

    /// The range that begins there came.
    pub fn answered(&mut self, from: CommitIndex) -> Option<Request> {
        self.0.remove(&from)
    }

    /// Forgets ranges that end at or below `last`; returns who was asked for them.
    pub fn drop_below(&mut self, last: CommitIndex) -> Vec<(CommitIndex, AuthorityIndex)> {
        let mut dropped = Vec::new();
        self.0.retain(|from, request| {
            let done = request.to <= last;
            if done {
                dropped.extend(request.asked.keys().map(|peer| (*from, *peer)));
            }
            !done
        });
        dropped
    }

    /// Forgets everything that `peer` was asked; what was asked of it alone is asked of nobody then.
    pub fn disconnected(&mut self, peer: AuthorityIndex) {
        self.0.retain(|_, request| {
            request.asked.remove(&peer);
            !request.asked.is_empty()
        });
    }

    /// What of `peer` that was asked at or before `since` is still open.
    pub fn open_at(&self, peer: AuthorityIndex, since: Duration) -> Vec<CommitIndex> {
        let old = |request: &Request| request.asked.get(&peer).is_some_and(|asked| asked.since <= since);
        self.0.iter().filter(|(_, request)| old(request)).map(|(from, _)| *from).collect()
    }

    /// How much a peer owes.
    pub fn owed_by(&self, peer: AuthorityIndex, now: Duration) -> Candidate {
        let mut candidate = Candidate { peer, open: 0, waiting: Duration::ZERO };
        for asked in self.0.values().filter_map(|request| request.asked.get(&peer)) {
            candidate.open = candidate.open.saturating_add(1);
            candidate.waiting = candidate.waiting.saturating_add(now.saturating_sub(asked.since));
        }
        candidate
    }
}
