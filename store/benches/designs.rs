//! Actor or direct call? The same work through five designs over the same RocksDB, in one run.
//!
//! `cargo bench -p rorqual-store --bench designs [-- FILTER]` prints one table a workload. Ratios within a run are what counts:
//! machines are noisy. The designs: the actor store of this crate; direct calls on a shared handle from async tasks, on the
//! runtime thread and moved to blocking threads; a mutex around the handle; and the textbook actor: one task, one command at a
//! time, put on the runtime thread, errors dropped.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails has failed")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rocksdb::{DB, WriteOptions};
use rorqual_store::{Column, ColumnOptions, Durability, Options, Store, WriteBatch};
use tokio::sync::{Mutex, mpsc, oneshot};

const SMALL: Column = Column("small");
const LARGE: Column = Column("large");

/// How one design takes a write.
#[derive(Clone)]
enum Design {
    Actor(Store),
    Direct(Arc<DB>),
    Blocking(Arc<DB>),
    Mutex(Arc<Mutex<DB>>),
    Textbook(mpsc::Sender<Command>),
}

/// What the textbook actor is told.
struct Command {
    key: Vec<u8>,
    value: Bytes,
    synced: bool,
    done: oneshot::Sender<()>,
}

const NAMES: [&str; 5] =
    ["actor store", "direct, on the runtime", "direct, blocking threads", "mutex", "textbook actor"];

fn plain(path: &Path) -> DB {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::None);
    options.set_write_buffer_size(64 << 20);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(4 << 10);
    DB::open(&options, path).unwrap()
}

fn write_options(synced: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(synced);
    options
}

impl Design {
    fn open(index: usize, path: &Path) -> Self {
        match index {
            0 => {
                let column = |name: Column, large_values| ColumnOptions { name: name.0, large_values, cache_bytes: 0 };
                let columns = vec![column(SMALL, false), column(LARGE, true)];
                let options = Options { create_if_missing: true, ..Options::with_columns(columns) };
                Self::Actor(Store::open(path, options).unwrap())
            }
            1 => Self::Direct(Arc::new(plain(path))),
            2 => Self::Blocking(Arc::new(plain(path))),
            3 => Self::Mutex(Arc::new(Mutex::new(plain(path)))),
            _ => Self::Textbook(textbook(plain(path))),
        }
    }

    async fn write(&self, key: Vec<u8>, value: Bytes, synced: bool) {
        match self {
            Self::Actor(store) => {
                let column = if value.len() > 4096 { LARGE } else { SMALL };
                let mut batch = WriteBatch::new();
                batch.put(column, key, value);
                let durability = if synced { Durability::Synced } else { Durability::Buffered };
                store.write_batch(batch, durability).await.unwrap();
            }
            Self::Direct(db) => db.put_opt(key, value, &write_options(synced)).unwrap(),
            Self::Blocking(db) => {
                let db = db.clone();
                let write = move || db.put_opt(key, value, &write_options(synced)).unwrap();
                tokio::task::spawn_blocking(write).await.unwrap();
            }
            Self::Mutex(db) => db.lock().await.put_opt(key, value, &write_options(synced)).unwrap(),
            Self::Textbook(commands) => {
                let (done, written) = oneshot::channel();
                commands.send(Command { key, value, synced, done }).await.ok().unwrap();
                written.await.unwrap();
            }
        }
    }

    async fn close(self) {
        if let Self::Actor(store) = self {
            store.shutdown().await.unwrap();
        }
    }
}

fn textbook(db: DB) -> mpsc::Sender<Command> {
    let (sender, mut commands) = mpsc::channel::<Command>(1_000);
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            let _ = db.put_opt(command.key, command.value, &write_options(command.synced));
            let _ = command.done.send(());
        }
    });
    sender
}

/// One row of a table.
#[derive(Clone, Copy)]
struct Workload {
    name: &'static str,
    bytes: usize,
    tasks: u64,
    synced: bool,
    time: Duration,
}

struct Figures {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    worst_delay: Duration,
    cpu_per_mb: f64,
    written_per_byte: f64,
}

