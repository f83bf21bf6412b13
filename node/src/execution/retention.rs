//! Drops what is old: payload, blocks, commits, certificates, execution records, ids, positions.
//!
//! Promises: the log has one beginning, and everything from it on is here; whoever reads below it is told where it begins. What
//! is not executed stays, as do ten times `gc_depth` rounds below the last applied commit, every commit whose ids may be alive,
//! the two newest state snapshots with every commit from the older one on, the newest certificate and the newest own block.
//! Without a snapshot nothing is dropped, since a restart begins at the first commit then.
//!
//! Each step is one atomic batch with the new beginning in it, and bounded: at most `STEP` commits; their payload goes after it. It
//! is not synced: a power
//! cut takes back whole steps, and they are done again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rorqual_config::encoding::encode;
use rorqual_config::parameters::RetentionParameters;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_protocol::types::{CommitIndex, Delivery, Round, Sequence};
use rorqual_store::{Column, Direction, Durability, Store, WriteBatch};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::error::{ExecutionError, present, record, unusable};
use super::log::AppliedState;
use super::record::{Begins, ExecutionRecord};
use crate::schema::{self, Meta};

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Commits dropped in one step at most.
const STEP: usize = 256;
/// Bytes of commit records read for one step.
const STEP_BYTES: usize = 8 << 20;
/// Fewer commits than this are left for later: many small range deletions make the store slow.
const MIN_STEP: usize = 16;
/// Batches of payload deleted in one write.
const DELETE: usize = 256;

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Age in commit time above which commits may go, in milliseconds; 0: none.
    pub time_ms: u64,
    /// Bytes of payload above which the oldest may go; 0: no limit.
    pub bytes: u64,
    /// Rounds below the last applied commit that stay whatever the limits say.
    pub rounds: u64,
    /// Age in commit time below which ids may be alive.
    pub lifetime_ms: u64,
    /// Commits below the last applied one that stay: the state digests that coming commits bind.
    pub commits: u64,
    /// Sequences this far below an author's highest delivered one are never delivered any more.
    pub replay_window: u64,
}

impl Limits {
    /// The limits of a node.
    pub fn of(committee: &Committee, retention: &RetentionParameters) -> Self {
        let protocol = committee.protocol();
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            time_ms: milliseconds(retention.time),
            bytes: retention.bytes,
            rounds: protocol.gc_depth.saturating_mul(10),
            lifetime_ms: milliseconds(protocol.max_lifetime),
            commits: protocol.checkpoint_interval.saturating_mul(3),
            replay_window: protocol.replay_window,
        }
    }

    fn keep_all(&self) -> bool {
        self.time_ms == 0 && self.bytes == 0
    }

    /// Whether a commit may go, when the last applied one is `last` and `kept` bytes of payload are here.
    pub(super) fn may_drop(&self, commit: Age, last: Age, kept: u64) -> bool {
        let too_old = self.time_ms != 0 && commit.time_ms.saturating_add(self.time_ms) < last.time_ms;
        let too_much = self.bytes != 0 && kept > self.bytes;
        (too_old || too_much)
            && commit.round.0.saturating_add(self.rounds) <= last.round.0
            && commit.time_ms.saturating_add(self.lifetime_ms) < last.time_ms
    }
}

/// How old a commit is.
#[derive(Clone, Copy)]
pub(super) struct Age {
    pub(super) time_ms: u64,
    pub(super) round: Round,
}

impl Age {
    fn of(delivery: &Delivery) -> Self {
        Self { time_ms: delivery.commit.timestamp_ms, round: delivery.commit.leader_round }
    }
}

/// What retention keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RetentionStatistics {
    /// Bytes of delivered payload that are here.
    pub payload_bytes: u64,
    /// The first commit that is here.
    pub begins: CommitIndex,
    /// Commits dropped since the start.
    pub dropped: u64,
}

/// What the task is made of.
pub struct RetentionSetup {
    /// What is dropped is dropped here.
    pub store: Store,
    /// How much stays.
    pub limits: Limits,
    /// Where the log begins.
    pub begins: Begins,
    /// How far execution is; readers learn of a new beginning here.
    pub applied: Arc<watch::Sender<AppliedState>>,
    /// Cancelled at a clean stop.
    pub shutdown: CancellationToken,
}

/// The task.
pub struct Retention {
    setup: RetentionSetup,
    begins: Begins,
    /// For each author, below which sequence nothing of it is here.
    swept: BTreeMap<AuthorityIndex, Sequence>,
    statistics: watch::Sender<RetentionStatistics>,
}

