//! Seals own batches, by size or delay, and hands them on: store, peers, consensus.
//!
//! One task. It takes submissions in order; a submission never spans two batches. A batch is sealed when the next submission
//! does not fit, when it holds `max_bytes`, or `max_delay` after its first submission. Sealing waits while the sequence limit
//! of consensus is reached or fewer than a quorum of peers has room; then submissions pile up to `queue_bytes` and further
//! ones are refused as [`Busy::Full`]. While the disk is nearly full new ones are refused, and at its standstill nothing is
//! sealed. Consensus hears of batches in ascending order, each when its write is applied.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use rorqual_client::content;
use rorqual_config::encoding::encode;
use rorqual_protocol::Input;
use rorqual_protocol::types::{BatchKey, BatchRef, Sequence};
use rorqual_store::{Durability, Store, StoreError, WriteBatch};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::spread::Spreader;
use super::{Busy, Pending};
use crate::clients::receipts::Receipts;
use crate::disk::Disk;
use crate::metrics::{Metrics, Stages};
use crate::schema;

/// How often a maker that waits for room in its peers' queues looks again.
const ROOM_INTERVAL: Duration = Duration::from_millis(2);

/// Where clients hand in submissions. Cheap to clone.
#[derive(Clone)]
pub struct Maker {
    queue: mpsc::UnboundedSender<Pending>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Bytes queued and not sealed; the bound of the queue.
    bytes: AtomicUsize,
    limit: usize,
    closed: AtomicBool,
    disk: Disk,
}

/// What a maker is made of.
pub struct MakerSetup {
    /// Bytes at which a batch is sealed; no batch is larger than the committee allows.
    pub max_bytes: usize,
    /// Longest wait of a submission for its batch to be sealed.
    pub max_delay: Duration,
    /// Bytes of submissions that may wait to be sealed.
    pub queue_bytes: usize,
    /// The first sequence to use.
    pub next: Sequence,
    /// Batches with a sequence at or above this wait; consensus raises it.
    pub seal_below: watch::Receiver<Sequence>,
    /// Sends to peers.
    pub spreader: Spreader,
    /// Keeps own batches.
    pub store: Store,
    /// Whether there is room for them.
    pub disk: Disk,
    /// Learns which submissions went into which batch.
    pub receipts: Receipts,
    /// Times the stages of own batches.
    pub stages: Stages,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Cancelled: seal what waits, refuse the rest, end.
    pub shutdown: CancellationToken,
}

impl Maker {
    /// Makes the handle and the task. The task ends when `shutdown` is cancelled and everything taken is sealed, or with an
    /// error of the store.
    pub fn new(setup: MakerSetup) -> (Self, impl Future<Output = Result<(), StoreError>>) {
        let shared = Arc::new(Shared {
            bytes: AtomicUsize::new(0),
            limit: setup.queue_bytes,
            closed: AtomicBool::new(false),
            disk: setup.disk.clone(),
        });
        // Bounded by `Shared::bytes`, which admits by size and not by count.
        let (queue, submissions) = mpsc::unbounded_channel();
        let task = Task {
            shared: shared.clone(),
            submissions,
            waiting: VecDeque::new(),
            open: Open::default(),
            next: setup.next,
            applied: FuturesOrdered::new(),
            setup,
        };
        (Self { queue, shared }, task.run())
    }

    /// Takes a submission; its receipt comes through its slot.
    ///
    /// # Errors
    /// The submission back, and why it was not taken.
    #[allow(clippy::result_large_err, reason = "the caller gets its submission back")]
    pub fn try_submit(&self, pending: Pending) -> Result<(), (Pending, Busy)> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err((pending, Busy::ShuttingDown));
        }
        if !self.shared.disk.takes_submissions() {
            return Err((pending, Busy::DiskNearlyFull));
        }
        let size = weight(&pending);
        let before = self.shared.bytes.fetch_add(size, Ordering::AcqRel);
        if before.saturating_add(size) > self.shared.limit {
            self.shared.bytes.fetch_sub(size, Ordering::AcqRel);
            return Err((pending, Busy::Full));
        }
        self.queue.send(pending).map_err(|refused| (refused.0, Busy::ShuttingDown))
    }

    /// Bytes that wait to be sealed.
    pub fn queued_bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Acquire)
    }
}

/// What a submission adds to a batch.
fn weight(pending: &Pending) -> usize {
    content::table_bytes(pending.submission.count()).saturating_add(pending.submission.bytes.len())
}

/// The batch in the making.
#[derive(Default)]
struct Open {
    pending: Vec<Pending>,
    bytes: usize,
    since: Option<Instant>,
}

type Applied = std::pin::Pin<Box<dyn Future<Output = Result<BatchRef, StoreError>> + Send>>;

