//! Group commit: one sync answers everyone whose batch was applied before it began.
//!
//! The writer hands over batches *after* it has applied them, and the syncer takes all that are there *before* it starts
//! a sync. While a sync runs the writer goes on applying, and the next sync covers all of that.

use std::sync::PoisonError;

use crate::queue::{BATCH_OVERHEAD, Lane, Reply};
use crate::shared::Shared;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// A batch that is applied, with the lane in which it keeps a place.
type Pending = (Lane, Reply);

#[derive(Debug, Default)]
struct State {
    pending: Vec<Pending>,
    closed: bool,
}

/// Applied batches that wait for a sync. Bounded by the write queue: each still holds its place there.
#[derive(Debug, Default)]
pub(crate) struct SyncQueue {
    state: Mutex<State>,
    changed: Condvar,
}

impl SyncQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands applied batches over; they come back if no syncer is there to take them.
    pub(crate) fn push(&self, replies: Vec<Pending>) -> Result<(), Vec<Pending>> {
        if replies.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        if state.closed {
            return Err(replies);
        }
        state.pending.extend(replies);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn take(&self) -> Option<Vec<Pending>> {
        let mut state = self.lock();
        loop {
            if !state.pending.is_empty() {
                return Some(std::mem::take(&mut state.pending));
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No more batches will come; the syncer ends after those it has.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Closes and takes everything out: nobody will sync it.
    pub(crate) fn abandon(&self) -> Vec<Pending> {
        let mut state = self.lock();
        state.closed = true;
        std::mem::take(&mut state.pending)
    }
}

/// The life of the syncer thread.
pub(crate) fn run(shared: &Shared) {
    while let Some(replies) = shared.syncs.take() {
        let result = sync_once(shared, replies.len());
        for (lane, reply) in replies {
            shared.queue.release(lane, BATCH_OVERHEAD);
            // An error means that nobody waits for the answer.
            let _ = reply.send(result.clone());
        }
    }
}

fn sync_once(shared: &Shared, batches: usize) -> Result<(), crate::StoreError> {
    if let Some(error) = shared.failure.aftermath() {
        return Err(error);
    }
    let result = shared.engine.sync();
    match &result {
        Ok(()) => shared.counters.count_sync(batches),
        Err(error) => shared.fail(error),
    }
    result
}
