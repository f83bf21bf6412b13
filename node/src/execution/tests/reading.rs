//! Reads by position, ranges, questions about ids.

use bytes::Bytes;
use rorqual_protocol::types::CommitIndex;

use super::support::{Batch, Running, committee, plain, store, ticketed};
use crate::execution::log::LogError;
use crate::schema;

/// Commits 1 to 4: positions 0 to 6 in 1, nothing in 2, refused ones between in 3, one in 4.
async fn filled() -> (Running, Vec<Batch>) {
    let mut node = Running::start(&store()).await.unwrap();
    let batches = vec![
        Batch::new(1, 1, &[plain(&["a", "b"]), ticketed(1, 900, &["c"])]),
        Batch::raw(2, 1, Bytes::from_static(b"rubbish")),
        Batch::new(3, 1, &[plain(&["d"]), plain(&["e", "f", "g"])]),
        Batch::new(2, 2, &[plain(&["h"]), ticketed(1, 900, &["c"]), plain(&["i"])]),
        Batch::new(2, 3, &[ticketed(1, 900, &["c"])]),
        Batch::new(1, 2, &[plain(&[""])]),
        Batch::new(0, 1, &[plain(&["j"])]),
    ];
    node.commit(1, 10, &batches[..3]).await;
    node.commit(2, 20, &[]).await;
    node.commit(3, 30, &batches[3..6]).await;
    node.commit(4, 40, &batches[6..]).await;
    (node, batches)
}

const LOG: [&str; 11] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "", "j"];

#[tokio::test]
async fn every_position_is_read_with_commit_and_batch() {
    let (node, batches) = filled().await;
    let log = &node.execution.log;
    assert_eq!(log.applied().next_position, LOG.len() as u64);
    for (position, text) in (0..).zip(LOG) {
        let entry = log.read(position).await.unwrap();
        assert_eq!((entry.position, &entry.bytes[..]), (position, text.as_bytes()));
    }
    let entry = log.read(8).await.unwrap();
    assert_eq!((entry.commit, entry.batch), (CommitIndex(3), batches[3].key()));
    let error = log.read(11).await.unwrap_err();
    assert!(matches!(error, LogError::NotYet { next: 11 }), "{error}");
}

#[tokio::test]
async fn a_range_is_bounded_in_count_and_bytes_and_has_no_gaps() {
    let (node, _) = filled().await;
    let log = &node.execution.log;
    for from in 0..LOG.len() {
        for count in 1..=LOG.len() + 1 {
            let entries = log.range(from as u64, count, 1_000).await.unwrap();
            let expected = &LOG[from..LOG.len().min(from + count)];
            assert_eq!(
                entries.iter().map(|entry| &entry.bytes[..]).collect::<Vec<_>>(),
                expected.iter().map(|t| t.as_bytes()).collect::<Vec<_>>()
            );
            assert!((from as u64..).zip(&entries).all(|(position, entry)| entry.position == position));
        }
    }
    assert_eq!(log.range(1, 100, 0).await.unwrap().len(), 1, "the first is always taken");
    assert_eq!(log.range(1, 100, 4).await.unwrap().len(), 4);
    assert!(matches!(log.range(11, 1, 1).await, Err(LogError::NotYet { next: 11 })));
}

#[tokio::test]
async fn an_id_is_found_while_it_lives() {
    let (mut node, batches) = filled().await;
    let chain = committee().chain_id();
    let id = ticketed(1, 900, &["c"]).id(chain).unwrap();
    assert_eq!(node.execution.log.lookup(id).await, Some((CommitIndex(1), 2, batches[0].key())));
    assert_eq!(node.execution.log.lookup(ticketed(2, 900, &["c"]).id(chain).unwrap()).await, None);
    node.commit(5, 900, &[]).await;
    assert!(node.execution.log.lookup(id).await.is_some());
    node.commit(6, 901, &[]).await;
    assert_eq!(node.execution.log.lookup(id).await, None);
}

#[tokio::test]
async fn payload_that_is_not_here_is_named() {
    let (node, batches) = filled().await;
    let mut write = rorqual_store::WriteBatch::new();
    write.delete(schema::PAYLOAD, schema::batch_key(&batches[2].key()));
    node.store.write_batch(write, rorqual_store::Durability::Buffered).await.unwrap();
    let log = &node.execution.log;
    let error = log.read(5).await.unwrap_err();
    assert!(matches!(error, LogError::PayloadGone { batch } if batch == batches[2].key()), "{error}");
    assert_eq!(log.range(0, 100, 1_000).await.unwrap().len(), 3, "what comes before is there");
    assert_eq!(log.read(7).await.unwrap().bytes, "h");
}

#[tokio::test]
async fn a_subscriber_sees_positions_grow() {
    let (mut node, _) = filled().await;
    let mut applied = node.execution.log.subscribe();
    applied.mark_unchanged();
    node.commit(5, 50, &[Batch::new(0, 2, &[plain(&["k"])])]).await;
    applied.changed().await.unwrap();
    assert_eq!(applied.borrow().next_position, 12);
}
