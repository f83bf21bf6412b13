//! The commit rule: from votes in the DAG to one order of blocks and payload (Mysticeti-C, pipelined: every round starts a
//! wave).

pub mod index;
pub mod ledger;
pub mod linearize;
pub mod rule;
pub mod schedule;
pub mod time;
pub mod window;

#[cfg(test)]
mod delivery_tests;
#[cfg(test)]
mod stakes_tests;
