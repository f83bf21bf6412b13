//! Whole cores.

mod cluster;
mod commits;
mod pacing;
mod restarts;
mod driver;
