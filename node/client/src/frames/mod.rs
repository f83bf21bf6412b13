//! What client and node say to each other, over length-delimited frames ([`rorqual_network::frame`]).
//!
//! ```text
//! client                                  node
//! ClientHello (magic, version)     -->
//!                                  <--    magic, version, Greeting (Welcome with the node's facts, or why not)
//! Request, raw tail                -->
//!                                  <--    Response, raw tail
//! ```
//!
//! A frame is an encoded header and a raw tail; only submissions, values, chunks of the log, status and certificates have one.
//! The header has exactly one encoding ([`rorqual_config::encoding`]); payload never passes through the codec.
//!
//! **Credit.** The welcome says how much *weight* ([`weight`]) the client may send on this connection; every frame with receipts
//! and every answer to a ping says it anew. It counts from the start of the connection, and the total never shrinks; what is left of
//! it does, as it is used, where more clients have come. Whoever sends more is cut off. A submission within credit may be refused as
//! overloaded where all clients together have too much in flight and this one more than its share.
//!
//! **Questions.** A client that has at most [`MAX_QUESTIONS`] without an answer is never refused one. Beyond that each is answered as
//! [`NotHere::TooMany`]; whoever does not read these either is cut off.
//!
//! **Signs of life.** A client sends a ping every [`PING_INTERVAL`]; a side that has heard nothing for [`SILENCE`] may close.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod hello;
pub mod receipt;
pub mod request;
pub mod response;

use std::time::Duration;

use crate::content::{EMPTY_BYTES, table_bytes};
use crate::submission::Submission;

pub use hello::{ClientHello, Greeting, Hello, HelloError, Purpose, Turned};
pub use receipt::{BatchId, Outcome, Placed, Receipts, Refusal};
pub use request::{ReadKey, Request};
pub use response::{LogRun, NotHere, Response};

/// Version of everything in this module. A node and a client of different versions refuse each other, naming both.
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest hello or greeting, in bytes.
pub const MAX_HELLO_BYTES: usize = 1 << 10;

/// Largest frame a client takes from a node, in bytes: a batch of the largest size a committee can allow, and its header.
pub const MAX_RESPONSE_BYTES: usize = (16 << 20) + (64 << 10);

/// A node takes larger frames than its credit allows up to this many bytes, so that it can say why it refuses them. A still
/// larger one ends the connection.
pub const MIN_REQUEST_LIMIT: usize = 1 << 20;

/// Bytes of a frame beside the weight of its submission, at most.
pub const HEADER_BYTES: usize = 256;

/// Questions (everything but submissions) that a client may have without an answer on one connection.
pub const MAX_QUESTIONS: usize = 64;

/// Longest wait that a node grants to one question; a client that wants to wait longer asks again.
pub const MAX_WAIT: Duration = Duration::from_secs(10);

/// Pause between pings of a client.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// A connection on which nothing arrives for so long is dead.
pub const SILENCE: Duration = Duration::from_secs(20);

/// What a node spends on a submission beside its bytes, at most: its frame, its receipt, its place in every queue.
pub const OVERHEAD_BYTES: u64 = 128;

/// What a submission costs in credit: the bytes it adds to a batch, and [`OVERHEAD_BYTES`].
pub fn weight(submission: &Submission) -> u64 {
    let bytes = table_bytes(submission.count()).saturating_add(submission.bytes.len());
    (bytes as u64).saturating_add(OVERHEAD_BYTES)
}

/// The largest weight of a submission that still fits a batch of `max_batch_bytes`.
pub fn max_weight(max_batch_bytes: u64) -> u64 {
    max_batch_bytes.saturating_sub(EMPTY_BYTES as u64).saturating_add(OVERHEAD_BYTES)
}

/// The largest request a node takes, given the largest weight it takes.
pub fn request_limit(max_weight: u64) -> usize {
    usize::try_from(max_weight).unwrap_or(usize::MAX).saturating_add(HEADER_BYTES).max(MIN_REQUEST_LIMIT)
}
