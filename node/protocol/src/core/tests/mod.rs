//! Whole cores.

mod cluster;
mod commits;
mod driver;
mod pacing;
mod payload;
mod restarts;
mod single;
