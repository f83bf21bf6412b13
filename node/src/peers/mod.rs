//! The wire between nodes: one message enum, and the way from bytes to a verified message in the right mailbox.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod message;
pub mod router;

pub use message::Message;
