//! Commit votes to certificates, and certificates to trust.

pub mod check;
pub mod tally;

#[cfg(test)]
mod bounds_tests;
