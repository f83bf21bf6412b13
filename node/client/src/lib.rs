//! The client link: what a program needs to hand transactions to a cluster and to know what became of them.
//!
//! - [`submission`]: transactions that belong together, and the id that makes a retry harmless;
//! - [`content`]: the layout of a payload batch, for whoever seals, executes or verifies one;
//! - [`frames`]: what client and node say to each other;
//! - [`Connection`]: one connection without any policy: tags out, receipts in, nothing repeated. For load generators;
//! - [`Client`]: one connection with futures: `submit`, `lookup`, `read`, `log`, `status`, `certificate`;
//! - [`Pool`]: several nodes: a submission is repeated through another one, with the same ticket, until its fate is known.
//!
//! Promises: nothing is dropped in silence (a submission ends with a receipt, a refusal with its reason, or an error that says
//! whether its outcome is unknown); a client never has more bytes in flight than the node gave it credit for; nothing a node
//! sends panics here or makes memory grow beyond the limits in [`frames`].
//!
//! Does not promise: that the node tells the truth. A receipt is the word of one node (`committed`); proof needs a certificate.
//! The link is plain TCP, without encryption or authentication. A node accepts it on loopback, and elsewhere only where its
//! operator said `open = true`; TLS for clients is not built yet.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod client;
mod clock;
mod connection;
pub mod content;
mod error;
pub mod frames;
mod log;
mod outbound;
mod pool;
pub mod submission;
mod table;

pub use client::{Client, InFlight, Lookup, Options, Receipt, Value};
pub use connection::{Connection, Events, NotSent};
pub use error::{ClientError, Unknown};
pub use frames::receipt::{BatchId, Outcome, Placed, Receipts, Refusal};
pub use frames::{Hello, NotHere, Purpose, ReadKey};
pub use log::{LogEntry, LogStream};
pub use pool::Pool;
