//! What a node answers.

use bincode::{Decode, Encode};
use bytes::Bytes;
use rorqual_config::CodecError;
use rorqual_config::encoding::{decode_header, encode};

use super::{BatchId, Placed, Receipts};

/// A response's header. `tag` is that of the request.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Response {
    /// What became of submissions. Any order.
    Receipts(Receipts),
    /// Answers a ping.
    Credit {
        /// See [`Receipts::commit_time_ms`].
        commit_time_ms: u64,
        /// See [`Receipts::credit_bytes`].
        credit_bytes: u64,
    },
    /// Answers a lookup.
    Located {
        /// See [`Response`].
        tag: u64,
        /// Where the id was applied; none: it is not among the ids alive at `as_of_ms`. If its deadline is later than that, it has
        /// not been applied up to then.
        placed: Option<Placed>,
        /// Commit time of the answer, in milliseconds since the Unix epoch.
        as_of_ms: u64,
    },
    /// The tail is the transaction at a position.
    Transaction {
        /// See [`Response`].
        tag: u64,
        /// The position.
        position: u64,
        /// The commit that applied it.
        commit: u64,
        /// The batch that brought it.
        batch: BatchId,
    },
    /// The tail is the content of the batch that was asked for.
    Batch {
        /// See [`Response`].
        tag: u64,
    },
    /// The tail is transactions, one after the other.
    Log {
        /// See [`Response`].
        tag: u64,
        /// Position of the first.
        first: u64,
        /// Position after the last one in the log now.
        end: u64,
        /// What the transactions belong to, in order.
        runs: Vec<LogRun>,
        /// For each transaction, where it ends in the tail.
        ends: Vec<u32>,
    },
    /// The tail is a JSON object.
    Status {
        /// See [`Response`].
        tag: u64,
    },
    /// The tail is an encoded commit certificate.
    Certificate {
        /// See [`Response`].
        tag: u64,
        /// The commit it certifies: the one asked for or a later one.
        commit: u64,
    },
    /// There is no such thing here.
    NotHere {
        /// See [`Response`].
        tag: u64,
        /// Why.
        reason: NotHere,
    },
    /// The node closes the connection and says why, for people.
    Closing {
        /// One sentence.
        reason: String,
    },
}

/// Transactions of a chunk that came with one batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct LogRun {
    /// How many.
    pub count: u32,
    /// The commit that applied them.
    pub commit: u64,
    /// The batch that brought them.
    pub batch: BatchId,
}

/// Why something is not there.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, thiserror::Error)]
pub enum NotHere {
    /// Retention has dropped it.
    #[error("not stored here; the log begins at position {begins}")]
    Dropped {
        /// The first position that is still here.
        begins: u64,
    },
    /// The log is not that long.
    #[error("not in the log yet; the next position is {next}")]
    NotYet {
        /// The position after the last one.
        next: u64,
    },
    /// No such batch is stored here.
    #[error(
        "no such batch is stored here; it was never received, or retention has dropped it (the log begins at position {begins})"
    )]
    NoBatch {
        /// The first position that is still here.
        begins: u64,
    },
    /// The position is in the log, but its payload is not here any more.
    #[error("its payload is not stored here any more; the log begins at position {begins}")]
    PayloadGone {
        /// The first position that is still here.
        begins: u64,
    },
    /// No certificate at or above this commit.
    #[error("no certificate covers this commit here yet; the last applied commit is {applied}")]
    NoCertificate {
        /// The last applied commit.
        applied: u64,
    },
    /// The client has too many questions without an answer.
    #[error("too many questions at once on this connection; the limit is {limit}")]
    TooMany {
        /// See [`super::MAX_QUESTIONS`].
        limit: u64,
    },
    /// The node could not read it.
    #[error("the node could not read it: {reason}")]
    Failed {
        /// One sentence.
        reason: String,
    },
}

impl Response {
    /// Header and tail of the frame. Only responses that say so have a tail.
    pub fn frame(&self, tail: Bytes) -> [Bytes; 2] {
        [encode(self).into(), tail]
    }

    /// Reads a frame. The tail shares the frame's memory.
    ///
    /// # Errors
    /// [`CodecError`]: close the connection.
    pub fn parse(frame: &Bytes) -> Result<(Self, Bytes), CodecError> {
        let (response, tail): (Self, Bytes) = decode_header(frame)?;
        match response.has_tail() || tail.is_empty() {
            true => Ok((response, tail)),
            false => Err(CodecError::Trailing { what: "a response", trailing: tail.len() }),
        }
    }

    fn has_tail(&self) -> bool {
        matches!(
            self,
            Self::Transaction { .. }
                | Self::Batch { .. }
                | Self::Log { .. }
                | Self::Status { .. }
                | Self::Certificate { .. }
        )
    }

    /// The tag of the question it answers; none for receipts, credit and closing.
    pub fn tag(&self) -> Option<u64> {
        match self {
            Self::Receipts(_) | Self::Credit { .. } | Self::Closing { .. } => None,
            Self::Located { tag, .. }
            | Self::Transaction { tag, .. }
            | Self::Batch { tag }
            | Self::Log { tag, .. }
            | Self::Status { tag }
            | Self::Certificate { tag, .. }
            | Self::NotHere { tag, .. } => Some(*tag),
        }
    }
}
