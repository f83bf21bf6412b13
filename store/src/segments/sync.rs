//! Puts the data of segments on disk: in the background as they arrive, and on request.
//!
//! Groups are numbered in the order they were written. A sync covers all groups that were written before it began. Because
//! data are synced as they arrive, little is left when somebody waits for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::file::SegmentFile;
use crate::error::StoreError;

#[derive(Debug, Default)]
struct State {
    /// The last group whose data are written.
    written: u64,
    /// The last group whose data are on disk.
    synced: u64,
    /// The last group that somebody waits for.
    wanted: u64,
    unsynced_bytes: u64,
    /// Files written since the last sync began.
    touched: Vec<Arc<SegmentFile>>,
    failed: Option<StoreError>,
    closed: bool,
    ended: bool,
}

/// What is written and what is on disk.
#[derive(Debug)]
pub(crate) struct DataSync {
    state: Mutex<State>,
    changed: Condvar,
    /// Unsynced bytes from which a sync begins unasked.
    threshold: u64,
    syncs: AtomicU64,
}

impl DataSync {
    pub(crate) fn new(threshold: u64) -> DataSync {
        DataSync { state: Mutex::default(), changed: Condvar::new(), threshold, syncs: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a group whose data are written; its number.
    pub(crate) fn wrote(&self, files: Vec<Arc<SegmentFile>>, bytes: u64) -> u64 {
        let mut state = self.lock();
        for file in files {
            if !state.touched.iter().any(|touched| Arc::ptr_eq(touched, &file)) {
                state.touched.push(file);
            }
        }
        state.written += 1;
        state.unsynced_bytes += bytes;
        let group = state.written;
        let due = state.unsynced_bytes >= self.threshold;
        drop(state);
        if due {
            self.changed.notify_all();
        }
        group
    }

    /// The last group that is known to be on disk.
    pub(crate) fn synced(&self) -> u64 {
        self.lock().synced
    }

    /// Asks for everything written so far; what to wait for.
    pub(crate) fn request(&self) -> u64 {
        let mut state = self.lock();
        let group = state.written;
        let news = group > state.synced && group > state.wanted;
        state.wanted = state.wanted.max(group);
        drop(state);
        if news {
            self.changed.notify_all();
        }
        group
    }

    /// Returns when the group is on disk.
    pub(crate) fn wait(&self, group: u64) -> Result<(), StoreError> {
        let mut state = self.lock();
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if state.synced >= group {
                return Ok(());
            }
            if state.ended {
                return Err(StoreError::Failed { reason: "the thread that syncs large values has ended".to_string() });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The life of the thread that syncs; ends when told to, or with the failure.
    pub(crate) fn run(&self) -> Result<(), StoreError> {
        // Also when it panics: nobody may wait for it then.
        let _ended = Ended { sync: self };
        while let Some((files, group)) = self.take() {
            self.sync_files(&files, group)?;
        }
        Ok(())
    }

    fn take(&self) -> Option<(Vec<Arc<SegmentFile>>, u64)> {
        let mut state = self.lock();
        loop {
            let pending = state.written > state.synced;
            if pending && (state.wanted > state.synced || state.unsynced_bytes >= self.threshold) {
                state.unsynced_bytes = 0;
                return Some((std::mem::take(&mut state.touched), state.written));
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn sync_files(&self, files: &[Arc<SegmentFile>], group: u64) -> Result<(), StoreError> {
        let result = files.iter().try_for_each(|file| file.sync());
        self.syncs.fetch_add(files.len() as u64, Ordering::Relaxed);
        let mut state = self.lock();
        match &result {
            Ok(()) => state.synced = state.synced.max(group),
            Err(error) => state.failed = Some(error.clone()),
        }
        drop(state);
        self.changed.notify_all();
        result
    }

    /// Tells the thread to end.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Syncs what is left, on the caller's thread, after the thread of [`DataSync::run`] has ended.
    pub(crate) fn finish(&self) -> Result<u64, StoreError> {
        let (files, group) = {
            let mut state = self.lock();
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            (std::mem::take(&mut state.touched), state.written)
        };
        self.sync_files(&files, group).map(|()| group)
    }

    /// Syncs of files since the store was opened.
    pub(crate) fn count(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.lock().unsynced_bytes
    }
}

struct Ended<'a> {
    sync: &'a DataSync,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.sync.lock().ended = true;
        self.sync.changed.notify_all();
    }
}
