//! The handle: what the rest of the program sees of the store.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::actor;
use crate::batch::{Durability, WriteBatch};
use crate::completion::Completion;
use crate::engine::{Direction, Engine, Lookup, Range};
use crate::error::{Refused, StoreError};
use crate::memory::MemoryEngine;
use crate::options::{Column, Columns, Options};
use crate::queue::Job;
use crate::shared::Shared;
use crate::statistics::{ColumnSize, Statistics};
use crate::sync::atomic::Ordering;

/// A handle to an open store. Clones share the store; all methods take `&self`.
///
/// Dropping the last handle drains and closes the store in the background; a process that ends meanwhile waits for that, up
/// to ten seconds. Use [`Store::shutdown`] to know when that is
/// done and whether it went well.
#[derive(Clone)]
pub struct Store {
    owner: Arc<Owner>,
}

/// Closes the store when the last handle goes.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("columns", &self.shared().columns.names()).finish_non_exhaustive()
    }
}

impl Store {
    /// A store that keeps everything in memory and nothing after the last handle is gone. It behaves like the one on disk
    /// otherwise, except that it makes no checkpoints.
    ///
    /// With invalid options, or if its threads cannot be started, the store has failed from the start and every write says
    /// why.
    pub fn in_memory(options: Options) -> Store {
        let engine = MemoryEngine::new(Columns::new(&options));
        let started = options.validate();
        let shared = Arc::new(Shared::new(Box::new(engine), &options));
        if let Err(error) = started.and_then(|()| actor::start(&shared, options.reader_threads)) {
            shared.fail(&error);
            shared.readers.close();
            shared.chores.close();
            shared.report_closed(Err(error));
        }
        Store { owner: Arc::new(Owner { shared }) }
    }

