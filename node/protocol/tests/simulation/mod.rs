//! Whole clusters around [`Core::step`](rorqual_protocol::Core::step) in simulated time: links, disks, crashes, liars.
//! One thread and one seed: the same seed gives the same run.

pub mod admission;
pub mod boaster;
pub mod chain_bomb;
pub mod daemon;
pub mod disk;
pub mod equivocator;
pub mod event;
pub mod executor;
pub mod extremist;
pub mod faults;
pub mod flooder;
pub mod hoarder;
pub mod liar;
pub mod loss;
pub mod malformer;
pub mod message;
pub mod network;
pub mod oracle;
pub mod outside;
pub mod payload;
pub mod plan;
pub mod puppet;
pub mod ranges;
pub mod requests;
pub mod rootless;
pub mod rumours;
pub mod serve;
pub mod server;
pub mod stock;
pub mod swinger;
pub mod times;
pub mod verifier;
pub mod wild;
pub mod withholder;
pub mod world;

/// Microseconds since the simulation began.
pub type Time = u64;

pub const MILLISECOND: Time = 1_000;
pub const SECOND: Time = 1_000_000;
