//! How long a write that others wait for takes beside a flood of tiny ones: a measurement, with and without a lane of its own, for
//! 50 000 tiny writes a second and for as many as the store takes.

use std::time::{Duration, Instant};

use rorqual_store::{Column, ColumnOptions, Durability, Options, Store, WriteBatch};

const PAYLOAD: Column = Column("payload");
const ROWS: Column = Column("rows");
/// Tiny writes before the measurement, and then in a second.
const BEFORE: u64 = 300_000;
const RATE: u64 = 50_000;
const SECONDS: u64 = 6;

fn tiny(number: u64, bulk: bool) -> WriteBatch {
    // Scattered, as digests are.
    let key = [&(number % 2).to_be_bytes()[6..], &number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), &[7; 32]]
        .concat();
    let mut batch = WriteBatch::new();
    batch.put(PAYLOAD, key.clone(), "tiny");
    batch.put(ROWS, key, "4");
    if bulk {
        batch.set_bulk();
    }
    batch
}

async fn flood(store: Store, bulk: bool, numbers: std::ops::Range<u64>, paced: bool) -> u64 {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let mut called = 0_u64;
    for number in numbers {
        if paced && called.is_multiple_of(RATE / 200) {
            tick.tick().await;
        }
        called += 1;
        if let Err(refused) = store.try_write_batch(tiny(number, bulk), Durability::Buffered) {
            store.write_batch(refused.batch, Durability::Buffered).await.expect("a write");
        }
    }
    called
}

async fn measure(bulk: bool, paced: bool) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let columns = vec![ColumnOptions::large(PAYLOAD.0, 0), ColumnOptions::small(ROWS.0), ColumnOptions::small("own")];
    let store = Store::open(&folder.path().join("db"), Options::with_columns(columns)).expect("a store");
    flood(store.clone(), bulk, 0..BEFORE, false).await;
    store.write_batch(WriteBatch::new(), Durability::Synced).await.expect("a sync");
    let others = tokio::spawn(flood(store.clone(), bulk, BEFORE..BEFORE + RATE * SECONDS, paced));
    let (mut taken, begun) = (Vec::new(), Instant::now());
    while !others.is_finished() {
        let asked = Instant::now();
        let mut own = WriteBatch::new();
        own.put(Column("own"), (taken.len() as u64).to_be_bytes().to_vec(), vec![0; 1_024]);
        store.write_batch(own, Durability::Synced).await.expect("a write");
        taken.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    taken.sort();
    let rate = RATE as f64 * SECONDS as f64 / begun.elapsed().as_secs_f64();
    println!(
        "bulk lane {bulk}, paced {paced}: {rate:.0} tiny writes/s, {} synced writes: p50 {:?}, p99 {:?}, worst {:?}",
        taken.len(),
        taken[taken.len() / 2],
        taken[taken.len() * 99 / 100],
        taken[taken.len() - 1]
    );
    store.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: it has no bar"]
async fn synced_writes_beside_fifty_thousand_tiny_ones_a_second() {
    for (bulk, paced) in [(false, true), (true, true), (false, false), (true, false)] {
        measure(bulk, paced).await;
    }
}
