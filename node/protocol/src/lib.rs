//! The pure consensus core: an uncertified DAG of signed blocks, the Mysticeti-C commit rule on every round, payload
//! batches outside the blocks, commit votes inside them.
//!
//! [`Core::step`](core::Core::step) is a function of its inputs: no clock, no randomness, no runtime, no disk, no network.
//! The daemon verifies what peers send, persists what the core asks for, sends what the core says, and keeps time.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod admission;
pub mod certificate;
pub mod commit;
pub mod core;
pub mod dag;
pub mod effect;
pub mod error;
pub mod holders;
pub mod input;
pub mod known;
pub mod limiter;
pub mod penalty;
#[cfg(test)]
mod testing;
pub mod types;
pub mod undelivered;

pub use admission::Admission;
pub use core::Core;
pub use effect::{Cover, Effect, Halt, OwnWrite, Write};
pub use input::{Input, Now, Recovered, Token};
pub use known::{Known, Verdict};
pub use limiter::Limiter;
pub use penalty::Rule;
