//! Segments under RocksDB: what is lost, damaged, recycled or backed up, seen from inside.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::reference::{Reference, Stored};
use super::{recovery, segment_key};
use crate::engine::{Direction, Engine, Range};
use crate::rocks::RocksEngine;
use crate::{Column, ColumnOptions, DamageKind, Options, StoreError, WriteBatch, offline, rocks_open, verify};

const LARGE: Column = Column("large");
const COLUMN: usize = 0;

/// Nothing is synced unless a test does it: the engine's own threads do not run here.
fn options() -> Options {
    Options {
        segment_bytes: 1 << 20,
        spare_segments: 2,
        segment_sync_bytes: u64::MAX,
        write_buffer_bytes: 8 << 20,
        block_cache_bytes: 1 << 20,
        ..Options::with_columns(vec![ColumnOptions::large(LARGE.0, 0)])
    }
}

struct Subject {
    folder: tempfile::TempDir,
    engine: Option<RocksEngine>,
    options: Options,
}

impl Subject {
    fn new(options: Options) -> Subject {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut subject = Subject { folder, engine: None, options };
        subject.reopen();
        subject
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("db")
    }

    fn engine(&self) -> &RocksEngine {
        self.engine.as_ref().expect("an open engine")
    }

    /// Ends as a killed process does: nothing is synced, nothing is tidied up.
    fn kill(&mut self) {
        self.engine = None;
    }

    fn reopen(&mut self) {
        self.kill();
        self.engine = Some(RocksEngine::open(&self.path(), &self.options).expect("the database"));
    }

    fn apply(&self, change: impl FnOnce(&mut WriteBatch)) {
        let mut batch = WriteBatch::new();
        change(&mut batch);
        self.engine().apply(&[&batch]).expect("a write");
    }

    fn put(&self, key: &'static str, value: &Bytes) {
        self.apply(|batch| batch.put(LARGE, key, value.clone()));
    }

    fn read(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.engine().read(COLUMN, key.as_bytes())
    }

    fn reference(&self, key: &str) -> Reference {
        let entry = self.engine().raw_entry(COLUMN, key.as_bytes()).expect("an entry");
        Stored::reference(&entry).expect("a reference")
    }

    /// Puts everything on disk without the engine's own threads.
    fn sync(&self) {
        let moment = self.engine().segments().moment();
        self.engine().segments().sync.finish().expect("a sync");
        self.engine().sync().expect("a sync");
        self.engine().segments().deletions_synced(moment);
    }

    fn synced(&self) -> Result<(), StoreError> {
        self.sync();
        Ok(())
    }

    /// Does what the keeper of the files would do now.
    fn keep(&self) {
        while let Some(task) = self.engine().segments().task() {
            self.engine().segments().perform(task, &|| self.synced(), &|_| Ok(())).expect("a task");
        }
    }

    /// What is in the place of a record after data did not reach the disk, or went bad.
    fn overwrite(&self, reference: &Reference, at: u64, bytes: &[u8]) {
        let path = self.path().join("segments").join(format!("{:08}.segment", reference.segment));
        let file = OpenOptions::new().write(true).open(path).expect("the segment");
        file.write_all_at(bytes, reference.offset + at).expect("a write");
        file.sync_all().expect("a sync");
    }

    fn verify(&self) -> crate::Report {
        verify(&self.path(), &self.options.columns).expect("a report")
    }
}

fn value(fill: u8, length: usize) -> Bytes {
    Bytes::from(vec![fill; length])
}

#[test]
fn values_that_a_power_cut_lost_read_as_absent_and_others_stay() {
    let mut subject = Subject::new(options());
    let (kept, lost) = (value(1, 10_000), value(2, 10_000));
    subject.put("kept", &kept);
    subject.put("lost", &lost);
    let reference = subject.reference("lost");
    subject.kill();
    subject.overwrite(&reference, 0, &[0; 512]);
    let report = subject.verify();
    assert_eq!((report.lost_unsynced, report.records, report.is_intact()), (1, 1, true), "{report:?}");
    // Named by every start until somebody has dealt with it.
    for _ in 0..2 {
        subject.reopen();
        assert_eq!(subject.read("lost"), Ok(None));
        assert_eq!(subject.read("kept"), Ok(Some(kept.clone())));
        assert_eq!(subject.engine().lost(COLUMN), [(Bytes::from("lost"), 10_000)]);
    }
    subject.kill();
    let report = subject.verify();
    assert_eq!((report.lost_unsynced, report.records, report.is_intact()), (0, 1, true), "{report:?}");
}

