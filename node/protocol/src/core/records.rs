//! Commits between decision and certificate: those whose digest still waits for an `aux`, those whose payload is not
//! complete, and the votes we owe.
//!
//! Promises: records leave in order and without gaps; a vote is owed only for a commit whose record is written and whose
//! payload, like that of all before it, is stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rorqual_config::{Committee, Digest};

use crate::types::commit::{CommitHeader, DeliveredBatch};
use crate::types::{BatchKey, Certificate, Commit, CommitIndex, CommitRef};

/// Headers kept below the last commit: what votes and ranges are compared with.
const HEADERS: u64 = 1_024;

/// Snapshots that may wait for execution.
const MAX_SNAPSHOTS: usize = 3;

/// A decided commit without its digest.
#[derive(Debug)]
pub struct Pending {
    /// Complete but for `previous` and `aux`.
    pub commit: Commit,
    /// What it delivers.
    pub batches: Vec<DeliveredBatch>,
    /// What a certified range says about it.
    pub certified: Option<Certified>,
    /// The certificate that came with it.
    pub certificate: Option<Arc<Certificate>>,
    /// Whether we vote for it: of an applied range, only for the last.
    pub votes: bool,
    /// The state after it, if it is a checkpoint: ledger and committed references, encoded.
    pub snapshot: Option<crate::commit::ledger::Snapshot>,
}

/// The digest and `aux` of a commit as certified.
#[derive(Clone, Copy, Debug)]
pub struct Certified {
    /// The digest that the chain of the range leads to.
    pub digest: Digest,
    /// See [`Commit::aux`].
    pub aux: Option<Digest>,
}

/// All of this.
#[derive(Debug)]
pub struct Records {
    /// Decided, in order; the front waits for its `aux`.
    pub waiting: VecDeque<Pending>,
    /// The last commit with a digest.
    pub last: CommitRef,
    headers: BTreeMap<CommitIndex, CommitHeader>,
    /// Payload that is missing, by commit.
    unsolid: BTreeMap<CommitIndex, BTreeSet<BatchKey>>,
    solid: CommitIndex,
    silent: BTreeSet<CommitIndex>,
    owed: VecDeque<CommitRef>,
    voted: BTreeSet<CommitIndex>,
    /// Snapshots that execution has not passed yet: a restart delivers again from there, so an older one is still needed.
    snapshots: BTreeMap<CommitIndex, Arc<Vec<u8>>>,
    /// The highest commit that delivers payload.
    pub last_with_payload: CommitIndex,
    /// The highest weak certificate written.
    pub weakly_certified: CommitIndex,
}

impl Records {
    /// Before the first commit.
    pub fn new(committee: &Committee) -> Self {
        Self {
            waiting: VecDeque::new(),
            last: CommitRef::genesis(committee.chain_id()),
            headers: BTreeMap::new(),
            unsolid: BTreeMap::new(),
            solid: CommitIndex(0),
            silent: BTreeSet::new(),
            owed: VecDeque::new(),
            voted: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            last_with_payload: CommitIndex(0),
            weakly_certified: CommitIndex(0),
        }
    }

    /// The header of a recent commit of ours.
    pub fn header(&self, index: CommitIndex) -> Option<&CommitHeader> {
        self.headers.get(&index)
    }

    /// The highest commit whose payload, like that of all before it, is stored.
    pub fn solid(&self) -> CommitIndex {
        self.solid
    }

    /// How many commits miss payload.
    pub fn unsolid_len(&self) -> usize {
        self.unsolid.len()
    }

    /// A commit was decided that misses this payload.
    pub fn decided(&mut self, index: CommitIndex, missing: BTreeSet<BatchKey>) {
        if !missing.is_empty() {
            self.unsolid.insert(index, missing);
        }
    }

    /// Payload of a commit is stored.
    pub fn stored(&mut self, index: CommitIndex, key: &BatchKey) {
        if let Some(missing) = self.unsolid.get_mut(&index) {
            missing.remove(key);
            if missing.is_empty() {
                self.unsolid.remove(&index);
            }
        }
    }

    /// The record of the next commit is written.
    pub fn recorded(&mut self, header: CommitHeader, reference: CommitRef, votes: bool) {
        if !votes {
            self.silent.insert(header.index);
        }
        self.last = reference;
        self.voted.insert(header.index);
        self.headers.insert(header.index, header);
        let floor = self.last.index.minus(HEADERS);
        while self.headers.first_key_value().is_some_and(|(index, _)| *index <= floor) {
            self.headers.pop_first();
        }
    }

    /// Starts from a record that is solid (execution has applied it).
    pub fn start_at(&mut self, reference: CommitRef) {
        self.last = reference;
        self.solid = reference.index;
    }

    /// Moves on over commits that are complete, and owes a vote for each.
    pub fn settle(&mut self, certified: CommitIndex) {
        while self.solid < self.last.index && !self.unsolid.contains_key(&self.solid.next()) {
            self.solid = self.solid.next();
            let silent = self.silent.remove(&self.solid);
            if silent || self.solid <= certified {
                continue;
            }
            if let Some(header) = self.headers.get(&self.solid) {
                self.owed.push_back(CommitRef { index: self.solid, digest: header.digest() });
            }
        }
        // Only what a certificate can still use; the newest covers the others.
        while self.owed.len() as u64 > HEADERS {
            self.owed.pop_front();
        }
    }

    /// The votes of the next own block, oldest first.
    pub fn take_votes(&mut self, limit: usize) -> Vec<CommitRef> {
        let count = self.owed.len().min(limit);
        self.owed.drain(..count).collect()
    }

    /// A snapshot to be written once execution has passed it. The newest two are enough.
    pub fn keep_snapshot(&mut self, index: CommitIndex, bytes: Arc<Vec<u8>>) {
        self.snapshots.insert(index, bytes);
        while self.snapshots.len() > MAX_SNAPSHOTS {
            // Not the oldest: it is the one that can be written first.
            let second = self.snapshots.keys().nth(1).copied();
            second.map(|index| self.snapshots.remove(&index));
        }
    }

    /// The snapshots that execution has passed.
    pub fn take_snapshots(&mut self, executed: CommitIndex) -> BTreeMap<CommitIndex, Arc<Vec<u8>>> {
        let later = self.snapshots.split_off(&executed.next());
        std::mem::replace(&mut self.snapshots, later)
    }

    /// Votes for these came.
    pub fn voted(&mut self, news: Vec<CommitIndex>) {
        self.voted.extend(news);
    }

    /// Indices with news since the last call, ascending.
    pub fn take_news(&mut self) -> BTreeSet<CommitIndex> {
        std::mem::take(&mut self.voted)
    }

    /// A certified range names a commit that still waits for its `aux` here.
    pub fn adopt(&mut self, index: CommitIndex, certified: Certified) {
        if let Some(pending) = self.waiting.iter_mut().find(|pending| pending.commit.index == index) {
            pending.certified.get_or_insert(certified);
        }
    }
}
