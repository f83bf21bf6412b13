//! The wire between nodes: one message enum, what a peer may send of it, and the way from bytes to a verified message in the right
//! mailbox.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod allowance;
pub mod kind;
pub mod links;
pub mod message;
pub mod router;
#[cfg(test)]
pub mod testing;
pub mod verdicts;

pub use message::Message;
pub use verdicts::Verdicts;
