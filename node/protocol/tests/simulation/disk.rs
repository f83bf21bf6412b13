//! A disk with two ordered logs, records and payload. What was applied is in the kernel and survives the death of the
//! process; what was synced survives the loss of power, and of the rest any prefix of each log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::{
    BatchKey, BatchRef, BlockRef, Certificate, CommitIndex, Delivery, Round, Sequence, VerifiedBlock,
};
use rorqual_protocol::{Recovered, Write};

use super::Time;
use crate::random::Random;

/// One atomic entry of the log of records.
#[derive(Clone, Debug)]
pub enum Record {
    Writes(Vec<Write>),
    Executed(CommitIndex, Digest),
}

struct Log<T> {
    /// Each with the time at which it reaches the kernel.
    entries: Vec<(Time, T)>,
    synced: usize,
}

impl<T> Log<T> {
    fn append(&mut self, at: Time, entry: T) {
        self.entries.push((at, entry));
    }

    fn applied(&self, now: Time) -> usize {
        self.entries.partition_point(|(at, _)| *at <= now)
    }
}

/// How much of both logs a sync covers.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    records: usize,
    payload: usize,
}

/// What the disk knows, indexed. Rebuilt from the logs after a crash.
#[derive(Default)]
struct Index {
    blocks: BTreeMap<BlockRef, VerifiedBlock>,
    commits: BTreeMap<CommitIndex, Arc<Delivery>>,
    certificates: BTreeMap<CommitIndex, Arc<Certificate>>,
    snapshots: BTreeMap<CommitIndex, Arc<Vec<u8>>>,
    executed: BTreeMap<CommitIndex, Digest>,
    signed: bool,
    payload: BTreeMap<BatchKey, BatchRef>,
}

pub struct Disk {
    records: Log<Record>,
    payload: Log<(BatchKey, BatchRef)>,
    index: Index,
    /// How many records are durable, for each block of the node's own: see `is_durable`.
    own_positions: BTreeMap<BlockRef, usize>,
    /// The disk works on one thing after another.
    busy_until: Time,
    sync_done: Time,
}

impl Disk {
    pub fn new() -> Self {
        Self {
            records: Log { entries: Vec::new(), synced: 0 },
            payload: Log { entries: Vec::new(), synced: 0 },
            index: Index::default(),
            own_positions: BTreeMap::new(),
            busy_until: 0,
            sync_done: 0,
        }
    }

    /// Appends a record; says when it is applied.
    pub fn append(&mut self, now: Time, record: Record, random: &mut Random) -> Time {
        let at = now.max(self.busy_until) + random.between(5, 60);
        self.busy_until = at;
        if let Record::Writes(writes) = &record {
            for write in writes {
                if let Write::Block(block) = write {
                    self.own_positions.entry(block.reference()).or_insert(self.records.entries.len());
                }
            }
        }
        self.index.add(&record);
        self.records.append(at, record);
        at
    }

    /// Starts a sync after everything appended so far: when it is done, and what it covers then.
    pub fn sync(&mut self, applied_at: Time, random: &mut Random) -> (Time, Mark) {
        let delay = if random.chance(3) { random.between(2_000, 20_000) } else { random.between(100, 600) };
        self.sync_done = (applied_at + delay).max(self.sync_done + 1);
        let mark = Mark { records: self.records.entries.len(), payload: self.payload.applied(applied_at) };
        (self.sync_done, mark)
    }

    pub fn synced(&mut self, mark: Mark) {
        self.records.synced = self.records.synced.max(mark.records);
        self.payload.synced = self.payload.synced.max(mark.payload);
    }

    /// Writes payload; says when it can be read, or nothing if it was there already.
    pub fn store(&mut self, now: Time, key: BatchKey, batch: BatchRef, random: &mut Random) -> Option<Time> {
        if self.index.payload.contains_key(&key) {
            return None;
        }
        let last = self.payload.entries.last().map_or(0, |(at, _)| *at);
        let at = (now + random.between(10, 300)).max(last);
        self.payload.append(at, (key, batch));
        self.index.payload.insert(key, batch);
        Some(at)
    }

    /// The process died: what had not reached the kernel is gone.
    pub fn lose_process(&mut self, now: Time) {
        let (records, payload) = (self.records.applied(now), self.payload.applied(now));
        self.truncate(records, payload);
    }

    /// The power failed: of what was not synced, any prefix of each log is left. The last entry is whole or gone.
    pub fn lose_power(&mut self, now: Time, random: &mut Random) {
        self.lose_process(now);
        let records = random.between(self.records.synced as u64, self.records.entries.len() as u64) as usize;
        let payload = random.between(self.payload.synced as u64, self.payload.entries.len() as u64) as usize;
        self.truncate(records, payload);
        (self.records.synced, self.payload.synced) = (records, payload);
    }

    /// Goes back to an old copy of itself, as a restored backup does.
    pub fn roll_back(&mut self, records: usize) {
        let payload = self.payload.entries.len();
        self.truncate(records.min(self.records.entries.len()), payload);
    }