#[test]
fn a_lost_value_is_absent_also_where_it_replaced_another() {
    let mut subject = Subject::new(options());
    subject.put("small", &Bytes::from("small"));
    subject.put("large", &value(1, 10_000));
    subject.sync();
    // Each replaced twice: the first replacement is lost too.
    for fill in [2, 3] {
        for key in ["small", "large"] {
            subject.put(key, &value(fill, 10_000));
            let reference = subject.reference(key);
            subject.overwrite(&reference, 100, &[9; 9]);
        }
    }
    subject.reopen();
    // An older value beside newer keys of the same batch would be worse than none.
    assert_eq!((subject.read("small"), subject.read("large")), (Ok(None), Ok(None)));
    subject.kill();
    let report = subject.verify();
    assert!(report.is_intact(), "{report:?}");
}

#[test]
fn a_lost_value_that_was_deleted_or_replaced_since_stays_so() {
    let mut subject = Subject::new(options());
    for key in ["deleted", "replaced", "in range"] {
        subject.put(key, &value(1, 10_000));
        let reference = subject.reference(key);
        subject.overwrite(&reference, 0, &[0; 512]);
    }
    subject.apply(|batch| {
        batch.delete(LARGE, "deleted");
        batch.put(LARGE, "replaced", "small");
        batch.delete_range(LARGE, "in", "in s");
    });
    subject.reopen();
    assert_eq!(subject.read("deleted"), Ok(None));
    assert_eq!(subject.read("replaced"), Ok(Some(Bytes::from("small"))));
    assert_eq!(subject.read("in range"), Ok(None));
}

#[test]
fn damage_of_a_synced_value_is_named_and_ends_with_its_deletion() {
    let mut subject = Subject::new(options());
    subject.put("before", &value(1, 10_000));
    subject.put("damaged", &value(2, 10_000));
    subject.put("after", &value(3, 10_000));
    subject.sync();
    // The next write notes that these are on disk.
    subject.put("next", &value(4, 10_000));
    let reference = subject.reference("damaged");
    subject.overwrite(&reference, 5_000, &[0xff]);
    subject.reopen();
    let error = subject.read("damaged").expect_err("damage").to_string();
    let named = [format!("offset {}", reference.offset), "00000000.segment".into(), "64616d61676564".into()];
    assert!(named.iter().all(|name| error.contains(name)), "{error}");
    for key in ["before", "after", "next"] {
        assert!(matches!(subject.read(key), Ok(Some(_))), "{key}");
    }
    let all =
        Range { from: Bytes::new(), to: Bytes::new(), limit: 9, max_bytes: 1 << 30, direction: Direction::Forward };
    assert!(matches!(subject.engine().scan(COLUMN, &all), Err(StoreError::Corruption { .. })));
    subject.kill();
    let report = subject.verify();
    assert_eq!((report.damage_count, report.records), (1, 3), "{report:?}");
    let damage = &report.damages[0];
    assert_eq!((damage.kind, damage.offset), (DamageKind::Record, Some(reference.offset)));
    assert_eq!((damage.column, damage.key.as_deref()), (Some("large"), Some(&b"damaged"[..])));
    subject.reopen();
    subject.apply(|batch| batch.delete(LARGE, "damaged"));
    assert_eq!(subject.read("damaged"), Ok(None));
    subject.kill();
    assert!(subject.verify().is_intact());
}

#[test]
fn a_missing_segment_file_is_damage_and_its_number_is_not_used_again() {
    let mut subject = Subject::new(options());
    subject.put("gone", &value(1, 10_000));
    subject.sync();
    subject.put("other", &value(1, 10));
    subject.kill();
    std::fs::remove_file(subject.path().join("segments/00000000.segment")).expect("the segment");
    assert_eq!(subject.verify().damages[0].kind, DamageKind::Record);
    subject.reopen();
    assert!(matches!(subject.read("gone"), Err(StoreError::Corruption { .. })));
    subject.put("new", &value(2, 10_000));
    assert_ne!(subject.reference("new").segment, 0);
}

