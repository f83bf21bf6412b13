//! What a store on disk promises beyond the contract: what survives, and who may open what.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use rorqual_store::offline::Lock;
use rorqual_store::{
    ColumnOptions, Damage, DamageKind, Direction, Durability, Options, SegmentAccess, Store, StoreError, WriteBatch,
    verify,
};

use support::{LARGE, SMALL, open_when_released, options, soon, until};

fn value(number: u32) -> Bytes {
    Bytes::from(vec![number as u8; 6000])
}

async fn fill(store: &Store, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut batch = WriteBatch::new();
        batch.put(SMALL, number.to_be_bytes().to_vec(), "small");
        batch.put(LARGE, number.to_be_bytes().to_vec(), value(number));
        soon(store.write_batch(batch, Durability::Buffered)).await.expect("a write");
    }
}

async fn check(store: &Store, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert_eq!(soon(store.read(SMALL, &number.to_be_bytes())).await, Ok(Some(Bytes::from("small"))));
        assert_eq!(soon(store.read(LARGE, &number.to_be_bytes())).await, Ok(Some(value(number))));
    }
}

#[tokio::test]
async fn everything_survives_a_shutdown() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("deep").join("db");
    for round in 0..3 {
        let store = Store::open(&path, options()).expect("a database");
        check(&store, 0..round * 100).await;
        fill(&store, round * 100..(round + 1) * 100).await;
        assert_eq!(soon(store.shutdown()).await, Ok(()));
        // A handle that is still there does not keep the directory.
        let again = Store::open(&path, options()).expect("the directory is released");
        assert_eq!(soon(again.shutdown()).await, Ok(()));
        assert_eq!(soon(store.read(SMALL, b"")).await, Err(StoreError::Closed));
    }
}

#[tokio::test]
async fn everything_survives_the_drop_of_the_last_handle() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("db");
    let store = Store::open(&path, options()).expect("a database");
    fill(&store, 0..100).await;
    drop(store.write(SMALL, "unwatched", "value"));
    drop(store);
    let store = open_when_released(&path, options());
    check(&store, 0..100).await;
    assert_eq!(soon(store.read(SMALL, b"unwatched")).await, Ok(Some(Bytes::from("value"))));
}

#[tokio::test]
async fn large_values_are_read_from_disk_by_reader_threads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("db");
    let store = Store::open(&path, options()).expect("a database");
    fill(&store, 0..300).await;
    assert_eq!(soon(store.shutdown()).await, Ok(()));
    let store = Store::open(&path, options()).expect("a database");
    let sizes = store.sizes();
    assert!(sizes[1].disk_bytes > 300 * 6000, "{sizes:?}");
    check(&store, 0..300).await;
    let page = soon(store.iterate(LARGE, b"", b"", 1000, usize::MAX, Direction::Backward)).await.expect("a page");
    assert_eq!(page.len(), 300);
    assert_eq!(soon(store.notify_read(LARGE, 7_u32.to_be_bytes().to_vec())).await, Ok(value(7)));
}

#[tokio::test]
async fn a_checkpoint_is_a_database_of_the_moment_it_was_made() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(&folder.path().join("db"), options()).expect("a database");
    fill(&store, 0..100).await;
    let copy = folder.path().join("copy");
    assert_eq!(soon(store.checkpoint(&copy)).await, Ok(()));
    soon(store.delete_range(LARGE, "", "")).await.expect("a write");
    let opened = Store::open(&copy, options()).expect("the copy");
    check(&opened, 0..100).await;
    assert!(soon(store.checkpoint(&copy)).await.is_err(), "an existing directory is not overwritten");
    assert_eq!(soon(store.write(SMALL, "key", "value")).await, Ok(()), "a failed copy does not stop the store");
}

#[tokio::test]
async fn deleted_ranges_of_large_values_give_their_space_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(&folder.path().join("db"), options()).expect("a database");
    // Several write buffers, so that most of it is in files.
    fill(&store, 0..4000).await;
    let before = store.sizes()[1].disk_bytes;
    assert!(before > 10 << 20, "{before}");
    soon(store.delete_range(LARGE, "", 3900_u32.to_be_bytes().to_vec())).await.expect("a write");
    until(|| store.sizes()[1].disk_bytes < before / 4).await;
    for number in 3900..4000_u32 {
        assert_eq!(soon(store.read(LARGE, &number.to_be_bytes())).await, Ok(Some(value(number))));
    }
}

