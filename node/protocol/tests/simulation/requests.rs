//! Requests that peers have not answered yet.

use std::collections::BTreeMap;

use rorqual_config::AuthorityIndex;
use rorqual_protocol::Input;
use rorqual_protocol::types::{BlockRef, CommitIndex};

use super::ranges::Range;

/// One request.
#[allow(clippy::large_enum_variant, reason = "few, and short-lived")]
pub enum Request {
    Blocks { peer: AuthorityIndex, refs: Vec<BlockRef> },
    Commits(Range),
}

impl Request {
    pub fn peer(&self) -> AuthorityIndex {
        match self {
            Self::Blocks { peer, .. } => *peer,
            Self::Commits(range) => range.peer,
        }
    }

    /// What the core hears when there is no answer.
    pub fn failure(self) -> Input {
        match self {
            Self::Blocks { peer, refs } => Input::BlocksUnavailable { peer, refs },
            Self::Commits(Range { peer, from, .. }) => Input::CommitsUnavailable { peer, from, first_index: None },
        }
    }
}

/// All open requests of one process.
#[derive(Default)]
pub struct Requests {
    open: BTreeMap<u64, Request>,
    next: u64,
}

impl Requests {
    pub fn open(&mut self, request: Request) -> u64 {
        self.next += 1;
        self.open.insert(self.next, request);
        self.next
    }

    pub fn close(&mut self, id: u64) -> Option<Request> {
        self.open.remove(&id)
    }

    /// The range that `sender` was asked for.
    pub fn close_range(&mut self, id: u64, sender: AuthorityIndex) -> Option<Range> {
        let asked = self.open.get(&id).is_some_and(|r| r.peer() == sender && matches!(r, Request::Commits(_)));
        match self.close(id).filter(|_| asked) {
            Some(Request::Commits(range)) => Some(range),
            _ => None,
        }
    }

    /// The answer to this is not wanted any more.
    pub fn cancel_range(&mut self, peer: AuthorityIndex, from: CommitIndex) {
        let wanted = |request: &Request| matches!(request, Request::Commits(r) if r.peer == peer && r.from == from);
        self.open.retain(|_, request| !wanted(request));
    }

    /// Closes everything that was asked of a peer.
    pub fn close_all(&mut self, peer: AuthorityIndex) -> Vec<Request> {
        let ids: Vec<u64> = self.open.iter().filter(|(_, r)| r.peer() == peer).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.open.remove(&id)).collect()
    }
}
