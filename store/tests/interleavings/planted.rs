//! Bugs that were planted: if the exploration finds them, it would find their like in the store.

use std::sync::Arc;

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use crate::StoreError;
use crate::notify::Registry;

/// Name and body of each planted bug.
pub const ALL: &[(&str, fn())] = &[
    ("planted_bug_a_registration_after_the_look_is_found", registers_after_the_look),
    ("planted_bug_a_sync_that_answers_those_who_came_during_it_is_found", answers_too_many),
    ("planted_bug_a_closing_that_wakes_nobody_is_found", closes_in_silence),
];

/// `notify_read` the wrong way round, over the store's own registry.
fn registers_after_the_look() {
    let registry = Arc::new(Registry::new(1));
    let value: Arc<Mutex<Option<Bytes>>> = Arc::default();
    let writer = {
        let (registry, value) = (registry.clone(), value.clone());
        thread::spawn(move || {
            let written = Bytes::from("value");
            *value.lock().unwrap() = Some(written.clone());
            registry.wake(0, b"key", &written);
        })
    };
    let seen = value.lock().unwrap().clone();
    let answer: Result<Bytes, StoreError> = match seen {
        Some(value) => Ok(value),
        None => block_on(registry.register(0, Bytes::from("key")).woken()).expect("the registry is there"),
    };
    assert_eq!(answer, Ok(Bytes::from("value")));
    writer.join().unwrap();
}

/// Group commit that takes the waiting ones after its sync instead of before.
fn answers_too_many() {
    #[derive(Default)]
    struct State {
        applied: u32,
        durable: u32,
        answered: u32,
    }
    let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
    let syncer = {
        let state = state.clone();
        thread::spawn(move || {
            for _ in 0..2 {
                let covered = state.0.lock().unwrap().applied;
                // The disk is busy here.
                thread::yield_now();
                let mut now = state.0.lock().unwrap();
                now.durable = covered;
                now.answered = now.applied;
                drop(now);
                state.1.notify_all();
            }
        })
    };
    let mut now = state.0.lock().unwrap();
    now.applied += 1;
    drop(now);
    thread::yield_now();
    let now = state.0.lock().unwrap();
    assert!(now.answered <= now.durable, "a write was answered that is not on disk");
    drop(now);
    syncer.join().unwrap();
}

/// A queue whose `close` forgets to wake the thread that waits.
fn closes_in_silence() {
    let state: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let waiter = {
        let state = state.clone();
        thread::spawn(move || {
            let mut closed = state.0.lock().unwrap();
            while !*closed {
                closed = state.1.wait(closed).unwrap();
            }
        })
    };
    *state.0.lock().unwrap() = true;
    waiter.join().unwrap();
}
