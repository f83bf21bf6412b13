//! Whole cores.

mod cluster;
mod commits;
mod driver;
mod pacing;
mod restarts;
mod single;
mod times;
