//! Reads the ordered log: what was applied, by position.
//!
//! Everything comes from the store; nothing here waits for execution. A reader that wants what is not applied yet subscribes.

use bytes::Bytes;
use rorqual_client::content::Content;
use rorqual_client::submission::SubmissionId;
use rorqual_protocol::types::{BatchKey, CommitIndex, Delivery};
use rorqual_store::{Direction, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

use super::error::{ExecutionError, present, unusable};
use super::executor::Lookup;
use super::record::{AppliedRecord, Begins, ExecutionRecord, Refused, refused_key};
use super::scan;
use crate::schema;

/// Commits looked up at once in a scan.
const COMMITS: usize = 64;

/// How far execution is, and where the log begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AppliedState {
    /// The last commit whose effects are written; 0 before the first.
    pub index: CommitIndex,
    /// Position of the next transaction: every smaller one, from `begins` on, can be read.
    pub next_position: u64,
    /// Commit time of that commit in milliseconds since the Unix epoch; 0 before the first.
    pub time_ms: u64,
    /// The first position that is stored here.
    pub begins: u64,
    /// The first commit that is stored here.
    pub begins_at: CommitIndex,
    /// Bytes of payload delivered by all commits so far.
    pub payload_bytes: u64,
}

impl AppliedState {
    /// From the records.
    pub fn new(applied: &AppliedRecord, begins: &Begins) -> Self {
        let mut state = Self { begins: begins.position, begins_at: begins.index, ..Self::default() };
        state.advance(applied);
        state
    }

    /// A further commit was applied.
    pub fn advance(&mut self, applied: &AppliedRecord) {
        self.index = applied.index;
        self.next_position = applied.next_position;
        self.time_ms = applied.time_ms;
        self.payload_bytes = applied.payload_bytes;
    }
}

/// A transaction in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// Its place, for ever.
    pub position: u64,
    /// The transaction: a slice of its batch, which it keeps in memory.
    pub bytes: Bytes,
    /// The commit that applied it.
    pub commit: CommitIndex,
    /// The batch that brought it.
    pub batch: BatchKey,
}

/// Why there is no entry.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing was applied at this position so far.
    #[error("not in the log yet: the next position is {next}")]
    NotYet {
        /// The position that is applied next.
        next: u64,
    },
    /// Retention dropped it.
    #[error("not stored here; the log begins at position {begins}")]
    BeforeBeginning {
        /// The first position that is here.
        begins: u64,
    },
    /// The entry is known, its bytes are not here.
    #[error("the payload of batch {batch} is not stored here")]
    PayloadGone {
        /// The batch.
        batch: BatchKey,
    },
    /// The store failed, or a record of it cannot be used.
    #[error("the log cannot be read: {0}")]
    Store(Box<ExecutionError>),
}

