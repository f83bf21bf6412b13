//! Whole cores.

mod asking;
mod bounds;
mod certified;
mod choosing;
mod cluster;
mod commits;
mod covers;
mod driver;
mod extremes;
mod keeping;
mod limits;
mod links;
mod own_batches;
mod pacing;
mod payload;
mod probation;
mod ranges;
mod restarts;
mod single;
mod subscriptions;
mod times;
mod voting;
mod waiting;
