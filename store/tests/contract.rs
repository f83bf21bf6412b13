//! The promises of the store, one test each, kept by both engines.

mod support;

use bytes::Bytes;
use rorqual_store::{Column, Direction, Durability, StoreError, WriteBatch};

use support::{LARGE, SMALL, Subject, soon, until};

#[test]
fn a_handle_can_be_used_from_every_task() {
    fn check<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn check_future<T: Send>(_: &T) {}
    for subject in Subject::both() {
        check(&subject.store);
        check_future(&subject.store.read(SMALL, b""));
        check_future(&subject.store.notify_read(SMALL, ""));
        check_future(&subject.store.iterate(SMALL, b"", b"", 1, 1, Direction::Forward));
        check_future(&subject.store.shutdown());
    }
}

#[tokio::test]
async fn a_write_that_resolved_is_seen_by_every_clone() {
    for Subject { name, store, .. } in &Subject::both() {
        let clone = store.clone();
        soon(store.write(SMALL, "key", "value")).await.expect("a write");
        assert_eq!(soon(clone.read(SMALL, b"key")).await, Ok(Some(Bytes::from("value"))), "{name}");
        assert_eq!(soon(clone.read(LARGE, b"key")).await, Ok(None), "{name}: columns are apart");
    }
}

#[tokio::test]
async fn a_column_that_was_not_declared_is_refused_and_nothing_is_applied() {
    const OTHER: Column = Column("other");
    let unknown = StoreError::UnknownColumn { column: "other" };
    for Subject { store, .. } in &Subject::both() {
        assert_eq!(soon(store.read(OTHER, b"key")).await, Err(unknown.clone()));
        assert_eq!(soon(store.notify_read(OTHER, "key")).await, Err(unknown.clone()));
        assert_eq!(soon(store.iterate(OTHER, b"", b"", 1, 1, Direction::Forward)).await, Err(unknown.clone()));
        let mut batch = WriteBatch::new();
        batch.put(SMALL, "key", "value");
        batch.put(OTHER, "key", "value");
        let refused = store.try_write_batch(batch.clone(), Durability::Buffered).expect_err("unknown");
        assert_eq!((refused.batch, refused.error), (batch.clone(), unknown.clone()));
        assert_eq!(soon(store.write_batch(batch, Durability::Synced)).await, Err(unknown.clone()));
        assert_eq!(soon(store.read(SMALL, b"key")).await, Ok(None));
        assert_eq!(soon(store.write(SMALL, "key", "value")).await, Ok(()), "the store goes on");
    }
}

#[tokio::test]
async fn operations_of_a_batch_apply_in_their_order() {
    for Subject { name, store, .. } in &Subject::both() {
        let mut batch = WriteBatch::new();
        batch.put(LARGE, "a", "gone");
        batch.put(LARGE, "b", "gone");
        batch.delete_range(LARGE, "", "");
        batch.put(LARGE, "b", "kept");
        batch.put(LARGE, "c", "gone");
        batch.delete(LARGE, "c");
        soon(store.write_batch(batch, Durability::Synced)).await.expect("a write");
        let kept = vec![(Bytes::from("b"), Bytes::from("kept"))];
        let all = soon(store.iterate(LARGE, b"", b"", 10, 1000, Direction::Forward)).await;
        assert_eq!(all, Ok(kept), "{name}");
        for (key, value) in [("a", None), ("b", Some("kept")), ("c", None)] {
            assert_eq!(soon(store.read(LARGE, key.as_bytes())).await, Ok(value.map(Bytes::from)), "{name} {key}");
        }
    }
}

#[tokio::test]
async fn ten_thousand_waiters_get_their_value_and_leave_nothing_behind() {
    const WAITERS: u32 = 10_000;
    for Subject { name, store, .. } in &Subject::both() {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..WAITERS {
            let store = store.clone();
            let key = Bytes::copy_from_slice(&(number / 4).to_be_bytes());
            tasks.spawn(async move { (key.clone(), store.notify_read(SMALL, key).await) });
        }
        until(|| store.statistics().waiters == WAITERS as usize).await;
        for number in 0..WAITERS / 4 {
            let key = Bytes::copy_from_slice(&number.to_be_bytes());
            drop(store.write(SMALL, key.clone(), key));
        }
        for (key, value) in soon(tasks.join_all()).await {
            assert_eq!(value, Ok(key), "{name}");
        }
        assert_eq!(store.statistics().waiters, 0, "{name}");
    }
}

