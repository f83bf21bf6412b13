//! The task over a store: order, late payload, restarts, clean and unclean ends.

use bytes::Bytes;
use rorqual_client::submission::Submission;
use rorqual_config::Digest;
use rorqual_config::encoding::encode;
use rorqual_protocol::types::CommitIndex;

use super::support::{Batch, Running, committee, delivery, plain, store, ticketed, wait_for};
use crate::clients::receipts::Receipts;
use crate::execution::ExecutionError;
use crate::schema;
use crate::stall::Stall;

#[tokio::test]
async fn payload_that_comes_late_wakes_execution_and_order_is_kept() {
    let mut node = Running::start(&store()).await.unwrap();
    let (late, early) = (Batch::new(1, 1, &[plain(&["first"])]), Batch::new(2, 1, &[plain(&["second"])]));
    node.payload(&early).await;
    node.deliver(&delivery(1, 10, std::slice::from_ref(&late))).await;
    node.deliver(&delivery(2, 20, &[early])).await;
    node.deliver(&delivery(3, 30, &[])).await;
    assert!(node.is_waiting().await);
    assert_eq!(node.execution.log.applied().index, CommitIndex(0));
    node.payload(&late).await;
    for index in 1..=3 {
        assert_eq!(node.executed().await.0, CommitIndex(index));
    }
    let applied = node.execution.log.applied();
    assert_eq!((applied.index, applied.next_position, applied.time_ms), (CommitIndex(3), 2, 30));
    let texts: Vec<Bytes> = node.execution.log.range(0, 9, 1_000).await.unwrap().into_iter().map(|e| e.bytes).collect();
    assert_eq!(texts, ["first", "second"]);
    node.stop().await.unwrap();
}

#[tokio::test]
async fn nobody_hears_of_a_commit_before_its_write_is_done() {
    let store = store();
    let node = Running::start(&store).await.unwrap();
    let batch = Batch::new(0, 1, &[ticketed(1, 500, &["a"])]);
    node.payload(&batch).await;
    let delivery = delivery(1, 10, std::slice::from_ref(&batch));
    store.write(schema::COMMITS, schema::index_key(CommitIndex(1)), encode(&*delivery)).await.unwrap();
    let receipts = Receipts::default();
    receipts.sealed(batch.key(), Vec::new());
    let mut node = node.with_receipts(receipts.clone()).await;
    let id = ticketed(1, 500, &["a"]).id(committee().chain_id()).unwrap();

    let stall = Stall::new(&store);
    node.hand_over(&delivery).await;
    // Executed, and its write is called: nobody may know of it all the same.
    wait_for(|| store.statistics().queued_batches > 0).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert_eq!(node.execution.log.lookup(id).await, None);
        assert_eq!((node.execution.log.applied().index, receipts.batches()), (CommitIndex(0), 1));
    }
    assert!(node.nothing_executed());
    drop(stall);
    assert_eq!(node.executed().await.0, CommitIndex(1));
    assert_eq!((node.execution.log.applied().index, receipts.batches()), (CommitIndex(1), 0));
    assert!(node.execution.log.lookup(id).await.is_some());
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_restart_goes_on_from_the_same_state() {
    let (disk, other) = (store(), store());
    let mut node = Running::start(&disk).await.unwrap();
    let mut steady = Running::start(&other).await.unwrap();
    assert_eq!(node.execution.recovered, None);
    assert_eq!(node.execution.state_digests, [(CommitIndex(0), Digest::default())]);
    let batches = |index: u64| {
        vec![
            Batch::new(1, index, &[ticketed(1, 900, &["once"]), plain(&["every time"])]),
            Batch::new(0, index, &[ticketed(index as u8, 90 * index, &["x"])]),
        ]
    };
    let mut digests = Vec::new();
    for index in 1..=9 {
        let digest = node.commit(index, 100 * index - 50, &batches(index)).await;
        assert_eq!(digest, steady.commit(index, 100 * index - 50, &batches(index)).await);
        digests.push(digest);
        node.stop().await.unwrap();
        node = Running::start(&disk).await.unwrap();
        assert_eq!(node.execution.recovered, Some((CommitIndex(index), digest)));
        assert_eq!(node.execution.log.applied(), steady.execution.log.applied());
        let id = ticketed(1, 900, &["once"]).id(committee().chain_id()).unwrap();
        let spent = node.execution.log.lookup(id).await;
        assert_eq!(spent, steady.execution.log.lookup(id).await);
        assert_eq!(spent, Some((CommitIndex(1), 0, batches(1)[0].key())));
    }
    // Every fourth commit is a checkpoint.
    let expected = [(CommitIndex(0), Digest::default()), (CommitIndex(4), digests[3]), (CommitIndex(8), digests[7])];
    assert_eq!(node.execution.state_digests, expected);
}

