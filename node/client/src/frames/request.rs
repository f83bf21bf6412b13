//! What a client asks of a node.

use bincode::{Decode, Encode};
use bytes::Bytes;
use rorqual_config::CodecError;
use rorqual_config::encoding::{decode_header, encode};
use rorqual_config::range::in_range;

use super::BatchId;
use crate::submission::{Submission, SubmissionId, Ticket};

/// A request's header. `tag` is the client's: the answer carries it; nothing else is done with it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Request {
    /// Apply these transactions, which are the tail. Answered by a receipt.
    Submit {
        /// See [`Request`].
        tag: u64,
        /// Set for exactly-once.
        ticket: Option<Ticket>,
        /// See [`Submission::ends`].
        ends: Vec<u32>,
    },
    /// What became of this id?
    Lookup {
        /// See [`Request`].
        tag: u64,
        /// The id.
        id: SubmissionId,
    },
    /// Stored payload.
    Read {
        /// See [`Request`].
        tag: u64,
        /// Which.
        what: ReadKey,
        /// How long to wait for it if it is not there yet, in milliseconds; the node waits at most [`super::MAX_WAIT`].
        wait_ms: u64,
    },
    /// Transactions of the log in order.
    Log {
        /// See [`Request`].
        tag: u64,
        /// Position of the first.
        from: u64,
        /// At most so many; the node sends fewer when they are large.
        max_count: u32,
        /// How long to wait if there is none yet, in milliseconds; then the chunk is empty.
        wait_ms: u64,
    },
    /// What the node is doing.
    Status {
        /// See [`Request`].
        tag: u64,
    },
    /// The first certificate that covers this commit.
    Certificate {
        /// See [`Request`].
        tag: u64,
        /// The commit.
        commit: u64,
    },
    /// Answered by [`super::Response::Credit`].
    Ping,
}

/// Which payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub enum ReadKey {
    /// The transaction at this position of the log.
    Position(u64),
    /// The content of this batch; see [`crate::content`].
    Batch(BatchId),
}

impl Request {
    /// Header and tail of the frame that hands in a submission. The transactions are not copied.
    pub fn submit(tag: u64, submission: &Submission) -> [Bytes; 2] {
        let header = Self::Submit { tag, ticket: submission.ticket, ends: submission.ends.clone() };
        [encode(&header).into(), submission.bytes.clone()]
    }

    /// Header and tail of any other frame.
    pub fn frame(&self) -> [Bytes; 2] {
        [encode(self).into(), Bytes::new()]
    }

    /// Whether the commit, positions, sequence and deadline that it names can exist ([`rorqual_config::range`]). Tags are the
    /// client's, waits and counts are cut to what the node grants.
    pub fn is_in_range(&self) -> bool {
        let number = match self {
            Self::Submit { tag: _, ticket, ends: _ } => ticket.map_or(0, |ticket| ticket.deadline_ms),
            Self::Read { tag: _, what: ReadKey::Position(position), wait_ms: _ } => *position,
            Self::Read { tag: _, what: ReadKey::Batch(batch), wait_ms: _ } => batch.sequence,
            Self::Log { tag: _, from, max_count: _, wait_ms: _ } => *from,
            Self::Certificate { tag: _, commit } => *commit,
            Self::Lookup { .. } | Self::Status { tag: _ } | Self::Ping => 0,
        };
        in_range(number)
    }

    /// Reads a frame. The tail of a submission shares the frame's memory; other requests have none.
    ///
    /// # Errors
    /// [`CodecError`]: close the connection.
    pub fn parse(frame: &Bytes) -> Result<(Self, Bytes), CodecError> {
        let (request, tail) = decode_header(frame)?;
        match request {
            Self::Submit { .. } => Ok((request, tail)),
            _ if tail.is_empty() => Ok((request, tail)),
            _ => Err(CodecError::Trailing { what: "a request", trailing: tail.len() }),
        }
    }
}
