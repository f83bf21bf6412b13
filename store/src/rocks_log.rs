//! Makes the logs of a database a prefix of what was written to them, as far as RocksDB itself does not.
//!
//! A kernel may write the pages of a file back in any order. After a power cut the log can have a hole of zeros with later
//! records behind it. None of these was synced, but RocksDB reads on behind a hole (it takes zeros for space that was set
//! aside, see `db/log_reader.cc`), and would show batches without their predecessors. So a log is cut off where a hole
//! begins, before RocksDB opens it. A hole *between* two logs is RocksDB's to find: it notes in each log what the one before
//! ended with ([`verified`]), and reads no further where that does not fit.
//!
//! The form of a log is that of the page "Write Ahead Log File Format" of RocksDB's wiki: blocks of 32 KiB, filled with
//! fragments that each begin with a checksum, a length and a kind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::rocks::translate;

const BLOCK: usize = 32 << 10;
/// Four bytes of checksum, two of length, one of kind.
const HEADER: usize = 7;
/// Between the name of a log and the offset at which it was cut off, in the name of the file that has the rest.
const KEPT: &str = ".cut-at-";
/// How many such files are kept.
const MOST_KEPT: usize = 4;

/// The options of a database whose logs note what came before them and are held to it. Not for an existing database without
/// logs, which this would refuse: its creation was cut short.
pub(crate) fn verified(path: &Path, mut options: rocksdb::Options) -> Result<rocksdb::Options, StoreError> {
    options.get_options_from_string("track_and_verify_wals=true").map_err(|error| translate(path, &error))
}

/// All logs of a database directory; none where there is no directory.
pub(crate) fn logs(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |error: io::Error| StoreError::from_io(&format!("listing {}", path.display()), &error);
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut logs = Vec::new();
    for entry in entries {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|kind| kind == "log") {
            logs.push(file);
        }
    }
    Ok(logs)
}

/// Cuts every log off where a hole begins. A log that a running process writes has none: nothing happens to it.
pub(crate) fn cut_holes(logs: &[PathBuf]) -> Result<(), StoreError> {
    for log in logs {
        let failed =
            |doing: &str, error: io::Error| StoreError::from_io(&format!("{doing} the log {}", log.display()), &error);
        let found = File::open(log).and_then(hole).map_err(|error| failed("reading", error))?;
        let Some(offset) = found else { continue };
        tracing::warn!(
            log = %log.display(),
            offset,
            "the log has a hole, as a power cut leaves it; what stands behind it was never synced and is put into a file beside it"
        );
        keep(log, offset).map_err(|error| failed("keeping what is cut off", error))?;
        let cut = || {
            let file = fs::OpenOptions::new().write(true).open(log)?;
            file.set_len(offset)?;
            file.sync_all()
        };
        cut().map_err(|error| failed("cutting off", error))?;
    }
    Ok(())
}

/// Copies what is about to be cut off a log into a file beside it, durably: whoever judges what was lost can still look at it.
fn keep(log: &Path, offset: u64) -> io::Result<()> {
    let Some(name) = log.file_name() else { return Ok(()) };
    let folder = log.parent().unwrap_or(Path::new("."));
    let kept = folder.join(format!("{}{KEPT}{offset}", name.to_string_lossy()));
    let mut from = File::open(log)?;
    from.seek(SeekFrom::Start(offset))?;
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&kept)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()?;
    File::open(folder)?.sync_all()?;
    forget_oldest(folder)
}

/// Few of those files are kept: a machine whose power fails every day must not fill its disk with them.
fn forget_oldest(folder: &Path) -> io::Result<()> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains(KEPT) {
            all.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    all.sort();
    let too_many = all.len().saturating_sub(MOST_KEPT);
    all.iter().take(too_many).try_for_each(|(_, path)| fs::remove_file(path))
}

