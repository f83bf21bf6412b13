//! Fetches again what the log holds and this disk has lost: payload of commits that were applied long ago, which nobody waits
//! for. A power cut may have taken it before it was synced, or `rorqual repair` had to drop it.
//!
//! The store names what is missing ([`Store::lost`]) until it is there again, or retention deletes it: no restart and no absent
//! peer makes a hole forgotten. Peers are asked over and over, some at a time; until the last piece is there `/readyz` says that
//! the log has a hole.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::{BatchKey, Sequence};
use rorqual_store::{Durability, Store, StoreError, WriteBatch};
use tracing::{info, warn};

use super::payload::PayloadSync;
use crate::schema;

/// Batches asked for at once.
const AT_ONCE: usize = 4_096;
/// How long peers have to serve them.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two rounds of questions, when peers did not have everything.
const PAUSE: Duration = Duration::from_secs(5);

/// Forgets those losses that no commit on record delivers: no block that names them has left, or whoever still wants them asks
/// for them. What is left is missing from the log. Before anything is taken in.
///
/// `fresh` says whether a batch of this author and sequence may still be delivered.
///
/// # Errors
/// What the store says.
pub async fn settle(
    store: &Store,
    fresh: impl Fn(AuthorityIndex, Sequence) -> bool,
) -> Result<Vec<BatchKey>, StoreError> {
    let mut missing = Vec::new();
    let mut needless = WriteBatch::new();
    for (name, _) in store.lost(schema::PAYLOAD)? {
        // A row goes with the record of the commit that delivers the batch.
        let undelivered = store.read(schema::UNDELIVERED, &name).await?.is_some();
        match schema::parse_batch_key(&name).filter(|key| !undelivered && !fresh(key.author, key.sequence)) {
            Some(key) => missing.push(key),
            None => {
                needless.delete(schema::PAYLOAD, name.clone());
                needless.delete(schema::UNDELIVERED, name);
            }
        }
    }
    if !needless.is_empty() {
        store.write_batch(needless, Durability::Buffered).await?;
    }
    if !missing.is_empty() {
        warn!(batches = missing.len(), "payload of the log was lost; it is fetched from peers");
    }
    Ok(missing)
}

/// How many batches the log holds and this disk does not.
pub fn holes(store: &Store) -> usize {
    // The column is declared: there is no error.
    store.lost_count(schema::PAYLOAD).unwrap_or(0)
}

/// What the task is made of.
pub struct Refetch {
    /// Knows what is missing, and gets it.
    pub store: Store,
    /// Asks peers.
    pub payload: PayloadSync,
    /// Who is asked.
    pub peers: Vec<AuthorityIndex>,
}

impl Refetch {
    /// Runs until nothing is missing.
    ///
    /// # Errors
    /// What the store says.
    pub async fn run(self) -> Result<(), StoreError> {
        let mut all = 0usize;
        loop {
            let missing: Vec<(BatchKey, u32)> = self.missing()?;
            if missing.is_empty() {
                if all > 0 {
                    info!(batches = all, "payload of the log that was lost is here again");
                }
                return Ok(());
            }
            let asked = missing.len();
            let came = self.fetch(missing).await?;
            all = all.saturating_add(came);
            if came < asked {
                warn!(missing = asked.saturating_sub(came), "no peer has served some payload of the log yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// The oldest of what is missing. A key that names no batch was never written by this program: it is left to `verify-store`.
    fn missing(&self) -> Result<Vec<(BatchKey, u32)>, StoreError> {
        let lost = self.store.lost(schema::PAYLOAD)?.into_iter();
        let named = lost.filter_map(|(key, bytes)| Some((schema::parse_batch_key(&key)?, u32::try_from(bytes).ok()?)));
        Ok(named.take(AT_ONCE).collect())
    }

    /// Asks for all of them; how many came in time.
    async fn fetch(&self, keys: Vec<(BatchKey, u32)>) -> Result<usize, StoreError> {
        let mut waits = FuturesUnordered::new();
        for (key, bytes) in &keys {
            self.payload.wait(*key, *bytes, self.peers.clone(), true);
            waits.push(self.store.notify_read(schema::PAYLOAD, schema::batch_key(key)));
        }
        let mut came = 0usize;
        let all = async {
            while let Some(stored) = waits.next().await {
                stored?;
                came = came.saturating_add(1);
            }
            Ok::<(), StoreError>(())
        };
        let result = tokio::time::timeout(PATIENCE, all).await.unwrap_or(Ok(()));
        for (key, _) in keys {
            self.payload.cancel(key);
        }
        result.map(|()| came)
    }
}

#[cfg(test)]
#[path = "refetch_tests.rs"]
mod tests;
