//! The locks, counters and threads that the store is made of, in one place.
//!
//! They are the standard library's. The test `interleavings` compiles the store's files into a crate of its own, in which the
//! module of this name holds those of shuttle, which runs threads one at a time in an order it chooses. So what is explored are
//! these very files, and nothing in them is there for a test.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

/// Counters and flags.
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}

/// Threads of the operating system.
pub(crate) mod thread {
    pub(crate) use std::thread::{Builder, JoinHandle, current, panicking};
}
