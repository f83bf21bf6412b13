//! Answers everything that is not a submission: lookups, reads, the log, status, certificates. Reads, never decides.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rorqual_client::BatchId;
use rorqual_client::frames::{LogRun, MAX_WAIT, NotHere, Placed, ReadKey, Request, Response};
use rorqual_client::submission::SubmissionId;
use rorqual_protocol::types::range::LIMIT;
use rorqual_protocol::types::{BatchKey, CommitIndex, Sequence};
use rorqual_store::{Direction, Store};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use super::outbox::Permits;
use super::receipts::batch_id;
use super::waits::LogWaits;
use crate::execution::log::{LogEntry, LogError, LogReader};
use crate::schema;

/// Transactions in one chunk of the log, in bytes; the first one always fits.
const CHUNK_BYTES: usize = 512 << 10;
/// Transactions in one chunk of the log, however small.
const CHUNK_ENTRIES: usize = 8_192;
/// Answers of one connection that are not written yet, in KiB, unless a batch is larger.
const CONNECTION_KIB: u64 = 4 << 10;
/// Largest status, certificate or refusal that is expected, in KiB.
const SMALL_KIB: u64 = 64;

/// What answers are made of. Cheap to clone.
#[derive(Clone)]
pub struct Questions {
    /// The ordered log.
    pub log: LogReader,
    /// Batches and certificates.
    pub store: Store,
    /// What the node is doing.
    pub status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Who waits for which position.
    pub waits: LogWaits,
    /// Turns to read the log; see [`Gate::reads`].
    pub reads: Arc<Semaphore>,
    /// Cancelled: nothing certain can be said any more.
    pub stopping: CancellationToken,
}

/// Room for the answers of one connection that are not written yet.
#[derive(Clone)]
pub struct AnswerRoom {
    mine: Arc<Semaphore>,
    all: Arc<Semaphore>,
    max_batch_kib: u64,
}

impl AnswerRoom {
    /// Room for one connection.
    pub fn new(gate: &Gate) -> Self {
        // A weight is at least as large as the batch it fills.
        let max_batch_kib = gate.facts().max_weight_bytes.div_ceil(1 << 10).saturating_add(1);
        let mine = CONNECTION_KIB.max(max_batch_kib) as usize;
        Self { mine: Arc::new(Semaphore::new(mine)), all: gate.answers.clone(), max_batch_kib }
    }

    /// Waits for room. A client that reads gets it in time; one that does not is closed by the writer's timeout.
    async fn take(&self, kib: u64) -> Permits {
        let kib = u32::try_from(kib.min(self.max_batch_kib.max(CONNECTION_KIB))).unwrap_or(u32::MAX);
        let mut permits = Vec::with_capacity(3);
        // The semaphores are never closed.
        for room in [&self.mine, &self.all] {
            permits.extend(room.clone().acquire_many_owned(kib).await.ok());
        }
        permits
    }
}

/// A response, its tail, and the room they take.
type Found = (Response, Bytes, Permits);

impl Questions {
    /// The frame that answers, and what it holds until it is written.
    pub async fn answer(&self, tag: u64, request: Request, room: &AnswerRoom) -> ([Bytes; 2], Permits) {
        let found = match request {
            _ if !request.is_in_range() => Err(NotHere::Failed { reason: format!("all numbers are below {LIMIT}") }),
            Request::Lookup { id, .. } => self.lookup(tag, id).await,
            Request::Read { what: ReadKey::Position(position), wait_ms, .. } => {
                self.transaction(tag, position, deadline(wait_ms), room).await
            }
            Request::Read { what: ReadKey::Batch(batch), wait_ms, .. } => {
                self.batch(tag, &batch, deadline(wait_ms), room).await
            }
            Request::Log { from, max_count, wait_ms, .. } => {
                self.chunk(tag, from, max_count as usize, deadline(wait_ms), room).await
            }
            Request::Status { .. } => {
                let permits = room.take(SMALL_KIB).await;
                // The database has locks of its own.
                let status = self.status.clone();
                let text = tokio::task::spawn_blocking(move || status().to_string()).await;
                text.map(|text| (Response::Status { tag }, text.into(), permits)).map_err(failed)
            }
            Request::Certificate { commit, .. } => self.certificate(tag, commit, room).await,
            // Answered elsewhere.
            Request::Submit { .. } | Request::Ping => Err(NotHere::Failed { reason: "no question".into() }),
        };
        match found {
            Ok((response, tail, permits)) => (response.frame(tail), permits),
            Err(reason) => (Response::NotHere { tag, reason }.frame(Bytes::new()), Vec::new()),
        }
    }

