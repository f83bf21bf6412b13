//! Why something did not work out.

use rorqual_config::ChainId;

use crate::frames::{HelloError, NotHere, Refusal, Turned};
use crate::submission::{SubmissionId, Ticket};

/// A submission that may or may not have been applied, or be applied yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unknown {
    /// What to ask for ([`crate::Client::lookup`]); none for a submission without a ticket.
    pub id: Option<SubmissionId>,
    /// After its deadline (in commit time) it can not be applied any more. Until then the same bytes with the same ticket may be
    /// sent again, through any node, and are applied once.
    pub ticket: Option<Ticket>,
    /// What happened last.
    pub reason: String,
}

/// Why something did not work out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there. Nothing was sent.
    #[error("cannot connect to {address}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// Whoever answers there is no node that this client understands. Nothing was sent.
    #[error("{address} is not the client address of a node that this program can talk to: {error}")]
    NotANode {
        /// Where.
        address: String,
        /// Why.
        error: HelloError,
    },
    /// The node does not take the connection. Nothing was sent.
    #[error("the node at {address} does not take the connection: {why}")]
    Turned {
        /// Where.
        address: String,
        /// Why.
        why: Turned,
    },
    /// The node is of another chain than the one before. Nothing was sent.
    #[error("the node at {address} is of chain {found}, not {expected}")]
    OtherChain {
        /// Where.
        address: String,
        /// Its chain.
        found: ChainId,
        /// The chain of the node before.
        expected: ChainId,
    },
    /// The connection is gone. Of a submission that had been handed over, the outcome is unknown.
    #[error("the connection to {address} is gone: {reason}")]
    Disconnected {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// A receipt says that the submission was not applied.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// What was asked for is not there.
    #[error("{0}")]
    NotHere(#[from] NotHere),
    /// The submission may or may not have been applied, or be applied yet.
    #[error("outcome unknown: {}", .0.reason)]
    OutcomeUnknown(Box<Unknown>),
    /// The node answered something that is no answer to the question.
    #[error("the node at {address} gave an answer that does not fit the question")]
    Nonsense {
        /// Where.
        address: String,
    },
    /// Something on this machine failed.
    #[error("{0}")]
    Local(String),
}
