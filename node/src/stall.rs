//! A store whose writes hang while a test says so.
//!
//! The store wakes waiters on the thread that writes. So a waiter whose waker blocks holds that thread: what was written before
//! is there, and nothing that is called from now on is applied, or answered.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use rorqual_store::{Store, StoreError};

use crate::schema;

const KEY: &[u8] = b"stall";

#[derive(Default)]
struct Hold {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    holds: bool,
    open: bool,
}

impl Wake for Hold {
    fn wake(self: Arc<Self>) {
        let mut state = self.state.lock().unwrap();
        state.holds = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.open).unwrap());
    }
}

/// Holds the writes of a store until it is dropped.
pub struct Stall {
    hold: Arc<Hold>,
    _waiter: Pin<Box<dyn Future<Output = Result<Bytes, StoreError>> + Send>>,
}

impl Stall {
    /// Returns when the writer is held. Once for a store.
    pub fn new(store: &Store) -> Self {
        let hold = Arc::new(Hold::default());
        let waiting = store.clone();
        let mut waiter: Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(async move { waiting.notify_read(schema::META, KEY).await });
        let waker = Waker::from(hold.clone());
        assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(store.write(schema::META, KEY, "held"));
        let state = hold.state.lock().unwrap();
        drop(hold.changed.wait_while(state, |state| !state.holds).unwrap());
        Self { hold, _waiter: waiter }
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.hold.state.lock().unwrap().open = true;
        self.hold.changed.notify_all();
    }
}
