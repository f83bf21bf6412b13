//! The side door: fetch what is missing, serve peers within limits, catch up through certified commits.
//!
//! What is fetched goes through the same doors as live traffic: blocks are verified and handed to consensus as inputs, payload
//! is checked and written to the store by [`crate::batch::intake`]; whoever waits is woken by `notify_read`.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod fetch;
pub mod history;
pub mod orders;
pub mod pages;
pub mod payload;
pub mod refetch;
pub mod server;
