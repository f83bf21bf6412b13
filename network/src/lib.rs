//! Authenticated, encrypted, framed links between named peers.
//!
//! Promises: a byte handed out by this crate came, in order and unchanged, from the holder of the committee key it is
//! attributed to (TLS 1.3, raw public keys, pinned on both sides). Headers never wait behind payload: each pair of nodes
//! has two connections, *priority* and *bulk*. Every queue is bounded and says what happens when it is full. Nobody without
//! a committee key gets a byte past the handshake or more than a bounded amount of memory.
//!
//! Does not promise: delivery ([`Links::send`] is best effort; [`Links::send_reliable`] repeats on new connections, so it
//! may deliver twice), or anything about the content: this crate knows no message type and never decodes payload.
//! Authenticated peers are still untrusted: nothing they send panics here or makes memory grow beyond the limits.
//!
//! - [`tls`]: the TLS configurations, also for other links that pin raw keys.
//! - [`frame`]: length-delimited frames over any stream.
//! - [`handshake`]: the first frame in each direction, and why it is refused.
//! - `listener`, `dialer`: from an address to an authenticated connection; [`half_open`], `pace`: what strangers may cost.
//! - `connection`: the two halves of one authenticated connection; `peer`: the pair of them, up and down.
//! - `send`: queues, lanes and the three ways to send; `request`: answers matched to questions.
//! - [`Links`]: all of it under one handle.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod chatter;
mod connection;
mod dialer;
mod error;
pub mod frame;
pub mod half_open;
pub mod handshake;
mod journal;
mod links;
mod listener;
mod pace;
mod peer;
mod request;
mod send;
mod statistics;
pub mod tls;
pub mod unfinished;

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

pub use error::{NetworkError, RequestError, SendError};
pub use links::Links;
pub use listener::Listener;
pub use request::ReplyTo;
pub use rorqual_config::committee::AuthorityIndex;
pub use rorqual_config::{ChainId, KeyPair, PublicKey};
pub use send::{Frame, Handed, Lane, Reliable};
pub use statistics::{PeerStatistics, Refused, StreamStatistics};

/// ALPN of links between nodes.
pub const PEER_ALPN: &[u8] = b"rorqual-peer/1";

/// Version of the frames between nodes, compared in the handshake.
pub const PROTOCOL_VERSION: u32 = 2;

/// Another node.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its place in the committee.
    pub index: AuthorityIndex,
    /// For logs and statistics.
    pub name: String,
    /// What it must prove to hold.
    pub public_key: PublicKey,
    /// `host:port` of its listener; names are resolved anew at every dial.
    pub address: String,
}

/// What one node's links are made of.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// This node's identity.
    pub key: KeyPair,
    /// This node's place in the committee.
    pub me: AuthorityIndex,
    /// All other members. Those with a higher index are dialled, those with a lower one are waited for.
    pub peers: Vec<Peer>,
    /// Compared in the handshake.
    pub chain_id: ChainId,
    /// Compared in the handshake.
    pub epoch: u64,
    /// Sizes and times.
    pub limits: Limits,
}

