//! Whole cores.

mod bounds;
mod choosing;
mod cluster;
mod commits;
mod driver;
mod keeping;
mod own_batches;
mod pacing;
mod probation;
mod ranges;
mod restarts;
mod single;
mod voting;
mod waiting;