#[test]
fn space_is_used_again_and_stays_flat_when_as_much_is_deleted_as_is_written() {
    let subject = Subject::new(options());
    let mut most = 0;
    for number in 0..300_u32 {
        subject.apply(|batch| {
            batch.put(LARGE, number.to_be_bytes().to_vec(), value(number as u8, 200_000));
            if let Some(old) = number.checked_sub(20) {
                batch.delete(LARGE, old.to_be_bytes().to_vec());
            }
        });
        subject.keep();
        most = most.max(subject.engine().segments().statistics().file_bytes);
    }
    let statistics = subject.engine().segments().statistics();
    // 60 MB were written and 4 MB are kept, in segments of 1 MiB.
    assert!(most < 12 << 20, "{most}");
    assert!(statistics.recycled > 20, "{statistics:?}");
    assert_eq!(statistics.live_records, 20);
    for number in 280..300_u32 {
        let found = subject.engine().read(COLUMN, &number.to_be_bytes());
        assert_eq!(found, Ok(Some(value(number as u8, 200_000))));
    }
}

#[test]
fn a_half_megabyte_is_written_once() {
    let subject = Subject::new(Options { segment_bytes: 64 << 20, ..options() });
    for number in 0..50_u8 {
        subject.apply(|batch| batch.put(LARGE, vec![number], value(number, 512 << 10)));
    }
    let statistics = subject.engine().segments().statistics();
    let ratio = statistics.written_bytes as f64 / statistics.payload_bytes as f64;
    assert!((1.0..1.02).contains(&ratio), "{statistics:?}");
}

#[test]
fn dead_segments_wait_for_the_deletion_to_be_on_disk() {
    let mut subject = Subject::new(options());
    subject.put("old", &value(1, 900_000));
    subject.put("new", &value(2, 900_000));
    subject.apply(|batch| batch.delete(LARGE, "old"));
    assert_eq!(subject.engine().segments().task(), Some(super::Task::Prepare));
    assert_eq!(subject.engine().segments().task(), Some(super::Task::Sync));
    subject.sync();
    assert_eq!(subject.engine().segments().task(), Some(super::Task::Free(0)));
    subject.reopen();
    // What survived a restart is on disk.
    assert_eq!(subject.engine().segments().task(), Some(super::Task::Free(0)));
}

#[test]
fn a_value_larger_than_a_segment_has_a_file_of_its_own() {
    let mut subject = Subject::new(options());
    let huge = value(7, 5 << 20);
    subject.put("a", &value(1, 10_000));
    subject.put("huge", &huge);
    subject.put("b", &value(2, 10_000));
    subject.reopen();
    assert_eq!(subject.read("huge"), Ok(Some(huge)));
    subject.apply(|batch| batch.delete_range(LARGE, "", ""));
    subject.keep();
    let statistics = subject.engine().segments().statistics();
    assert!(statistics.file_bytes <= 2 << 20, "{statistics:?}");
    assert_eq!((statistics.live_bytes, statistics.live_records), (0, 0));
}

#[test]
fn accounting_survives_a_kill_and_agrees_with_the_index() {
    let mut subject = Subject::new(options());
    for round in 0..5_u8 {
        subject.apply(|batch| {
            for number in 0..20_u8 {
                batch.put(LARGE, vec![number], value(round, 4000 + usize::from(number) * 20));
                batch.put(LARGE, vec![number], value(round, 100_000));
            }
            batch.delete_range(LARGE, vec![3], vec![7 + round]);
            batch.put(LARGE, vec![4], value(round, 5000));
            batch.delete(LARGE, vec![4]);
            batch.delete_range(LARGE, vec![15], "");
            batch.put(LARGE, vec![16], value(round, 5000));
        });
        let before = subject.engine().segments().statistics();
        subject.kill();
        let report = subject.verify();
        assert!(report.is_intact(), "{report:?}");
        subject.reopen();
        let after = subject.engine().segments().statistics();
        assert_eq!((before.live_bytes, before.live_records), (after.live_bytes, after.live_records));
        subject.keep();
    }
}