/// Where zeros stand instead of a fragment, if anything but zeros follows.
fn hole(mut log: impl Read) -> io::Result<Option<u64>> {
    let mut block = Vec::with_capacity(BLOCK);
    let mut start = 0;
    let mut zeros: Option<u64> = None;
    loop {
        block.clear();
        log.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        let from = match zeros {
            Some(_) => 0,
            None => match fragments(&block) {
                Fragments::Whole => block.len(),
                Fragments::Zeros(at) => {
                    zeros = Some(start + at as u64);
                    at
                }
                // RocksDB notices, and reads no further.
                Fragments::Damaged => return Ok(None),
            },
        };
        if zeros.is_some() && block[from..].iter().any(|byte| *byte != 0) {
            return Ok(zeros);
        }
        if block.len() < BLOCK {
            return Ok(None);
        }
        start += BLOCK as u64;
    }
}

/// How a block reads.
enum Fragments {
    /// Fragments up to its end.
    Whole,
    /// Fragments up to this offset, and zeros instead of the next header.
    Zeros(usize),
    /// Something that cannot be a fragment.
    Damaged,
}

fn fragments(block: &[u8]) -> Fragments {
    let mut at = 0;
    // Less than a header at the end of a block stays empty.
    while let Some(header) = block.get(at..at + HEADER) {
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        if length == 0 && header[6] == 0 {
            return Fragments::Zeros(at);
        }
        at += HEADER + length;
        if at > block.len() {
            return Fragments::Damaged;
        }
    }
    Fragments::Whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fragment with any checksum: RocksDB checks it, this module does not.
    fn fragment(length: usize) -> Vec<u8> {
        let mut bytes = vec![9, 9, 9, 9];
        bytes.extend((length as u16).to_le_bytes());
        bytes.push(1);
        bytes.resize(HEADER + length, 5);
        bytes
    }

    /// A full block: two fragments, and fewer bytes than a header takes.
    fn block() -> Vec<u8> {
        [fragment(1000), fragment(BLOCK - 1000 - 2 * HEADER - 3), vec![0; 3]].concat()
    }

    fn found(parts: &[&[u8]]) -> Option<u64> {
        hole(&parts.concat()[..]).expect("bytes in memory")
    }

    #[test]
    fn whole_logs_and_such_that_end_in_zeros_have_no_hole() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[&block(), &block(), &fragment(10)]), None);
        assert_eq!(found(&[&block(), &fragment(10), &[0; 100_000]]), None);
        assert_eq!(found(&[&block(), &fragment(10)[..12]]), None, "torn");
    }

    #[test]
    fn zeros_with_records_behind_them_are_a_hole() {
        let zeros = [0; 100_000];
        let after = 1000 + HEADER;
        let rest = BLOCK - after;
        assert_eq!(found(&[&block(), &fragment(1000), &zeros[..rest], &block()]), Some((BLOCK + after) as u64));
        assert_eq!(found(&[&fragment(1000), &zeros[..rest + 2 * BLOCK], &fragment(1)]), Some(after as u64));
        assert_eq!(found(&[&fragment(1000), &zeros[..20], &fragment(1)]), Some(after as u64), "within a block");
        assert_eq!(found(&[&zeros[..BLOCK], &block()]), Some(0));
    }

    #[test]
    fn a_hole_is_cut_off_and_an_intact_log_is_not_touched() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (torn, intact) = (folder.path().join("000007.log"), folder.path().join("000009.log"));
        fs::write(&torn, [&fragment(1000), &vec![0; BLOCK - 1000 - HEADER], &block()[..]].concat()).expect("a log");
        fs::write(&intact, block()).expect("a log");
        fs::write(folder.path().join("LOG"), [0; 10]).expect("another file");
        let mut logs = logs(folder.path()).expect("a listing");
        logs.sort();
        assert_eq!(logs, [torn.clone(), intact.clone()]);
        cut_holes(&logs).expect("a cut");
        assert_eq!(fs::read(&torn).expect("the log"), fragment(1000));
        assert_eq!(fs::read(&intact).expect("the log"), block());
    }
}
