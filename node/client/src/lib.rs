//! The client link: what a program needs to hand transactions to a cluster and to know what became of them.
//!
//! - [`submission`]: transactions that belong together, and the id that makes a retry harmless;
//! - [`content`]: the layout of a payload batch, for whoever seals, executes or verifies one.

pub mod content;
pub mod submission;