    pub(crate) fn start(engine: Box<dyn Engine>, options: &Options) -> Result<Store, StoreError> {
        let shared = Arc::new(Shared::new(engine, options));
        actor::start(&shared, options.reader_threads)?;
        Ok(Store { owner: Arc::new(Owner { shared }) })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// Sets one key, [`Durability::Buffered`]. The same as [`Store::write_batch`] with one `put`.
    pub fn write(&self, column: Column, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Completion {
        let mut batch = WriteBatch::new();
        batch.put(column, key, value);
        self.write_batch(batch, Durability::Buffered)
    }

    /// Applies a batch: all of it or nothing, in the order of the calls on this handle and its clones.
    ///
    /// The batch takes its place *at the call*, not at the first poll; while the queue is full it waits there, behind those
    /// who came before. Others may overtake a batch that says so ([`WriteBatch::set_bulk`]). The returned future borrows nothing. It resolves when the batch is applied
    /// ([`Durability::Buffered`]) or when the log and all large values are on disk ([`Durability::Synced`]); every `read` that starts later sees
    /// it, on any clone. See [`Completion`] for what dropping it does.
    ///
    /// An empty synced batch resolves when all writes before it are on disk.
    ///
    /// # Errors
    /// [`StoreError::UnknownColumn`] (nothing is applied), [`StoreError::Closed`], and after the first failed write or sync
    /// [`StoreError::Failed`] with the reason; the writes that failed first get the reason itself, for example
    /// [`StoreError::DiskFull`]. Whether a batch answered with a failure survives a restart is unknown.
    pub fn write_batch(&self, batch: WriteBatch, durability: Durability) -> Completion {
        if let Err(error) = self.check(&batch) {
            return Completion::refused(error);
        }
        let (reply, answer) = oneshot::channel();
        match self.shared().queue.push(Job::new(batch, durability, reply)) {
            Ok(()) => Completion::pending(answer, Arc::clone(self.shared())),
            Err(_) => Completion::refused(self.shared().reason_of_silence()),
        }
    }

    /// Sets one key, [`Durability::Buffered`], if there is room now. See [`Store::try_write_batch`].
    ///
    /// # Errors
    /// As [`Store::try_write_batch`].
    pub fn try_write(
        &self,
        column: Column,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Completion, Refused> {
        let mut batch = WriteBatch::new();
        batch.put(column, key, value);
        self.try_write_batch(batch, Durability::Buffered)
    }

    /// Like [`Store::write_batch`], but never waits for room: the batch has its place in the queue when this returns, or
    /// it comes back. For callers that must not wait and must keep an order.
    ///
    /// # Errors
    /// [`Refused`] with the batch and with [`StoreError::Full`], [`StoreError::Closed`], [`StoreError::Failed`] or
    /// [`StoreError::UnknownColumn`].
    pub fn try_write_batch(&self, batch: WriteBatch, durability: Durability) -> Result<Completion, Refused> {
        if let Err(error) = self.check(&batch) {
            return Err(Refused { batch, error });
        }
        let (reply, answer) = oneshot::channel();
        match self.shared().queue.try_push(Job::new(batch, durability, reply)) {
            Ok(()) => Ok(Completion::pending(answer, Arc::clone(self.shared()))),
            Err((job, StoreError::Closed)) => {
                Err(Refused { batch: job.batch, error: self.shared().reason_of_silence() })
            }
            Err((job, error)) => Err(Refused { batch: job.batch, error }),
        }
    }

    /// What refuses a batch before it comes near the queue.
    fn check(&self, batch: &WriteBatch) -> Result<(), StoreError> {
        if let Some(error) = self.shared().failure.aftermath() {
            return Err(error);
        }
        for operation in batch.operations() {
            self.shared().columns.index(operation.column())?;
        }
        Ok(())
    }

    /// Removes every key from `from` up to and without `to_exclusive` (empty: to the end of the column),
    /// [`Durability::Buffered`]. The cost does not depend on how many keys there are, except in a column of large values,
    /// where each costs the writer about a microsecond.
    pub fn delete_range(&self, column: Column, from: impl Into<Bytes>, to_exclusive: impl Into<Bytes>) -> Completion {
        let mut batch = WriteBatch::new();
        batch.delete_range(column, from, to_exclusive);
        self.write_batch(batch, Durability::Buffered)
    }

    /// Reads one key; `None` if it is absent.
    ///
    /// What is in memory is answered at once on the caller's thread and never behind writes; what is on disk by a reader
    /// thread, behind at most [`Options::reader_queue`] others. Dropping the future gives the place up. Still works after
    /// a failed write.
    ///
    /// # Errors
    /// [`StoreError::UnknownColumn`], [`StoreError::Closed`], [`StoreError::Corruption`], [`StoreError::Io`].
    pub async fn read(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let column = self.open_column(column)?;
        self.read_column(column, key).await
    }

    fn open_column(&self, column: Column) -> Result<usize, StoreError> {
        if self.shared().is_closing() {
            return Err(self.shared().reason_of_silence());
        }
        self.shared().columns.index(column)
    }

    async fn read_column(&self, column: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let shared = self.shared();
        if let Some(value) = shared.caches[column].as_ref().and_then(|cache| cache.get(key)) {
            return Ok(Some(value));
        }
        match shared.engine.look(column, key)? {
            Lookup::Found(value) => Ok(Some(value)),
            Lookup::Absent => Ok(None),
            Lookup::NeedsDisk => {
                let key = Bytes::copy_from_slice(key);
                // Boxed, so that the future of a read which memory answers is small: it is moved about.
                Box::pin(shared.readers.ask(move |engine| engine.read(column, &key))).await
            }
        }
    }

    /// Resolves with the value of `key` as soon as there is one: at once if it exists, else with the value of the write
    /// that creates it, even if that is deleted again right after. No write between the look and the wait is missed.
    ///
    /// It may wait for ever; bound it with a timeout or a `select` and drop it when the reason to wait is gone. Dropping
    /// leaves nothing behind. A write is seen when it is applied, which for a synced one is before it is on disk.
    ///
    /// # Errors
    /// As [`Store::read`]; also [`StoreError::Closed`] when the store is shut down while it waits, and
    /// [`StoreError::Failed`] when the store has failed, because no write will come.
    pub async fn notify_read(&self, column: Column, key: impl Into<Bytes>) -> Result<Bytes, StoreError> {
        let column = self.open_column(column)?;
        let key = key.into();
        let shared = self.shared();
        let mut registration = shared.registry.register(column, key.clone());
        if let Some(value) = self.read_column(column, &key).await? {
            return Ok(value);
        }
        // Looked at after registering: an end that came earlier has not seen this registration, a later one will.
        if shared.is_closing() || shared.failure.first().is_some() {
            return Err(shared.reason_of_silence());
        }
        registration.woken().await.unwrap_or_else(|| Err(shared.reason_of_silence()))
    }

    /// Reads keys and values from `from` up to and without `to_exclusive` (empty: to the end of the column), from one
    /// consistent view, in the given direction.
    ///
    /// Ends after `limit` entries or before the keys and values exceed `max_bytes`, but always returns the first entry, so
    /// that paging makes progress. To go on forward, start from the last key with a zero byte appended; backward, end at the
    /// last key. Runs on a reader thread.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn iterate(
        &self,
        column: Column,
        from: &[u8],
        to_exclusive: &[u8],
        limit: usize,
        max_bytes: usize,
        direction: Direction,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let column = self.open_column(column)?;
        let (from, to) = (Bytes::copy_from_slice(from), Bytes::copy_from_slice(to_exclusive));
        let range = Range { from, to, limit, max_bytes, direction };
        self.shared().readers.ask(move |engine| engine.scan(column, &range)).await
    }

    /// The values that are known to be missing from a column of large values, with their lengths in bytes: those that a start
    /// found lost with the power, whose keys were on disk before the data, and those given up with [`WriteBatch::lose`]. A key is
    /// named, over restarts too, until it is put or deleted. Does not read the disk.
    ///
    /// # Errors
    /// [`StoreError::UnknownColumn`].
    pub fn lost(&self, column: Column) -> Result<Vec<(Bytes, u64)>, StoreError> {
        let shared = self.shared();
        Ok(shared.engine.lost(shared.columns.index(column)?))
    }

    /// How many values [`Self::lost`] names, without a copy of their keys: for what is asked often.
    ///
    /// # Errors
    /// [`StoreError::UnknownColumn`].
    pub fn lost_count(&self, column: Column) -> Result<usize, StoreError> {
        let shared = self.shared();
        Ok(shared.engine.lost_count(shared.columns.index(column)?))
    }

    /// The size of every column, in the order they were declared; zeros after a shutdown. Does not read the disk.
    pub fn sizes(&self) -> Vec<ColumnSize> {
        let shared = self.shared();
        let sizes = shared.engine.sizes().into_iter().zip(&shared.caches);
        let named = shared.columns.names().iter().zip(sizes);
        let size = |(column, (engine, cache)): (&&'static str, (crate::engine::EngineSize, &Option<_>))| ColumnSize {
            column,
            disk_bytes: engine.disk_bytes,
            segment_bytes: engine.segment_bytes,
            memtable_bytes: engine.memory_bytes,
            table_reader_bytes: engine.table_reader_bytes,
            cache_bytes: cache.as_ref().map_or(0, |cache: &crate::cache::ValueCache| cache.bytes() as u64),
        };
        named.map(size).collect()
    }

    /// What the store is doing and has done since it was opened.
    pub fn statistics(&self) -> Statistics {
        let shared = self.shared();
        let level = shared.queue.level();
        let counters = &shared.counters;
        let engine = shared.engine.statistics();
        Statistics {
            queue_bytes: level.bytes,
            queue_capacity: shared.queue_bytes,
            queued_batches: level.admitted,
            waiting_writers: level.waiting,
            waiters: shared.registry.len(),
            writes: counters.batches.load(Ordering::Relaxed),
            written_bytes: counters.bytes.load(Ordering::Relaxed),
            groups: counters.groups.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            synced_writes: counters.synced_batches.load(Ordering::Relaxed),
            block_cache_bytes: engine.block_cache_bytes,
            segments: engine.segments,
            failed: shared.failure.first(),
        }
    }

    /// Makes a consistent copy in the directory `path`, which must not exist yet while its parent must. The copy holds
    /// every write that had resolved before the call and is a database that [`Store::open`] opens. Files that never change
    /// are hard links where the filesystem allows it. Reads and writes go on meanwhile: it has a thread of its own. Until it is done
    /// the copy is in `path` with `.incomplete` appended, and then appears whole, on disk, with a file
    /// [`AMNESIA_FILE`](crate::AMNESIA_FILE) in it.
    ///
    /// Dropping the future does not stop a copy that has begun.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] in memory, otherwise as [`Store::read`].
    pub async fn checkpoint(&self, path: &Path) -> Result<(), StoreError> {
        if self.shared().is_closing() {
            return Err(self.shared().reason_of_silence());
        }
        let path: PathBuf = path.to_path_buf();
        self.shared().chores.ask(move |engine| engine.checkpoint(&path)).await
    }

    /// Resolves with the first failure of a write or a sync, after which the store refuses every write; never, if there is
    /// none. The daemon watches this to stop itself. The future borrows nothing and does not keep the store open.
    pub fn failed(&self) -> impl Future<Output = StoreError> + Send + 'static + use<> {
        self.shared().failure.wait()
    }

    /// Refuses new work, applies what was called before, puts everything on disk and releases the directory. Pending
    /// `notify_read`s get [`StoreError::Closed`].
    ///
    /// Resolves when the directory can be opened again. May be called on any clone, any number of times; all get the same
    /// answer. Dropping the future does not stop the shutdown.
    ///
    /// # Errors
    /// The error of the last flush, or [`StoreError::Failed`] if the store had failed before.
    pub async fn shutdown(&self) -> Result<(), StoreError> {
        let mut closed = self.shared().closed.subscribe();
        self.shared().begin_close();
        let result = match closed.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        result.unwrap_or(Err(StoreError::Closed))
    }
}
