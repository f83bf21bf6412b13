//! The first frame in each direction. Magic and version stand first and stay where they are in every version to come, so that
//! sides of different versions can still tell each other.

use bincode::{Decode, Encode};
use bytes::Bytes;
use rorqual_config::encoding::{decode, decode_header, encode};
use rorqual_config::range::in_range;
use rorqual_config::{AuthorityIndex, ChainId};

use super::{PROTOCOL_VERSION, Refusal, weight};
use crate::submission::Submission;

const MAGIC: [u8; 8] = *b"rorqual\0";

/// The client's first frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ClientHello {
    magic: [u8; 8],
    /// The version the client speaks.
    pub version: u32,
}

/// What a client connects for. It may follow the version in its hello, as one byte; nothing there: everything.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Purpose {
    /// Everything.
    #[default]
    All,
    /// The status alone, at once and for a short time: a node keeps a few places for that when all others are taken.
    Status,
}

/// The byte that says [`Purpose::Status`].
const STATUS: u8 = 1;

/// Why a first frame is not to be answered, or its answer not to be believed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HelloError {
    /// The other side is something else.
    #[error("it does not speak the client protocol of rorqual")]
    Foreign,
    /// The other side is of another version.
    #[error("it speaks version {theirs} of the client protocol, this side speaks version {PROTOCOL_VERSION}")]
    Version {
        /// Theirs.
        theirs: u32,
    },
}

impl ClientHello {
    /// The frame to send.
    pub fn frame() -> Bytes {
        Self::frame_for(Purpose::All)
    }

    /// The same with a purpose.
    pub fn frame_for(purpose: Purpose) -> Bytes {
        let mut frame = encode(&Self { magic: MAGIC, version: PROTOCOL_VERSION });
        if purpose == Purpose::Status {
            frame.push(STATUS);
        }
        frame.into()
    }

    /// Reads a client's first frame. What follows the purpose belongs to later versions.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn check(frame: &Bytes) -> Result<Purpose, HelloError> {
        let rest = prefix(frame)?;
        Ok(if rest.first() == Some(&STATUS) { Purpose::Status } else { Purpose::All })
    }
}

/// Checks magic and version, returns the rest.
fn prefix(frame: &Bytes) -> Result<Bytes, HelloError> {
    let (hello, rest): (ClientHello, Bytes) = decode_header(frame).map_err(|_| HelloError::Foreign)?;
    if hello.magic != MAGIC {
        return Err(HelloError::Foreign);
    }
    match hello.version {
        PROTOCOL_VERSION => Ok(rest),
        theirs => Err(HelloError::Version { theirs }),
    }
}

/// The node's first frame, after magic and version.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Greeting {
    /// Go ahead.
    Welcome(Hello),
    /// Not now; the node closes.
    Turned(Turned),
}

/// Why a node does not take a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, thiserror::Error)]
pub enum Turned {
    /// As many connections as its limit allows.
    #[error(
        "it has {limit} client connections, which is its limit (client.max_connections, or what its limit of open files leaves)"
    )]
    Full {
        /// The limit.
        limit: u64,
    },
    /// It is stopping.
    #[error("it is shutting down")]
    ShuttingDown,
    /// The client is of another version; the version of the node stands in front of this.
    #[error("it speaks another version of the client protocol")]
    Version,
}

/// What a client must know of the node.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Hello {
    /// The chain it serves: part of every submission id.
    pub chain_id: ChainId,
    /// The node's place in the committee.
    pub author: AuthorityIndex,
    /// The time that its next commit would have now, as far as it can tell, in milliseconds since the Unix epoch.
    pub commit_time_ms: u64,
    /// Largest transaction, in bytes.
    pub max_transaction_bytes: u64,
    /// Largest submission, in bytes of transactions.
    pub max_submission_bytes: u64,
    /// Largest weight of a submission ([`super::weight`]), in bytes.
    pub max_weight_bytes: u64,
    /// Longest distance between commit time and the deadline of a ticket, in milliseconds.
    pub max_lifetime_ms: u64,
    /// Weight that the client may send on this connection before it hears of more, in bytes.
    pub credit_bytes: u64,
}

impl Hello {
    /// Whether the rules allow this submission, whoever looks: its weight, or why it would be refused.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], [`Refusal::DeadlineTooFar`] or [`Refusal::TooLarge`].
    pub fn check(&self, submission: &Submission) -> Result<u64, Refusal> {
        if !submission.is_well_formed() || submission.ticket.is_some_and(|ticket| ticket.deadline_ms == 0) {
            return Err(Refusal::Malformed);
        }
        if submission.ticket.is_some_and(|ticket| !in_range(ticket.deadline_ms)) {
            return Err(Refusal::DeadlineTooFar);
        }
        let bytes = submission.bytes.len() as u64;
        if bytes > self.max_transaction_bytes && u64::from(submission.largest()) > self.max_transaction_bytes {
            return Err(Refusal::TooLarge { limit: self.max_transaction_bytes });
        }
        if bytes > self.max_submission_bytes {
            return Err(Refusal::TooLarge { limit: self.max_submission_bytes });
        }
        match weight(submission) {
            weight if weight > self.max_weight_bytes => Err(Refusal::TooLarge { limit: self.max_weight_bytes }),
            weight => Ok(weight),
        }
    }
}

impl Greeting {
    /// The frame to send.
    pub fn frame(&self) -> Bytes {
        let mut bytes = encode(&ClientHello { magic: MAGIC, version: PROTOCOL_VERSION });
        bytes.extend(encode(self));
        bytes.into()
    }

    /// Reads a node's first frame.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn parse(frame: &Bytes) -> Result<Self, HelloError> {
        decode(&prefix(frame)?).map_err(|_| HelloError::Foreign)
    }
}
