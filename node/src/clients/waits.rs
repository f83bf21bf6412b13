//! Questions that wait for the log to reach a position, ordered by position.
//!
//! Promises: whoever waits is woken when its position is reached, and not before; a commit costs nothing for those further on.
//! Bounded: where too many wait, the one that waits for the highest position is answered "not yet" at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::execution::log::AppliedState;

/// Questions that wait, of all connections.
const MAX_WAITS: usize = 16_384;

/// All of them. Cheap to clone.
#[derive(Clone)]
pub struct LogWaits(Arc<Inner>);

struct Inner {
    applied: watch::Receiver<AppliedState>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// By position and number. Dropping the sender wakes.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<()>>,
    /// Execution has ended: nothing is reached any more.
    closed: bool,
}

/// One that waits; leaves when it is dropped.
struct Wait<'a> {
    inner: &'a Inner,
    key: (u64, u64),
    woken: oneshot::Receiver<()>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.inner.lock().waiting.remove(&self.key);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogWaits {
    /// Nobody waits yet. One task, which ends with execution.
    pub fn spawn(applied: watch::Receiver<AppliedState>) -> Self {
        let this = Self(Arc::new(Inner { applied: applied.clone(), table: Mutex::default() }));
        tokio::spawn(this.clone().wake(applied));
        this
    }

    /// Resolves when the log reaches beyond a position, at the deadline, or where there is no room to wait.
    pub async fn reached(&self, position: u64, deadline: Instant) {
        let Some(mut wait) = self.enter(position) else { return };
        // Looked at after entering: a commit between the two is not missed.
        if self.0.applied.borrow().next_position > position {
            return;
        }
        let _ = tokio::time::timeout_at(deadline, &mut wait.woken).await;
    }

    /// How many wait.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.lock().waiting.len()
    }

    fn enter(&self, position: u64) -> Option<Wait<'_>> {
        if self.0.applied.borrow().next_position > position {
            return None;
        }
        let (sender, woken) = oneshot::channel();
        let mut table = self.0.lock();
        if table.closed {
            return None;
        }
        let key = (position, table.next);
        table.next = table.next.saturating_add(1);
        table.waiting.insert(key, sender);
        if table.waiting.len() > MAX_WAITS {
            table.waiting.pop_last();
        }
        Some(Wait { inner: &self.0, key, woken })
    }

    async fn wake(self, mut applied: watch::Receiver<AppliedState>) {
        while applied.changed().await.is_ok() {
            let next = applied.borrow_and_update().next_position;
            let due = {
                let mut table = self.0.lock();
                let later = table.waiting.split_off(&(next, 0));
                std::mem::replace(&mut table.waiting, later)
            };
            drop(due);
        }
        let mut table = self.0.lock();
        table.closed = true;
        table.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    const LATE: Duration = Duration::from_secs(600);

    /// Counts how often `wait` is looked at.
    async fn counted(wait: impl Future<Output = ()>, polls: Arc<AtomicUsize>) {
        let mut wait = std::pin::pin!(wait);
        std::future::poll_fn(|context| {
            polls.fetch_add(1, Ordering::Relaxed);
            wait.as_mut().poll(context)
        })
        .await;
    }

    #[tokio::test]
    async fn only_those_whose_position_is_reached_are_woken() {
        let (sender, applied) = watch::channel(AppliedState::default());
        let waits = LogWaits::spawn(applied);
        let polls = Arc::new(AtomicUsize::new(0));
        let deadline = Instant::now() + LATE;
        let far: Vec<_> = (0..100)
            .map(|number| {
                let (waits, polls) = (waits.clone(), polls.clone());
                tokio::spawn(async move { counted(waits.reached(1_000 + number, deadline), polls).await })
            })
            .collect();
        while waits.len() < 100 {
            tokio::task::yield_now().await;
        }
        for next in 1..=200 {
            let reached = waits.reached(next - 1, deadline);
            sender.send_modify(|state| state.next_position = next);
            tokio::time::timeout(LATE, reached).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(polls.load(Ordering::Relaxed), 100, "looked at once each, when they came");
        sender.send_modify(|state| state.next_position = 2_000);
        for wait in far {
            tokio::time::timeout(LATE, wait).await.unwrap().unwrap();
        }
        assert_eq!(waits.len(), 0);
    }

    #[tokio::test]
    async fn where_too_many_wait_the_furthest_is_sent_away_and_the_nearest_stays() {
        let (_sender, applied) = watch::channel(AppliedState::default());
        let waits = LogWaits::spawn(applied);
        let held: Vec<_> = (0..MAX_WAITS as u64).map(|position| waits.enter(position).unwrap()).collect();
        let nearest = waits.enter(0).unwrap();
        assert_eq!(waits.len(), MAX_WAITS);
        assert!(!waits.0.lock().waiting.contains_key(&held.last().unwrap().key));
        assert!(waits.0.lock().waiting.contains_key(&nearest.key));
        // One further still is answered at once.
        tokio::time::timeout(LATE, waits.reached(u64::MAX, Instant::now() + 2 * LATE)).await.unwrap();
        drop((held, nearest));
        assert_eq!(waits.len(), 0);
    }
}
