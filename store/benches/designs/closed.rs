//! Closed loops: a number of tasks, each of which does one operation after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::design::{Design, Write};
use crate::figures::{Figures, add_lateness, add_percentiles, name};
use crate::process::Spent;
use crate::random::{Payloads, Random};
use crate::ticker::Ticker;
use crate::waits::Waits;

/// What the tasks do.
#[derive(Clone, Copy)]
pub struct Closed {
    pub tasks: u64,
    /// Of each value.
    pub bytes: usize,
    pub synced: bool,
    pub reads_percent: u64,
    /// Values that each task writes before the measurement begins, for its reads.
    pub preload: u64,
    /// How many values each task keeps: each write deletes the one that many before. None: all.
    pub kept: Option<u64>,
    /// Whether to look how long calls make a thread of the runtime wait, which costs half a microsecond each.
    pub watched: bool,
}

/// The operations of one task, or of all.
#[derive(Default)]
struct Times {
    writes: Vec<Duration>,
    reads: Vec<Duration>,
    /// Writes in all, those before the measurement included.
    written: u64,
    end: Option<Instant>,
}

/// Runs the load for `time`, of which the first fifth is not measured, and closes the store.
pub async fn run(design: Design, load: Closed, time: Duration) -> Figures {
    let payloads = Arc::new(Payloads::new(load.bytes));
    let disk_before = Spent::now();
    preload(&design, load, &payloads).await;
    let (ticker, waits) = (Ticker::start(), Waits::default());
    let cpu_before = Spent::now();
    let began = Instant::now();
    let measured = began + time / 5;
    let loops: Vec<_> = (0..load.tasks)
        .map(|task| {
            let waits = load.watched.then(|| waits.clone());
            let span = (measured, began + time);
            tokio::spawn(one_task(design.clone(), load, task, Arc::clone(&payloads), span, waits))
        })
        .collect();
    let mut all = Times::default();
    for task in loops {
        let times = task.await.expect("a task of the load does not panic");
        all.writes.extend(times.writes);
        all.reads.extend(times.reads);
        all.written += times.written;
        all.end = all.end.max(times.end);
    }
    let loop_cpu = Spent::now();
    let lateness = ticker.stop().await;
    design.close().await;
    let after = Spent::now();

    let elapsed = all.end.expect("there is at least one task").duration_since(measured);
    let (written, read) = ((all.written as usize * load.bytes) as f64, (all.reads.len() * load.bytes) as f64);
    let mut figures = Figures::new();
    figures.insert(name::RATE, (all.writes.len() + all.reads.len()) as f64 / elapsed.as_secs_f64());
    if load.reads_percent < 100 {
        let payload = written + (load.tasks * load.preload) as f64 * load.bytes as f64;
        figures.insert(name::WRITTEN, (after.written_bytes - disk_before.written_bytes) / payload);
        figures.insert(name::CPU_PER_MB, (after.cpu_seconds - cpu_before.cpu_seconds) * 1e9 / (written + read));
    } else {
        let part_measured = 0.8;
        let cpu = (loop_cpu.cpu_seconds - cpu_before.cpu_seconds) * part_measured;
        figures.insert(name::CPU_PER_MB, cpu * 1e9 / read);
    }
    add_percentiles(&mut figures, all.writes, name::WRITE_P50, name::WRITE_P99);
    add_percentiles(&mut figures, all.reads, name::READ_P50, name::READ_P99);
    add_lateness(&mut figures, lateness);
    if load.watched {
        figures.insert(name::WAITED_MAX, waits.longest());
    }
    figures
}

/// The shape of the daemon's own keys: who, and which in a row.
fn key(task: u64, number: u64) -> Bytes {
    Bytes::from([task.to_be_bytes(), number.to_be_bytes()].concat())
}

async fn preload(design: &Design, load: Closed, payloads: &Payloads) {
    for task in 0..load.tasks {
        for number in 0..load.preload {
            let (key, value) = (key(task, number), payloads.pick(task + number));
            design.write(Write { key, value, synced: false, old: None }).await;
        }
    }
}

async fn one_task(
    design: Design,
    load: Closed,
    task: u64,
    payloads: Arc<Payloads>,
    (measured, end): (Instant, Instant),
    waits: Option<Waits>,
) -> Times {
    let mut random = Random::new(task);
    let mut times = Times::default();
    let mut next = load.preload;
    loop {
        let read = random.below(100) < load.reads_percent;
        let before = Instant::now();
        if before >= end {
            times.end = Some(before);
            return times;
        }
        if read {
            let value = design.read(key(task, random.below(next)), load.bytes).await;
            let elapsed = before.elapsed();
            assert!(matches!(design, Design::Nothing(_)) || value.is_some_and(|value| value.len() == load.bytes));
            if before >= measured {
                times.reads.push(elapsed);
            }
            // A read that memory answers does not suspend: without this, one task would have a thread for itself.
            tokio::task::coop::consume_budget().await;
        } else {
            let old = load.kept.and_then(|kept| next.checked_sub(kept)).map(|number| key(task, number));
            let (key, value) = (key(task, next), payloads.pick(task + next));
            let write = design.write(Write { key, value, synced: load.synced, old });
            match &waits {
                Some(waits) => waits.watch(write).await,
                None => write.await,
            }
            if before >= measured {
                times.writes.push(before.elapsed());
            }
            next += 1;
            times.written += 1;
            // A direct call does not suspend either; whoever uses it that way had better let others on.
            tokio::task::yield_now().await;
        }
    }
}