/// CPU time of this process in seconds, user and system.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// Bytes this process has caused to be written to disk.
fn disk_bytes() -> f64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find(|line| line.starts_with("write_bytes")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Wakes every millisecond on the same runtime and remembers the worst lateness.
fn unrelated_task(stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<Duration> {
    tokio::spawn(async move {
        let mut worst = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            let before = Instant::now();
            tokio::time::sleep(Duration::from_millis(1)).await;
            worst = worst.max(before.elapsed().saturating_sub(Duration::from_millis(2)));
        }
        worst
    })
}

async fn measure(design: &Design, workload: Workload) -> Figures {
    let stop = Arc::new(AtomicBool::new(false));
    let delayed = unrelated_task(stop.clone());
    let (cpu, disk, began) = (cpu_seconds(), disk_bytes(), Instant::now());
    let counter = Arc::new(AtomicU64::new(0));
    let task = |number: u64| {
        let (design, counter) = (design.clone(), counter.clone());
        tokio::spawn(async move {
            let value = Bytes::from(random(workload.bytes, number));
            let mut times = Vec::new();
            while began.elapsed() < workload.time {
                let key = counter.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec();
                let before = Instant::now();
                design.write(key, value.clone(), workload.synced).await;
                times.push(before.elapsed());
            }
            times
        })
    };
    let tasks: Vec<_> = (0..workload.tasks).map(task).collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let elapsed = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    times.sort_unstable();
    let payload = (times.len() * workload.bytes) as f64;
    Figures {
        per_second: times.len() as f64 / elapsed.as_secs_f64(),
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
        worst_delay: delayed.await.unwrap(),
        cpu_per_mb: (cpu_seconds() - cpu) * 1e3 / (payload / 1e6),
        written_per_byte: (disk_bytes() - disk) / payload,
    }
}

/// Incompressible bytes from a small generator.
fn random(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Time from a write to the wake-up of all of `waiters` that wait for its key with `notify_read`.
async fn notify(store: &Store, waiters: usize) -> Duration {
    let mut times = Vec::new();
    for turn in 0..50u64 {
        let key = [&b"notify"[..], &(waiters as u64).to_be_bytes(), &turn.to_be_bytes()].concat();
        let wait = |_| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { store.notify_read(SMALL, key).await.map(|_| Instant::now()).unwrap() })
        };
        let waiting: Vec<_> = (0..waiters).map(wait).collect();
        while store.statistics().waiters < waiters {
            tokio::task::yield_now().await;
        }
        store.write(SMALL, key, Bytes::from_static(b"x")).await.unwrap();
        let written = Instant::now();
        let mut last = Duration::ZERO;
        for woken in waiting {
            last = last.max(woken.await.unwrap().saturating_duration_since(written));
        }
        times.push(last);
    }
    times.sort_unstable();
    times[times.len() / 2]
}

fn workloads() -> Vec<Workload> {
    let time = Duration::from_secs(2);
    let mut all = Vec::new();
    for (name, bytes, tasks, synced) in [
        ("512 B unsynced, 1 task", 512, 1, false),
        ("512 B unsynced, 64 tasks", 512, 64, false),
        ("512 B synced, 1 task", 512, 1, true),
        ("512 B synced, 64 tasks", 512, 64, true),
        ("512 KiB unsynced, 8 tasks", 512 << 10, 8, false),
        ("512 KiB synced, 8 tasks", 512 << 10, 8, true),
    ] {
        all.push(Workload { name, bytes, tasks, synced, time });
    }
    all
}

async fn compare(workload: Workload) {
    println!("\n{}", workload.name);
    println!(
        "{:<26}{:>12}{:>8}{:>12}{:>12}{:>14}{:>12}{:>10}",
        "design", "ops/s", "ratio", "p50", "p99", "worst delay", "cpu ms/MB", "written/B"
    );
    let mut first = None;
    for (index, name) in NAMES.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let design = Design::open(index, folder.path());
        let figures = measure(&design, workload).await;
        design.close().await;
        let base = *first.get_or_insert(figures.per_second);
        println!(
            "{name:<26}{:>12.0}{:>8.2}{:>12.1?}{:>12.1?}{:>14.1?}{:>12.2}{:>10.2}",
            figures.per_second,
            base / figures.per_second,
            figures.p50,
            figures.p99,
            figures.worst_delay,
            figures.cpu_per_mb,
            figures.written_per_byte
        );
    }
}

#[tokio::main]
async fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| filter.is_empty() || filter.iter().any(|part| name.contains(part.as_str()));
    println!("ratio: actor store / design. worst delay: of an unrelated task on the same runtime.");
    for workload in workloads() {
        if wanted(workload.name) {
            compare(workload).await;
        }
    }
    if wanted("notify") {
        println!("\nnotify_read: from the write's completion to the last waiter, median");
        let folder = tempfile::tempdir().unwrap();
        let Design::Actor(store) = Design::open(0, folder.path()) else { return };
        for waiters in [1, 100, 10_000] {
            println!("{waiters:>8} waiters {:>12.1?}", notify(&store, waiters).await);
        }
        store.shutdown().await.unwrap();
    }
}
