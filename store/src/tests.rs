//! What the store does when its engine is slow, fails or breaks: with an engine that does so on command.

mod fake;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::fake::{Controls, FakeEngine, Gate};
use crate::{Column, ColumnOptions, Durability, Options, Store, StoreError, WriteBatch};

const DATA: Column = Column("data");
const VALUE: usize = 1000;

fn options() -> Options {
    Options { queue_bytes: 10 * VALUE, ..Options::with_columns(vec![ColumnOptions::small(DATA.0)]) }
}

fn store() -> (Store, Arc<Controls>) {
    store_with(&options())
}

fn store_with(options: &Options) -> (Store, Arc<Controls>) {
    let (engine, controls) = FakeEngine::new(options);
    (Store::start(Box::new(engine), options).expect("threads"), controls)
}

/// A watchdog: nothing in these tests takes long, so that waiting this long means waiting for ever.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it must not wait for ever")
}

/// Lets others run until the condition holds.
async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn value(number: u8) -> Bytes {
    Bytes::from(vec![number; VALUE])
}

fn batch(key: &'static str) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(DATA, key, "value");
    batch
}

#[tokio::test]
async fn a_full_queue_refuses_a_try_and_makes_others_wait_in_order() {
    let (store, controls) = store();
    controls.apply.shut();
    let mut admitted = Vec::new();
    let refused = loop {
        match store.try_write(DATA, "key", value(admitted.len() as u8)) {
            Ok(completion) => admitted.push(completion),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.error, StoreError::Full { queue_bytes: 10 * VALUE });
    assert_eq!(refused.batch.bytes(), VALUE + 3);
    assert!((7..=9).contains(&admitted.len()), "{}", admitted.len());
    let one = store.write(DATA, "key", value(101));
    let two = store.write(DATA, "key", value(102));
    assert_eq!(store.statistics().waiting_writers, 2);
    assert!(store.statistics().queue_bytes <= 10 * VALUE);
    assert!(store.try_write(DATA, "k", "").is_err(), "a try does not overtake who waits");
    controls.apply.open();
    for completion in admitted {
        assert_eq!(soon(completion).await, Ok(()));
    }
    assert_eq!(soon(two).await, Ok(()));
    assert_eq!(soon(one).await, Ok(()));
    assert_eq!(soon(store.read(DATA, b"key")).await, Ok(Some(value(102))));
    until(|| store.statistics().queue_bytes == 0).await;
}

#[tokio::test]
async fn a_write_that_is_dropped_while_it_waits_for_room_is_applied_before_those_behind_it() {
    let (store, controls) = store();
    controls.apply.shut();
    let first = store.write(DATA, "first", Bytes::from(vec![0; 20 * VALUE]));
    let dropped = store.write(DATA, "dropped", value(1));
    let last = store.write(DATA, "last", "needs what was dropped");
    drop(dropped);
    controls.apply.open();
    assert_eq!((soon(first).await, soon(last).await), (Ok(()), Ok(())));
    assert_eq!(soon(store.read(DATA, b"dropped")).await, Ok(Some(value(1))));
}

#[tokio::test]
async fn an_urgent_write_waits_for_few_of_many_bulk_ones_and_for_those_with_its_key() {
    let (store, controls) = store_with(&Options { queue_bytes: 64 << 20, ..options() });
    let bulk = |number: u32| {
        let mut batch = WriteBatch::new();
        batch.put(DATA, number.to_be_bytes().to_vec(), "tiny");
        batch.set_bulk();
        store.write_batch(batch, Durability::Buffered)
    };
    controls.apply.shut();
    let all: Vec<_> = (0..10_000).map(bulk).collect();
    until(|| controls.applies() == 1).await;
    let urgent = store.write(DATA, "urgent", "value");
    let mut same = WriteBatch::new();
    same.delete(DATA, 9_999_u32.to_be_bytes().to_vec());
    let same = store.write_batch(same, Durability::Buffered);
    controls.apply.open();
    assert_eq!((soon(urgent).await, soon(same).await), (Ok(()), Ok(())));
    let place = controls.put().iter().position(|key| key == "urgent").expect("it was applied");
    assert!(place <= 256, "behind {place} others");
    assert_eq!(soon(store.read(DATA, &9_999_u32.to_be_bytes())).await, Ok(None));
    for completion in all {
        assert_eq!(soon(completion).await, Ok(()));
    }
    until(|| store.statistics().queue_bytes == 0).await;
}

#[tokio::test]
async fn a_write_that_has_its_place_is_applied_even_if_nobody_waits_for_it() {
    let (store, controls) = store();
    controls.apply.shut();
    drop(store.write(DATA, "unwatched", "value"));
    let next = store.write(DATA, "next", "");
    controls.apply.open();
    assert_eq!(soon(next).await, Ok(()));
    assert_eq!(soon(store.read(DATA, b"unwatched")).await, Ok(Some(Bytes::from("value"))));
}

#[tokio::test]
async fn the_order_of_calls_is_the_order_of_writes_whatever_is_polled_first() {
    let (store, _controls) = store();
    let mut completions: Vec<_> = (0..100_u8).map(|number| store.write(DATA, "key", value(number))).collect();
    while let Some(completion) = completions.pop() {
        assert_eq!(soon(completion).await, Ok(()));
    }
    assert_eq!(soon(store.read(DATA, b"key")).await, Ok(Some(value(99))));
}

#[tokio::test]
async fn reads_do_not_wait_behind_writes() {
    let (store, controls) = store();
    assert_eq!(soon(store.write(DATA, "key", "old")).await, Ok(()));
    controls.apply.shut();
    let write = store.write(DATA, "key", "new");
    assert_eq!(soon(store.read(DATA, b"key")).await, Ok(Some(Bytes::from("old"))));
    controls.apply.open();
    assert_eq!(soon(write).await, Ok(()));
    assert_eq!(soon(store.read(DATA, b"key")).await, Ok(Some(Bytes::from("new"))));
}

#[tokio::test]
async fn concurrent_synced_writes_share_a_sync_and_buffered_ones_do_not_wait_for_it() {
    let (store, controls) = store_with(&Options { queue_bytes: 1 << 20, ..options() });
    controls.sync.shut();
    let first = store.write_batch(batch("first"), Durability::Synced);
    until(|| controls.sync.arrived() == 1).await;
    let mut others: Vec<_> = (0..100).map(|_| store.write_batch(batch("more"), Durability::Synced)).collect();
    assert_eq!(soon(store.write(DATA, "buffered", "")).await, Ok(()));
    let pending = tokio::time::timeout(Duration::ZERO, &mut others[0]).await;
    assert!(pending.is_err(), "a synced write must not resolve before its sync");
    controls.sync.open();
    assert_eq!(soon(first).await, Ok(()));
    for other in others {
        assert_eq!(soon(other).await, Ok(()));
    }
    let statistics = store.statistics();
    assert_eq!((statistics.syncs, statistics.synced_writes), (2, 101));
    assert!(statistics.batches_per_sync() > 50.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synced_write_is_covered_by_a_sync_that_began_after_it_was_applied() {
    let (store, controls) = store();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16_u32 {
        let (store, controls) = (store.clone(), Arc::clone(&controls));
        tasks.spawn(async move {
            for number in 0..50_u32 {
                let mut batch = WriteBatch::new();
                let key = Bytes::from(format!("{task}/{number}"));
                batch.put(DATA, key.clone(), "");
                assert_eq!(store.write_batch(batch, Durability::Synced).await, Ok(()));
                assert!(controls.is_durable(&key), "{key:?} was reported before it was durable");
            }
        });
    }
    soon(tasks.join_all()).await;
}

#[tokio::test]
async fn an_empty_synced_batch_waits_for_all_writes_before_it() {
    let (store, controls) = store();
    drop(store.write(DATA, "key", "value"));
    assert_eq!(soon(store.write_batch(WriteBatch::new(), Durability::Synced)).await, Ok(()));
    assert!(controls.is_durable(b"key"));
}

#[tokio::test]
async fn a_failed_write_stops_the_store_and_everyone_is_told_why() {
    let (store, controls) = store();
    assert_eq!(soon(store.write(DATA, "before", "value")).await, Ok(()));
    let failed = store.failed();
    let waiter = tokio::spawn({
        let store = store.clone();
        async move { store.notify_read(DATA, "never").await }
    });
    until(|| store.statistics().waiters == 1).await;
    controls.fail_apply(StoreError::DiskFull { detail: "No space left on device".into() });
    let full = soon(store.write(DATA, "key", "value")).await.expect_err("the disk is full");
    assert!(matches!(full, StoreError::DiskFull { .. }));
    assert_eq!(soon(failed).await, full);
    assert_eq!(store.statistics().failed, Some(full.clone()));
    let failed = |error: &StoreError| matches!(error, StoreError::Failed { reason } if reason.contains("No space"));
    assert!(failed(&soon(waiter).await.expect("the task").expect_err("no write will come")));
    assert!(failed(&soon(store.write(DATA, "key", "value")).await.expect_err("failed")));
    assert!(failed(&store.try_write(DATA, "key", "value").expect_err("failed").error));
    assert!(failed(&soon(store.notify_read(DATA, "never")).await.expect_err("failed")));
    assert!(failed(&soon(store.shutdown()).await.expect_err("failed")));
    assert_eq!(controls.applies(), 2, "a failed write is not retried");
}

#[tokio::test]
async fn a_failed_store_still_answers_reads() {
    let (store, controls) = store();
    assert_eq!(soon(store.write(DATA, "before", "value")).await, Ok(()));
    controls.fail_apply(StoreError::Io { detail: "EIO".into() });
    assert!(soon(store.write(DATA, "key", "value")).await.is_err());
    assert_eq!(soon(store.read(DATA, b"before")).await, Ok(Some(Bytes::from("value"))));
    assert_eq!(soon(store.notify_read(DATA, "before")).await, Ok(Bytes::from("value")));
}

#[tokio::test]
async fn a_failed_sync_is_never_retried() {
    let (store, controls) = store();
    controls.fail_sync(StoreError::Io { detail: "EIO".into() });
    controls.sync.shut();
    let one = store.write_batch(batch("one"), Durability::Synced);
    until(|| controls.sync.arrived() == 1).await;
    let two = store.write_batch(batch("two"), Durability::Synced);
    controls.sync.open();
    assert_eq!(soon(one).await, Err(StoreError::Io { detail: "EIO".into() }));
    assert!(matches!(soon(two).await, Err(StoreError::Failed { reason }) if reason.contains("EIO")));
    assert!(matches!(soon(store.write(DATA, "key", "")).await, Err(StoreError::Failed { .. })));
    assert!(matches!(soon(store.shutdown()).await, Err(StoreError::Failed { .. })));
    assert_eq!(controls.sync.arrived(), 1);
}

#[tokio::test]
async fn writes_that_wait_for_room_fail_with_the_store() {
    let (store, controls) = store();
    controls.fail_apply(StoreError::Io { detail: "EIO".into() });
    controls.apply.shut();
    let first = store.write(DATA, "first", Bytes::from(vec![0; 20 * VALUE]));
    let waiting = store.write(DATA, "waiting", value(0));
    controls.apply.open();
    assert!(matches!(soon(first).await, Err(StoreError::Io { .. })));
    assert!(matches!(soon(waiting).await, Err(StoreError::Failed { .. })));
}

#[tokio::test]
async fn a_write_between_the_look_and_the_wait_is_not_missed() {
    let (store, controls) = store();
    controls.look.shut();
    let waiter = std::thread::spawn({
        let store = store.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(soon(store.notify_read(DATA, "key")))
        }
    });
    // It has looked, has seen nothing, and is held before it can go on.
    until(|| controls.look.arrived() == 1).await;
    assert_eq!(soon(store.write(DATA, "key", "value")).await, Ok(()));
    assert_eq!(soon(store.write_batch(deletion(), Durability::Buffered)).await, Ok(()));
    controls.look.open();
    assert_eq!(waiter.join().expect("the thread"), Ok(Bytes::from("value")));
}

fn deletion() -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.delete(DATA, "key");
    batch
}

#[tokio::test]
async fn what_memory_cannot_answer_is_read_by_a_bounded_pool() {
    let options = Options { reader_threads: 2, reader_queue: 3, ..options() };
    let (store, controls) = store_with(&options);
    assert_eq!(soon(store.write(DATA, "key", "value")).await, Ok(()));
    controls.always_needs_disk();
    controls.read.shut();
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        reads.spawn(async move { store.read(DATA, b"key").await });
    }
    until(|| controls.read.arrived() == 2).await;
    // The runtime is free: its only thread runs this line while both reader threads are held.
    assert_eq!(soon(store.write(DATA, "other", "value")).await, Ok(()));
    assert_eq!(controls.read.arrived(), 2, "no more readers than threads");
    controls.read.open();
    for answer in soon(reads.join_all()).await {
        assert_eq!(answer, Ok(Some(Bytes::from("value"))));
    }
}

