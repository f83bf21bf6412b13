//! Whole cores.

mod bounds;
mod certified;
mod choosing;
mod cluster;
mod commits;
mod driver;
mod keeping;
mod own_batches;
mod pacing;
mod probation;
mod restarts;
mod single;
mod subscriptions;
mod voting;
mod waiting;
