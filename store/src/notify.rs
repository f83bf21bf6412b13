//! The waiters of `notify_read`, shared between readers and the writer.
//!
//! No wake-up is lost: a reader registers *before* it looks, the writer takes the waiters *after* it has applied. Both go
//! through the lock of the key's shard, so either the writer finds the registration, or the reader's look comes after the
//! write.

use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::sync::{Mutex, MutexGuard};
use crate::waiters::{Ticket, Waiters};

const SHARDS: usize = 16;

type Wake = oneshot::Sender<Result<Bytes, StoreError>>;

/// All waiters, in shards by key.
#[derive(Debug)]
pub(crate) struct Registry {
    hasher: RandomState,
    shards: Vec<Mutex<Waiters<Wake>>>,
}

/// One waiting reader. Dropping it withdraws the registration.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    registry: &'a Registry,
    column: usize,
    key: Bytes,
    ticket: Ticket,
    receiver: oneshot::Receiver<Result<Bytes, StoreError>>,
}

impl Registry {
    pub(crate) fn new(columns: usize) -> Registry {
        let shards = (0..SHARDS).map(|_| Mutex::new(Waiters::new(columns))).collect();
        Registry { hasher: RandomState::new(), shards }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Waiters<Wake>> {
        let number = self.hasher.hash_one(key) as usize % SHARDS;
        lock(&self.shards[number])
    }

    pub(crate) fn register(&self, column: usize, key: Bytes) -> Registration<'_> {
        let (wake, receiver) = oneshot::channel();
        let ticket = self.shard(&key).register(column, key.clone(), wake);
        Registration { registry: self, column, key, ticket, receiver }
    }

    /// Wakes everyone who waits for the key with the value that was written.
    pub(crate) fn wake(&self, column: usize, key: &[u8], value: &Bytes) {
        let woken = self.shard(key).take(column, key);
        for wake in woken {
            // An error means that the reader has just gone.
            let _ = wake.send(Ok(value.clone()));
        }
    }

    /// Wakes everyone with an error: no write will come any more.
    pub(crate) fn wake_all(&self, error: &StoreError) {
        for shard in &self.shards {
            let everyone = lock(shard).take_all();
            for wake in everyone {
                let _ = wake.send(Err(error.clone()));
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

fn lock(shard: &Mutex<Waiters<Wake>>) -> MutexGuard<'_, Waiters<Wake>> {
    // No code under this lock panics half way through a change.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registration<'_> {
    /// Resolves when woken; `None` if the registry went away.
    pub(crate) async fn woken(&mut self) -> Option<Result<Bytes, StoreError>> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let withdrawn = self.registry.shard(&self.key).withdraw(self.column, &self.key, self.ticket);
        drop(withdrawn);
    }
}
