//! What became of a submission.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use rorqual_config::{AuthorityIndex, Digest};

/// The name of a payload batch: the key under which every node stores it. Text form: `AUTHOR/SEQUENCE/DIGEST`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct BatchId {
    /// Who sealed it.
    pub author: AuthorityIndex,
    /// The author's number for it.
    pub sequence: u64,
    /// Binds epoch, author, number and content.
    pub digest: Digest,
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.author, self.sequence, self.digest)
    }
}

impl FromStr for BatchId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let parsed = match parts[..] {
            [author, sequence, digest] => author.parse().ok().zip(sequence.parse().ok()).zip(digest.parse().ok()),
            _ => None,
        };
        match parsed {
            Some(((author, sequence), digest)) => Ok(Self { author: AuthorityIndex(author), sequence, digest }),
            None => Err(format!("`{text}` is not a batch id: expected AUTHOR/SEQUENCE/DIGEST as receipts print it")),
        }
    }
}

/// Where a submission stands in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Placed {
    /// The commit that applied it.
    pub commit: u64,
    /// Position of its first transaction; the others follow without a gap.
    pub first_position: u64,
    /// The batch that brought it.
    pub batch: BatchId,
}

/// Why a submission was not applied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// It, or one of its transactions, is larger than the rules allow.
    #[error("it is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit it exceeds, in bytes.
        limit: u64,
    },
    /// The node has no room for it now. Nothing happened to it: it may be sent again.
    #[error("the node is overloaded; try again in {retry_after_ms} ms")]
    Overloaded {
        /// The node's advice, in milliseconds.
        retry_after_ms: u64,
    },
    /// The node is stopping. Nothing happened to it: another node may take it.
    #[error("the node is shutting down; go to another one")]
    ShuttingDown,
    /// Commit time is past its deadline: it can never be applied any more. If it was sent before and that outcome is unknown, it
    /// may have been applied then.
    #[error("its deadline has passed")]
    Expired,
    /// Its deadline is further ahead of commit time than the rules allow.
    #[error(
        "its deadline is further ahead of commit time than the rules allow (protocol.max_lifetime); if it was not chosen by hand, \
         compare the clock of the node with those of the others"
    )]
    DeadlineTooFar,
    /// The node has as many ids alive as the rules allow. It was not applied; try again later or through another node.
    #[error("too many submission ids of this node are alive")]
    TooManyLiveIds,
    /// It holds no transaction, or the ends do not match the bytes.
    #[error("it is malformed: there must be a transaction, and the ends must cover the bytes")]
    Malformed,
    /// The node's disk is nearly full. Nothing happened to it: another node may take it, or this one later.
    #[error(
        "the node's disk is nearly full, so that it takes no submissions for now; go to another one, or try again later"
    )]
    DiskNearlyFull,
}

impl Refusal {
    /// Whether the very same submission may be taken later, or by another node.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::ShuttingDown | Self::TooManyLiveIds | Self::DiskNearlyFull)
    }
}

/// What became of a submission, by the word of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Applied now.
    Committed(Placed),
    /// Applied before: this was a copy or a retry.
    Already(Placed),
    /// Not applied.
    Refused(Refusal),
}

/// Receipts of many submissions, by the tags they were sent with. One vector a kind, so that what is decoded is about as large
/// as its encoding.
#[derive(Clone, PartialEq, Eq, Default, Debug, Encode, Decode)]
pub struct Receipts {
    /// The time that the node's next commit would have now, as far as it can tell, in milliseconds since the Unix epoch.
    pub commit_time_ms: u64,
    /// Weight the client may have sent since the start of the connection, in bytes.
    pub credit_bytes: u64,
    /// Applied now.
    pub committed: Vec<(u64, Placed)>,
    /// Applied before.
    pub already: Vec<(u64, Placed)>,
    /// Not applied.
    pub refused: Vec<(u64, Refusal)>,
}

impl Receipts {
    /// Adds one.
    pub fn push(&mut self, tag: u64, outcome: Outcome) {
        match outcome {
            Outcome::Committed(placed) => self.committed.push((tag, placed)),
            Outcome::Already(placed) => self.already.push((tag, placed)),
            Outcome::Refused(refusal) => self.refused.push((tag, refusal)),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.committed.len().saturating_add(self.already.len()).saturating_add(self.refused.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tags and outcomes. Those of one kind are in the order in which the node knew them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Outcome)> + '_ {
        let committed = self.committed.iter().map(|(tag, placed)| (*tag, Outcome::Committed(*placed)));
        let already = self.already.iter().map(|(tag, placed)| (*tag, Outcome::Already(*placed)));
        let refused = self.refused.iter().map(|(tag, refusal)| (*tag, Outcome::Refused(*refusal)));
        committed.chain(already).chain(refused)
    }
}
