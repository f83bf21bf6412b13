//! The records of a range, a page at a time.
//!
//! Promises: a range is served however large it is: a page ends at a certified commit where there is one on it, else the next
//! page goes on where it ends, inside a record if need be; every page brings at least one byte, and a range no more than
//! [`MAX_RECORD_BYTES`].

use bytes::{Buf, Bytes};
use rorqual_config::encoding::{decode, encode};
use rorqual_protocol::types::{Certificate, Commit, CommitIndex};

use crate::peers::message::Message;

/// Records of one range: more than its blocks can need (see [`super::fetch::MAX_BLOCKS_OF_RANGE`]), few enough to bound memory.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// One answer: records from an index on, the first of them from an offset on.
pub struct Page {
    parts: Vec<Bytes>,
    /// Bytes of the last record that did not fit.
    more: usize,
}

impl Page {
    /// What of `commits`, the first from `offset` on, fits into `limit` bytes; nothing if that is nothing.
    pub fn of(commits: &[Commit], offset: usize, limit: usize) -> Option<Self> {
        let (mut page, mut room) = (Self { parts: Vec::new(), more: 0 }, limit);
        for (place, commit) in commits.iter().enumerate() {
            let mut record = Bytes::from(encode(commit));
            if place == 0 {
                if offset >= record.len() {
                    return None;
                }
                record.advance(offset);
                page.more = record.len().saturating_sub(room);
                record.truncate(room);
            } else if record.len() > room {
                break;
            }
            room = room.saturating_sub(record.len());
            page.parts.push(record);
        }
        (!commits.is_empty()).then_some(page)
    }

    /// How many commits end on this page.
    pub fn whole(&self) -> usize {
        self.parts.len().saturating_sub(usize::from(self.more > 0))
    }

    /// Ends the page after this many commits.
    pub fn truncate(&mut self, whole: usize) {
        self.parts.truncate(whole);
        self.more = 0;
    }

    /// The answer, with the certificate of the last commit if the range ends there.
    pub fn answer(mut self, certificate: Option<&Certificate>) -> (Message, Bytes) {
        let lengths = self.parts.iter().map(|part| part.len() as u32).collect();
        let (ends, more) = (certificate.is_some(), self.more as u32);
        self.parts.extend(certificate.map(|certificate| Bytes::from(encode(certificate))));
        (Message::Commits { lengths, more, ends }, Bytes::from(self.parts.concat()))
    }
}

/// A range that is being fetched.
pub struct Records {
    commits: Vec<Commit>,
    /// The beginning of the next record.
    begun: Vec<u8>,
    next: CommitIndex,
    bytes: usize,
}

impl Records {
    /// Nothing has come yet.
    pub fn new(from: CommitIndex) -> Self {
        Self { commits: Vec::new(), begun: Vec::new(), next: from, bytes: 0 }
    }

    /// What to ask for next: the index, and how many bytes of its record are here.
    pub fn next(&self) -> (CommitIndex, u32) {
        (self.next, self.begun.len() as u32)
    }

    /// Whether nothing has come.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that have come.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The commits.
    pub fn commits(self) -> Vec<Commit> {
        self.commits
    }

    /// Takes a page in; the certificate if the range ends with it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(
        &mut self,
        lengths: &[u32],
        more: u32,
        ends: bool,
        mut tail: Bytes,
    ) -> Result<Option<Certificate>, String> {
        if lengths.is_empty() || lengths.contains(&0) || (ends && more > 0) {
            return Err("a page without records".into());
        }
        self.bytes = self.bytes.saturating_add(tail.len());
        if self.bytes > MAX_RECORD_BYTES {
            return Err("a range without an end".into());
        }
        for (place, length) in lengths.iter().enumerate() {
            if *length as usize > tail.len() {
                return Err("lengths that do not fit the frame".into());
            }
            self.begun.extend_from_slice(&tail.split_to(*length as usize));
            if place.saturating_add(1) < lengths.len() || more == 0 {
                self.close()?;
            }
        }
        match ends {
            true => decode(&tail).map(Some).map_err(|error| error.to_string()),
            false if tail.is_empty() => Ok(None),
            false => Err("lengths that do not fit the frame".into()),
        }
    }

    fn close(&mut self) -> Result<(), String> {
        let commit: Commit = decode(&std::mem::take(&mut self.begun)).map_err(|error| error.to_string())?;
        if commit.index != self.next {
            return Err(format!("commit {} where {} was asked for", commit.index, self.next));
        }
        self.next = CommitIndex(self.next.0.saturating_add(1));
        self.commits.push(commit);
        Ok(())
    }
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