#[tokio::test]
async fn a_store_in_memory_makes_no_checkpoint() {
    let store = Store::in_memory(options());
    let error = soon(store.checkpoint(Path::new("/nowhere"))).await;
    assert!(matches!(error, Err(StoreError::Unsupported { .. })));
}

#[tokio::test]
async fn a_second_store_of_the_same_process_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("db");
    let store = Store::open(&path, options()).expect("a database");
    let error = Store::open(&path, options()).err();
    assert_eq!(error, Some(StoreError::Locked { path: path.clone(), holder: Some(std::process::id()) }));
    assert_eq!(soon(store.write(SMALL, "key", "value")).await, Ok(()));
}

#[test]
fn columns_that_differ_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("db");
    let store = Store::open(&path, options()).expect("a database");
    drop(store);
    drop(open_when_released(&path, options()));
    let other = Options::with_columns(vec![ColumnOptions::small("small"), ColumnOptions::small("new")]);
    let error = loop {
        match Store::open(&path, other.clone()) {
            Err(StoreError::Locked { .. }) => std::thread::yield_now(),
            Err(error) => break error,
            Ok(_) => panic!("other columns were accepted"),
        }
    };
    let text = error.to_string();
    assert!(text.contains("large") && text.contains("new"), "{text}");
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_of_its_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "not a directory").expect("a file");
    let error = Store::open(&file.join("db"), options()).expect_err("a file is in the way");
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(Store::open(&file, options()).is_err());
}

#[test]
fn a_damaged_log_is_read_up_to_the_damage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("db");
    let mut child = Helper::start("writes_until_it_is_killed", &path);
    let acknowledged = child.lines(50);
    child.kill();
    // What a power cut leaves behind the last sync: a torn record.
    let log = std::fs::read_dir(&path)
        .expect("the directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|file| file.extension().is_some_and(|kind| kind == "log"))
        .max()
        .expect("a log");
    let mut file = std::fs::OpenOptions::new().append(true).open(log).expect("the log");
    file.write_all(&[0x5a; 777]).expect("a torn record");
    drop(file);
    check_prefix(&path, acknowledged);
}

#[test]
fn acknowledged_writes_survive_a_kill() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("db");
    let mut acknowledged = 0;
    for _ in 0..5 {
        let mut child = Helper::start("writes_until_it_is_killed", &path);
        acknowledged = child.lines(40).max(acknowledged);
        child.kill();
        acknowledged = check_prefix(&path, acknowledged);
    }
}

/// Everything up to the last acknowledged number is there, and what is there has no hole and no half batch.
fn check_prefix(path: &Path, acknowledged: u32) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Store::open(path, options()).expect("a killed process leaves no lock");
        let all = soon(store.iterate(SMALL, b"", b"", usize::MAX, usize::MAX, Direction::Forward)).await.expect("all");
        let found = all.len() as u32;
        assert!(found > acknowledged, "{found} writes survived, but number {acknowledged} was acknowledged");
        check(&store, 0..found).await;
        assert_eq!(soon(store.shutdown()).await, Ok(()));
        found
    })
}

#[test]
fn a_directory_that_another_process_has_open_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("db");
    let mut child = Helper::start("writes_until_it_is_killed", &path);
    child.lines(1);
    let holder = Some(child.child.id());
    assert_eq!(Store::open(&path, options()).err(), Some(StoreError::Locked { path: path.clone(), holder }));
    assert_eq!(Lock::take(&path).err(), Some(StoreError::Locked { path: path.clone(), holder }));
    child.kill();
    assert!(Store::open(&path, options()).is_ok());
}

/// What write number `number` of [`churns_until_it_is_killed`] does: a function of the number, so that whoever knows how many
/// were applied knows everything that is stored.
fn churn(number: u32) -> Vec<Churn> {
    let mut state = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    let mut changes = Vec::new();
    for _ in 0..1 + next(4) {
        let key = next(24) as u8;
        // Around the size from which values go to segments, and enough to fill segments.
        let length = [20, 4095, 4096, 9000, 150_000][next(5) as usize];
        changes.push(match next(10) {
            0 => Churn::DeleteRange(key, key + 1 + next(6) as u8),
            1 | 2 => Churn::Delete(key),
            _ => Churn::Put(key, Bytes::from(vec![number as u8; length])),
        });
    }
    changes
}

