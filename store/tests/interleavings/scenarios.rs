//! What must hold in every order of the threads.

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::thread;

use crate::probe::{DATA, Notes, store};
use crate::{Durability, Store, StoreError, WriteBatch};

/// Name and body of each scenario.
pub const ALL: &[(&str, fn())] = &[
    ("writers_keep_their_order_and_synced_ones_are_on_disk", writers),
    ("a_waiter_gets_the_value_that_is_written_next_to_its_look", waiter),
    ("every_waiter_of_a_key_is_woken", many_waiters),
    ("a_reader_never_sees_an_older_value_than_before", reader),
    ("a_shutdown_answers_everybody_and_applies_what_it_answers_yes_to", shutdown),
    ("the_last_handle_drains_and_closes", last_handle),
    ("who_gives_up_its_place_lets_those_behind_in", giving_up),
    ("a_failed_sync_answers_everybody_and_is_never_a_yes", failed_sync),
    ("a_failure_wakes_every_waiter", failure_wakes),
];

fn put(key: &str) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(DATA, key.to_owned(), vec![7; 50]);
    batch
}

fn end(store: &Store, notes: &Notes) {
    assert_eq!(block_on(store.shutdown()), Ok(()));
    assert!(notes.is_closed());
    let statistics = store.statistics();
    assert_eq!((statistics.queue_bytes, statistics.waiting_writers, statistics.waiters), (0, 0, 0));
}

/// The queue holds about two batches: others wait for room, several share a sync, and buffered ones go between.
fn writers() {
    let (store, notes) = store(None);
    let writer = |name: &'static str| {
        let (store, notes) = (store.clone(), notes.clone());
        thread::spawn(move || {
            for number in 0..3 {
                let key = format!("{name}{number}");
                let durability = if number == 1 { Durability::Buffered } else { Durability::Synced };
                assert_eq!(block_on(store.write_batch(put(&key), durability)), Ok(()));
                assert!(notes.is_applied(&key));
                assert!(durability == Durability::Buffered || notes.is_durable(&key), "{key} is not on disk");
            }
        })
    };
    let writers = [writer("a"), writer("b")];
    // All three take their places at the call, whoever is polled first.
    let mut calls: Vec<_> = (0..3).map(|n| store.write_batch(put(&format!("c{n}")), Durability::Synced)).collect();
    while let Some(call) = calls.pop() {
        assert_eq!(block_on(call), Ok(()));
        assert!(notes.is_durable(&format!("c{}", calls.len())));
    }
    writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
    for name in ["a", "b", "c"] {
        let expected: Vec<String> = (0..3).map(|number| format!("{name}{number}")).collect();
        assert_eq!(notes.with_prefix(name), expected);
    }
    end(&store, &notes);
}

fn waiter() {
    let (store, notes) = store(None);
    let writer = {
        let store = store.clone();
        thread::spawn(move || {
            assert_eq!(block_on(store.write(DATA, "key", "value")), Ok(()));
        })
    };
    assert_eq!(block_on(store.notify_read(DATA, "key")), Ok(Bytes::from("value")));
    writer.join().expect("the writer");
    end(&store, &notes);
}