fn copy_of(folder: &Path, name: &str) -> RocksEngine {
    RocksEngine::open(&folder.join(name), &options()).expect("the backup")
}

#[test]
fn a_backup_keeps_what_it_had_when_the_store_goes_on() {
    let subject = Subject::new(options());
    let key = |number: u32| number.to_be_bytes().to_vec();
    for number in 0..30 {
        subject.apply(|batch| batch.put(LARGE, key(number), value(number as u8, 200_000)));
    }
    subject.sync();
    let backup = subject.folder.path().join("backup");
    subject.engine().checkpoint(&backup).expect("a backup");
    assert!(backup.join(crate::AMNESIA_FILE).is_file());
    assert!(subject.engine().checkpoint(&backup).is_err(), "an existing backup is not overwritten");
    // Everything is replaced, again and again: no file of the backup may be written over.
    for number in 0..120 {
        subject.apply(|batch| batch.put(LARGE, key(number % 30), value(255, 200_000)));
        subject.keep();
    }
    let report = verify(&backup, &subject.options.columns).expect("a report");
    assert_eq!((report.is_intact(), report.records), (true, 30), "{report:?}");
    // The backup lives on its own, and harms nobody.
    let copy = copy_of(subject.folder.path(), "backup");
    for number in 0..30 {
        assert_eq!(copy.read(COLUMN, &key(number)), Ok(Some(value(number as u8, 200_000))));
    }
    let mut batch = WriteBatch::new();
    batch.delete_range(LARGE, "", "");
    copy.apply(&[&batch]).expect("a write");
    for number in 0..30 {
        assert_eq!(subject.engine().read(COLUMN, &key(number)), Ok(Some(value(255, 200_000))));
    }
}

#[test]
fn a_reader_never_gets_other_bytes_however_fast_segments_are_recycled() {
    let subject = Subject::new(options());
    let engine = subject.engine();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3_u8)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = 0_u64;
                    while !done.load(std::sync::atomic::Ordering::SeqCst) {
                        for key in 0..4_u8 {
                            let Some(found) = engine.read(COLUMN, &[key]).expect("no damage") else { continue };
                            assert!(found.iter().all(|byte| *byte == found[0]) && found[0] % 4 == key);
                            seen += 1;
                        }
                    }
                    seen
                })
            })
            .collect();
        for number in 0..600_u32 {
            subject.apply(|batch| {
                batch.put(LARGE, vec![(number % 4) as u8], value((number % 200) as u8, 300_000));
                batch.delete(LARGE, vec![((number + 2) % 4) as u8]);
            });
            subject.keep();
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        let seen: u64 = readers.into_iter().map(|reader| reader.join().expect("no panic")).sum();
        assert!(seen > 0);
    });
    assert!(engine.segments().statistics().recycled > 50);
}

/// An open database without the store around it.
fn database(subject: &Subject) -> rocksdb::DB {
    let cache = rocksdb::Cache::new_lru_cache(1 << 20);
    rocks_open::open_with(&subject.path(), &subject.options, &cache, false).expect("the database")
}

#[test]
fn a_rebuilt_database_without_format_and_accounting_keeps_every_value() {
    let mut subject = Subject::new(options());
    let values: Vec<Bytes> = (0..20).map(|number| value(number, 200_000)).collect();
    let keys = ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "14", "15"];
    for (key, value) in keys.iter().zip(&values) {
        subject.put(key, value);
    }
    subject.put(keys[3], &values[19]);
    subject.sync();
    subject.kill();
    let raw = database(&subject);
    raw.delete(rocks_open::FORMAT_KEY).expect("a deletion");
    for (number, _) in recovery::records(&raw, &[LARGE.0]).expect("the accounting") {
        raw.delete(segment_key(number)).expect("a deletion");
    }
    raw.flush_wal(true).expect("a sync");
    drop(raw);
    let refused = RocksEngine::open(&subject.path(), &subject.options).err();
    assert!(matches!(refused, Some(StoreError::Format { .. })), "{refused:?}");

    offline::salvage(&subject.path(), &subject.options).expect("a salvage");
    subject.reopen();
    subject.keep();
    for (key, value) in keys.iter().zip(&values).filter(|(key, _)| **key != "03") {
        assert_eq!(subject.read(key).as_ref(), Ok(&Some(value.clone())), "{key}");
    }
    assert_eq!(subject.read("03"), Ok(Some(values[19].clone())));
    // New values go where no old ones are.
    for (key, value) in keys.iter().zip(&values).take(8) {
        subject.put(key, value);
    }
    for (key, value) in keys.iter().zip(&values) {
        assert_eq!(subject.read(key).as_ref(), Ok(&Some(value.clone())), "{key}");
    }
    subject.sync();
    subject.kill();
    assert_eq!(subject.verify().damages, vec![]);
}

