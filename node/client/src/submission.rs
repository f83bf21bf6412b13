//! A submission: one or more transactions that are applied whole or not at all, at contiguous positions, and answered by one
//! receipt.
//!
//! With a nonce and a deadline it has an *id* that covers bytes, boundaries and deadline: execution applies an id at most
//! once, so that a copy *is* the same submission, whoever sends it through whichever node, and after the deadline nothing can
//! apply it any more. Without them, what is sent twice is applied twice.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use bytes::{Bytes, BytesMut};
use rorqual_config::ChainId;
use rorqual_config::encoding::Hasher;

/// First 16 bytes of H("rorqual/submission" | chain_id | nonce | deadline | ends | bytes). Text form: 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SubmissionId(pub [u8; 16]);

impl fmt::Display for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

impl FromStr for SubmissionId {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// What makes a submission repeatable: 128 random bits, and the commit time after which it can no longer be applied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Ticket {
    /// Random.
    pub nonce: [u8; 16],
    /// Milliseconds of commit time since the Unix epoch; never 0.
    pub deadline_ms: u64,
}

/// Transactions that belong together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submission {
    /// Set for exactly-once.
    pub ticket: Option<Ticket>,
    /// For each transaction, where it ends in `bytes`; ascending; the last equals the length of `bytes`.
    pub ends: Vec<u32>,
    /// The transactions, one after the other.
    pub bytes: Bytes,
}

impl Submission {
    /// A submission of one transaction.
    pub fn one(ticket: Option<Ticket>, transaction: Bytes) -> Self {
        Self { ticket, ends: vec![transaction.len() as u32], bytes: transaction }
    }

    /// A submission of several transactions, which are copied together.
    pub fn many<'a>(ticket: Option<Ticket>, transactions: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut bytes = BytesMut::new();
        let mut ends = Vec::new();
        for transaction in transactions {
            bytes.extend_from_slice(transaction);
            ends.push(bytes.len() as u32);
        }
        Self { ticket, ends, bytes: bytes.freeze() }
    }

    /// How many transactions.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is at least one transaction and the ends are ascending and cover the bytes exactly.
    pub fn is_well_formed(&self) -> bool {
        !self.ends.is_empty()
            && self.ends.windows(2).all(|pair| pair[0] <= pair[1])
            && self.ends.last().is_some_and(|end| *end as usize == self.bytes.len())
    }

    /// The length of the largest transaction in bytes. Meaningful for a well-formed submission.
    pub fn largest(&self) -> u32 {
        let mut start = 0;
        let lengths = self.ends.iter().map(|end| end.saturating_sub(std::mem::replace(&mut start, *end)));
        lengths.max().unwrap_or(0)
    }

    /// Its id, if it has a ticket.
    pub fn id(&self, chain_id: ChainId) -> Option<SubmissionId> {
        let ticket = self.ticket?;
        Some(submission_id(chain_id, &ticket, self.ends.iter().copied(), &self.bytes))
    }
}

/// The id of the submission with this ticket, these ends (relative to `bytes`) and these bytes.
pub fn submission_id(
    chain_id: ChainId,
    ticket: &Ticket,
    ends: impl ExactSizeIterator<Item = u32>,
    bytes: &[u8],
) -> SubmissionId {
    let mut hasher = Hasher::new("rorqual/submission");
    hasher.update(&chain_id.0.0).update(&ticket.nonce).update(&ticket.deadline_ms.to_le_bytes());
    hasher.update(&(ends.len() as u32).to_le_bytes());
    let mut table = Vec::with_capacity(4 * ends.len());
    ends.for_each(|end| table.extend_from_slice(&end.to_le_bytes()));
    hasher.update(&table).update(bytes);
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finish().0[..16]);
    SubmissionId(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rorqual_config::Digest;

    #[test]
    fn the_id_covers_bytes_boundaries_and_deadline() {
        let chain = ChainId(Digest([1; 32]));
        let ticket = Some(Ticket { nonce: [2; 16], deadline_ms: 10 });
        let one = Submission::many(ticket, [&b"ab"[..], b"c"]);
        let id = one.id(chain).unwrap();
        assert_eq!(Some(id), Submission::many(ticket, [&b"ab"[..], b"c"]).id(chain));
        assert_ne!(Some(id), Submission::many(ticket, [&b"a"[..], b"bc"]).id(chain));
        assert_ne!(Some(id), Submission::many(ticket, [&b"ab"[..], b"d"]).id(chain));
        assert_ne!(Some(id), one.id(ChainId(Digest([2; 32]))));
        let later = Some(Ticket { nonce: [2; 16], deadline_ms: 11 });
        assert_ne!(Some(id), Submission::many(later, [&b"ab"[..], b"c"]).id(chain));
        assert_eq!(Submission::many(None, [&b"ab"[..]]).id(chain), None);
    }

    #[test]
    fn form_is_checked() {
        assert!(Submission::many(None, [&b""[..], b"c"]).is_well_formed());
        assert!(!Submission::many(None, []).is_well_formed());
        assert!(!Submission { ticket: None, ends: vec![2, 1], bytes: Bytes::from_static(b"a") }.is_well_formed());
        assert!(!Submission { ticket: None, ends: vec![2], bytes: Bytes::from_static(b"a") }.is_well_formed());
        assert_eq!(Submission::many(None, [&b"abc"[..], b"c"]).largest(), 3);
    }
}
