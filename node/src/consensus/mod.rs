//! The one task that owns the core: persist, then send; recovery before the first word.
//!
//! It decides nothing. Inputs come from peers, payload, the store and execution; effects are carried out in order. A full or
//! failed store, a halt of the core, or a closed mailbox ends the task, and with it the node.

pub mod driver;
mod durable;
pub mod effects;
pub mod recovery;
pub mod safety;

pub use driver::{Consensus, ConsensusSetup, ConsensusStatus};
