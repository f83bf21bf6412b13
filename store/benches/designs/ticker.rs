//! An unrelated task of the same runtime, and how late it gets its turn.
//!
//! A thread of its own sends the time twice a millisecond, as a network driver would hand over a packet; the task takes
//! it and looks how old it is. No timer of the runtime is involved, so that its granularity is not in the figure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

const PERIOD: Duration = Duration::from_micros(500);

/// The running thread and task.
pub struct Ticker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    task: tokio::task::JoinHandle<Vec<Duration>>,
}

impl Ticker {
    /// Starts both; must be called inside the runtime.
    pub fn start() -> Ticker {
        let stop = Arc::new(AtomicBool::new(false));
        let (ticks, mut received) = mpsc::unbounded_channel::<Instant>();
        let task = tokio::spawn(async move {
            let mut lateness = Vec::new();
            while let Some(sent) = received.recv().await {
                lateness.push(sent.elapsed());
            }
            lateness
        });
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(PERIOD);
                let _ = ticks.send(Instant::now());
            }
        });
        Ticker { stop, thread, task }
    }

    /// How late each tick was handled.
    pub async fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let lateness = self.task.await.expect("the ticker's task does not panic");
        self.thread.join().expect("the ticker's thread does not panic");
        lateness
    }
}
