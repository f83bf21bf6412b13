//! Fetches again what `rorqual repair` had to drop: payload of commits that were applied long ago, which nobody waits for.
//!
//! The keys stand in rows of the column `meta`. One row is asked for at a time, of all peers; a row that is done is deleted, and
//! what no peer has by then stays away: the log says "not stored here" for it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rorqual_config::AuthorityIndex;
use rorqual_config::encoding::decode;
use rorqual_protocol::types::BatchKey;
use rorqual_store::{Direction, Durability, Store, StoreError, WriteBatch};
use tracing::{info, warn};

use super::payload::PayloadSync;
use crate::schema::{self, Meta};

/// Keys in one row.
pub const ROW: usize = 4_096;
/// How long peers have to serve a row.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name of a row.
pub fn row_key(number: u64) -> Bytes {
    [Meta::REFETCH, &number.to_be_bytes()].concat().into()
}

/// What the task is made of.
pub struct Refetch {
    /// Has the rows, and gets the payload.
    pub store: Store,
    /// Asks peers.
    pub payload: PayloadSync,
    /// Who is asked.
    pub peers: Vec<AuthorityIndex>,
}

impl Refetch {
    /// Runs until no row is left.
    ///
    /// # Errors
    /// What the store says.
    pub async fn run(self) -> Result<(), StoreError> {
        let (mut came, mut missed) = (0usize, 0usize);
        loop {
            // No other record sorts behind these.
            let page = self.store.iterate(schema::META, Meta::REFETCH, &[], 1, usize::MAX, Direction::Forward).await?;
            let row = page.first().filter(|(key, _)| key.starts_with(Meta::REFETCH));
            let Some((key, value)) = row else { break };
            let keys: Vec<(BatchKey, u32)> = decode(value).unwrap_or_default();
            let found = self.fetch(&keys).await?;
            came = came.saturating_add(found);
            missed = missed.saturating_add(keys.len().saturating_sub(found));
            let mut done = WriteBatch::new();
            done.delete(schema::META, key.clone());
            self.store.write_batch(done, Durability::Buffered).await?;
        }
        match (came, missed) {
            (0, 0) => {}
            (came, 0) => info!(batches = came, "payload that a repair had dropped is here again"),
            (came, missed) => {
                warn!(batches = came, missed, "no peer has some of the payload that a repair had dropped")
            }
        }
        Ok(())
    }

    /// Asks for all of them; how many came in time.
    async fn fetch(&self, keys: &[(BatchKey, u32)]) -> Result<usize, StoreError> {
        let mut waits = FuturesUnordered::new();
        for (key, bytes) in keys {
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
            self.payload.cancel(*key);
        }
        result.map(|()| came)
    }
}