impl From<ExecutionError> for LogError {
    fn from(error: ExecutionError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<StoreError> for LogError {
    fn from(error: StoreError) -> Self {
        ExecutionError::from(error).into()
    }
}

/// Reads the log. Cheap to clone; never waits for execution, except [`Self::lookup`] for its turn.
#[derive(Clone)]
pub struct LogReader {
    store: Store,
    applied: watch::Receiver<AppliedState>,
    lookups: mpsc::Sender<Lookup>,
}

impl LogReader {
    /// Reads what `applied` says is there.
    pub fn new(store: Store, applied: watch::Receiver<AppliedState>, lookups: mpsc::Sender<Lookup>) -> Self {
        Self { store, applied, lookups }
    }

    /// How far execution is.
    pub fn applied(&self) -> AppliedState {
        *self.applied.borrow()
    }

    /// Follows how far execution is.
    pub fn subscribe(&self) -> watch::Receiver<AppliedState> {
        self.applied.clone()
    }

    /// The entry at a position.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn read(&self, position: u64) -> Result<LogEntry, LogError> {
        let found = self.range(position, 1, 0).await?.into_iter().next();
        found.ok_or_else(|| LogError::NotYet { next: self.applied().next_position })
    }

    /// The entries from a position on: at least one, at most `max_count`, and no more than `max_bytes` of transactions (the first
    /// one is always taken) or than there are now. Each batch is read once. Less than asked for does not mean that there is no
    /// more: go on behind the last one.
    ///
    /// # Errors
    /// [`LogError`] where there is nothing at the first position.
    pub async fn range(&self, from: u64, max_count: usize, max_bytes: usize) -> Result<Vec<LogEntry>, LogError> {
        let applied = self.applied();
        if from >= applied.next_position {
            return Err(LogError::NotYet { next: applied.next_position });
        }
        let mut page = Page { next: from, max_count, max_bytes, bytes: 0, entries: Vec::new() };
        match self.fill(&mut page, applied.next_position).await {
            Ok(()) => Ok(page.entries),
            // What was found is right; the error comes again with the next call.
            Err(_) if !page.entries.is_empty() => Ok(page.entries),
            // Retention may have overtaken the read.
            Err(error) => self.check_begins(from).and(Err(error)),
        }
    }

    /// Where this id was applied: commit, first position and batch. None if it was not, if its deadline has passed, or if the
    /// write of its commit is still under way; hence none while it lives means "not so far".
    pub async fn lookup(&self, id: SubmissionId) -> Option<(CommitIndex, u64, BatchKey)> {
        let (answer, spent) = oneshot::channel();
        self.lookups.send(Lookup { id, answer }).await.ok()?;
        let spent = spent.await.ok()??;
        Some((spent.commit, spent.first_position, spent.batch))
    }

    fn check_begins(&self, position: u64) -> Result<(), LogError> {
        let begins = self.applied().begins;
        if position < begins { Err(LogError::BeforeBeginning { begins }) } else { Ok(()) }
    }

    async fn fill(&self, page: &mut Page, end: u64) -> Result<(), LogError> {
        self.check_begins(page.next)?;
        // The commit that holds the first position is the last one that begins at or below it.
        let above = schema::number_key(page.next + 1);
        let found = self.store.iterate(schema::POSITIONS, &[], &above, 1, usize::MAX, Direction::Backward).await?;
        let Some((first, _)) = found.into_iter().next() else {
            return Err(unusable(schema::POSITIONS, &above, "no commit begins below it".into()).into());
        };
        let (mut from, end) = (first, schema::number_key(end));
        while !page.is_full() {
            let commits =
                self.store.iterate(schema::POSITIONS, &from, &end, COMMITS, usize::MAX, Direction::Forward).await?;
            let Some((last, _)) = commits.last() else { return Ok(()) };
            // The smallest key above the last one.
            from = [&last[..], &[0]].concat().into();
            for (key, value) in &commits {
                let index = schema::parse_number(value).map(CommitIndex);
                let index = index.ok_or_else(|| unusable(schema::POSITIONS, key, "it is not a number".into()))?;
                self.commit(page, index).await?;
                if page.is_full() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Adds entries of one commit, from the page's next position on.
    async fn commit(&self, page: &mut Page, index: CommitIndex) -> Result<(), LogError> {
        let key = schema::index_key(index);
        let record: ExecutionRecord = present(schema::EXECUTED, &key, self.store.read(schema::EXECUTED, &key).await?)?;
        let offset = page.next.checked_sub(record.first_position);
        let Some((first, mut skip)) = offset.and_then(|offset| scan::locate(&record, offset)) else {
            return Err(unusable(schema::EXECUTED, &key, format!("position {} is not in it", page.next)).into());
        };
        let delivery: Delivery = present(schema::COMMITS, &key, self.store.read(schema::COMMITS, &key).await?)?;
        for (order, batch) in record.batches.iter().enumerate().skip(first) {
            if page.is_full() {
                return Ok(());
            }
            if batch.applied == 0 {
                continue;
            }
            let Some(delivered) = delivery.batches.get(order) else {
                return Err(unusable(schema::COMMITS, &key, "it has fewer batches than were executed".into()).into());
            };
            let (content, refused) = self.batch(index, order as u32, delivered.key(), scan::has_refused(batch)).await?;
            page.take(&content, &refused, skip, index, delivered.key());
            skip = 0;
        }
        Ok(())
    }

    async fn batch(
        &self,
        index: CommitIndex,
        order: u32,
        batch: BatchKey,
        has_refused: bool,
    ) -> Result<(Content, Refused), LogError> {
        let refused = match has_refused {
            false => Refused::default(),
            true => {
                let key = refused_key(index, order);
                let row = self.store.read(schema::EXECUTED, &key).await?;
                let row = row.ok_or_else(|| unusable(schema::EXECUTED, &key, "it is missing".into()))?;
                Refused::from_store(&row)
            }
        };
        let payload = self.store.read(schema::PAYLOAD, &schema::batch_key(&batch)).await?;
        let content = payload.and_then(Content::parse).ok_or(LogError::PayloadGone { batch })?;
        Ok((content, refused))
    }
}

/// The entries of an answer.
struct Page {
    /// The position that is wanted next.
    next: u64,
    max_count: usize,
    max_bytes: usize,
    bytes: usize,
    entries: Vec<LogEntry>,
}

impl Page {
    fn is_full(&self) -> bool {
        self.entries.len() >= self.max_count.max(1) || (self.bytes >= self.max_bytes && !self.entries.is_empty())
    }

    /// Takes applied transactions of a batch, without the first `skip`, as far as there is room.
    fn take(&mut self, content: &Content, refused: &Refused, skip: u64, commit: CommitIndex, batch: BatchKey) {
        // More than a batch holds skips all of it.
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        for number in scan::applied(content, refused).skip(skip) {
            let bytes = content.transaction(number);
            if self.is_full() || (!self.entries.is_empty() && self.bytes + bytes.len() > self.max_bytes) {
                // Nothing more is taken: positions have no gaps.
                self.bytes = self.max_bytes;
                return;
            }
            self.bytes += bytes.len();
            self.entries.push(LogEntry { position: self.next, bytes, commit, batch });
            self.next += 1;
        }
    }
}
