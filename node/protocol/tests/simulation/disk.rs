//! A disk with two ordered logs, records and payload. What was applied is in the kernel and survives the death of the
//! process; what was synced survives the loss of power, and of the rest any prefix of each log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::{
    BatchKey, BatchRef, BlockRef, Certificate, CommitIndex, Delivery, Round, Sequence, VerifiedBlock,
};
use rorqual_protocol::{Cover, OwnWrite, Recovered, Write};

use super::Time;
use crate::random::Random;

/// One atomic entry of the log of records.
#[derive(Clone, Debug)]
pub enum Record {
    Writes(Vec<Write>),
    Executed(CommitIndex, Digest),
    /// Payload that was deleted.
    Drop(Vec<BatchKey>),
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
    named: Round,
}

/// What the disk knows, indexed. Rebuilt from the logs after a crash.
#[derive(Default)]
struct Index {
    blocks: BTreeMap<BlockRef, VerifiedBlock>,
    /// The newest own block written for each round.
    own: BTreeMap<Round, BlockRef>,
    commits: BTreeMap<CommitIndex, Arc<Delivery>>,
    certificates: BTreeMap<CommitIndex, Arc<Certificate>>,
    snapshots: BTreeMap<CommitIndex, Arc<Vec<u8>>>,
    executed: BTreeMap<CommitIndex, Digest>,
    signed: bool,
    cover: Option<Cover>,
    /// Each with its place in the log.
    payload: BTreeMap<BatchKey, (usize, BatchRef)>,
    committed: BTreeSet<BlockRef>,
    delivered: BTreeSet<BatchKey>,
    /// The content that was delivered under a sequence.
    settled: BTreeMap<(AuthorityIndex, Sequence), Digest>,
    /// Bytes of payload of each author that no commit on record delivers.
    undelivered: BTreeMap<AuthorityIndex, u64>,
}

pub struct Disk {
    /// Each with its place among the entries of both logs: one writer takes them in order.
    records: Log<(u64, Record)>,
    payload: Log<(u64, BatchKey, BatchRef)>,
    written: u64,
    index: Index,
    /// Where in the log of records blocks and commits are.
    positions: BTreeMap<Name, usize>,
    /// The disk works on one thing after another.
    busy_until: Time,
    sync_done: Time,
    /// The own round that the safety record names, and the one that no loss of power takes away.
    named: Round,
    named_synced: Round,
}

impl Disk {
    pub fn new() -> Self {
        Self {
            records: Log { entries: Vec::new(), synced: 0 },
            payload: Log { entries: Vec::new(), synced: 0 },
            written: 0,
            index: Index::default(),
            positions: BTreeMap::new(),
            busy_until: 0,
            sync_done: 0,
            named: Round(0),
            named_synced: Round(0),
        }
    }

    /// The safety record names an own block: the kernel has it.
    pub fn name(&mut self, round: Round) {
        self.named = self.named.max(round);
    }

    /// Appends a record; says when it is applied.
    pub fn append(&mut self, now: Time, record: Record, random: &mut Random) -> Time {
        let at = now.max(self.busy_until) + random.between(5, 60);
        self.busy_until = at;
        for name in names(&record) {
            self.positions.entry(name).or_insert(self.records.entries.len());
        }
        self.index.add(&record);
        self.written += 1;
        self.records.append(at, (self.written, record));
        at
    }

    /// Starts a sync after everything appended so far: when it is done, and what it covers then.
    pub fn sync(&mut self, applied_at: Time, random: &mut Random) -> (Time, Mark) {
        let delay = if random.chance(3) { random.between(2_000, 20_000) } else { random.between(100, 600) };
        self.sync_done = (applied_at + delay).max(self.sync_done + 1);
        let mark =
            Mark { records: self.records.entries.len(), payload: self.payload.applied(applied_at), named: self.named };
        (self.sync_done, mark)
    }

    pub fn synced(&mut self, mark: Mark) {
        self.records.synced = self.records.synced.max(mark.records);
        self.payload.synced = self.payload.synced.max(mark.payload);
        self.named_synced = self.named_synced.max(mark.named);
    }

    /// Writes payload; says when it can be read, or nothing if it was there already.
    pub fn store(&mut self, now: Time, key: BatchKey, batch: BatchRef, random: &mut Random) -> Option<Time> {
        if self.index.payload.contains_key(&key) {
            return None;
        }
        let last = self.payload.entries.last().map_or(0, |(at, _)| *at);
        let at = (now + random.between(10, 300)).max(last);
        self.written += 1;
        self.payload.append(at, (self.written, key, batch));
        self.index.store(key, self.payload.entries.len() - 1, batch);
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
        // One slot of two is written at a time: what was synced stays.
        self.named = if random.chance(50) { self.named } else { self.named_synced };
    }

