//! The daemon: every room between a client's submission and its receipt.
//!
//! `ARCHITECTURE.md` beside this crate is the map. Rooms stand in the order a transaction walks them.

#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod backup;
pub mod batch;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod consensus;
pub mod control;
pub mod disk;
pub mod execution;
pub mod files;
pub mod http;
pub mod integrity;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod panics;
pub mod peers;
pub mod private;
pub mod schema;
#[cfg(test)]
mod stall;
pub mod sync;
pub mod view;
