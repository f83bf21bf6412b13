//! What the handles and the store's threads have in common.

use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use crate::cache::ValueCache;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::exit::Closing;
use crate::failure::Failure;
use crate::notify::Registry;
use crate::options::{Columns, Options};
use crate::queue::Queue;
use crate::readers::Readers;
use crate::reclaim::Reclaim;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::syncer::SyncQueue;

/// Backups asked for at once; further ones wait.
const CHORES: usize = 4;

/// The state of one open store.
pub(crate) struct Shared {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) columns: Columns,
    pub(crate) queue: Queue,
    pub(crate) queue_bytes: usize,
    pub(crate) syncs: SyncQueue,
    pub(crate) readers: Readers,
    /// What takes long, backups and compactions: no read waits behind it.
    pub(crate) chores: Readers,
    pub(crate) registry: Registry,
    /// By column number; `None` where no values are kept.
    pub(crate) caches: Vec<Option<ValueCache>>,
    /// By column number; `None` where RocksDB's own compactions are enough.
    pub(crate) reclaims: Vec<Option<Arc<Reclaim>>>,
    pub(crate) failure: Failure,
    pub(crate) counters: Counters,
    closing: AtomicBool,
    /// Makes the end of the process wait for the end of the store.
    ending: Mutex<Option<Closing>>,
    /// How the shutdown went, once it is over.
    pub(crate) closed: watch::Sender<Option<Result<(), StoreError>>>,
}

impl Shared {
    pub(crate) fn new(engine: Box<dyn Engine>, options: &Options) -> Shared {
        let cache = |bytes: usize| (bytes > 0).then(|| ValueCache::new(bytes));
        Shared {
            engine,
            columns: Columns::new(options),
            queue: Queue::new(options.queue_bytes),
            queue_bytes: options.queue_bytes,
            syncs: SyncQueue::default(),
            readers: Readers::new(options.reader_queue.saturating_add(options.reader_threads)),
            chores: Readers::new(CHORES),
            registry: Registry::new(options.columns.len()),
            caches: options.columns.iter().map(|column| cache(column.cache_bytes)).collect(),
            reclaims: options.columns.iter().map(|column| column.large_values.then(Arc::default)).collect(),
            failure: Failure::new(),
            counters: Counters::default(),
            closing: AtomicBool::new(false),
            ending: Mutex::new(None),
            closed: watch::Sender::new(None),
        }
    }

    /// Refuses new work from now on and lets the writer finish and end.
    pub(crate) fn begin_close(&self) {
        if !self.closing.swap(true, Ordering::SeqCst) {
            let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
            *ending = self.closed.borrow().is_none().then(Closing::begin);
        }
        self.queue.close();
    }

    /// The store has ended, like this.
    pub(crate) fn report_closed(&self, result: Result<(), StoreError>) {
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.send_replace(Some(result));
        *ending = None;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Stops the store for good: every later write is refused, and nobody waits for a write that cannot come.
    pub(crate) fn fail(&self, error: &StoreError) {
        if self.failure.set(error) {
            tracing::error!(%error, "the store failed and refuses all further writes");
        }
        self.registry.wake_all(&error.aftermath());
    }

    /// Why a reply never came.
    pub(crate) fn reason_of_silence(&self) -> StoreError {
        self.failure.aftermath().unwrap_or(StoreError::Closed)
    }
}

/// Counts since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) synced_batches: AtomicU64,
}

impl Counters {
    pub(crate) fn count_group(&self, batches: usize, bytes: usize) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.batches.fetch_add(batches as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_sync(&self, batches: usize) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.synced_batches.fetch_add(batches as u64, Ordering::Relaxed);
    }
}
