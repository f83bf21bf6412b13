//! The client link: requests in, receipts out.
//!
//! Promises: every submission that is taken is answered, or its connection breaks; a client that keeps to its credit is refused
//! only for reasons it is told; nothing a client sends panics, blocks a runtime thread or takes memory beyond the bounds below.
//!
//! Plain TCP. The configuration allows addresses other than loopback only with `open = true`.
//!
//! | what | bound | when reached |
//! |---|---|---|
//! | connections | `client.max_connections` | the next one is told so and closed |
//! | connections that have not said hello, or are told why not | 256 | the oldest of the address with most of them is closed |
//! | time to say hello | 5 s | closed |
//! | connections that only ask for the status | 8 more, each for 5 s | the oldest of the address with most of them is closed |
//! | places taken by idle connections (15 s without a question) | | where all are taken, the one idle for longest is closed |
//! | a request under way | one of 1 MiB (or of the largest submission) a connection; 60 s | closed, with the reason |
//! | requests under way of all | 64 MiB beyond 4 KiB each, as far as they have come | those unfinished for longest are closed |
//! | weight in flight of one connection | its credit: at most `client.max_bytes_per_connection` | more closes the connection |
//! | weight in flight of all | `client.max_bytes_in_flight`; beyond it each connection still has its share, at least 64 KiB | submissions are refused as overloaded |
//! | questions of one connection | 64, which the client library keeps to | refused and counted; 64 refusals unread: closed, with the reason |
//! | questions of all that wait for a position | 16 384, woken when theirs is reached | the one for the highest position is answered "not yet" |
//! | reads of the log at work | 8 | they wait |
//! | answers of one connection not written yet | 4 MiB, or one batch | its questions wait |
//! | answers of all connections not written yet | 128 MiB | questions wait |
//! | a write that makes no end | 60 s; 5 s where room for answers runs short | closed |
//! | silence (clients send pings) | 20 s | closed |

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod connection;
mod counters;
mod gate;
mod listener;
mod outbox;
mod places;
mod questions;
pub mod receipts;
#[cfg(test)]
mod tests;
mod waits;

use std::net::SocketAddr;
use std::sync::Arc;

use rorqual_config::parameters::ClientParameters;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_network::half_open::HalfOpen;
use rorqual_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::Room;
use self::gate::Gate;
use self::questions::Questions;
use self::receipts::Receipts;
use self::waits::LogWaits;
use crate::batch::{Busy, Maker, Pending};
use crate::execution::log::LogReader;

/// Connections without a hello, at once.
pub const MAX_HALF_OPEN: usize = 256;
/// Connections that only ask for the status, beside all others.
pub const STATUS_PLACES: usize = 8;

/// What the room is made of.
pub struct ClientsSetup {
    /// The chain and its rules.
    pub committee: Arc<Committee>,
    /// Who this node is.
    pub me: AuthorityIndex,
    /// Limits; of connections as many as there are files for.
    pub parameters: ClientParameters,
    /// Connections without a hello, at once.
    pub half_open: usize,
    /// Takes submissions.
    pub maker: Maker,
    /// Answers questions about the log.
    pub log: LogReader,
    /// Answers questions about batches and certificates.
    pub store: Store,
    /// Receipts that wait for execution. The room only sees to it that they are shared; batch and execution fill and empty them.
    pub receipts: Receipts,
    /// What `status` answers.
    pub status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// The time of the next commit, about, in milliseconds since the Unix epoch.
    pub commit_time: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Cancelled when the node begins to stop: submissions are refused from then on, receipts still go out.
    pub closing: CancellationToken,
}

/// Where submissions go.
trait Sink: Send + Sync {
    /// As [`Maker::try_submit`].
    #[allow(clippy::result_large_err, reason = "the caller gets its submission back")]
    fn try_submit(&self, pending: Pending) -> Result<(), (Pending, Busy)>;
}

impl Sink for Maker {
    fn try_submit(&self, pending: Pending) -> Result<(), (Pending, Busy)> {
        Maker::try_submit(self, pending)
    }
}

/// Binds the client address.
///
/// # Errors
/// One sentence that names the address and the remedy.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another process has it: stop that one, or set listen.client in node.toml",
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address: set listen.client in node.toml",
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: set listen.client in node.toml",
            _ => "set listen.client in node.toml to an address of this machine",
        };
        format!("cannot listen for clients on {address}: {error}; {remedy}")
    })
}

/// Takes connections until `shutdown` is cancelled; then receipts that are there are written, and every connection closes.
pub fn spawn(setup: ClientsSetup, listener: TcpListener, shutdown: CancellationToken) -> ClientsHandle {
    let gate = Arc::new(Gate::new(&setup.committee, setup.me, &setup.parameters, setup.commit_time));
    let questions = Questions {
        waits: LogWaits::spawn(setup.log.subscribe()),
        reads: gate.reads.clone(),
        log: setup.log,
        store: setup.store,
        status: setup.status,
        stopping: shutdown.clone(),
    };
    let room = Room {
        gate: gate.clone(),
        sink: Arc::new(setup.maker),
        questions,
        half_open: Arc::new(HalfOpen::new(setup.half_open)),
        status_places: Arc::new(HalfOpen::new(STATUS_PLACES)),
        closing: setup.closing,
        stopping: shutdown,
    };
    let tasks = TaskTracker::new();
    tasks.spawn(listener::accept(listener, room, tasks.clone()));
    tasks.close();
    ClientsHandle { gate, tasks, receipts: setup.receipts }
}

/// The running room.
pub struct ClientsHandle {
    gate: Arc<Gate>,
    tasks: TaskTracker,
    receipts: Receipts,
}

impl ClientsHandle {
    /// What happened on the link since the start: names and counts.
    pub fn events(&self) -> Vec<(&'static str, u64)> {
        self.gate.counters.list()
    }

    /// Connections now, those without a hello included.
    pub fn connections(&self) -> u64 {
        self.gate.connections()
    }

    /// Weight that came and was not answered, in bytes.
    pub fn in_flight_bytes(&self) -> u64 {
        self.gate.in_flight()
    }

    /// Sealed own batches whose receipts wait for execution.
    pub fn batches_awaiting_receipts(&self) -> usize {
        self.receipts.batches()
    }

    /// Resolves when every connection is closed, which is soon after the shutdown token was cancelled.
    pub async fn closed(&self) {
        self.tasks.wait().await;
    }
}