#[tokio::test]
async fn a_backup_takes_no_reader_away() {
    let (store, controls) = store_with(&Options { reader_threads: 1, ..options() });
    assert_eq!(soon(store.write(DATA, "key", "value")).await, Ok(()));
    controls.checkpoint.shut();
    let backup = tokio::spawn({
        let store = store.clone();
        async move { store.checkpoint(std::path::Path::new("/nowhere")).await }
    });
    until(|| controls.checkpoint.arrived() == 1).await;
    controls.always_needs_disk();
    assert_eq!(soon(store.read(DATA, b"key")).await, Ok(Some(Bytes::from("value"))));
    controls.checkpoint.open();
    assert!(soon(backup).await.expect("the task").is_err(), "memory makes none");
}

#[tokio::test]
async fn a_read_that_nobody_waits_for_any_more_is_skipped() {
    let (store, controls) = store_with(&Options { reader_threads: 1, ..options() });
    controls.always_needs_disk();
    controls.read.shut();
    let spawn = || {
        let store = store.clone();
        tokio::spawn(async move { store.read(DATA, b"key").await })
    };
    let held = spawn();
    until(|| controls.read.arrived() == 1).await;
    let dropped: Vec<_> = (0..10).map(|_| spawn()).collect();
    tokio::task::yield_now().await;
    for read in &dropped {
        read.abort();
    }
    for read in dropped {
        assert!(soon(read).await.is_err());
    }
    controls.read.open();
    assert_eq!(soon(held).await.expect("the task"), Ok(None));
    assert_eq!(soon(store.read(DATA, b"key")).await, Ok(None));
    assert_eq!(controls.read.arrived(), 2);
}