struct Task {
    shared: Arc<Shared>,
    submissions: mpsc::UnboundedReceiver<Pending>,
    /// Taken from the queue, but the open batch is full and cannot be sealed yet.
    waiting: VecDeque<Pending>,
    open: Open,
    next: Sequence,
    /// Writes of sealed batches, in order.
    applied: FuturesOrdered<Applied>,
    setup: MakerSetup,
}

impl Task {
    async fn run(mut self) -> Result<(), StoreError> {
        let shutdown = self.setup.shutdown.clone();
        let mut seal_below = self.setup.seal_below.clone();
        loop {
            self.fill();
            while self.is_due() && self.may_seal() {
                self.seal().await?;
                self.fill();
            }
            if self.shared.closed.load(Ordering::Acquire) && self.is_drained() {
                return Ok(());
            }
            let wake = self.next_wake();
            tokio::select! {
                Some(sealed) = self.applied.next() => self.report(sealed?).await,
                Some(pending) = self.submissions.recv(), if self.waiting.is_empty() => self.waiting.push_back(pending),
                Ok(()) = seal_below.changed() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
                () = shutdown.cancelled(), if !self.shared.closed.load(Ordering::Acquire) => {
                    self.shared.closed.store(true, Ordering::Release);
                }
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.submissions.is_empty()
            && self.waiting.is_empty()
            && self.open.pending.is_empty()
            && self.applied.is_empty()
    }

    /// Moves submissions into the open batch until one does not fit.
    fn fill(&mut self) {
        let limit = self.limit();
        loop {
            let Some(pending) = self.waiting.pop_front().or_else(|| self.submissions.try_recv().ok()) else { return };
            let size = weight(&pending);
            if !self.open.pending.is_empty() && self.open.bytes.saturating_add(size) > limit {
                self.waiting.push_front(pending);
                return;
            }
            self.open.bytes = self.open.bytes.saturating_add(size);
            self.open.since.get_or_insert_with(Instant::now);
            self.open.pending.push(pending);
        }
    }

    fn limit(&self) -> usize {
        self.setup.max_bytes.saturating_sub(content::EMPTY_BYTES)
    }

    /// Full, old enough, or the node is stopping.
    fn is_due(&self) -> bool {
        let Some(since) = self.open.since else { return false };
        !self.waiting.is_empty()
            || self.open.bytes >= self.limit()
            || since.elapsed() >= self.setup.max_delay
            || self.shared.closed.load(Ordering::Acquire)
    }

    fn may_seal(&self) -> bool {
        self.next < *self.setup.seal_below.borrow()
            && self.shared.disk.takes_from_peers()
            && self.setup.spreader.has_room(self.open.bytes)
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        match self.open.since {
            Some(since) if self.is_due() => now.max(since) + ROOM_INTERVAL,
            Some(since) => since + self.setup.max_delay,
            None => now + Duration::from_secs(3600),
        }
    }

    async fn seal(&mut self) -> Result<(), StoreError> {
        let Open { pending, bytes, since } = std::mem::take(&mut self.open);
        let content = content::build(pending.iter().map(|p| &p.submission));
        let (author, sequence) = (self.setup.spreader.me, self.next);
        self.next = sequence.next();
        let digest = BatchKey::digest_of(self.setup.spreader.committee.epoch(), author, sequence, &content);
        let key = BatchKey { author, sequence, digest };
        let reference = BatchRef { sequence, digest, bytes: content.len() as u32 };
        self.setup.stages.sealed(sequence, since.unwrap_or_else(Instant::now));
        self.setup.metrics.batch_sealed(content.len() as u64);
        self.setup.receipts.sealed(key, pending.into_iter().map(|p| p.slot).collect());
        self.setup.spreader.spread(key, &content);
        self.shared.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.write(key, reference, content).await
    }

    /// Takes the batch's place in the store's queue; waits only while that is full.
    async fn write(&mut self, key: BatchKey, reference: BatchRef, content: Bytes) -> Result<(), StoreError> {
        let mut batch = WriteBatch::new();
        batch.set_bulk();
        batch.put(schema::PAYLOAD, schema::batch_key(&key), content);
        batch.put(schema::SEALED, schema::number_key(reference.sequence.0), encode(&reference));
        match self.setup.store.try_write_batch(batch, Durability::Buffered) {
            Ok(completion) => self.applied.push_back(Box::pin(async move { completion.await.map(|()| reference) })),
            Err(refused) => {
                self.setup.store.write_batch(refused.batch, Durability::Buffered).await?;
                self.applied.push_back(Box::pin(async move { Ok(reference) }));
            }
        }
        Ok(())
    }

    async fn report(&mut self, reference: BatchRef) {
        // A closed mailbox means that the node is going down; its reason is told there.
        let _ = self.setup.spreader.consensus.send(Input::BatchSealed(reference)).await;
    }
}
