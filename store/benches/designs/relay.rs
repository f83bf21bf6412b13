//! The hand-overs of an actor store without the store: from a task to a thread, and from the thread to another task.
//! What they cost here, nothing that writes on a thread of its own and tells a task can be quicker than.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

type Waiters = Arc<Mutex<Vec<oneshot::Sender<()>>>>;

/// The handle; the thread ends with the last one.
#[derive(Clone)]
pub struct Relay {
    writes: mpsc::Sender<oneshot::Sender<()>>,
    waiters: Waiters,
}

impl Relay {
    /// Starts the thread.
    pub fn start() -> Relay {
        let (writes, arriving) = mpsc::channel::<oneshot::Sender<()>>();
        let waiters = Waiters::default();
        let waiting = Arc::clone(&waiters);
        thread::spawn(move || {
            while let Ok(done) = arriving.recv() {
                let woken = std::mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner));
                // An error means that nobody waits.
                for waiter in woken.into_iter().chain([done]) {
                    let _ = waiter.send(());
                }
            }
        });
        Relay { writes, waiters }
    }

    /// Wakes all who wait.
    pub async fn write(&self) {
        let (done, answered) = oneshot::channel();
        self.writes.send(done).expect("the thread lives as long as its handles");
        answered.await.expect("the thread answers every write");
    }

    /// Returns after the next write.
    pub async fn wait(&self) {
        let (waiter, woken) = oneshot::channel();
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner).push(waiter);
        woken.await.expect("the thread wakes everyone");
    }

    /// How many wait.
    pub fn waiters(&self) -> usize {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
