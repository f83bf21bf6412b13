//! Why the network could not do what it was asked; every message names what a person can do about it where there is something.

use std::net::SocketAddr;

/// The listener could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Another socket listens there.
    #[error("address {address} is in use: stop the process that listens there (`ss -ltnp`) or configure another port")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system refused for another reason.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The lane has no room for the frame; [`crate::Links::room`] tells how much there is.
    #[error("the lane is full")]
    Full,
    /// There is no link, or it broke before the frame left.
    #[error("the peer is not connected")]
    Disconnected,
    /// No peer has this index.
    #[error("no such peer")]
    UnknownPeer,
    /// The frame exceeds the limit of its stream and could never be sent.
    #[error("the frame exceeds the limit of its stream")]
    TooLarge,
}

/// A request was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No answer came in time.
    #[error("no answer before the deadline")]
    Deadline,
    /// There is no link, or it broke before the answer came.
    #[error("the peer is not connected")]
    Disconnected,
    /// The lane has no room, or too many requests wait already.
    #[error("the lane is full or too many requests wait for answers")]
    Full,
    /// No peer has this index.
    #[error("no such peer")]
    UnknownPeer,
    /// The frame exceeds the limit of its stream.
    #[error("the frame exceeds the limit of its stream")]
    TooLarge,
    /// The links were shut down.
    #[error("the links are shut down")]
    Closed,
}

impl From<SendError> for RequestError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full => Self::Full,
            SendError::Disconnected => Self::Disconnected,
            SendError::UnknownPeer => Self::UnknownPeer,
            SendError::TooLarge => Self::TooLarge,
        }
    }
}
