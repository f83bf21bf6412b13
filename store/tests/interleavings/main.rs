//! Thread interleavings of the store: queue, group commit, registration of waiters, shutdown.
//!
//! The store's own files are compiled into this program, with shuttle's locks and threads in the place of the standard library's
//! (see `src/sync.rs`). Shuttle runs one thread at a time and chooses at every lock and wait who goes on, at random and with the
//! few forced switches that find most races (Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding
//! bugs", ASPLOS 2010). A thread that waits for ever is a deadlock, which it reports.
//!
//! `RORQUAL_INTERLEAVINGS` sets how many schedules of each kind are tried; a failure prints the schedule that shows it.

#![allow(dead_code, unused_imports, clippy::unwrap_used, reason = "every file is taken as it is, and this is a test")]

#[path = "../../src/actor.rs"]
mod actor;
#[path = "../../src/batch.rs"]
mod batch;
#[path = "../../src/cache.rs"]
mod cache;
#[path = "../../src/completion.rs"]
mod completion;
#[path = "../../src/engine.rs"]
mod engine;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/exit.rs"]
mod exit;
#[path = "../../src/failure.rs"]
mod failure;
#[path = "../../src/handle.rs"]
mod handle;
#[path = "../../src/lost.rs"]
mod lost;
#[path = "../../src/memory.rs"]
mod memory;
#[path = "../../src/notify.rs"]
mod notify;
#[path = "../../src/options.rs"]
mod options;
#[path = "../../src/queue.rs"]
mod queue;
#[path = "../../src/readers.rs"]
mod readers;
#[path = "../../src/reclaim.rs"]
mod reclaim;
#[path = "../../src/shared.rs"]
mod shared;
#[path = "../../src/statistics.rs"]
mod statistics;
#[path = "../../src/syncer.rs"]
mod syncer;
#[path = "../../src/waiters.rs"]
mod waiters;

mod planted;
mod probe;
mod scenarios;

/// Shuttle's, under the names of `src/sync.rs`.
mod sync {
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};

    pub(crate) mod atomic {
        pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    }

    pub(crate) mod thread {
        pub(crate) use shuttle::thread::{Builder, JoinHandle, current, panicking};
    }
}

// What the files expect at the root of their crate.
use batch::{Durability, WriteBatch};
use engine::Direction;
use error::{Refused, StoreError};
use handle::Store;
use options::{Column, ColumnOptions, Options};

use libtest_mimic::{Arguments, Failed, Trial};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// Schedules of each kind that every scenario is tried with.
const SCHEDULES: usize = 1_000;
/// Forced switches in one schedule of the second kind.
const SWITCHES: usize = 3;

/// Tries a scenario; panics with the schedule that breaks it.
fn explore(scenario: fn()) {
    let schedules = std::env::var("RORQUAL_INTERLEAVINGS").ok().and_then(|text| text.parse().ok()).unwrap_or(SCHEDULES);
    Runner::new(RandomScheduler::new(schedules), config()).run(scenario);
    Runner::new(PctScheduler::new(SWITCHES, schedules), config()).run(scenario);
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config
}

/// The other way round: a bug that was planted must be found.
fn must_be_found(scenario: fn()) -> Result<(), Failed> {
    match std::panic::catch_unwind(|| explore(scenario)) {
        Ok(()) => Err("the planted bug was not found: these tests have no teeth".into()),
        Err(_) => Ok(()),
    }
}

fn main() {
    let sound = |&(name, scenario): &(&'static str, fn())| {
        Trial::test(name, move || {
            explore(scenario);
            Ok(())
        })
    };
    let planted = |&(name, scenario): &(&'static str, fn())| Trial::test(name, move || must_be_found(scenario));
    let trials = scenarios::ALL.iter().map(sound).chain(planted::ALL.iter().map(planted)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
