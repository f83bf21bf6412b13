//! One flipped bit anywhere in a database: it is named, or it harms nothing. Never does a read give something else.

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rorqual_store::offline::LogEnd;
use rorqual_store::{
    Column, ColumnOptions, DamageKind, Direction, Durability, Options, Store, WriteBatch, verify_entries,
};

use support::soon;

const DATA: Column = Column("data");
/// Flipped bits in one run, spread over all files.
const PLACEMENTS: usize = 200;

fn options() -> Options {
    Options { write_buffer_bytes: 4 << 20, ..Options::with_columns(vec![ColumnOptions::small(DATA.0)]) }
}

fn value(number: u32) -> Bytes {
    Bytes::from(number.wrapping_mul(2_654_435_761).to_be_bytes().repeat(25))
}

type Content = BTreeMap<Bytes, Bytes>;

/// A database with tables and a log, as a killed process leaves it.
async fn database(folder: &Path) -> (PathBuf, Content) {
    let (built, path) = (folder.join("built"), folder.join("db"));
    let mut content = Content::new();
    for round in 0..3 {
        let store = Store::open(&built, options()).expect("a database");
        for number in round * 500..(round + 1) * 500_u32 {
            let mut batch = WriteBatch::new();
            let key = Bytes::copy_from_slice(&number.to_be_bytes());
            batch.put(DATA, key.clone(), value(number));
            content.insert(key, value(number));
            soon(store.write_batch(batch, Durability::Buffered)).await.expect("a write");
        }
        soon(store.write_batch(WriteBatch::new(), Durability::Synced)).await.expect("a sync");
        if round == 2 {
            // The last third stays in the log.
            copy(&built, &path);
        }
        soon(store.shutdown()).await.expect("a shutdown");
    }
    (path, content)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("its kind").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

fn flip(file: &Path, bit: u64) {
    let open = std::fs::File::options().read(true).write(true).open(file).expect("a file");
    let mut byte = [0];
    open.read_exact_at(&mut byte, bit / 8).expect("a byte");
    open.write_all_at(&[byte[0] ^ (1 << (bit % 8))], bit / 8).expect("a write");
}

/// Whether the damage is named; the words are for the message of a failed test.
fn is_named(path: &Path, content: &Content) -> (bool, String) {
    let check = &mut |_column, key: &[u8], value: &[u8]| match content.get(key) {
        Some(expected) if expected == value => Ok(()),
        _ => Err("a value that was never written".to_string()),
    };
    match verify_entries(path, &options().columns, check) {
        Ok(found) => {
            let wrong = found.damages.iter().any(|damage| damage.kind == DamageKind::Entry);
            assert!(!wrong, "a damaged value passed all checksums: {found:?}");
            let log = found.log_files.iter().any(|log| log.end != LogEnd::Whole);
            (log || !found.damages.is_empty(), format!("{found:?}"))
        }
        Err(error) => (true, error.to_string()),
    }
}

/// What a store gives that is opened on it: everything that it gives must be right. Whether it gives everything.
async fn is_whole(path: &Path, content: &Content) -> bool {
    let Ok(store) = Store::open(path, options()) else { return false };
    let mut whole = true;
    for (key, expected) in content {
        match soon(store.read(DATA, key)).await {
            Ok(Some(found)) => assert_eq!(&found, expected, "a wrong value was read"),
            Ok(None) | Err(_) => whole = false,
        }
    }
    let all = soon(store.iterate(DATA, b"", b"", usize::MAX, usize::MAX, Direction::Forward)).await;
    whole &= all.is_ok_and(|all| all.len() == content.len());
    let _ = soon(store.shutdown()).await;
    whole
}

#[tokio::test]
async fn one_flipped_bit_is_named_or_harmless_and_never_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, content) = database(folder.path()).await;
    let (named, said) = is_named(&path, &content);
    assert!(!named, "{said}");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    // Text for people, which nothing reads back, and an empty file.
    files.retain(|file| !["LOG", "LOCK", "LOG.old"].iter().any(|name| file.ends_with(name)));
    files.retain(|file| file.metadata().is_ok_and(|facts| facts.is_file() && facts.len() > 0));
    files.sort();
    assert!(files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "sst")).count() >= 2, "{files:?}");
    let (mut random, mut tally) = (1_u64, BTreeMap::<String, (u32, u32)>::new());
    for placement in 0..PLACEMENTS {
        let file = &files[placement % files.len()];
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = file.metadata().expect("a file").len() * 8;
        // The upper half of the generator's bits is the better one.
        let bit = (random >> 20) % bits;
        let damaged = folder.path().join("damaged");
        copy(&path, &damaged);
        flip(&damaged.join(file.file_name().expect("a name")), bit);
        let (named, said) = is_named(&damaged, &content);
        let whole = is_whole(&damaged, &content).await;
        assert!(named || whole, "bit {bit} of {} took something away unseen: {said}", file.display());
        let kind = file.extension().map_or("other".into(), |kind| kind.to_string_lossy().into_owned());
        let count = tally.entry(kind).or_default();
        *count = (count.0 + u32::from(named), count.1 + 1);
        std::fs::remove_dir_all(&damaged).expect("a folder");
    }
    println!("named and flipped by kind of file: {tally:?}");
    assert_eq!(tally["log"].0, tally["log"].1, "every bit of a log is checked");
    assert!(tally["sst"].0 * 10 > tally["sst"].1 * 8, "{tally:?}");
}
