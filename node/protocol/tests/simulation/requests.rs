//! Requests that peers have not answered yet.

use std::collections::BTreeMap;

use rorqual_config::AuthorityIndex;
use rorqual_protocol::Input;
use rorqual_protocol::types::{BlockRef, CommitIndex};

/// One request.
pub enum Request {
    Blocks { peer: AuthorityIndex, refs: Vec<BlockRef> },
    Commits { peer: AuthorityIndex, from: CommitIndex },
}

impl Request {
    pub fn peer(&self) -> AuthorityIndex {
        match self {
            Self::Blocks { peer, .. } | Self::Commits { peer, .. } => *peer,
        }
    }

    /// What the core hears when there is no answer.
    pub fn failure(self) -> Input {
        match self {
            Self::Blocks { peer, refs } => Input::BlocksUnavailable { peer, refs },
            Self::Commits { peer, from } => Input::CommitsUnavailable { peer, from, first_index: None },
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

    /// Closes everything that was asked of a peer.
    pub fn close_all(&mut self, peer: AuthorityIndex) -> Vec<Request> {
        let ids: Vec<u64> = self.open.iter().filter(|(_, r)| r.peer() == peer).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.open.remove(&id)).collect()
    }
}
