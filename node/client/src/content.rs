//! The layout of a payload batch.
//!
//! ```text
//! u32 submissions m | u32 transactions t | m x (nonce 16 B, deadline u64, count u32) | t x end u32 | transactions
//! ```
//!
//! All integers little-endian. The tables are of fixed width, so that a slice of the batch proves where a transaction begins.
//! A deadline of 0 marks a submission without an id. Ends are relative to the first transaction of the batch. Whoever seals
//! may be a liar: [`Content::parse`] accepts or refuses a whole batch, and every honest node gives the same answer.

use bytes::{BufMut, Bytes, BytesMut};

use crate::submission::{Submission, Ticket};

const HEADER: usize = 8;
const ENTRY: usize = 28;
const END: usize = 4;

/// Bytes that a submission of `transactions` transactions adds to a batch beside the transactions themselves.
pub fn table_bytes(transactions: usize) -> usize {
    END.saturating_mul(transactions).saturating_add(ENTRY)
}

/// Length of a batch that holds nothing.
pub const EMPTY_BYTES: usize = HEADER;

/// Puts the content of a batch together. Every submission is copied once.
pub fn build<'a>(submissions: impl IntoIterator<Item = &'a Submission> + Clone) -> Bytes {
    let (mut count, mut transactions, mut bytes) = (0u32, 0u32, 0usize);
    for submission in submissions.clone() {
        count += 1;
        transactions += submission.ends.len() as u32;
        bytes += submission.bytes.len();
    }
    let mut content = BytesMut::with_capacity(HEADER + ENTRY * count as usize + END * transactions as usize + bytes);
    content.put_u32_le(count);
    content.put_u32_le(transactions);
    for submission in submissions.clone() {
        let ticket = submission.ticket.unwrap_or(Ticket { nonce: [0; 16], deadline_ms: 0 });
        content.put_slice(&ticket.nonce);
        content.put_u64_le(ticket.deadline_ms);
        content.put_u32_le(submission.ends.len() as u32);
    }
    let mut start = 0u32;
    for submission in submissions.clone() {
        submission.ends.iter().for_each(|end| content.put_u32_le(start + end));
        start += submission.bytes.len() as u32;
    }
    for submission in submissions {
        content.put_slice(&submission.bytes);
    }
    content.freeze()
}

/// A parsed batch. Holds the batch; slices share it.
#[derive(Clone, Debug)]
pub struct Content {
    batch: Bytes,
    /// For each submission: its ticket and the first of its transactions; one more entry at the end.
    submissions: Vec<(Option<Ticket>, u32)>,
    transactions: u32,
    ends_at: usize,
    data_at: usize,
}

impl Content {
    /// Reads the tables; `None` if they do not describe exactly these bytes, or a submission has no transaction.
    pub fn parse(batch: Bytes) -> Option<Self> {
        let word = |at: usize| batch.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let (count, transactions) = (word(0)? as usize, word(4)?);
        let ends_at = HEADER.checked_add(ENTRY.checked_mul(count)?)?;
        let data_at = ends_at.checked_add(END.checked_mul(transactions as usize)?)?;
        if data_at > batch.len() {
            return None;
        }
        let mut submissions = Vec::with_capacity(count + 1);
        let mut first = 0u32;
        for entry in batch[HEADER..ends_at].chunks_exact(ENTRY) {
            let deadline_ms = u64::from_le_bytes(entry[16..24].try_into().ok()?);
            let many = u32::from_le_bytes(entry[24..28].try_into().ok()?);
            if many == 0 {
                return None;
            }
            let mut nonce = [0; 16];
            nonce.copy_from_slice(&entry[..16]);
            submissions.push(((deadline_ms != 0).then_some(Ticket { nonce, deadline_ms }), first));
            first = first.checked_add(many)?;
        }
        submissions.push((None, first));
        let mut previous = 0u32;
        for end in batch[ends_at..data_at].chunks_exact(END) {
            let end = u32::from_le_bytes(end.try_into().ok()?);
            if end < previous {
                return None;
            }
            previous = end;
        }
        let covered = data_at.checked_add(previous as usize)? == batch.len();
        (first == transactions && covered).then_some(Self { batch, submissions, transactions, ends_at, data_at })
    }

    /// How many submissions.
    pub fn submissions(&self) -> usize {
        self.submissions.len() - 1
    }

    /// How many transactions in all.
    pub fn transactions(&self) -> u32 {
        self.transactions
    }

    /// The ticket of a submission, and the range of its transactions (counted within the batch).
    ///
    /// # Panics
    /// If there is no such submission.
    pub fn submission(&self, index: usize) -> (Option<Ticket>, std::ops::Range<u32>) {
        let (ticket, first) = self.submissions[index];
        (ticket, first..self.submissions[index + 1].1)
    }

    /// Where transaction `index` of the batch begins and ends in the whole content.
    fn bounds(&self, index: u32) -> (usize, usize) {
        let end = |i: u32| {
            let at = self.ends_at + END * i as usize;
            let b = &self.batch[at..at + END];
            self.data_at + u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize
        };
        (if index == 0 { self.data_at } else { end(index - 1) }, end(index))
    }

    /// The bytes of a transaction.
    ///
    /// # Panics
    /// If there is no such transaction.
    pub fn transaction(&self, index: u32) -> Bytes {
        let (start, end) = self.bounds(index);
        self.batch.slice(start..end)
    }

    /// The bytes of all transactions of a submission, and their ends relative to these bytes: what its id covers.
    ///
    /// # Panics
    /// If there is no such submission.
    pub fn submission_bytes(&self, index: usize) -> (Bytes, impl ExactSizeIterator<Item = u32> + '_) {
        let (_, range) = self.submission(index);
        let start = self.bounds(range.start).0;
        let bytes = self.batch.slice(start..self.bounds(range.end - 1).1);
        let ends = (range.start as usize..range.end as usize).map(move |i| (self.bounds(i as u32).1 - start) as u32);
        (bytes, ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn submission() -> impl Strategy<Value = Submission> {
        let transactions = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..5);
        (any::<Option<([u8; 16], u32)>>(), transactions).prop_map(|(ticket, transactions)| {
            let ticket = ticket.map(|(nonce, d)| Ticket { nonce, deadline_ms: u64::from(d) + 1 });
            Submission::many(ticket, transactions.iter().map(Vec::as_slice))
        })
    }

    proptest! {
        #[test]
        fn what_is_built_is_parsed_back(submissions in proptest::collection::vec(submission(), 0..8)) {
            let content = Content::parse(build(&submissions)).unwrap();
            prop_assert_eq!(content.submissions(), submissions.len());
            for (i, expected) in submissions.iter().enumerate() {
                let (ticket, range) = content.submission(i);
                let (bytes, ends) = content.submission_bytes(i);
                let parsed = Submission { ticket, ends: ends.collect(), bytes };
                prop_assert_eq!(&parsed, expected);
                let joined: Vec<u8> = range.flat_map(|t| content.transaction(t).to_vec()).collect();
                prop_assert_eq!(&joined[..], &expected.bytes[..]);
            }
        }

        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Content::parse(Bytes::from(bytes));
        }

        #[test]
        fn a_cut_or_grown_batch_is_refused(submissions in proptest::collection::vec(submission(), 1..4), cut in 1usize..20) {
            let good = build(&submissions);
            prop_assert!(Content::parse(good.slice(..good.len().saturating_sub(cut))).is_none());
            let mut grown = good.to_vec();
            grown.extend(std::iter::repeat_n(0, cut));
            prop_assert!(Content::parse(Bytes::from(grown)).is_none());
        }
    }
}
