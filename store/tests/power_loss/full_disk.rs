//! What the store does with a disk on which the space that it would like to set aside does not fit.

use std::time::Duration;

use rorqual_store::{Column, ColumnOptions, Durability, Options, Store, StoreError, WriteBatch};

use crate::mounted;

const LARGE: Column = Column("large");
const MIB: usize = 1 << 20;
/// A quarter of a segment file.
const DISK: usize = 16 * MIB;

fn options() -> Options {
    Options { write_buffer_bytes: MIB, ..Options::with_columns(vec![ColumnOptions::large(LARGE.0, 0)]) }
}

async fn write(store: &Store, number: usize) -> Result<(), StoreError> {
    let mut batch = WriteBatch::new();
    batch.put(LARGE, format!("{number:04}"), vec![number as u8; MIB / 2]);
    store.write_batch(batch, Durability::Synced).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_smaller_than_a_segment_is_used_and_what_was_written_survives() {
    let Some((_folder, lossy)) = mounted(DISK as u64) else { return };
    let path = lossy.path().join("db");
    let store = Store::open(&path, options()).expect("a store");
    let mut written = 0;
    let failure = loop {
        match write(&store, written).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < DISK / (MIB / 2), "more than fits");
    };
    assert!(matches!(failure, StoreError::DiskFull { .. }), "{failure}");
    assert!(written * MIB / 2 >= DISK / 2, "only {written} values of half a MiB in {DISK} bytes");
    assert!(store.shutdown().await.is_err(), "a store that failed says so");

    lossy.disk().set_capacity(2 * DISK as u64);
    let store = Store::open(&path, options()).expect("the store, with more room");
    for number in 0..written {
        let value = store.read(LARGE, format!("{number:04}").as_bytes()).await.expect("a read");
        assert_eq!(value.expect("it was synced"), vec![number as u8; MIB / 2], "value {number}");
    }
    write(&store, written).await.expect("there is room again");
    store.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_not_even_one_record_fits_the_write_fails_at_once() {
    let Some((_folder, lossy)) = mounted(4 * DISK as u64) else { return };
    let small = Options { segment_bytes: 64 << 10, large_value_bytes: 16, ..options() };
    let store = Store::open(&lossy.path().join("db"), small).expect("a store");
    store.write(LARGE, "first", vec![1; 100]).await.expect("there is room");
    let used = lossy.disk().used();
    lossy.disk().set_capacity(used);
    let fill = async {
        loop {
            if let Err(error) = store.write(LARGE, "again", vec![2; 100]).await {
                return error;
            }
        }
    };
    let failure = tokio::time::timeout(Duration::from_secs(60), fill).await.expect("an answer");
    assert!(matches!(failure, StoreError::DiskFull { .. }), "{failure}");
}