enum Churn {
    Put(u8, Bytes),
    Delete(u8),
    DeleteRange(u8, u8),
}

fn churn_batch(number: u32) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(SMALL, "count", number.to_be_bytes().to_vec());
    for change in churn(number) {
        match change {
            Churn::Put(key, value) => batch.put(LARGE, vec![key], value),
            Churn::Delete(key) => batch.delete(LARGE, vec![key]),
            Churn::DeleteRange(from, to) => batch.delete_range(LARGE, vec![from], vec![to]),
        }
    }
    batch
}

fn churned(count: u32) -> std::collections::BTreeMap<u8, Bytes> {
    let mut map = std::collections::BTreeMap::new();
    for change in (0..=count).flat_map(churn) {
        match change {
            Churn::Put(key, value) => drop(map.insert(key, value)),
            Churn::Delete(key) => drop(map.remove(&key)),
            Churn::DeleteRange(from, to) => map.retain(|key, _| !(from..to).contains(key)),
        }
    }
    map
}

#[test]
fn a_kill_at_any_moment_leaves_exactly_a_prefix_of_the_writes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for cycle in 0..8 {
        let mut child = Helper::start("churns_until_it_is_killed", &path);
        let acknowledged = child.lines(10 + cycle * 37);
        child.kill();
        let report = verify(&path, &options().columns).expect("a report");
        assert!(report.is_intact(), "{report:?}");
        runtime.block_on(async {
            let store = Store::open(&path, options()).expect("a killed process leaves no lock");
            let count = soon(store.read(SMALL, b"count")).await.expect("a read").expect("a count");
            let count = u32::from_be_bytes(count[..].try_into().expect("four bytes"));
            assert!(count >= acknowledged, "{count} after {acknowledged}");
            let all =
                soon(store.iterate(LARGE, b"", b"", usize::MAX, usize::MAX, Direction::Forward)).await.expect("all");
            let found = all.into_iter().map(|(key, value)| (key[0], value)).collect();
            assert!(churned(count) == found, "not what {count} writes leave");
            let segments = store.statistics().segments;
            assert!(segments.file_bytes < 32 << 20, "{segments:?}");
            assert_eq!(soon(store.shutdown()).await, Ok(()));
        });
        let report = verify(&path, &options().columns).expect("a report");
        assert!(report.is_intact() && report.lost_unsynced == 0, "{report:?}");
    }
}

#[tokio::test]
async fn the_page_cache_serves_where_direct_access_is_not_wanted_or_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("db");
    for direct_io in [false, true, false] {
        let store = Store::open(&path, Options { direct_io, ..options() }).expect("a database");
        let access = store.statistics().segments.access.expect("a store on disk");
        assert!(direct_io || access == SegmentAccess::Buffered);
        println!("large values were accessed {access:?}");
        fill(&store, 0..100).await;
        check(&store, 0..100).await;
        assert_eq!(soon(store.shutdown()).await, Ok(()));
    }
}

#[tokio::test]
async fn the_space_of_large_values_is_flat_while_as_much_is_deleted_as_is_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(&folder.path().join("db"), options()).expect("a database");
    let mut most = 0;
    for number in 0..1000_u32 {
        let mut batch = WriteBatch::new();
        batch.put(LARGE, number.to_be_bytes().to_vec(), Bytes::from(vec![number as u8; 100_000]));
        batch.delete_range(LARGE, "", number.saturating_sub(20).to_be_bytes().to_vec());
        soon(store.write_batch(batch, Durability::Buffered)).await.expect("a write");
        most = most.max(store.statistics().segments.file_bytes);
    }
    let segments = store.statistics().segments;
    // 100 MB were written, 2 MB are kept; the keeper of the files may be behind by as much as is written in a sync.
    assert!(most < 50 << 20, "{most}");
    assert!(segments.recycled > 10 && segments.live_records == 21, "{segments:?}");
    until(|| store.statistics().segments.file_bytes < 8 << 20).await;
}

