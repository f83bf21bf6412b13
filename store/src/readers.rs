//! Threads for what must wait for the disk: reads that memory cannot answer, ranges, checkpoints.
//!
//! The number of threads and of requests is bounded. When it is reached, callers wait in order. A caller that goes away
//! gives its place back, and a request that nobody waits for any more is skipped.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use crate::engine::Engine;
use crate::error::StoreError;
use crate::sync::{Condvar, Mutex, MutexGuard};

type Request = Box<dyn FnOnce(&dyn Engine) + Send>;

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    closed: bool,
}

/// The queue before the reader threads.
pub(crate) struct Readers {
    places: Arc<Semaphore>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Readers {
    pub(crate) fn new(places: usize) -> Readers {
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Readers { places, state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `question` answered by a reader thread.
    pub(crate) async fn ask<T, Q>(&self, question: Q) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Q: FnOnce(&dyn Engine) -> Result<T, StoreError> + Send + 'static,
    {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let request = Box::new(move |engine: &dyn Engine| {
            let _place = place;
            if !reply.is_closed() {
                let _ = reply.send(question(engine));
            }
        });
        self.push(request)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Queues a request, without a place and without an answer.
    pub(crate) fn push(&self, request: Request) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        state.requests.push_back(request);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The life of one reader thread: ends when the queue is closed and empty.
    pub(crate) fn run(&self, engine: &dyn Engine) {
        let mut state = self.lock();
        loop {
            if let Some(request) = state.requests.pop_front() {
                drop(state);
                request(engine);
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Refuses new requests; those in the queue are still answered.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.places.close();
        self.changed.notify_all();
    }

    /// Closes and drops what is in the queue: the threads cannot be relied on any more.
    pub(crate) fn abandon(&self) {
        self.close();
        let requests = std::mem::take(&mut self.lock().requests);
        drop(requests);
    }
}
