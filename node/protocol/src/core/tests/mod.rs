//! Whole cores.

mod cluster;
mod commits;
mod driver;
mod links;
mod pacing;
mod restarts;
mod single;
