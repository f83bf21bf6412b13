//! An open-loop load generator for a rorqual cluster: what `rorqual-load` is made of.
//!
//! Open loop: every transaction has an *intended* time that depends on the rate alone. If the cluster (or this program) is
//! slow, transactions go out later, but their latency still counts from the intended time, so that a stall is seen by all
//! transactions it delays and not only by the one that met it.
//!
//! - [`options`]: the command line;
//! - [`pace`]: when each transaction is due;
//! - [`payload`]: cheap random bytes;
//! - [`record`]: counts and latencies, by second and for the whole run;
//! - [`link`]: the connection to one node;
//! - [`run`]: all of it together;
//! - [`report`]: the JSON lines on standard output.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod link;
pub mod options;
pub mod pace;
pub mod payload;
pub mod record;
pub mod report;
pub mod run;
