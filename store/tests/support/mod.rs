//! What the suites share: the two engines behind one face, and a watchdog.

// Every suite uses a part of it.
#![allow(dead_code)]

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rorqual_store::{Column, ColumnOptions, Options, Store, StoreError};

pub const SMALL: Column = Column("small");
pub const LARGE: Column = Column("large");

/// Small enough that evictions, full and recycled segments, and several table files come up in a test.
pub fn options() -> Options {
    Options {
        write_buffer_bytes: 8 << 20,
        block_cache_bytes: 1 << 20,
        segment_bytes: 1 << 20,
        segment_sync_bytes: 64 << 10,
        spare_segments: 2,
        ..Options::with_columns(vec![ColumnOptions::small(SMALL.0), ColumnOptions::large(LARGE.0, 20_000)])
    }
}

/// One engine under test, and what keeps its folder.
pub struct Subject {
    pub name: &'static str,
    pub store: Store,
    options: Options,
    folder: Option<tempfile::TempDir>,
}

impl Subject {
    pub fn memory() -> Subject {
        Subject { name: "memory", store: Store::in_memory(options()), options: options(), folder: None }
    }

    pub fn rocks() -> Subject {
        Subject::rocks_with(options())
    }

    pub fn rocks_with(options: Options) -> Subject {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("db"), options.clone()).expect("a new database");
        Subject { name: "rocks", store, options, folder: Some(folder) }
    }

    /// The directory, if there is one.
    pub fn path(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.path().join("db"))
    }

    pub fn both() -> [Subject; 2] {
        [Subject::memory(), Subject::rocks()]
    }

    /// Shuts down and opens again; whether this engine can.
    pub async fn reopen(&mut self) -> bool {
        let Some(path) = self.path() else { return false };
        soon(self.store.shutdown()).await.expect("a clean shutdown");
        self.store = Store::open(&path, self.options.clone()).expect("the same database");
        true
    }
}

/// A watchdog: waiting this long means waiting for ever.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it must not wait for ever")
}

/// Lets others run until the condition holds.
pub async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Opens a directory that another owner is about to release.
pub fn open_when_released(path: &std::path::Path, options: Options) -> Store {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match Store::open(path, options.clone()) {
            Err(StoreError::Locked { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            result => return result.expect("the database"),
        }
    }
}
