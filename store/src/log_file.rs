//! RocksDB's write-ahead log, read record by record to see how it ends.
//!
//! The format (rocksdb wiki, "Write Ahead Log File Format"): blocks of 32 KiB; in each, records of checksum (4 bytes), length (2),
//! type (1), for recycled files the log's number (4), and data; a record never spans two blocks. The checksum is a masked CRC-32C
//! over everything behind the length.
//!
//! A log that ends in a record that was cut short, or has a hole of zeros, is *torn*: that is what a power cut leaves behind the last
//! sync (see `rocks_log.rs`). Whole records behind a broken one are something else. The system may have written unsynced pages out of order, or bytes that were synced
//! have been damaged; the log alone cannot tell, so whoever reads this must take it for damage.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
const RECYCLED_HEADER: usize = 11;
const MASK: u32 = 0xa282_ead8;

/// How a log file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// With a whole record, or with zeros that were never written to.
    Whole,
    /// With a record that was cut short and nothing whole behind it, or with a hole of zeros.
    Torn {
        /// Where the whole records end, in bytes.
        at: u64,
    },
    /// Broken in the middle: a start does not read on behind this point.
    Broken {
        /// Where the first broken record begins, in bytes.
        at: u64,
        /// Whole records behind it.
        lost: u64,
    },
}

/// One log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Its path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// Whole records before the first broken one (a batch may take several).
    pub records: u64,
    /// How it ends.
    pub end: LogEnd,
}

/// Reads all log files of a database directory, oldest first. Blocks.
///
/// # Errors
/// [`StoreError::Io`]; a file that goes away meanwhile is none.
pub fn read_logs(directory: &Path) -> Result<Vec<LogFile>, StoreError> {
    let failed =
        |path: &Path, error: &std::io::Error| StoreError::from_io(&format!("reading {}", path.display()), error);
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|error| failed(directory, &error))? {
        let path = entry.map_err(|error| failed(directory, &error))?.path();
        let numbered = path.file_stem().is_some_and(|stem| stem.to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
        if numbered && path.extension().is_some_and(|kind| kind == "log") {
            logs.push(path);
        }
    }
    logs.sort();
    let mut found = Vec::new();
    for path in logs {
        match read(&path) {
            Ok(log) => found.push(log),
            // A running store drops logs that it has no use for.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path, &error)),
        }
    }
    Ok(found)
}

/// Reads one log, or a list of files, which has the same form.
pub(crate) fn read(path: &Path) -> std::io::Result<LogFile> {
    let mut file = BufReader::with_capacity(BLOCK, File::open(path)?);
    let mut scan = Scan::default();
    let mut block = vec![0; BLOCK];
    loop {
        let length = fill(&mut file, &mut block)?;
        scan.block(&block[..length]);
        if length < BLOCK {
            break;
        }
    }
    let end = match scan.broken {
        None => LogEnd::Whole,
        Some(at) if scan.behind == 0 || scan.hole => LogEnd::Torn { at },
        Some(at) => LogEnd::Broken { at, lost: scan.behind },
    };
    Ok(LogFile { path: path.to_path_buf(), bytes: scan.offset, records: scan.records, end })
}

