//! Large values and the log are synced side by side, by two threads: what the one must not promise without the other.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use rorqual_store::{Column, ColumnOptions, Durability, Options, Store, WriteBatch};

use crate::mounted;

const LARGE: Column = Column("large");
const CAPACITY: u64 = 256 << 20;
/// What a cut leaves of the unsynced is a matter of luck: one of these leaves little of it.
const SEEDS: u64 = 4;

/// Nothing is synced unasked.
fn options() -> Options {
    Options {
        segment_bytes: 1 << 20,
        segment_sync_bytes: u64::MAX,
        write_buffer_bytes: 1 << 20,
        ..Options::with_columns(vec![ColumnOptions::large(LARGE.0, 0)])
    }
}

fn value(number: u64) -> Vec<u8> {
    vec![number as u8 + 1; 300_000]
}

async fn read(store: &Store, number: u64) -> Option<Vec<u8>> {
    let found = store.read(LARGE, &number.to_be_bytes()).await.expect("a read");
    found.map(|value| value.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synced_value_survives_though_its_file_is_synced_long_after_the_log() {
    let Some((_folder, lossy)) = mounted(CAPACITY) else { return };
    let path = lossy.path().join("db");
    for number in 0..SEEDS {
        let store = Store::open(&path, options()).expect("a store");
        lossy.disk().faults.slow_files = Some((".segment", Duration::from_millis(300)));
        let mut batch = WriteBatch::new();
        batch.put(LARGE, number.to_be_bytes().to_vec(), value(number));
        store.write_batch(batch, Durability::Synced).await.expect("a synced write");
        // The moment it is answered.
        lossy.disk().cut();
        assert!(store.shutdown().await.is_err(), "the power is off");
        lossy.disk().faults.slow_files = None;
        lossy.disk().power_on(number);
        let store = Store::open(&path, options()).expect("the store after a cut");
        assert_eq!(read(&store, number).await, Some(value(number)), "value {number}");
        store.shutdown().await.expect("a clean end");
    }
}

/// Copies a directory of files, those with or without this ending.
fn copy(from: &Path, to: &Path, segments: bool) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let is_segment = path.extension().is_some_and(|kind| kind == "segment");
        let name = path.file_name().expect("a name");
        if path.is_dir() {
            copy(&path, &to.join(name), segments);
        } else if is_segment == segments {
            fs::copy(&path, to.join(name)).expect("a copy");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_after_a_kill_has_shown_survives_a_cut_right_after_it() {
    let Some((_folder, lossy)) = mounted(CAPACITY) else { return };
    let running = lossy.path().join("running");
    let store = Store::open(&running, options()).expect("a store");
    for number in 0..SEEDS {
        store.write(LARGE, number.to_be_bytes().to_vec(), value(number)).await.expect("a write");
    }
    for seed in 0..SEEDS {
        // What a kill leaves: everything is with the kernel. The log has reached the disk by itself, the data have not.
        let killed = lossy.path().join(format!("killed-{seed}"));
        copy(&running, &killed, false);
        lossy.disk().settle();
        copy(&running, &killed, true);
        File::open(killed.join("segments")).and_then(|folder| folder.sync_all()).expect("a sync of the names");
        let started = Store::open(&killed, options()).expect("the store after a kill");
        for number in 0..SEEDS {
            assert_eq!(read(&started, number).await, Some(value(number)), "the kernel had it");
        }
        lossy.disk().cut();
        assert!(started.shutdown().await.is_err(), "the power is off");
        lossy.disk().power_on(seed);
        let started = Store::open(&killed, options()).expect("the store after a cut");
        assert_eq!(started.lost(LARGE), Ok(vec![]));
        for number in 0..SEEDS {
            assert_eq!(read(&started, number).await, Some(value(number)), "it was shown before, seed {seed}");
        }
        started.shutdown().await.expect("a clean end");
    }
}
