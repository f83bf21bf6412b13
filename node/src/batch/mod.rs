//! Payload batches: seal own ones by size or delay and spread them, take in and check others'.
//!
//! Payload travels apart from blocks, on the bulk stream, and is written to the store by whoever receives it. Nothing is
//! acknowledged: a block that names a batch waits for it with `notify_read`.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod chunks;
pub mod intake;
pub mod maker;
pub mod spread;

use rorqual_client::submission::Submission;

use crate::clients::receipts::ReceiptSlot;
pub use maker::Maker;

/// A submission that waits to be sealed, and where its receipt goes.
pub struct Pending {
    /// Well-formed and within the committee's limits.
    pub submission: Submission,
    /// Resolved by execution, or with a refusal.
    pub slot: ReceiptSlot,
}

/// Why a submission was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Busy {
    /// Too many bytes wait to be sealed: try again later.
    Full,
    /// The node is stopping: go to another one.
    ShuttingDown,
    /// The disk is nearly full: go to another one.
    DiskNearlyFull,
}