#[tokio::test]
async fn a_dropped_waiter_leaves_nothing_behind() {
    for Subject { name, store, .. } in &Subject::both() {
        let mut waiters = Vec::new();
        for number in 0..1000_u32 {
            let store = store.clone();
            let key = Bytes::copy_from_slice(&(number % 10).to_be_bytes());
            waiters.push(tokio::spawn(async move { store.notify_read(SMALL, key).await }));
        }
        until(|| store.statistics().waiters == 1000).await;
        waiters.iter().for_each(|waiter| waiter.abort());
        for waiter in waiters {
            assert!(soon(waiter).await.is_err());
        }
        assert_eq!(store.statistics().waiters, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waiters_and_writers_that_race_always_meet() {
    for Subject { name, store, .. } in &Subject::both() {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..4000_u32 {
            let key = Bytes::copy_from_slice(&number.to_be_bytes());
            let (reader, wanted) = (store.clone(), key.clone());
            tasks.spawn(async move { reader.notify_read(LARGE, wanted.clone()).await.map(|value| value == wanted) });
            let writer = store.clone();
            tasks.spawn(async move { writer.write(LARGE, key.clone(), key).await.map(|()| true) });
        }
        for met in soon(tasks.join_all()).await {
            assert_eq!(met, Ok(true), "{name}");
        }
        assert_eq!(store.statistics().waiters, 0, "{name}");
    }
}

/// Each task counts up its own key; nobody may ever see a count go down.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_reader_has_seen_is_never_unseen() {
    for column in [SMALL, LARGE] {
        for Subject { name, store, .. } in &Subject::both() {
            let name: &'static str = name;
            let mut tasks = tokio::task::JoinSet::new();
            for task in 0..4_u8 {
                let writer = store.clone();
                tasks.spawn(async move {
                    for count in 1..=500_u64 {
                        let mut value = vec![0; 5000];
                        value[..8].copy_from_slice(&count.to_be_bytes());
                        writer.write(column, vec![task], value).await.expect("a write");
                    }
                });
                let reader = store.clone();
                tasks.spawn(async move {
                    let mut seen = 0;
                    while seen < 500 {
                        let value = reader.read(column, &[task]).await.expect("a read");
                        let count = value.map_or(0, |value| {
                            u64::from_be_bytes(value[..8].try_into().expect("a value of 5000 bytes"))
                        });
                        assert!(count >= seen, "{name}: {count} after {seen}");
                        seen = count;
                        tokio::task::yield_now().await;
                    }
                });
            }
            soon(tasks.join_all()).await;
        }
    }
}

#[tokio::test]
async fn a_range_can_be_paged_through_in_both_directions() {
    for Subject { name, store, .. } in &Subject::both() {
        for number in 0..100_u8 {
            soon(store.write(LARGE, vec![number], vec![number; 5000])).await.expect("a write");
        }
        let (mut from, mut seen) = (Vec::new(), Vec::new());
        loop {
            let page = soon(store.iterate(LARGE, &from, b"", 7, 1 << 20, Direction::Forward)).await.expect("a page");
            let Some((last, _)) = page.last() else { break };
            from = [&last[..], &[0]].concat();
            seen.extend(page.into_iter().map(|(key, value)| (key[0], value.len())));
        }
        assert_eq!(seen, (0..100).map(|number| (number, 5000)).collect::<Vec<_>>(), "{name}");
        let (mut to, mut seen) = (vec![50], Vec::new());
        loop {
            // Too few bytes for two entries: one a page.
            let page = soon(store.iterate(LARGE, &[10], &to, 7, 6000, Direction::Backward)).await.expect("a page");
            let Some((last, _)) = page.last() else { break };
            to = last.to_vec();
            assert_eq!(page.len(), 1);
            seen.push(page[0].0[0]);
        }
        assert_eq!(seen, (10..50).rev().collect::<Vec<_>>(), "{name}");
    }
}

#[tokio::test]
async fn the_value_cache_is_bounded_and_counted() {
    for Subject { name, store, .. } in &Subject::both() {
        for number in 0..50_u8 {
            soon(store.write(LARGE, vec![number], vec![number; 5000])).await.expect("a write");
        }
        let sizes = store.sizes();
        assert_eq!(sizes.iter().map(|size| size.column).collect::<Vec<_>>(), ["small", "large"]);
        assert_eq!(sizes[0].cache_bytes, 0, "{name}");
        assert!((10_000..=20_000).contains(&sizes[1].cache_bytes), "{name}: {sizes:?}");
        for number in 0..50_u8 {
            assert_eq!(soon(store.read(LARGE, &[number])).await, Ok(Some(Bytes::from(vec![number; 5000]))), "{name}");
        }
        soon(store.delete_range(LARGE, "", "")).await.expect("a write");
        assert_eq!(store.sizes()[1].cache_bytes, 0, "{name}");
    }
}

#[tokio::test]
async fn statistics_count_what_was_done() {
    for Subject { name, store, .. } in &Subject::both() {
        let mut batch = WriteBatch::new();
        batch.put(SMALL, "key", "value");
        soon(store.write_batch(batch, Durability::Synced)).await.expect("a write");
        soon(store.write(SMALL, "key", "value")).await.expect("a write");
        let statistics = store.statistics();
        assert_eq!((statistics.writes, statistics.written_bytes, statistics.synced_writes), (2, 16, 1), "{name}");
        assert_eq!((statistics.syncs, statistics.batches_per_sync()), (1, 1.0), "{name}");
        assert_eq!(statistics.failed, None);
        until(|| store.statistics().queue_bytes == 0).await;
    }
}

#[tokio::test]
async fn a_large_batch_passes_a_small_queue() {
    for Subject { name, store, .. } in &Subject::both() {
        let mut batch = WriteBatch::new();
        for number in 0..200_u8 {
            batch.put(LARGE, vec![number], vec![number; 1 << 20]);
        }
        soon(store.write_batch(batch, Durability::Synced)).await.expect("a write");
        let value = soon(store.read(LARGE, &[199])).await.expect("a read").expect("a value");
        assert_eq!((value.len(), value[0]), (1 << 20, 199), "{name}");
    }
}
