//! The DAG: what is linked, what waits, and what the network has reached.

pub mod claims;
pub mod clock;
pub mod fetch;
pub mod graph;
pub mod payload;
pub mod reach;
pub mod sent;
pub mod suspended;

#[cfg(test)]
mod bounds_tests;
