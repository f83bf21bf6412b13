//! The durable point of an own block: the one place that says when a block may leave.
//!
//! Promises: it is over only after the store has answered its write, the safety record of the block before it is synced, and the
//! record names this block, in this order.

use std::sync::Arc;

use rorqual_protocol::types::Round;
use rorqual_store::Completion;

use super::effects::Stop;
use super::safety::{SafetyRecord, Written};

/// Resolves when the point is over. `written` is the block's own write, none if that was waited for; `synced` the safety record's,
/// where the power counts; `round` that of the block, none for a write without one. Dropping it only gives up the answer.
///
/// # Errors
/// What failed: the node must end, and the block must not leave.
pub async fn point(
    written: Option<Completion>,
    synced: Option<Written>,
    round: Option<Round>,
    safety: Arc<SafetyRecord>,
) -> Result<(), Stop> {
    if let Some(written) = written {
        written.await.map_err(Stop::Store)?;
    }
    if let Some(synced) = synced {
        synced.done().await.map_err(Stop::Safety)?;
    }
    match round {
        Some(round) => safety.name(round).done().await.map_err(Stop::Safety),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use rorqual_config::parameters::StoreParameters;
    use rorqual_config::{AuthorityIndex, ChainId, Digest};
    use rorqual_store::{Durability, Store, WriteBatch};

    use super::super::safety::{self, Found, Record};
    use super::*;
    use crate::schema;
    use crate::stall::Stall;

    fn named(directory: &std::path::Path) -> Round {
        match safety::read(directory).unwrap() {
            Found::Valid { record, .. } => record.round,
            _ => panic!("a valid record"),
        }
    }

    #[tokio::test]
    async fn a_block_neither_leaves_nor_is_named_while_its_write_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_memory(schema::options(&StoreParameters::default(), true));
        let record = Record::first(ChainId(Digest::default()), AuthorityIndex(1));
        let safety = SafetyRecord::open(folder.path(), record).unwrap();
        let stall = Stall::new(&store);
        let mut batch = WriteBatch::new();
        batch.put(schema::OWN, schema::round_key(Round(7)), "block");
        let written = store.write_batch(batch, Durability::Synced);
        let mut point = Box::pin(point(Some(written), Some(safety.sync()), Some(Round(7)), safety.clone()));
        // Whatever else there is to wait for is over: the record answers in the order of its orders.
        safety.sync().done().await.unwrap();
        let early = std::future::poll_fn(|context| Poll::Ready(point.as_mut().poll(context).is_ready())).await;
        assert!(!early, "the write is not done");
        safety.sync().done().await.unwrap();
        assert_eq!((named(folder.path()), safety.named()), (Round(0), Round(0)));
        drop(stall);
        assert!(point.await.is_ok());
        assert_eq!((named(folder.path()), safety.named()), (Round(7), Round(7)));
        assert_eq!(store.read(schema::OWN, &schema::round_key(Round(7))).await.unwrap().unwrap(), "block");
    }
}
