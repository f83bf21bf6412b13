//! Measures the store on this machine, in a temporary folder of the directory given as the first argument.
//!
//! ```sh
//! cargo run --release -p rorqual-store --example measure -- /path/on/the/disk
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rorqual_store::{Column, ColumnOptions, Durability, Options, Store, WriteBatch};

const SMALL: Column = Column("small");
const LARGE: Column = Column("large");
const TASKS: u64 = 64;
const SECONDS: u64 = 5;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(parent)?;
    let options = Options {
        write_buffer_bytes: 64 << 20,
        ..Options::with_columns(vec![ColumnOptions::small(SMALL.0), ColumnOptions::large(LARGE.0, 32 << 20)])
    };
    let store = Store::open(&folder.path().join("db"), options)?;
    operations(&store, Durability::Buffered).await?;
    operations(&store, Durability::Synced).await?;
    payload(&store).await?;
    reclaim(&store).await?;
    store.shutdown().await?;
    Ok(())
}

/// Incompressible enough for a store that does not compress.
fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let mut bytes = vec![0; length];
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    Bytes::from(bytes)
}

async fn operations(store: &Store, durability: Durability) -> Result<(), Box<dyn Error>> {
    let before = store.statistics();
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (store, value) = (store.clone(), noise(512, task));
        tasks.spawn(async move {
            let mut count = 0_u64;
            while start.elapsed() < Duration::from_secs(SECONDS) {
                let mut batch = WriteBatch::new();
                batch.put(SMALL, [task.to_be_bytes(), count.to_be_bytes()].concat(), value.clone());
                store.write_batch(batch, durability).await?;
                count += 1;
            }
            Ok::<u64, rorqual_store::StoreError>(count)
        });
    }
    let mut total = 0;
    for count in tasks.join_all().await {
        total += count?;
    }
    let statistics = store.statistics();
    println!(
        "{durability:?}: {:.0} writes/s of 512 B from {TASKS} tasks; {:.1} batches a group, {:.1} a sync",
        total as f64 / start.elapsed().as_secs_f64(),
        total as f64 / (statistics.groups - before.groups) as f64,
        statistics.batches_per_sync(),
    );
    Ok(())
}

const PAYLOADS: u64 = 2000;
const PAYLOAD: usize = 512 << 10;

async fn payload(store: &Store) -> Result<(), Box<dyn Error>> {
    let value = noise(PAYLOAD, 7);
    let start = Instant::now();
    let mut last = None;
    for number in 0..PAYLOADS {
        let mut batch = WriteBatch::new();
        batch.put(LARGE, number.to_be_bytes().to_vec(), value.clone());
        // Two in flight: the producer does not wait for what it has just given.
        let current = store.write_batch(batch, Durability::Synced);
        if let Some(previous) = last.replace(current) {
            previous.await?;
        }
    }
    if let Some(previous) = last {
        previous.await?;
    }
    let megabytes = (PAYLOADS * PAYLOAD as u64) as f64 / 1e6;
    println!("payload: {:.0} MB/s synced, in values of 512 KiB", megabytes / start.elapsed().as_secs_f64());
    Ok(())
}

async fn reclaim(store: &Store) -> Result<(), Box<dyn Error>> {
    let disk = || store.sizes()[1].disk_bytes / 1_000_000;
    let before = disk();
    store.delete_range(LARGE, "", (PAYLOADS * 9 / 10).to_be_bytes().to_vec()).await?;
    let mut line = format!("space: {before} MB, nine tenths deleted");
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        line += &format!(", {} MB", disk());
    }
    println!("{line}");
    Ok(())
}
