//! What execution needs to know of a batch, computed ahead and apart from the state: sizes and ids, without the payload.

use bytes::Bytes;
use rorqual_client::content::Content;
use rorqual_client::submission::{SubmissionId, submission_id};
use rorqual_config::{ChainId, Committee};

/// The common rules of execution. Equal at every node: all of it is bound by the chain id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The chain: ids are bound to it.
    pub chain_id: ChainId,
    /// Longest time in commit time between a commit and the deadline of an id it applies, in milliseconds.
    pub max_lifetime_ms: u64,
    /// Ids one batch author may have alive.
    pub max_live_ids: u64,
    /// Largest transaction in bytes.
    pub max_transaction_bytes: u64,
    /// Largest sum of a submission's transactions in bytes.
    pub max_submission_bytes: u64,
}

impl Rules {
    /// The rules of a committee.
    pub fn of(committee: &Committee) -> Self {
        let protocol = committee.protocol();
        Self {
            chain_id: committee.chain_id(),
            max_lifetime_ms: u64::try_from(protocol.max_lifetime.as_millis()).unwrap_or(u64::MAX),
            max_live_ids: protocol.max_live_ids,
            max_transaction_bytes: protocol.max_transaction_bytes,
            max_submission_bytes: protocol.max_submission_bytes,
        }
    }
}

/// One submission of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PreparedSubmission {
    /// Its id and deadline; none without a ticket.
    pub id: Option<(SubmissionId, u64)>,
    /// How many transactions, at least one.
    pub transactions: u32,
    /// Whether it or one of its transactions is larger than the rules allow.
    pub too_large: bool,
}

/// A batch that could be decoded. Does not hold the payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepared {
    submissions: Vec<PreparedSubmission>,
    transactions: u32,
}

impl Prepared {
    /// Decodes a batch and hashes the ids; `None` if it is not the encoding of a batch. Takes about a microsecond a KiB.
    pub fn new(payload: Bytes, rules: &Rules) -> Option<Self> {
        let content = Content::parse(payload)?;
        let submissions = (0..content.submissions()).map(|index| prepare(&content, index, rules)).collect();
        Some(Self { submissions, transactions: content.transactions() })
    }

    /// Its submissions in order.
    pub fn submissions(&self) -> &[PreparedSubmission] {
        &self.submissions
    }

    /// How many transactions they have together.
    pub fn transactions(&self) -> u32 {
        self.transactions
    }
}

fn prepare(content: &Content, index: usize, rules: &Rules) -> PreparedSubmission {
    let (ticket, range) = content.submission(index);
    let (bytes, ends) = content.submission_bytes(index);
    let mut too_large = bytes.len() as u64 > rules.max_submission_bytes;
    // Looking at each end is only needed where one transaction could be too large at all.
    if !too_large && bytes.len() as u64 > rules.max_transaction_bytes {
        let mut start = 0;
        let lengths = content.submission_bytes(index).1.map(|end| end - std::mem::replace(&mut start, end));
        too_large = lengths.max().is_some_and(|largest| u64::from(largest) > rules.max_transaction_bytes);
    }
    // What is refused for its size spends no id.
    let ticket = ticket.filter(|_| !too_large);
    let id = ticket.map(|ticket| (submission_id(rules.chain_id, &ticket, ends, &bytes), ticket.deadline_ms));
    PreparedSubmission { id, transactions: range.end - range.start, too_large }
}