#[test]
fn what_was_lost_is_named_until_it_is_put_or_deleted() {
    let mut subject = Subject::new(options());
    let names = |subject: &Subject| subject.engine().lost(COLUMN).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    subject.apply(|batch| {
        for key in ["a", "b", "c", "d", "e", "f"] {
            batch.put(LARGE, key, value(1, 10_000));
            batch.lose(LARGE, key, 10_000);
        }
        batch.put(LARGE, "f", value(2, 10));
    });
    subject.reopen();
    assert_eq!(names(&subject), ["a", "b", "c", "d", "e"]);
    assert_eq!(subject.read("a"), Ok(None));
    subject.put("a", &value(1, 10_000));
    subject.apply(|batch| batch.delete(LARGE, "b"));
    subject.apply(|batch| batch.delete_range(LARGE, "c", "d"));
    assert_eq!(names(&subject), ["d", "e"]);
    subject.reopen();
    assert_eq!(names(&subject), ["d", "e"]);
    subject.apply(|batch| batch.delete_range(LARGE, "d", ""));
    assert!(names(&subject).is_empty());
}

#[test]
fn a_copy_of_what_is_synced_does_not_take_its_place() {
    let mut subject = Subject::new(options());
    subject.put("key", &value(1, 10_000));
    subject.sync();
    let synced = subject.reference("key");
    for _ in 0..3 {
        subject.put("key", &value(1, 10_000));
        assert_eq!(subject.reference("key"), synced);
    }
    // The same length and other bytes; then what is damaged is written again.
    subject.put("key", &value(2, 10_000));
    let other = subject.reference("key");
    assert_ne!(other, synced);
    assert_eq!(subject.read("key"), Ok(Some(value(2, 10_000))));
    subject.sync();
    subject.overwrite(&other, 100, &[9; 9]);
    subject.put("key", &value(2, 10_000));
    assert_eq!(subject.read("key"), Ok(Some(value(2, 10_000))));
    subject.reopen();
    assert_eq!(subject.read("key"), Ok(Some(value(2, 10_000))));
    assert!(subject.verify().is_intact());
}

#[test]
fn a_sync_whose_data_did_not_reach_the_disk_is_no_sync() {
    let subject = Subject::new(options());
    subject.put("key", &value(1, 10_000));
    // The thread that syncs the data ends before anybody has asked for these; the log alone can still be synced.
    subject.engine().stop_workers();
    subject.engine().work(0).expect("an end without a failure");
    let told = subject.engine().sync().expect_err("nobody has synced the data");
    assert!(told.to_string().contains("syncs large values"), "{told}");
    subject.engine().segments().sync.finish().expect("a sync");
    subject.engine().sync().expect("a sync of both");
}

#[test]
fn restarts_leave_few_tables() {
    let mut subject = Subject::new(Options {
        columns: vec![ColumnOptions::large(LARGE.0, 0), ColumnOptions::small("small")],
        ..options()
    });
    let tables = |subject: &Subject| {
        let files = std::fs::read_dir(subject.path()).expect("the folder").map(|entry| entry.expect("an entry").path());
        files.filter(|path| path.extension().is_some_and(|kind| kind == "sst")).count()
    };
    let mut most = 0;
    for number in 0..40_u32 {
        // Keys that grow, as indexes and rounds do.
        subject.apply(|batch| batch.put(Column("small"), number.to_be_bytes().to_vec(), "value"));
        subject.engine().close(false).expect("a clean end");
        most = most.max(tables(&subject));
        subject.reopen();
    }
    assert!(most <= 24, "{most} tables");
    for number in 0..40_u32 {
        assert_eq!(subject.engine().read(1, &number.to_be_bytes()), Ok(Some(Bytes::from("value"))));
    }
}
