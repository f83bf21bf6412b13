//! The lossy filesystem through the kernel: what a program that uses it sees.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::lossy::Mounted;
use crate::mounted;

const MIB: u64 = 1 << 20;

fn sync_directory(path: &Path) {
    File::open(path).expect("the directory").sync_all().expect("a sync");
}

fn write_synced(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).expect("a file");
    file.write_all(bytes).expect("a write");
    file.sync_data().expect("a sync");
}

/// The content of a file after the power was cut and came back with each of some seeds.
fn after_cuts(change: impl Fn(&Mounted), path: &str) -> Vec<Option<Vec<u8>>> {
    (0..12)
        .filter_map(|seed| {
            let (_folder, lossy) = mounted(64 * MIB)?;
            change(&lossy);
            lossy.disk().power_on(seed);
            Some(fs::read(lossy.path().join(path)).ok())
        })
        .collect()
}

#[test]
fn synced_files_in_synced_directories_survive_every_cut() {
    let change = |lossy: &Mounted| {
        fs::create_dir(lossy.path().join("a")).expect("a directory");
        write_synced(&lossy.path().join("a/file"), &[7; 300_000]);
        sync_directory(&lossy.path().join("a"));
        sync_directory(lossy.path());
    };
    for content in after_cuts(change, "a/file") {
        assert_eq!(content.as_deref(), Some(&[7; 300_000][..]));
    }
}

#[test]
fn what_was_not_synced_is_lost_in_some_cuts() {
    let change = |lossy: &Mounted| {
        write_synced(&lossy.path().join("file"), &[1; 10_000]);
        sync_directory(lossy.path());
        let file = OpenOptions::new().write(true).open(lossy.path().join("file")).expect("the file");
        file.write_all_at(&[2; 100_000], 10_000).expect("a write");
    };
    let contents = after_cuts(change, "file");
    let lengths: Vec<usize> = contents.iter().flatten().map(Vec::len).collect();
    assert!(lengths.iter().all(|length| *length >= 10_000), "{lengths:?}");
    assert!(lengths.is_empty() || lengths.iter().any(|length| *length < 110_000), "{lengths:?}");
}

#[test]
fn a_file_replaced_by_rename_is_the_old_or_the_new_one() {
    let change = |lossy: &Mounted| {
        write_synced(&lossy.path().join("file"), b"old");
        sync_directory(lossy.path());
        write_synced(&lossy.path().join("file.new"), b"new");
        fs::rename(lossy.path().join("file.new"), lossy.path().join("file")).expect("a rename");
    };
    let contents = after_cuts(change, "file");
    assert!(contents.iter().flatten().all(|content| content == b"old" || content == b"new"));
    assert!(contents.iter().all(Option::is_some));
}

#[test]
fn direct_writes_are_served_and_want_their_alignment() {
    let Some((_folder, lossy)) = mounted(64 * MIB) else { return };
    let path = lossy.path().join("file");
    let options = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT).clone();
    let file = options.open(&path).expect("a file");
    // A buffer that begins at a multiple of 4096.
    let buffer = vec![9_u8; 3 * 4096];
    let skip = buffer.as_ptr().align_offset(4096);
    file.write_all_at(&buffer[skip..skip + 8192], 4096).expect("a direct write");
    assert!(file.write_all_at(&buffer[skip..skip + 100], 0).is_err(), "a length that is no multiple of 512");
    assert_eq!(lossy.disk().counters.direct_writes, 1);
    let content = fs::read(&path).expect("the file");
    assert_eq!((content.len(), content[4095], content[4096]), (12_288, 0, 9));
}

#[test]
fn space_can_be_set_aside_and_runs_out() {
    let Some((_folder, lossy)) = mounted(MIB) else { return };
    let path = lossy.path().join("file");
    write_synced(&path, &[1; 600_000]);
    let second = lossy.path().join("second");
    let error = fs::write(&second, [2; 600_000]).expect_err("no room");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    lossy.disk().set_capacity(2 * MIB);
    fs::write(&second, [2; 600_000]).expect("room");
    lossy.disk().set_capacity(MIB);
    fs::remove_file(&path).expect("a removal");
    fs::write(&second, [3; 700_000]).expect("the space of the removed file");
}

#[test]
fn a_failed_sync_is_reported_once_and_loses_its_data() {
    let Some((_folder, lossy)) = mounted(MIB) else { return };
    let path = lossy.path().join("file");
    write_synced(&path, b"first");
    sync_directory(lossy.path());
    let file = OpenOptions::new().write(true).open(&path).expect("the file");
    file.write_all_at(b"SECOND", 0).expect("a write");
    lossy.disk().faults.fail_sync(1);
    assert_eq!(file.sync_data().expect_err("a failed sync").raw_os_error(), Some(libc::EIO));
    file.sync_data().expect("the next one succeeds, and lies");
    assert_eq!(fs::read(&path).expect("the file"), b"SECOND");
    drop(file);
    lossy.disk().power_on(1);
    assert_eq!(fs::read(&path).expect("the file"), b"first");
}

#[test]
fn an_open_file_is_dead_after_a_cut() {
    let Some((_folder, lossy)) = mounted(MIB) else { return };
    let path = lossy.path().join("file");
    write_synced(&path, b"bytes");
    sync_directory(lossy.path());
    let mut file = File::open(&path).expect("the file");
    lossy.disk().cut();
    assert!(fs::read(&path).is_err() && fs::write(lossy.path().join("other"), b"x").is_err());
    lossy.disk().power_on(3);
    assert!(file.read(&mut [0; 5]).is_err());
    assert_eq!(fs::read(&path).expect("the file"), b"bytes");
    assert!(!lossy.path().join("other").exists());
}

#[test]
fn hard_links_share_their_bytes_and_locks_exclude() {
    let Some((_folder, lossy)) = mounted(MIB) else { return };
    let (first, second) = (lossy.path().join("first"), lossy.path().join("second"));
    write_synced(&first, b"bytes");
    fs::hard_link(&first, &second).expect("a link");
    assert_eq!(fs::metadata(&first).expect("its facts").nlink(), 2);
    fs::remove_file(&first).expect("a removal");
    assert_eq!(fs::read(&second).expect("the file"), b"bytes");
    let (holder, other) = (File::open(&second).expect("the file"), File::open(&second).expect("the file"));
    holder.lock().expect("a lock");
    assert!(other.try_lock().is_err());
}

#[test]
fn a_directory_of_many_files_is_listed_and_removed_whole() {
    let Some((_folder, lossy)) = mounted(16 * MIB) else { return };
    let path = lossy.path().join("many");
    fs::create_dir(&path).expect("a directory");
    for number in 0..1000 {
        File::create(path.join(format!("a-file-with-a-rather-long-name-{number}"))).expect("a file");
    }
    assert_eq!(fs::read_dir(&path).expect("a listing").count(), 1000);
    fs::remove_dir_all(&path).expect("a removal");
    assert_eq!(fs::read_dir(lossy.path()).expect("a listing").count(), 0);
}
