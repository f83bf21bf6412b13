//! Checks a log of RocksDB, or its list of files, which has the same form: blocks of 32 KiB, filled with fragments of
//! records, each with a checksum (the page "Write Ahead Log File Format" of RocksDB's wiki).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const BLOCK: usize = 32 << 10;
/// Checksum, length and kind.
const HEADER: usize = 7;
/// The same with the number of the log, which recycled logs have.
const RECYCLED_HEADER: usize = 11;
/// Fragments of these kinds, from the first to the last, have the longer header.
const RECYCLED_KINDS: std::ops::RangeInclusive<u8> = 5..=8;

/// How a log reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogState {
    Intact,
    /// It ends in something that is no fragment, or has a hole of zeros, as a crash leaves it.
    Torn {
        offset: u64,
    },
    /// Good fragments follow one that is not.
    Damaged {
        offset: u64,
    },
}

/// Where a log stops to read as fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stop {
    at: u64,
    /// Zeros stand there: space set aside, or pages that a power cut kept from the disk.
    zeros: bool,
}

impl Stop {
    fn before_more(self) -> LogState {
        if self.zeros { LogState::Torn { offset: self.at } } else { LogState::Damaged { offset: self.at } }
    }

    fn at_the_end(self) -> LogState {
        if self.zeros { LogState::Intact } else { LogState::Torn { offset: self.at } }
    }
}

/// Reads a log to its end.
pub(crate) fn check(path: &Path) -> io::Result<LogState> {
    let mut file = File::open(path)?;
    let mut block = Vec::with_capacity(BLOCK);
    let mut start = 0;
    let mut stopped: Option<Stop> = None;
    loop {
        block.clear();
        file.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        let follows = match stopped {
            None => {
                stopped = check_block(&block).map(|stop| Stop { at: start + stop.at, ..stop });
                stopped.is_some_and(|stop| good_follows(&block, (stop.at - start) as usize))
            }
            Some(_) => first_fragment(&block).is_some(),
        };
        if let (true, Some(stop)) = (follows, stopped) {
            return Ok(stop.before_more());
        }
        start += block.len() as u64;
        if block.len() < BLOCK {
            return Ok(stopped.map_or(LogState::Intact, Stop::at_the_end));
        }
    }
}

/// Where a block stops to read as fragments, unless that is its proper end.
fn check_block(block: &[u8]) -> Option<Stop> {
    let mut at = 0;
    while block.len() - at >= HEADER {
        match first_fragment(&block[at..]) {
            Some(length) => at += length,
            None => return Some(Stop { at: at as u64, zeros: block[at..at + HEADER].iter().all(|byte| *byte == 0) }),
        }
    }
    // A block ends with fewer bytes than a header takes, all of them zero.
    let proper = block[at..].iter().all(|byte| *byte == 0);
    (!proper).then_some(Stop { at: at as u64, zeros: false })
}

/// Whether a good fragment comes after a bad place of a block: wherever it begins, since the length may be what is damaged.
fn good_follows(block: &[u8], bad: usize) -> bool {
    (bad + 1..block.len()).any(|at| first_fragment(&block[at..]).is_some())
}

/// The length of the good fragment that a piece of a block begins with.
fn first_fragment(piece: &[u8]) -> Option<usize> {
    let stored = u32::from_le_bytes(piece.get(..4)?.try_into().ok()?);
    let length = usize::from(u16::from_le_bytes(piece.get(4..6)?.try_into().ok()?));
    let kind = *piece.get(6)?;
    let header = if RECYCLED_KINDS.contains(&kind) { RECYCLED_HEADER } else { HEADER };
    let end = header + length;
    let covered = piece.get(6..end)?;
    (kind != 0 && unmask(stored) == crc32c(covered)).then_some(end)
}

/// RocksDB stores checksums rotated and shifted, so that a checksum over checksums is not trivial.
fn unmask(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_right(17)
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| TABLE[usize::from((crc as u8) ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

const TABLE: [u32; 256] = table();

/// The table of CRC-32C (Castagnoli), least significant bit first.
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(unmask(crc32c(b"foo").rotate_right(15).wrapping_add(0xa282_ead8)), crc32c(b"foo"));
    }

    fn fragment(content: &[u8]) -> Vec<u8> {
        let covered = [&[1_u8], content].concat();
        let masked = crc32c(&covered).rotate_right(15).wrapping_add(0xa282_ead8);
        [&masked.to_le_bytes()[..], &(content.len() as u16).to_le_bytes(), &covered].concat()
    }

    fn state(bytes: &[u8]) -> LogState {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("a log");
        check(file.path()).expect("a log")
    }

    #[test]
    fn logs_are_intact_torn_or_damaged() {
        let one = fragment(&[7; 1000]);
        // Fills a block up to fewer bytes than a header.
        let block = [&one[..], &fragment(&vec![8; BLOCK - one.len() - HEADER - 3]), &[0; 3]].concat();
        assert_eq!(block.len(), BLOCK);
        let log = [&block[..], &one, &one].concat();
        assert_eq!(state(b""), LogState::Intact);
        assert_eq!(state(&log), LogState::Intact);
        assert_eq!(state(&[&log[..], &[0; 100]].concat()), LogState::Intact, "reserved space");
        let hole = [&log[..], &vec![0; 3 * BLOCK - log.len()], &log].concat();
        assert_eq!(state(&hole), LogState::Torn { offset: log.len() as u64 }, "a hole");
        assert_eq!(state(&log[..log.len() - 1]), LogState::Torn { offset: (BLOCK + one.len()) as u64 });
        let mut flipped = log.clone();
        flipped[500] ^= 1;
        assert_eq!(state(&flipped), LogState::Damaged { offset: 0 });
        let mut flipped = log.clone();
        flipped[BLOCK + 500] ^= 1;
        assert_eq!(state(&flipped), LogState::Damaged { offset: BLOCK as u64 }, "another follows in the last block");
        let mut flipped = log;
        flipped[BLOCK + one.len() + 500] ^= 1;
        assert_eq!(state(&flipped), LogState::Torn { offset: (BLOCK + one.len()) as u64 });
    }
}