fn fill(file: &mut impl Read, block: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match file.read(&mut block[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

#[derive(Default)]
struct Scan {
    /// Where the next block begins.
    offset: u64,
    /// Whole records before anything broken.
    records: u64,
    /// Where the first broken record begins.
    broken: Option<u64>,
    /// Whole records behind it.
    behind: u64,
    /// Where the first block ends in zeros, if nothing else has come since.
    zeros: Option<u64>,
    /// Something has come behind zeros: `broken` is where they begin.
    hole: bool,
}

impl Scan {
    fn block(&mut self, block: &[u8]) {
        if self.broken.is_none() && block.iter().any(|byte| *byte != 0) {
            self.broken = self.zeros;
            self.hole = self.zeros.is_some();
        }
        let mut position = 0;
        // Less than a header at the end of a block is never used.
        while block.len() - position >= HEADER {
            let rest = &block[position..];
            if rest.iter().all(|byte| *byte == 0) {
                self.zeros.get_or_insert(self.offset + position as u64);
                break;
            }
            match record(rest) {
                Some(length) if self.broken.is_some() => {
                    self.behind += 1;
                    position += length;
                }
                Some(length) => {
                    self.records += 1;
                    position += length;
                }
                None => {
                    // A header of zeros is none.
                    self.hole |= self.broken.is_none() && rest[..HEADER].iter().all(|byte| *byte == 0);
                    self.broken.get_or_insert(self.offset + position as u64);
                    // If its length is right the next record follows; else the next block begins with one.
                    position += claimed(rest).filter(|length| *length <= rest.len()).unwrap_or(rest.len());
                }
            }
        }
        let rest = &block[position..];
        if rest.len() < HEADER && block.len() < BLOCK && rest.iter().any(|byte| *byte != 0) {
            self.broken.get_or_insert(self.offset + position as u64);
        }
        self.offset += block.len() as u64;
    }
}

/// The length that a record claims, header included.
fn claimed(bytes: &[u8]) -> Option<usize> {
    let length = usize::from(u16::from_le_bytes(bytes.get(4..6)?.try_into().ok()?));
    let header = match *bytes.get(6)? {
        1..=4 | 9 | 10 | 130 => HEADER,
        5..=8 | 11 | 131 => RECYCLED_HEADER,
        _ => return None,
    };
    Some(header + length)
}

/// The length of the whole record at the beginning of these bytes.
fn record(bytes: &[u8]) -> Option<usize> {
    let length = claimed(bytes)?;
    let checked = bytes.get(6..length)?;
    let stored = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let rotated = crc32c::crc32c(checked).rotate_right(15).wrapping_add(MASK);
    (stored == rotated).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends a record as RocksDB does: in fragments, of which none spans two blocks.
    fn put(log: &mut Vec<u8>, data: &[u8]) {
        let (mut rest, mut first) = (data, true);
        while first || !rest.is_empty() {
            let mut room = BLOCK - log.len() % BLOCK;
            if room < HEADER {
                log.resize(log.len() + room, 0);
                room = BLOCK;
            }
            let (now, later) = rest.split_at(rest.len().min(room - HEADER));
            let kind = match (first, later.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            let checked = [&[kind], now].concat();
            let checksum = crc32c::crc32c(&checked).rotate_right(15).wrapping_add(MASK);
            log.extend(checksum.to_le_bytes());
            log.extend((now.len() as u16).to_le_bytes());
            log.extend(checked);
            (rest, first) = (later, false);
        }
    }

    fn log(records: usize) -> Vec<u8> {
        let mut log = Vec::new();
        (0..records).for_each(|number| put(&mut log, &vec![number as u8 + 1; 5_000]));
        log
    }

    fn end_of(bytes: &[u8]) -> (u64, LogEnd) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("000007.log");
        std::fs::write(&path, bytes).expect("a file");
        std::fs::write(folder.path().join("LOG.old.log"), "not a log of records").expect("a file");
        let logs = read_logs(folder.path()).expect("logs");
        assert_eq!((logs.len(), logs[0].bytes, &logs[0].path), (1, bytes.len() as u64, &path));
        (logs[0].records, logs[0].end)
    }

    #[test]
    fn a_whole_log_is_whole_with_zeros_behind_it_too() {
        let mut bytes = log(40);
        let (records, end) = end_of(&bytes);
        assert!(records > 40 && end == LogEnd::Whole, "{records} {end:?}");
        bytes.resize(bytes.len() + 3 * BLOCK + 11, 0);
        assert_eq!(end_of(&bytes), (records, LogEnd::Whole));
        assert_eq!(end_of(&[]), (0, LogEnd::Whole));
    }

    #[test]
    fn a_log_cut_anywhere_is_torn_and_never_broken() {
        let bytes = log(8);
        let all = end_of(&bytes).0;
        for cut in (0..bytes.len()).step_by(37) {
            let (records, end) = end_of(&bytes[..cut]);
            assert!(records < all && !matches!(end, LogEnd::Broken { .. }), "{cut}: {end:?}");
        }
        assert_eq!(end_of(&bytes[..bytes.len() - 1]).0, all - 1);
    }

    #[test]
    fn a_torn_record_of_rubbish_at_the_end_is_torn() {
        let mut bytes = log(3);
        let whole = bytes.len() as u64;
        bytes.extend([0x5a; 777]);
        assert_eq!(end_of(&bytes), (3, LogEnd::Torn { at: whole }));
    }

    #[test]
    fn a_hole_of_zeros_is_torn_where_it_begins() {
        let bytes = log(20);
        for (from, to) in [(BLOCK, 2 * BLOCK), (BLOCK, BLOCK + 4_096)] {
            let mut holed = bytes.clone();
            holed[from..to].fill(0);
            assert_eq!(end_of(&holed).1, LogEnd::Torn { at: BLOCK as u64 });
        }
    }

    #[test]
    fn every_flipped_bit_before_the_last_record_is_named_with_what_lies_behind_it() {
        let bytes = log(20);
        for position in (0..15_000).step_by(101) {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << (position % 8);
            let (records, end) = end_of(&damaged);
            let LogEnd::Broken { at, lost } = end else { panic!("byte {position}: {end:?}") };
            assert!(at <= position as u64 && lost > 0 && records <= 3, "byte {position}: {records} {end:?}");
        }
    }
}