    /// Goes back to an old copy of itself, as a restored backup does.
    pub fn roll_back(&mut self, records: usize) {
        let payload = self.payload.entries.len();
        self.truncate(records.min(self.records.entries.len()), payload);
        // The safety record is as old as everything else: only what peers know can tell.
        let last = self.index.own.last_key_value().map_or(Round(0), |(round, _)| *round);
        self.named = self.named.min(last.previous());
        self.named_synced = self.named;
    }

    pub fn length(&self) -> usize {
        self.records.entries.len()
    }

    fn truncate(&mut self, records: usize, payload: usize) {
        self.records.entries.truncate(records);
        self.payload.entries.truncate(payload);
        self.records.synced = self.records.synced.min(records);
        self.positions.retain(|_, position| *position < records);
        self.index = Index::default();
        // Whatever came before whatever deleted it.
        let mut payload = self.payload.entries.iter().enumerate().peekable();
        for (_, (number, record)) in &self.records.entries {
            while let Some((place, (_, (_, key, batch)))) = payload.next_if(|(_, (_, (before, ..)))| before < number) {
                self.index.store(*key, place, *batch);
            }
            self.index.add(record);
        }
        payload.for_each(|(place, (_, (_, key, batch)))| self.index.store(*key, place, *batch));
        (self.busy_until, self.sync_done) = (0, 0);
    }

    /// A process opens its store: what the store recovered from its log is written anew and synced before it is used.
    pub fn open(&mut self) {
        (self.records.synced, self.payload.synced) = (self.records.entries.len(), self.payload.entries.len());
        self.named_synced = self.named;
    }

    /// What a loss of power could take away that an own block, once it has left, stands for: itself, its parents, the
    /// commits it votes for, and the payload of both. The payload of a committed parent is proven by its commit; the record
    /// of that commit may wait for execution, so `is_committed` is asked where there is none.
    pub fn not_durable(
        &self,
        block: &VerifiedBlock,
        is_settled: impl Fn(&Self, &BlockRef) -> bool,
        is_stale: impl Fn(&Self, &BatchKey) -> bool,
    ) -> Option<String> {
        let durable = |name: Name| self.positions.get(&name).is_some_and(|position| *position < self.records.synced);
        let kept = |key: &BatchKey| self.index.payload.get(key).is_some_and(|(place, _)| *place < self.payload.synced);
        let parents = block.parents().iter().filter(|p| p.round > Round(0));
        for reference in parents.chain([&block.reference()]) {
            if !durable(Name::Block(*reference)) {
                return Some(format!("{reference:?}"));
            }
            let batches = self.block(reference).into_iter().flat_map(|b| b.batches().iter().map(|x| x.key(b.author())));
            let missing = batches.into_iter().find(|key| !kept(key) && !is_stale(self, key));
            if let Some(key) =
                missing.filter(|_| !self.index.committed.contains(reference) && !is_settled(self, reference))
            {
                return Some(format!("batch {:?} of {reference:?}", key.sequence));
            }
        }
        for vote in block.votes() {
            let solid = |delivery: &Arc<Delivery>| delivery.batches.iter().all(|batch| kept(&batch.key()));
            if !durable(Name::Commit(vote.index)) || !self.index.commits.get(&vote.index).is_some_and(solid) {
                return Some(format!("commit {} or its payload", vote.index));
            }
        }
        None
    }

    /// The leader's round of the last commit on record.
    pub fn last_leader_round(&self) -> Option<Round> {
        self.index.commits.values().next_back().map(|delivery| delivery.commit.leader_round)
    }

    /// Whether a commit on record delivers other content under the sequence of this batch.
    pub fn is_superseded(&self, key: &BatchKey) -> bool {
        self.index.settled.get(&(key.author, key.sequence)).is_some_and(|digest| *digest != key.digest)
    }

    pub fn has_payload(&self, key: &BatchKey) -> bool {
        self.index.payload.contains_key(key)
    }

    /// Length of payload that is there.
    pub fn payload_bytes(&self, key: &BatchKey) -> u32 {
        self.index.payload.get(key).map_or(0, |(_, batch)| batch.bytes)
    }

    /// When the payload can be read.
    pub fn readable_at(&self, key: &BatchKey) -> Time {
        let found = self.payload.entries.iter().rev().find(|(_, (_, k, _))| k == key);
        found.map_or(0, |(at, _)| *at)
    }

    pub fn block(&self, reference: &BlockRef) -> Option<&VerifiedBlock> {
        self.index.blocks.get(reference)
    }

    /// Blocks that no loss of power takes away.
    pub fn durable_blocks(&self) -> impl Iterator<Item = &VerifiedBlock> {
        let durable = |position: &usize| *position < self.records.synced;
        self.index.blocks.values().filter(move |b| self.positions.get(&Name::Block(b.reference())).is_some_and(durable))
    }

    pub fn blocks(&self) -> impl Iterator<Item = &VerifiedBlock> {
        self.index.blocks.values()
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
        own.map(|(key, (_, batch))| (key.sequence, *batch)).collect()
    }

