//! Data that nodes sign, send and store: one noun a file, each with its own check.

pub mod batch;
pub mod block;
pub mod certificate;
pub mod commit;
pub mod merkle;
pub mod round;

pub use batch::{BatchKey, BatchRef};
pub use block::{BlockCore, BlockError, BlockRef, SignedBlock, UnverifiedBlock, VerifiedBlock};
pub use certificate::{Certificate, Signer};
pub use commit::{Commit, CommitRef, Delivery};
pub use rorqual_config::range;
pub use round::{CommitIndex, Round, Sequence};