#[tokio::test]
async fn a_flipped_bit_in_a_segment_or_a_table_is_found_and_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("db");
    let store = Store::open(&path, options()).expect("a database");
    fill(&store, 0..200).await;
    assert_eq!(soon(store.shutdown()).await, Ok(()));
    let intact = verify(&path, &options().columns).expect("a report");
    assert!(intact.is_intact() && intact.records == 200, "{intact:?}");
    let files = |folder: &Path, kind: &str| {
        let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let mut found: Vec<_> = entries.filter(|file| file.extension().is_some_and(|found| found == kind)).collect();
        // The first one has values in it; in what order a folder lists its files is the filesystem's affair.
        found.sort();
        found
    };
    let segments = files(&path.join("segments"), "segment");
    let tables = files(&path, "sst");
    assert!(!segments.is_empty() && !tables.is_empty());
    for (file, kind) in [(&segments[0], DamageKind::Record), (&tables[0], DamageKind::Table)] {
        let whole = std::fs::read(file).expect("a file");
        let mut flipped = whole.clone();
        flipped[20] ^= 1;
        std::fs::write(file, &flipped).expect("a file");
        let report = verify(&path, &options().columns).expect("a report");
        let named = |damage: &Damage| damage.kind == kind && damage.file == *file && damage.offset.is_some();
        assert!(report.damages.iter().any(named), "{report:?}");
        std::fs::write(file, &whole).expect("a file");
        assert_eq!(verify(&path, &options().columns), Ok(intact.clone()));
    }
}

#[test]
fn a_directory_without_a_database_cannot_be_verified() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = verify(folder.path(), &options().columns);
    assert!(matches!(report, Err(StoreError::Missing { .. })), "{report:?}");
}

const HELPER_PATH: &str = "RORQUAL_STORE_TEST_PATH";

/// Another process: this test program again, running one of the tests below that do nothing by themselves.
struct Helper {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Helper {
    fn start(test: &str, path: &Path) -> Helper {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(HELPER_PATH, path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Helper { child, output }
    }

    /// Waits for that many acknowledgements; the number of the last.
    fn lines(&mut self, count: usize) -> u32 {
        let mut numbers = Vec::new();
        let mut line = String::new();
        while numbers.len() < count {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).expect("its output"), 0, "the helper ended by itself");
            numbers
                .extend(line.trim().strip_prefix("acknowledged ").map(|text| text.parse::<u32>().expect("a number")));
        }
        numbers[count - 1]
    }

    fn kill(&mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("its end");
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
#[ignore = "a helper process of other tests"]
async fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(HELPER_PATH) else { return };
    let store = Store::open(Path::new(&path), options()).expect("a database");
    let last = store.iterate(SMALL, b"", b"", 1, usize::MAX, Direction::Backward).await.expect("the last");
    let mut number = match last.first() {
        Some((key, _)) => u32::from_be_bytes(key[..].try_into().expect("four bytes")) + 1,
        None => 0,
    };
    loop {
        let mut batch = WriteBatch::new();
        batch.put(SMALL, number.to_be_bytes().to_vec(), "small");
        batch.put(LARGE, number.to_be_bytes().to_vec(), value(number));
        let durability = if number.is_multiple_of(2) { Durability::Synced } else { Durability::Buffered };
        store.write_batch(batch, durability).await.expect("a write");
        println!("\nacknowledged {number}");
        number += 1;
    }
}

#[tokio::test]
#[ignore = "a helper process of other tests"]
async fn churns_until_it_is_killed() {
    let Some(path) = std::env::var_os(HELPER_PATH) else { return };
    let store = Store::open(Path::new(&path), options()).expect("a database");
    let count = store.read(SMALL, b"count").await.expect("a read");
    let mut number = count.map_or(0, |count| u32::from_be_bytes(count[..].try_into().expect("four bytes")) + 1);
    let mut pending = std::collections::VecDeque::new();
    loop {
        let durability = if number.is_multiple_of(7) { Durability::Synced } else { Durability::Buffered };
        pending.push_back((number, store.write_batch(churn_batch(number), durability)));
        if pending.len() == 8 {
            let (written, completion) = pending.pop_front().expect("eight of them");
            completion.await.expect("a write");
            println!("\nacknowledged {written}");
        }
        number += 1;
    }
}