/// Commits that go.
struct Cut {
    gone: Vec<Delivery>,
    begins: Begins,
    /// There may be further ones to go at once.
    more: bool,
    /// Blocks of this round and below go.
    gc_round: Round,
}

impl Retention {
    /// The task, and what it keeps.
    pub fn new(setup: RetentionSetup) -> (Self, watch::Receiver<RetentionStatistics>) {
        let begins = setup.begins;
        let (statistics, receiver) =
            watch::channel(RetentionStatistics { begins: begins.index, ..RetentionStatistics::default() });
        (Self { setup, begins, swept: BTreeMap::new(), statistics }, receiver)
    }

    /// Runs until the shutdown token is cancelled, which is no error.
    ///
    /// # Errors
    /// The store failed, or a record cannot be used.
    pub async fn run(mut self) -> Result<(), ExecutionError> {
        let shutdown = self.setup.shutdown.clone();
        let mut more = false;
        loop {
            let pause = if more { Duration::ZERO } else { PERIOD };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => more = self.step().await?,
            }
        }
    }

    /// Drops some commits, if there are any to drop; true if there may be more.
    ///
    /// # Errors
    /// The store failed, or a record cannot be used.
    pub async fn step(&mut self) -> Result<bool, ExecutionError> {
        let applied = *self.setup.applied.borrow();
        if applied.index < self.begins.index {
            return Ok(false);
        }
        let before = self.executed(self.begins.index).await?.payload_before;
        let kept = applied.payload_bytes.saturating_sub(before);
        self.statistics.send_modify(|statistics| statistics.payload_bytes = kept);
        if self.setup.limits.keep_all() {
            return Ok(false);
        }
        match self.cut(&applied, kept).await? {
            Some(cut) => {
                let more = cut.more;
                self.drop_commits(cut).await?;
                Ok(more)
            }
            None => Ok(false),
        }
    }

    /// Which commits go now.
    async fn cut(&self, applied: &AppliedState, kept: u64) -> Result<Option<Cut>, ExecutionError> {
        let limits = self.setup.limits;
        let end = applied.index.minus(limits.commits);
        let (from, to) = (schema::index_key(self.begins.index), schema::index_key(end));
        let page = self.setup.store.iterate(schema::COMMITS, &from, &to, STEP, STEP_BYTES, Direction::Forward).await?;
        let last = Age::of(&self.delivery(applied.index).await?);
        let (mut gone, mut kept) = (Vec::new(), kept);
        for (key, value) in &page {
            let delivery: Delivery = record(schema::COMMITS, key, value)?;
            if !limits.may_drop(Age::of(&delivery), last, kept) {
                break;
            }
            kept = kept.saturating_sub(payload_bytes(&delivery));
            gone.push(delivery);
        }
        // A page that was cut off by its bytes is enough, however few commits are in it.
        let cut_off =
            page.len() < STEP && page.last().is_some_and(|(key, _)| key[..] < *schema::index_key(end.previous()));
        let least = if cut_off { 1 } else { MIN_STEP };
        if gone.len() >= least {
            let oldest = self.older_snapshot().await?;
            gone.retain(|delivery| oldest.is_some_and(|oldest| delivery.commit.index < oldest));
        }
        let Some(index) = gone.last().map(|last| last.commit.index.next()).filter(|_| gone.len() >= least) else {
            return Ok(None);
        };
        let position = self.executed(index).await?.first_position;
        let gc_round = self.delivery(index).await?.commit.gc_round;
        Ok(Some(Cut { more: cut_off || gone.len() == STEP, gone, begins: Begins { index, position }, gc_round }))
    }

    async fn drop_commits(&mut self, cut: Cut) -> Result<(), ExecutionError> {
        let mut write = WriteBatch::new();
        let (from, to) = (schema::index_key(self.begins.index), schema::index_key(cut.begins.index));
        for column in [schema::COMMITS, schema::EXECUTED, schema::IDS] {
            write.delete_range(column, from.clone(), to.clone());
        }
        let first = schema::number_key(self.begins.position);
        write.delete_range(schema::POSITIONS, first, schema::number_key(cut.begins.position));
        write.delete_range(schema::SNAPSHOTS, schema::number_key(0), to.clone());
        let newest = self.newest(schema::CERTIFICATES).await?.map(CommitIndex).unwrap_or_default();
        let certificates = schema::index_key(newest.min(cut.begins.index));
        write.delete_range(schema::CERTIFICATES, schema::number_key(0), certificates);
        let rounds = cut.gc_round.next();
        write.delete_range(schema::BLOCKS, schema::round_key(Round(0)), schema::round_key(rounds));
        let own = Round(self.newest(schema::OWN).await?.unwrap_or(0));
        write.delete_range(schema::OWN, schema::round_key(Round(0)), schema::round_key(rounds.min(own)));
        self.sweep(&mut write, &cut.gone);
        write.put(schema::META, Meta::BEGINS, encode(&cut.begins));

        // Readers are refused before the bytes go, so that nobody finds a hole where the log still seems to be.
        self.begins = cut.begins;
        self.setup.applied.send_modify(|state| {
            state.begins = cut.begins.position;
            state.begins_at = cut.begins.index;
        });
        self.setup.store.write_batch(write, Durability::Buffered).await?;
        self.delete_payload(&cut.gone).await?;
        let bytes: u64 = cut.gone.iter().map(payload_bytes).sum();
        self.statistics.send_modify(|statistics| {
            statistics.payload_bytes = statistics.payload_bytes.saturating_sub(bytes);
            statistics.begins = cut.begins.index;
            statistics.dropped += cut.gone.len() as u64;
        });
        Ok(())
    }

    /// A few at a time, which urgent writes overtake: each deletion costs the store a look. What a crash leaves of it is swept
    /// with what was never delivered.
    async fn delete_payload(&self, gone: &[Delivery]) -> Result<(), ExecutionError> {
        let all: Vec<Bytes> =
            gone.iter().flat_map(|delivery| &delivery.batches).map(|batch| schema::batch_key(&batch.key())).collect();
        for keys in all.chunks(DELETE) {
            let mut batch = WriteBatch::new();
            batch.set_bulk();
            keys.iter().for_each(|key| batch.delete(schema::PAYLOAD, key.clone()));
            self.setup.store.write_batch(batch, Durability::Buffered).await?;
        }
        Ok(())
    }

    /// Payload that no commit delivered and none will: its sequence fell out of its author's window.
    fn sweep(&mut self, write: &mut WriteBatch, gone: &[Delivery]) {
        let window = self.setup.limits.replay_window;
        let mut edges: BTreeMap<AuthorityIndex, Sequence> = BTreeMap::new();
        for delivered in gone.iter().flat_map(|delivery| &delivery.batches) {
            let edge = edges.entry(delivered.author).or_default();
            *edge = delivered.batch.sequence.minus(window).max(*edge);
        }
        for (author, edge) in edges {
            let swept = self.swept.entry(author).or_default();
            // In strides, since each is a range deletion.
            if edge > swept.plus(window / 16) {
                let (from, to) = (schema::batch_from(author, *swept), schema::batch_from(author, edge));
                write.delete_range(schema::PAYLOAD, from, to);
                *swept = edge;
            }
        }
    }

    /// The commit of the older one of the two newest snapshots.
    async fn older_snapshot(&self) -> Result<Option<CommitIndex>, ExecutionError> {
        let newest = self.setup.store.iterate(schema::SNAPSHOTS, &[], &[], 2, usize::MAX, Direction::Backward).await?;
        let key = newest.last().map(|(key, _)| number(schema::SNAPSHOTS, key)).transpose()?;
        Ok(key.map(CommitIndex))
    }

    async fn newest(&self, column: Column) -> Result<Option<u64>, ExecutionError> {
        let newest = self.setup.store.iterate(column, &[], &[], 1, usize::MAX, Direction::Backward).await?;
        newest.first().map(|(key, _)| number(column, key)).transpose()
    }

    async fn executed(&self, index: CommitIndex) -> Result<ExecutionRecord, ExecutionError> {
        let key = schema::index_key(index);
        present(schema::EXECUTED, &key, self.setup.store.read(schema::EXECUTED, &key).await?)
    }

    async fn delivery(&self, index: CommitIndex) -> Result<Delivery, ExecutionError> {
        let key = schema::index_key(index);
        present(schema::COMMITS, &key, self.setup.store.read(schema::COMMITS, &key).await?)
    }
}

fn number(column: Column, key: &[u8]) -> Result<u64, ExecutionError> {
    schema::parse_number(key).ok_or_else(|| unusable(column, key, "it is not a number".into()))
}

fn payload_bytes(delivery: &Delivery) -> u64 {
    delivery.batches.iter().map(|delivered| u64::from(delivered.batch.bytes)).sum()
}
