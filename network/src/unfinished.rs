//! Memory of frames that have begun and are not whole yet, over many connections.
//!
//! Promises: all shares together never hold more than the limit. When more is needed, those frames that have been under way
//! for longest have to go: honest frames are whole soon, and whoever never finishes one becomes the oldest. A reader waits until
//! that memory is free.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What all connections share.
#[derive(Debug)]
pub struct Unfinished {
    limit: usize,
    table: Mutex<Table>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    used: usize,
    next: u64,
    /// Oldest first.
    frames: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    bytes: usize,
    evicted: CancellationToken,
}

/// The part of one connection. What it holds is given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    all: Arc<Unfinished>,
    frame: Option<u64>,
    evicted: CancellationToken,
}

impl Unfinished {
    /// Room for `limit` bytes. It must exceed the largest frame several times.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, table: Mutex::default(), freed: Notify::new() })
    }

    /// The part of one more connection; holds nothing yet.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { all: self.clone(), frame: None, evicted: CancellationToken::new() }
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Cancelled when the frame under way has to go: close the connection and drop the share.
    pub fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }

    /// Waits until the frame under way may hold `bytes` in all. Dropping the future leaves what was held before.
    pub(crate) async fn hold(&mut self, bytes: usize) {
        loop {
            let all = self.all.clone();
            let freed = all.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.try_hold(bytes) {
                return;
            }
            freed.await;
        }
    }

    /// The frame is whole, or given up.
    pub(crate) fn release(&mut self) {
        let Some(frame) = self.frame.take() else { return };
        {
            let mut table = self.all.lock();
            let held = table.frames.remove(&frame).map_or(0, |held| held.bytes);
            table.used = table.used.saturating_sub(held);
        }
        self.all.freed.notify_waiters();
    }

    fn try_hold(&mut self, bytes: usize) -> bool {
        let mut table = self.all.lock();
        let before = self.frame.and_then(|frame| table.frames.get(&frame)).map_or(0, |held| held.bytes);
        let more = bytes.saturating_sub(before);
        let wanted = table.used.saturating_add(more);
        if wanted > self.all.limit {
            table.evict(wanted.saturating_sub(self.all.limit));
            return false;
        }
        table.used = wanted;
        let frame = self.frame.unwrap_or(table.next);
        if self.frame.replace(frame).is_none() {
            table.next = table.next.saturating_add(1);
        }
        table.frames.insert(frame, Held { bytes: before.saturating_add(more), evicted: self.evicted.clone() });
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release();
    }
}

impl Table {
    /// Tells the oldest frames to go until `excess` bytes will be free.
    fn evict(&self, excess: usize) {
        let mut freeing = 0usize;
        for held in self.frames.values() {
            if freeing >= excess {
                return;
            }
            held.evicted.cancel();
            freeing = freeing.saturating_add(held.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_oldest_frame_goes_and_the_newcomer_waits_until_it_has_gone() {
        let all = Unfinished::new(100);
        let (mut old, mut young, mut new) = (all.share(), all.share(), all.share());
        old.hold(40).await;
        young.hold(60).await;
        // It grew last and is the oldest all the same.
        old.hold(40).await;
        let evicted = old.evicted();
        let going = tokio::spawn(async move {
            evicted.cancelled().await;
            drop(old);
        });
        tokio::time::timeout(Duration::from_secs(60), new.hold(30)).await.unwrap();
        going.await.unwrap();
        assert!(!young.evicted().is_cancelled() && !new.evicted().is_cancelled());
        assert_eq!(all.used(), 90);
        young.release();
        drop(new);
        assert_eq!(all.used(), 0);
    }
}