    async fn lookup(&self, tag: u64, id: SubmissionId) -> Result<Found, NotHere> {
        // Looked at first: what the answer does not know was not applied up to here.
        let as_of_ms = self.log.applied().time_ms;
        let found = self.log.lookup(id).await;
        if found.is_none() && self.stopping.is_cancelled() {
            return Err(NotHere::Failed { reason: "it is shutting down".into() });
        }
        let placed = found.map(|(commit, first_position, batch)| Placed {
            commit: commit.0,
            first_position,
            batch: batch_id(&batch),
        });
        Ok((Response::Located { tag, placed, as_of_ms }, Bytes::new(), Vec::new()))
    }

    async fn transaction(
        &self,
        tag: u64,
        position: u64,
        deadline: Instant,
        room: &AnswerRoom,
    ) -> Result<Found, NotHere> {
        self.waits.reached(position, deadline).await;
        let permits = room.take(room.max_batch_kib).await;
        let _turn = self.reads.acquire().await;
        let entry = self.log.read(position).await.map_err(|error| self.not_here(error))?;
        let (commit, batch) = (entry.commit.0, batch_id(&entry.batch));
        Ok((Response::Transaction { tag, position, commit, batch }, entry.bytes, permits))
    }

    async fn batch(&self, tag: u64, id: &BatchId, deadline: Instant, room: &AnswerRoom) -> Result<Found, NotHere> {
        let key = BatchKey { author: id.author, sequence: Sequence(id.sequence), digest: id.digest };
        let key = schema::batch_key(&key);
        {
            let permits = room.take(room.max_batch_kib).await;
            if let Some(content) = self.store.read(schema::PAYLOAD, &key).await.map_err(failed)? {
                return Ok((Response::Batch { tag }, content, permits));
            }
        }
        // Nothing is held while waiting.
        match tokio::time::timeout_at(deadline, self.store.notify_read(schema::PAYLOAD, key)).await {
            Ok(content) => {
                let content = content.map_err(failed)?;
                Ok((Response::Batch { tag }, content, room.take(room.max_batch_kib).await))
            }
            Err(_) => Err(NotHere::NoBatch { begins: self.log.applied().begins }),
        }
    }

    async fn chunk(
        &self,
        tag: u64,
        from: u64,
        max_count: usize,
        deadline: Instant,
        room: &AnswerRoom,
    ) -> Result<Found, NotHere> {
        self.waits.reached(from, deadline).await;
        let permits = room.take(room.max_batch_kib.saturating_add((CHUNK_BYTES >> 10) as u64)).await;
        // Held while reading and never while waiting for the client.
        let _turn = self.reads.acquire().await;
        let entries = match self.log.range(from, max_count.clamp(1, CHUNK_ENTRIES), CHUNK_BYTES).await {
            Ok(entries) => entries,
            Err(LogError::NotYet { .. }) => Vec::new(),
            Err(error) => return Err(self.not_here(error)),
        };
        let end = self.log.applied().next_position;
        let (runs, ends, tail) = pack(&entries);
        Ok((Response::Log { tag, first: from, end, runs, ends }, tail, permits))
    }

    async fn certificate(&self, tag: u64, commit: u64, room: &AnswerRoom) -> Result<Found, NotHere> {
        let permits = room.take(SMALL_KIB).await;
        let from = schema::index_key(CommitIndex(commit));
        let found = self.store.iterate(schema::CERTIFICATES, &from, &[], 1, usize::MAX, Direction::Forward).await;
        let Some((key, value)) = found.map_err(failed)?.into_iter().next() else {
            return Err(NotHere::NoCertificate { applied: self.log.applied().index.0 });
        };
        let commit = schema::parse_number(&key).unwrap_or(commit);
        Ok((Response::Certificate { tag, commit }, value, permits))
    }

    fn not_here(&self, error: LogError) -> NotHere {
        match error {
            LogError::NotYet { next } => NotHere::NotYet { next },
            LogError::BeforeBeginning { begins } => NotHere::Dropped { begins },
            LogError::PayloadGone { .. } => NotHere::PayloadGone { begins: self.log.applied().begins },
            LogError::Store(error) => failed(error),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> NotHere {
    NotHere::Failed { reason: error.to_string() }
}

/// When a wait that a client asks for ends. A client cannot make it long.
fn deadline(wait_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(wait_ms).min(MAX_WAIT)
}

/// Puts entries of the log together. The transactions are copied once.
fn pack(entries: &[LogEntry]) -> (Vec<LogRun>, Vec<u32>, Bytes) {
    let bytes: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
    let (mut runs, mut ends, mut tail) =
        (Vec::<LogRun>::new(), Vec::with_capacity(entries.len()), Vec::with_capacity(bytes));
    for entry in entries {
        tail.extend_from_slice(&entry.bytes);
        // A chunk is far below 4 GiB.
        ends.push(tail.len() as u32);
        let (commit, batch) = (entry.commit.0, batch_id(&entry.batch));
        match runs.last_mut() {
            Some(run) if (run.commit, run.batch) == (commit, batch) => run.count = run.count.saturating_add(1),
            _ => runs.push(LogRun { count: 1, commit, batch }),
        }
    }
    (runs, ends, tail.into())
}
