//! What a power cut took.

use std::fmt;

/// Counts over one cut, or over many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Writes and changes of length that were not synced and are gone.
    pub writes_lost: u64,
    /// Writes of which a part is gone.
    pub writes_torn: u64,
    /// Writes that were not synced and are there all the same.
    pub writes_kept: u64,
    /// Bytes that are gone.
    pub bytes_lost: u64,
    /// Changes of directories (names made, renamed or removed) that were not synced and are gone.
    pub names_lost: u64,
    /// Changes of directories that were not synced and are there all the same.
    pub names_kept: u64,
}

impl Loss {
    /// A change of a file is gone.
    pub fn lost(&mut self, bytes: u64) {
        self.writes_lost += 1;
        self.bytes_lost += bytes;
    }

    /// A part of a write is gone.
    pub fn torn(&mut self, bytes: u64) {
        self.writes_torn += 1;
        self.bytes_lost += bytes;
    }

    /// Adds the counts of another cut.
    pub fn add(&mut self, other: &Loss) {
        self.writes_lost += other.writes_lost;
        self.writes_torn += other.writes_torn;
        self.writes_kept += other.writes_kept;
        self.bytes_lost += other.bytes_lost;
        self.names_lost += other.names_lost;
        self.names_kept += other.names_kept;
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loss { writes_lost, writes_torn, writes_kept, bytes_lost, names_lost, names_kept } = self;
        write!(
            formatter,
            "writes_lost={writes_lost} writes_torn={writes_torn} writes_kept={writes_kept} bytes_lost={bytes_lost} \
             names_lost={names_lost} names_kept={names_kept}"
        )
    }
}