/// Sizes in bytes and times of links. All nodes should use the same frame limits: a frame that the sender allows and
/// the receiver does not costs the link.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From a new TCP connection to both hellos; also how long one stream waits for the other.
    pub handshake_timeout: Duration,
    /// Connections that have not shown a committee key and a hello yet, at once. When one more comes, the oldest of the
    /// address with most of them is closed, a member's only if there is no other.
    pub max_half_open: usize,
    /// TLS handshakes with whoever connects, begun in a second in the long run: each costs some 150 µs of CPU. The others wait
    /// half open.
    pub handshakes_per_second: u32,
    /// The same at once. The lower half of it is kept for addresses of members.
    pub handshake_burst: u32,
    /// Largest frame on the priority stream.
    pub priority_frame_bytes: usize,
    /// Largest frame on the bulk stream.
    pub bulk_frame_bytes: usize,
    /// Bytes that wait in [`Lane::Priority`] of one peer.
    pub priority_queue_bytes: usize,
    /// Bytes that wait in [`Lane::Own`] of one peer.
    pub own_queue_bytes: usize,
    /// Bytes that wait in [`Lane::Urgent`] of one peer.
    pub urgent_queue_bytes: usize,
    /// Bytes that wait in [`Lane::CatchUp`] of one peer.
    pub catch_up_queue_bytes: usize,
    /// Bytes of frames kept for one peer by [`Links::send_reliable`].
    pub reliable_bytes: usize,
    /// Requests to one peer without an answer yet.
    pub max_requests: usize,
    /// Pause after the first failed dial.
    pub reconnect_min: Duration,
    /// Longest pause between dials.
    pub reconnect_max: Duration,
    /// Pause between pings.
    pub keepalive: Duration,
    /// A connection on which nothing arrives for so long is dropped, and its pair with it.
    pub dead_after: Duration,
    /// A connection that does not take 256 KiB of what waits for it, or what is left of that, within so long is dropped, and its pair
    /// with it.
    pub write_timeout: Duration,
    /// Frames of one stream that wait for their consumer; when it is full the socket is not read.
    pub inbound_frames: usize,
    /// Bytes of one stream that wait for their consumer or are held by it as [`Inbound`]; beyond it the socket is not
    /// read. One frame more may have been read already.
    pub inbound_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            max_half_open: 64,
            handshakes_per_second: 500,
            handshake_burst: 256,
            priority_frame_bytes: 4 << 20,
            bulk_frame_bytes: 2 << 20,
            priority_queue_bytes: 16 << 20,
            own_queue_bytes: 32 << 20,
            urgent_queue_bytes: 32 << 20,
            catch_up_queue_bytes: 16 << 20,
            reliable_bytes: 16 << 20,
            max_requests: 1_024,
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(5),
            keepalive: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
            write_timeout: Duration::from_secs(30),
            inbound_frames: 256,
            inbound_bytes: 4 << 20,
        }
    }
}

impl Limits {
    /// Largest frame of a stream, envelope included.
    pub fn frame_bytes(&self, stream: Stream) -> usize {
        match stream {
            Stream::Priority => self.priority_frame_bytes,
            Stream::Bulk => self.bulk_frame_bytes,
        }
    }

    /// Bytes that may wait in a lane.
    pub fn queue_bytes(&self, lane: Lane) -> usize {
        match lane {
            Lane::Priority => self.priority_queue_bytes,
            Lane::Own => self.own_queue_bytes,
            Lane::Urgent => self.urgent_queue_bytes,
            Lane::CatchUp => self.catch_up_queue_bytes,
        }
    }
}

/// One of the two connections between a pair of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
pub enum Stream {
    /// Small frames that must not wait.
    Priority,
    /// Payload.
    Bulk,
}

impl Stream {
    pub(crate) fn usize(self) -> usize {
        match self {
            Self::Priority => 0,
            Self::Bulk => 1,
        }
    }
}

/// What arrives from one peer. Dropping a receiver discards what would have arrived there.
#[derive(Debug)]
pub struct PeerInbound {
    /// Which peer.
    pub peer: AuthorityIndex,
    /// The link's ups and downs. `Up` is there before the first frame of that link, `Down` after its last one. A link
    /// is not renewed while 16 events wait here unread.
    pub events: mpsc::Receiver<LinkEvent>,
    /// Changes with every answered ping: the round trip as it was measured, not smoothed. None before the first one.
    pub round_trips: watch::Receiver<Option<Duration>>,
    /// Frames of the priority stream, in order; while full, the socket is not read (TCP back-pressure).
    pub priority: mpsc::Receiver<Inbound>,
    /// Frames of the bulk stream, in order; while full, the socket is not read (TCP back-pressure).
    pub bulk: mpsc::Receiver<Inbound>,
}

/// A link came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Both streams are authenticated and carry frames.
    Up,
    /// Both streams are gone; what was queued for them is lost, except for reliable frames.
    Down {
        /// For people.
        reason: String,
    },
}

/// One received frame. It counts against [`Limits::inbound_bytes`] until it is dropped.
#[derive(Debug)]
pub struct Inbound {
    /// The content, in an allocation of its own: slices of it keep nothing else alive.
    pub frame: Bytes,
    /// Where the answer goes, if the peer waits for one. Dropping it answers nothing: the peer's deadline passes.
    pub reply: Option<ReplyTo>,
    /// Its share of [`Limits::inbound_bytes`], given back when what remains of this value is dropped.
    pub(crate) share: Option<OwnedSemaphorePermit>,
}
