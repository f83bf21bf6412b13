//! A load that keeps its pace whatever the store does, far below what the machine can do: small synced writes and
//! payload at once, as in a node that is not busy. Latency counts from the moment the operation was due.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::design::{Design, Write};
use crate::figures::{Figures, add_lateness, add_percentiles, name};
use crate::process::Spent;
use crate::random::Payloads;
use crate::ticker::Ticker;
use crate::waits::Waits;

const SMALL_BYTES: usize = 512;
const LARGE_BYTES: usize = 512 << 10;

/// Writes by second of each size, all synced.
#[derive(Clone, Copy)]
pub struct Paced {
    pub small_per_second: u32,
    pub large_per_second: u32,
}

/// One operation that is due.
struct Due {
    number: u64,
    large: bool,
    at: Instant,
}

/// Runs the load for `time`. What is not done by then is given up and counted.
pub async fn run(design: Design, load: Paced, time: Duration) -> Figures {
    let payloads = [SMALL_BYTES, LARGE_BYTES].map(|bytes| Arc::new(Payloads::new(bytes)));
    let (waits, before) = (Waits::default(), Spent::now());
    let ticker = Ticker::start();
    let (due, mut operations) = mpsc::unbounded_channel();
    let pacer = thread::spawn(move || pace(load, time, &due));
    let mut writes = JoinSet::new();
    while let Some(operation) = operations.recv().await {
        let value = payloads[usize::from(operation.large)].pick(operation.number);
        let (design, waits) = (design.clone(), waits.clone());
        writes.spawn(async move { waits.watch(write(design, operation, value)).await });
    }
    let asked = pacer.join().expect("the pacing thread does not panic");
    // The last ones get as long as a tenth of the run.
    tokio::time::sleep(time / 10).await;
    let lateness = ticker.stop().await;
    let mut times = [Vec::new(), Vec::new()];
    while let Some(done) = writes.try_join_next() {
        let (large, elapsed) = done.expect("a write does not panic");
        times[usize::from(large)].push(elapsed);
    }
    writes.shutdown().await;
    design.close().await;
    let after = Spent::now();

    let [small, large] = times;
    let done = small.len() + large.len();
    let payload = (small.len() * SMALL_BYTES + large.len() * LARGE_BYTES) as f64;
    let mut figures = Figures::new();
    figures.insert(name::RATE, done as f64 / time.as_secs_f64());
    figures.insert(name::DONE, done as f64 / asked as f64);
    figures.insert(name::CPU_PER_MB, (after.cpu_seconds - before.cpu_seconds) * 1e9 / payload);
    figures.insert(name::WRITTEN, (after.written_bytes - before.written_bytes) / payload);
    add_percentiles(&mut figures, small, name::WRITE_P50, name::WRITE_P99);
    add_percentiles(&mut figures, large, name::PAYLOAD_P50, name::PAYLOAD_P99);
    add_lateness(&mut figures, lateness);
    figures.insert(name::WAITED_MAX, waits.longest());
    figures
}

/// The pacing thread: hands over what is due every millisecond, and tells how much it was in all.
fn pace(load: Paced, time: Duration, due: &mpsc::UnboundedSender<Due>) -> u64 {
    let began = Instant::now();
    let rates = [load.small_per_second, load.large_per_second];
    let mut given = [0_u64, 0];
    while began.elapsed() < time {
        thread::sleep(Duration::from_millis(1));
        let elapsed = began.elapsed().min(time).as_secs_f64();
        for (large, rate) in rates.into_iter().enumerate() {
            while (given[large] as f64) < elapsed * f64::from(rate) {
                let at = Instant::now();
                // The receiver lives until this thread's end has been seen.
                let _ = due.send(Due { number: given[large], large: large == 1, at });
                given[large] += 1;
            }
        }
    }
    given.iter().sum()
}

async fn write(design: Design, operation: Due, value: Bytes) -> (bool, Duration) {
    let key = [u64::from(operation.large).to_be_bytes(), operation.number.to_be_bytes()].concat();
    design.write(Write { key: Bytes::from(key), value, synced: true, old: None }).await;
    (operation.large, operation.at.elapsed())
}
