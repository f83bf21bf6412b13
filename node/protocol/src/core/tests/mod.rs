//! Whole cores.

mod cluster;
mod commits;
mod driver;
mod extremes;
mod pacing;
mod ranges;
mod restarts;
mod single;