#[tokio::test]
async fn deliveries_that_were_applied_are_skipped_after_a_restart() {
    let disk = store();
    let mut node = Running::start(&disk).await.unwrap();
    let batch = Batch::new(1, 1, &[plain(&["one"])]);
    node.commit(1, 10, std::slice::from_ref(&batch)).await;
    node.commit(2, 20, &[]).await;
    node.stop().await.unwrap();
    let mut node = Running::start(&disk).await.unwrap();
    node.deliver(&delivery(1, 10, std::slice::from_ref(&batch))).await;
    node.deliver(&delivery(2, 20, &[])).await;
    assert!(node.is_waiting().await);
    node.commit(3, 30, &[]).await;
    assert_eq!(node.execution.log.applied().next_position, 1);
    node.deliver(&delivery(2, 21, &[])).await;
    assert!(matches!(node.ended().await, ExecutionError::Diverged { index: CommitIndex(2) }));
}

#[tokio::test]
async fn a_gap_ends_execution() {
    let node = Running::start(&store()).await.unwrap();
    node.deliver(&delivery(2, 10, &[])).await;
    let error = node.ended().await;
    assert!(matches!(error, ExecutionError::OutOfOrder { .. }), "{error}");
}

#[tokio::test]
async fn the_end_of_consensus_is_an_error_and_a_clean_stop_is_none() {
    let disk = store();
    let node = Running::start(&disk).await.unwrap();
    node.stop().await.unwrap();
    let node = Running::start(&disk).await.unwrap();
    let error = node.abandon().await;
    assert!(matches!(error, ExecutionError::Closed("consensus")), "{error}");
}

#[tokio::test]
async fn a_disk_that_contradicts_itself_is_refused() {
    let disk = store();
    let mut node = Running::start(&disk).await.unwrap();
    node.commit(1, 10, &[]).await;
    node.stop().await.unwrap();
    disk.write(schema::EXECUTED, schema::index_key(CommitIndex(1)), Bytes::from_static(b"?")).await.unwrap();
    let error = Running::start(&disk).await.err().unwrap();
    assert!(matches!(error, ExecutionError::Record { column: "executed", .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_and_many_commits_keep_their_order() {
    let mut node = Running::start(&store()).await.unwrap();
    let large = |sequence: u64| {
        let text = sequence.to_string();
        let submissions: Vec<Submission> = (0..6_000).map(|_| plain(&[&text])).collect();
        Batch::new((sequence % 4) as u16, sequence, &submissions)
    };
    let batches: Vec<Batch> = (1..=8).map(large).collect();
    for batch in batches.iter().rev() {
        node.payload(batch).await;
    }
    node.deliver(&delivery(1, 10, &batches[..5])).await;
    node.deliver(&delivery(2, 20, &batches[5..])).await;
    assert_eq!(node.executed().await.0, CommitIndex(1));
    assert_eq!(node.executed().await.0, CommitIndex(2));
    for (sequence, place) in (1..=8u64).zip(0..) {
        let entry = node.execution.log.read(place * 6_000 + 5_999).await.unwrap();
        assert_eq!((entry.bytes, entry.batch.sequence.0), (Bytes::from(sequence.to_string()), sequence));
    }
    for index in 3..300 {
        node.commit(index, 10 * index, &[]).await;
    }
    assert_eq!(node.execution.log.applied().next_position, 48_000);
    node.stop().await.unwrap();
}
