//! Gets payload ahead of execution: waits for it with `notify_read`, decodes it and hashes ids, and hands batches on in order.
//!
//! Bounded by [`MAX_BYTES`] of payload and [`MAX_BATCHES`] batches, whichever is less; one larger batch goes alone. Payload that
//! is not here yet is waited for without holding anything. Whoever delivers a commit sees to it that its payload comes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use rorqual_protocol::types::{BatchKey, Delivery};
use rorqual_store::Store;
use tokio::sync::Semaphore;

use super::error::ExecutionError;
use super::prepare::{Prepared, Rules};
use crate::schema;

/// Payload bytes asked for and not applied.
const MAX_BYTES: u64 = 32 << 20;
/// Batches asked for and not applied.
const MAX_BATCHES: usize = 256;
/// Larger batches are decoded and hashed on a thread that may block: this much takes well below a millisecond.
const INLINE_BYTES: usize = 64 << 10;
/// Batches decoded on such threads at once.
const WORKERS: usize = 4;

type Content = Result<Option<Prepared>, ExecutionError>;
type Running = Pin<Box<dyn Future<Output = (u64, Content)> + Send>>;

/// The batches of deliveries, in order.
pub struct Prefetch {
    store: Store,
    rules: Rules,
    workers: Arc<Semaphore>,
    /// Deliveries with batches that nobody has asked for, and the first of these.
    queue: VecDeque<(Arc<Delivery>, usize)>,
    running: FuturesOrdered<Running>,
    bytes: u64,
}

impl Prefetch {
    /// Nothing to get yet.
    pub fn new(store: Store, rules: Rules) -> Self {
        Self {
            store,
            rules,
            workers: Arc::new(Semaphore::new(WORKERS)),
            queue: VecDeque::new(),
            running: FuturesOrdered::new(),
            bytes: 0,
        }
    }

    /// Adds the next delivery.
    pub fn push(&mut self, delivery: &Arc<Delivery>) {
        if !delivery.batches.is_empty() {
            self.queue.push_back((delivery.clone(), 0));
        }
    }

    /// The content of the next batch of the deliveries pushed, none in place of one that cannot be decoded; none at all when
    /// every batch was handed out. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Content> {
        self.fill();
        let (bytes, content) = self.running.next().await?;
        self.bytes -= bytes;
        Some(content)
    }

    fn fill(&mut self) {
        while let Some((delivery, next)) = self.queue.front_mut() {
            let Some(delivered) = delivery.batches.get(*next) else {
                self.queue.pop_front();
                continue;
            };
            let bytes = u64::from(delivered.batch.bytes);
            let full = self.running.len() >= MAX_BATCHES || self.bytes.saturating_add(bytes) > MAX_BYTES;
            if full && !self.running.is_empty() {
                return;
            }
            *next += 1;
            self.bytes += bytes;
            let content = get(self.store.clone(), self.rules, self.workers.clone(), delivered.key());
            self.running.push_back(Box::pin(async move { (bytes, content.await) }));
        }
    }
}

async fn get(store: Store, rules: Rules, workers: Arc<Semaphore>, key: BatchKey) -> Content {
    let payload = store.notify_read(schema::PAYLOAD, schema::batch_key(&key)).await?;
    if payload.len() <= INLINE_BYTES {
        return Ok(Prepared::new(payload, &rules));
    }
    // The semaphore is never closed; if it were, decoding without a permit would be right too.
    let _permit = workers.acquire().await;
    Ok(tokio::task::spawn_blocking(move || Prepared::new(payload, &rules)).await?)
}
