//! A bit of a file of the store is wrong at the next start: it is noticed, or it stood where nothing is. Wrong bytes are never
//! handed out.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rorqual_store::{Column, Direction, Durability, Options, Store, StoreError, WriteBatch};

use crate::mounted;
use crate::support::{self, LARGE, SMALL, soon};

const ENTRIES: u32 = 60;

/// Small enough that there are table and value files beside the log.
fn options() -> Options {
    Options { write_buffer_bytes: 1 << 20, ..support::options() }
}

fn key(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn value(column: Column, number: u32) -> Bytes {
    let length = if column == LARGE { 20_000 } else { 500 };
    Bytes::from(number.to_be_bytes().repeat(length / 4))
}

/// What became of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The store does not open, and says why.
    Refused,
    /// It opens, and some reads say that their data is damaged.
    Named,
    /// Values are absent, so that the caller fetches them anew.
    Absent,
    /// The log was read up to the damage. The store alone cannot tell that from a torn log; the node's safety record can.
    LogCutShort,
    /// Everything is there: nothing was stored at this place, or nothing that is needed.
    Intact,
}

async fn fill(store: &Store, random: &mut ChaCha8Rng) {
    let durability = [Durability::Buffered, Durability::Synced][random.random_range(0..2)];
    for number in 0..ENTRIES {
        let mut batch = WriteBatch::new();
        batch.put(SMALL, key(number), value(SMALL, number));
        batch.put(LARGE, key(number), value(LARGE, number));
        soon(store.write_batch(batch, durability)).await.expect("a write");
    }
    let mut last = WriteBatch::new();
    last.put(SMALL, key(0), value(SMALL, 0));
    soon(store.write_batch(last, Durability::Synced)).await.expect("a sync");
}

/// Reads every entry by itself; a value that is neither right nor absent nor refused fails the test.
async fn outcome(store: &Store, seed: u64, in_log: bool) -> Outcome {
    let (mut named, mut absent) = (false, Vec::new());
    for column in [SMALL, LARGE] {
        for number in 0..ENTRIES {
            match soon(store.read(column, &key(number))).await {
                Ok(Some(found)) => {
                    assert!(found == value(column, number), "seed {seed}: {} {number} has wrong bytes", column.0);
                }
                Ok(None) => absent.push((column, number)),
                Err(StoreError::Corruption { .. }) => named = true,
                Err(error) => panic!("seed {seed}: reading {} {number}: {error}", column.0),
            }
        }
        let range = soon(store.iterate(column, b"", b"", usize::MAX, usize::MAX, Direction::Forward)).await;
        for (found, bytes) in range.unwrap_or_default() {
            let number =
                u32::from_be_bytes(found[..].try_into().unwrap_or_else(|_| panic!("seed {seed}: key {found:?}")));
            assert!(bytes == value(column, number), "seed {seed}: {} {number} has wrong bytes in a range", column.0);
        }
    }
    match (named, absent.is_empty()) {
        (true, _) => Outcome::Named,
        (false, true) => Outcome::Intact,
        (false, false) if in_log => Outcome::LogCutShort,
        (false, false) if absent.iter().all(|(column, _)| *column == LARGE) => Outcome::Absent,
        (false, false) => panic!("seed {seed}: small values are absent, and nobody said why: {absent:?}"),
    }
}

fn files(folder: &std::path::Path, found: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(folder).expect("a listing") {
        let path = entry.expect("an entry").path();
        let facts = fs::metadata(&path).expect("its facts");
        if facts.is_dir() {
            files(&path, found);
        } else if facts.len() > 0 {
            found.push((path, facts.len()));
        }
    }
}

/// One placement: kind of file and outcome; nothing where FUSE is not to be had.
fn placement(seed: u64) -> Option<(String, Outcome)> {
    let (_folder, lossy) = mounted(1 << 30)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let path = lossy.path().join("db");
        let store = Store::open(&path, options()).expect("a new database");
        fill(&store, &mut random).await;
        let clean = random.random_range(0..2) == 0;
        if clean {
            soon(store.shutdown()).await.expect("a clean end");
        } else {
            lossy.disk().cut();
            let _ = soon(store.shutdown()).await;
            lossy.disk().power_on(seed);
        }
        drop(store);
        let mut all = Vec::new();
        files(&path, &mut all);
        all.sort();
        let (file, length) = all[random.random_range(0..all.len())].clone();
        let kind = file.extension().map_or_else(
            || file.file_name().unwrap_or_default().to_string_lossy().split('-').next().unwrap_or_default().to_string(),
            |kind| kind.to_string_lossy().into_owned(),
        );
        let offset = random.random_range(0..length);
        let inside = file.strip_prefix(lossy.path()).expect("a file of the mount");
        lossy.disk().flip(inside, offset, 1 << random.random_range(0..8)).expect("a flip");
        let outcome = match Store::open(&path, options()) {
            Err(_) => Outcome::Refused,
            Ok(store) => {
                let outcome = outcome(&store, seed, kind == "log").await;
                let _ = soon(store.shutdown()).await;
                outcome
            }
        };
        Some((kind, outcome))
    })
}

fn placements(seeds: std::ops::Range<u64>) {
    let mut outcomes: BTreeMap<(String, Outcome), u32> = BTreeMap::new();
    for seed in seeds {
        let Some(found) = placement(seed) else { return };
        *outcomes.entry(found).or_default() += 1;
    }
    for ((kind, outcome), count) in &outcomes {
        println!("{kind}: {outcome:?} {count} times");
    }
    let noticed = outcomes.iter().filter(|((_, outcome), _)| *outcome != Outcome::Intact).map(|(_, count)| count);
    assert!(noticed.sum::<u32>() > 0, "no flip hit anything");
}

#[test]
fn wrong_bits_are_noticed_or_harmless_at_20_places() {
    placements(0..20);
}

#[test]
#[ignore = "takes a minute: scripts/test.sh --long"]
fn wrong_bits_are_noticed_or_harmless_at_200_places() {
    placements(1_000..1_200);
}