#[tokio::test]
async fn a_writer_that_panics_fails_the_store_and_leaves_nobody_waiting() {
    let (store, controls) = store();
    controls.apply.shut();
    controls.panic_in_apply();
    let one = store.write(DATA, "one", "");
    let waiting = store.write(DATA, "waiting", Bytes::from(vec![0; 20 * VALUE]));
    controls.apply.open();
    assert!(soon(one).await.is_err());
    assert!(soon(waiting).await.is_err());
    assert!(matches!(soon(store.failed()).await, StoreError::Failed { reason } if reason.contains("panicked")));
    assert!(soon(store.shutdown()).await.is_err());
}

#[tokio::test]
async fn a_syncer_that_panics_fails_the_store_and_leaves_nobody_waiting() {
    let (store, controls) = store();
    controls.panic_in_sync();
    assert!(soon(store.write_batch(batch("one"), Durability::Synced)).await.is_err());
    assert!(matches!(soon(store.failed()).await, StoreError::Failed { .. }));
    assert!(soon(store.write(DATA, "two", "")).await.is_err());
    assert!(soon(store.shutdown()).await.is_err());
}

#[tokio::test]
async fn a_shutdown_applies_and_syncs_what_was_called_before() {
    let (store, controls) = store();
    controls.apply.shut();
    let admitted = store.write(DATA, "admitted", Bytes::from(vec![0; 20 * VALUE]));
    let waiting = store.write(DATA, "waiting", value(1));
    let waiter = tokio::spawn({
        let store = store.clone();
        async move { store.notify_read(DATA, "never").await }
    });
    until(|| store.statistics().waiters == 1).await;
    let shutdown = tokio::spawn({
        let store = store.clone();
        async move { store.shutdown().await }
    });
    until(|| matches!(store.try_write(DATA, "late", "").map_err(|refused| refused.error), Err(StoreError::Closed)))
        .await;
    controls.apply.open();
    assert_eq!(soon(shutdown).await.expect("the task"), Ok(()));
    assert_eq!((soon(admitted).await, soon(waiting).await), (Ok(()), Ok(())));
    assert_eq!(soon(waiter).await.expect("the task"), Err(StoreError::Closed));
    assert_eq!(soon(store.read(DATA, b"admitted")).await, Err(StoreError::Closed));
    assert_eq!(soon(store.write(DATA, "late", "")).await, Err(StoreError::Closed));
    assert_eq!(soon(store.notify_read(DATA, "late")).await, Err(StoreError::Closed));
    assert_eq!(soon(store.shutdown()).await, Ok(()));
    assert!(controls.is_durable(b"waiting") && controls.is_closed());
}

#[tokio::test]
async fn the_last_handle_closes_the_store() {
    let (store, controls) = store();
    let clone = store.clone();
    let completion = store.write(DATA, "key", "value");
    drop(store);
    assert_eq!(soon(completion).await, Ok(()));
    assert!(!controls.is_closed());
    drop(clone);
    until(|| controls.is_closed()).await;
    assert!(controls.is_durable(b"key"));
}

#[test]
fn a_gate_counts_who_arrives() {
    let gate = Gate::default();
    gate.pass();
    gate.pass();
    assert_eq!(gate.arrived(), 2);
}
