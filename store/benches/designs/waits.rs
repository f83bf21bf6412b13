//! How long calls of a design make a thread of the runtime wait.
//!
//! A thread that waits for a lock or for the disk gives its core up, which the kernel counts apart from a core that was
//! taken from it because others want to run. So what is in this figure is the design's doing, and not the machine's.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The longest wait so far. Clones share it.
#[derive(Clone, Default)]
pub struct Waits {
    longest_nanoseconds: Arc<AtomicU64>,
}

impl Waits {
    /// Does what the future does, and notes how long a poll of it takes in which the thread waits.
    pub async fn watch<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let (began, before) = (Instant::now(), times_waited());
            let result = future.as_mut().poll(context);
            if times_waited() != before {
                let nanoseconds = began.elapsed().as_nanos() as u64;
                self.longest_nanoseconds.fetch_max(nanoseconds, Ordering::Relaxed);
            }
            result
        })
        .await
    }

    /// In microseconds; 0 if no thread ever waited.
    pub fn longest(&self) -> f64 {
        self.longest_nanoseconds.load(Ordering::Relaxed) as f64 / 1e3
    }
}

/// How often the current thread has given its core up.
#[allow(unsafe_code, reason = "the standard library does not ask the kernel for a thread's counters")]
fn times_waited() -> i64 {
    // SAFETY: all bytes zero are a valid `rusage`, and the kernel writes nothing else.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a value of the right type that lives during the call.
    let answer = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    assert_eq!(answer, 0, "a thread may always ask for its own counters");
    usage.ru_nvcsw
}