    pub fn length(&self) -> usize {
        self.records.entries.len()
    }

    fn truncate(&mut self, records: usize, payload: usize) {
        self.records.entries.truncate(records);
        self.payload.entries.truncate(payload);
        self.records.synced = self.records.synced.min(records);
        self.own_positions.retain(|_, position| *position < records);
        self.index = Index::default();
        for (_, record) in &self.records.entries {
            self.index.add(record);
        }
        self.index.payload = self.payload.entries.iter().map(|(_, entry)| *entry).collect();
        (self.busy_until, self.sync_done) = (0, 0);
    }

    /// A process opens its store: what the store recovered from its log is written anew and synced before it is used.
    pub fn open(&mut self) {
        (self.records.synced, self.payload.synced) = (self.records.entries.len(), self.payload.entries.len());
    }

    /// Whether a block would survive the loss of power.
    pub fn is_durable(&self, block: &BlockRef) -> bool {
        self.own_positions.get(block).is_some_and(|position| *position < self.records.synced)
    }

    pub fn has_payload(&self, key: &BatchKey) -> bool {
        self.index.payload.contains_key(key)
    }

    /// When the payload can be read.
    pub fn readable_at(&self, key: &BatchKey) -> Time {
        let found = self.payload.entries.iter().rev().find(|(_, (k, _))| k == key);
        found.map_or(0, |(at, _)| *at)
    }

    pub fn block(&self, reference: &BlockRef) -> Option<&VerifiedBlock> {
        self.index.blocks.get(reference)
    }

    pub fn commits(&self, range: std::ops::RangeInclusive<CommitIndex>) -> Vec<Arc<Delivery>> {
        self.index.commits.range(range).map(|(_, d)| d.clone()).collect()
    }

    /// The highest certificate in the range, else the lowest above it.
    pub fn certificate(&self, range: std::ops::RangeInclusive<CommitIndex>) -> Option<Arc<Certificate>> {
        let inside = self.index.certificates.range(range.clone()).next_back();
        inside.or_else(|| self.index.certificates.range(range.end().next()..).next()).map(|(_, c)| c.clone())
    }

    pub fn executed(&self) -> Option<(CommitIndex, Digest)> {
        self.index.executed.last_key_value().map(|(index, state)| (*index, *state))
    }

    pub fn last_commit(&self) -> CommitIndex {
        self.index.commits.last_key_value().map_or(CommitIndex(0), |(index, _)| *index)
    }

    /// Own batches that were sealed, delivered or not.
    pub fn own_batches(&self, me: AuthorityIndex) -> BTreeMap<Sequence, BatchRef> {
        let own = self.index.payload.iter().filter(|(key, _)| key.author == me);
        own.map(|(key, batch)| (key.sequence, *batch)).collect()
    }

    fn delivered(&self) -> BTreeSet<BatchKey> {
        self.index.commits.values().flat_map(|d| d.batches.iter().map(|b| b.key())).collect()
    }

    /// What a process reads when it starts.
    pub fn recover(&self, me: AuthorityIndex, gc_depth: u64, checkpoint_interval: u64) -> Recovered {
        let index = &self.index;
        let snapshot = index.snapshots.last_key_value().map(|(i, bytes)| (*i, bytes.to_vec()));
        let after = snapshot.as_ref().map_or(CommitIndex(0), |(i, _)| *i);
        let gc_round = index.commits.get(&after).map_or(Round(0), |d| d.commit.leader_round.minus(gc_depth));
        let delivered = self.delivered();
        let own = self.own_batches(me).into_values();
        Recovered {
            never_signed: !index.signed,
            commits: index.commits.range(after.next()..).map(|(_, d)| (**d).clone()).collect(),
            blocks: index.blocks.values().filter(|b| b.round() > gc_round).cloned().collect(),
            own_last: index.blocks.values().rfind(|b| b.author() == me).cloned(),
            own_batches: own.filter(|batch| !delivered.contains(&batch.key(me))).collect(),
            certificate: index.certificates.last_key_value().map(|(_, c)| (**c).clone()),
            executed: self.executed(),
            state_digests: index
                .executed
                .iter()
                .filter(|(i, _)| i.0.is_multiple_of(checkpoint_interval))
                .map(|(i, digest)| (*i, *digest))
                .collect(),
            snapshot,
        }
    }
}

impl Index {
    fn add(&mut self, record: &Record) {
        match record {
            Record::Executed(index, state) => {
                self.executed.insert(*index, *state);
            }
            Record::Writes(writes) => writes.iter().for_each(|write| self.write(write)),
        }
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Block(block) => {
                self.blocks.insert(block.reference(), block.clone());
            }
            Write::Commit(delivery) => {
                self.commits.insert(delivery.commit.index, delivery.clone());
            }
            Write::Certificate(certificate) => {
                self.certificates.insert(certificate.index(), certificate.clone());
            }
            Write::Snapshot { index, bytes } => {
                self.snapshots.insert(*index, bytes.clone());
            }
            Write::ClearNeverSigned => self.signed = true,
        }
    }
}
