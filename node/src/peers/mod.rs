//! The wire between nodes: one message enum, and the way from bytes to a verified message in the right mailbox.

pub mod message;
pub mod router;

pub use message::Message;