fn many_waiters() {
    let (store, notes) = store(None);
    let waiter = |_| {
        let store = store.clone();
        thread::spawn(move || assert_eq!(block_on(store.notify_read(DATA, "key")), Ok(Bytes::from("value"))))
    };
    let waiters: Vec<_> = (0..3).map(waiter).collect();
    // One that goes away must leave nothing behind and wake nobody else's turn.
    {
        let mut gone = Box::pin(store.notify_read(DATA, "never"));
        let waker = std::task::Waker::noop();
        assert!(gone.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    }
    assert_eq!(block_on(store.write(DATA, "key", "value")), Ok(()));
    waiters.into_iter().for_each(|waiter| waiter.join().expect("a waiter"));
    end(&store, &notes);
}

/// Values of one key only grow, also where cache and engine change one after the other.
fn reader() {
    let (store, notes) = store(None);
    let writer = {
        let store = store.clone();
        thread::spawn(move || {
            for number in 1..=3_u8 {
                assert_eq!(block_on(store.write(DATA, "key", vec![number])), Ok(()));
            }
        })
    };
    let mut last = 0;
    for _ in 0..4 {
        let seen = block_on(store.read(DATA, b"key")).expect("a read").map_or(0, |value| value[0]);
        assert!(seen >= last, "{seen} after {last}");
        last = seen;
    }
    writer.join().expect("the writer");
    assert_eq!(block_on(store.read(DATA, b"key")), Ok(Some(Bytes::from(vec![3]))));
    end(&store, &notes);
}

fn shutdown() {
    let (store, notes) = store(None);
    let writer = {
        let (store, notes) = (store.clone(), notes.clone());
        thread::spawn(move || {
            for number in 0..3 {
                let key = format!("k{number}");
                match block_on(store.write_batch(put(&key), Durability::Synced)) {
                    Ok(()) => assert!(notes.is_durable(&key)),
                    Err(error) => assert_eq!(error, StoreError::Closed),
                }
            }
        })
    };
    let waiter = {
        let store = store.clone();
        thread::spawn(move || {
            let answer = block_on(store.notify_read(DATA, "k2"));
            assert!(matches!(answer, Ok(_) | Err(StoreError::Closed)), "{answer:?}");
        })
    };
    let other = {
        let store = store.clone();
        thread::spawn(move || assert_eq!(block_on(store.shutdown()), Ok(())))
    };
    assert_eq!(block_on(store.shutdown()), Ok(()));
    assert!(notes.is_closed());
    for thread in [writer, waiter, other] {
        thread.join().expect("a thread");
    }
    assert_eq!(block_on(store.write(DATA, "late", "")), Err(StoreError::Closed));
    let statistics = store.statistics();
    assert_eq!((statistics.queue_bytes, statistics.waiters), (0, 0));
}

fn last_handle() {
    let (store, notes) = store(None);
    let clone = store.clone();
    let other = thread::spawn(move || drop(clone.write(DATA, "unwatched", "value")));
    let watched = store.write_batch(put("watched"), Durability::Synced);
    drop(store);
    other.join().expect("the other");
    assert_eq!(block_on(watched), Ok(()));
    while !notes.is_closed() {
        thread::yield_now();
    }
    assert!(notes.is_durable("watched"));
}

fn giving_up() {
    let (store, notes) = store(None);
    let giver = {
        let store = store.clone();
        thread::spawn(move || {
            let mut large = WriteBatch::new();
            large.put(DATA, "large", vec![0; 400]);
            drop(store.write_batch(large, Durability::Buffered));
        })
    };
    let writer = {
        let store = store.clone();
        thread::spawn(move || assert_eq!(block_on(store.write_batch(put("w"), Durability::Synced)), Ok(())))
    };
    for number in 0..3 {
        let key = format!("k{number}");
        assert_eq!(block_on(store.write_batch(put(&key), Durability::Buffered)), Ok(()));
    }
    giver.join().expect("the giver");
    writer.join().expect("the writer");
    end(&store, &notes);
}

fn failed_sync() {
    let (store, notes) = store(Some(2));
    let writer = |name: &'static str| {
        let (store, notes) = (store.clone(), notes.clone());
        thread::spawn(move || {
            for number in 0..3 {
                let key = format!("{name}{number}");
                let answer = block_on(store.write_batch(put(&key), Durability::Synced));
                // A no says nothing: it may have been on disk before the sync that failed.
                assert!(answer.is_err() || notes.is_durable(&key), "{key}: {answer:?}");
            }
        })
    };
    let writers = [writer("a"), writer("b")];
    writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
    // Each writer's three are at least three syncs: the second one has failed.
    assert!(store.statistics().failed.is_some());
    assert!(matches!(block_on(store.write(DATA, "late", "")), Err(StoreError::Failed { .. })));
    assert!(matches!(block_on(store.shutdown()), Err(StoreError::Failed { .. })));
    assert!(notes.is_closed());
}

fn failure_wakes() {
    let (store, _notes) = store(Some(1));
    let waiter = {
        let store = store.clone();
        thread::spawn(move || {
            let answer = block_on(store.notify_read(DATA, "never"));
            assert!(matches!(answer, Err(StoreError::Failed { .. })), "{answer:?}");
        })
    };
    let failed = {
        let failed = store.failed();
        thread::spawn(move || assert!(matches!(block_on(failed), StoreError::Io { .. })))
    };
    assert!(block_on(store.write_batch(put("k"), Durability::Synced)).is_err());
    waiter.join().expect("the waiter");
    failed.join().expect("the watcher");
    assert!(block_on(store.shutdown()).is_err());
}