    /// Payload that no commit on record delivers.
    pub fn undelivered(&self) -> impl Iterator<Item = (BatchKey, BatchRef)> {
        let undelivered = |(key, _): &(&BatchKey, _)| !self.index.delivered.contains(*key);
        self.index.payload.iter().filter(undelivered).map(|(key, (_, batch))| (*key, *batch))
    }

    /// Its bytes, of one author.
    pub fn undelivered_bytes(&self, author: AuthorityIndex) -> u64 {
        self.index.undelivered.get(&author).copied().unwrap_or_default()
    }

    /// What a process reads when it starts.
    pub fn recover(&self, me: AuthorityIndex, gc_depth: u64, checkpoint_interval: u64) -> Recovered {
        let index = &self.index;
        let snapshot = index.snapshots.last_key_value().map(|(i, bytes)| (*i, bytes.to_vec()));
        let after = snapshot.as_ref().map_or(CommitIndex(0), |(i, _)| *i);
        let gc_round = index.commits.get(&after).map_or(Round(0), |d| d.commit.leader_round.minus(gc_depth));
        let delivered = &index.delivered;
        let own = self.own_batches(me).into_values();
        let mut ours = index.own.values().rev().filter_map(|reference| index.blocks.get(reference)).cloned();
        let mut next = || ours.next();
        let (own_last, own_before) = (next(), next());
        assert!(own_last.as_ref().map_or(Round(0), VerifiedBlock::round) >= self.named, "{me:?} lost what it signed");
        let mut recovered = Recovered {
            never_signed: !index.signed,
            commits: index.commits.range(after.next()..).map(|(_, d)| (**d).clone()).collect(),
            blocks: index.blocks.values().filter(|b| b.round() > gc_round).cloned().collect(),
            own_last,
            own_before,
            completed: self.named,
            cover: index.cover.clone(),
            absent: Vec::new(),
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
        };
        let covered = index.cover.iter().flat_map(|cover| &cover.payload);
        recovered.absent = covered.filter(|key| !self.has_payload(key)).copied().collect();
        recovered
    }
}

/// What a record writes, where its place in the log matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Block(BlockRef),
    Commit(CommitIndex),
}

fn names(record: &Record) -> Vec<Name> {
    let Record::Writes(writes) = record else { return Vec::new() };
    let name = |write: &Write| match write {
        Write::Block(block) | Write::Own(OwnWrite { block, .. }) => Some(Name::Block(block.reference())),
        Write::Commit(delivery) => Some(Name::Commit(delivery.commit.index)),
        _ => None,
    };
    writes.iter().filter_map(name).collect()
}

impl Index {
    fn add(&mut self, record: &Record) {
        match record {
            Record::Executed(index, state) => {
                self.executed.insert(*index, *state);
            }
            Record::Drop(keys) => keys.iter().for_each(|key| self.delete(key)),
            Record::Writes(writes) => writes.iter().for_each(|write| self.write(write)),
        }
    }

    fn store(&mut self, key: BatchKey, place: usize, batch: BatchRef) {
        let before = self.payload.insert(key, (place, batch));
        if before.is_none() && !self.delivered.contains(&key) {
            *self.undelivered.entry(key.author).or_default() += u64::from(batch.bytes);
        }
    }

    fn delete(&mut self, key: &BatchKey) {
        let Some((_, batch)) = self.payload.remove(key) else { return };
        assert!(!self.delivered.contains(key), "{key} is deleted although a commit delivers it");
        *self.undelivered.entry(key.author).or_default() -= u64::from(batch.bytes);
    }

    fn deliver(&mut self, key: BatchKey) {
        self.settled.insert((key.author, key.sequence), key.digest);
        if self.delivered.insert(key)
            && let Some((_, batch)) = self.payload.get(&key)
        {
            *self.undelivered.entry(key.author).or_default() -= u64::from(batch.bytes);
        }
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Block(block) => {
                self.blocks.insert(block.reference(), block.clone());
            }
            Write::Own(own) => {
                if let Some(given_up) = &own.replaces {
                    self.own.remove(&given_up.round);
                    self.blocks.remove(given_up);
                }
                self.own.insert(own.block.round(), own.block.reference());
                self.blocks.insert(own.block.reference(), own.block.clone());
                self.signed |= own.first;
                self.cover = own.cover.clone();
            }
            Write::Uncover => self.cover = None,
            Write::Commit(delivery) => {
                self.committed.extend(&delivery.commit.blocks);
                delivery.batches.iter().for_each(|batch| self.deliver(batch.key()));
                self.commits.insert(delivery.commit.index, delivery.clone());
            }
            Write::Certificate(certificate) => {
                self.certificates.insert(certificate.index(), certificate.clone());
            }
            Write::Snapshot { index, bytes } => {
                self.snapshots.insert(*index, bytes.clone());
            }
        }
    }
}
