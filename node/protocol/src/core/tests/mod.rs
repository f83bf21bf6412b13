//! Whole cores.

mod cluster;
mod commits;
mod driver;
mod limits;
mod pacing;
mod restarts;
mod single;
