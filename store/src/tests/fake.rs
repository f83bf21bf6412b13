//! An engine that is slow, fails or panics when a test says so, and is memory otherwise.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;

use crate::StoreError;
use crate::batch::{Operation, WriteBatch};
use crate::engine::{Engine, EngineSize, Lookup, Range};
use crate::memory::MemoryEngine;
use crate::options::{Columns, Options};
use crate::reclaim::Span;

/// Holds threads while it is shut.
#[derive(Default)]
pub(super) struct Gate {
    shut: Mutex<bool>,
    changed: Condvar,
    arrived: AtomicUsize,
}

impl Gate {
    pub(super) fn shut(&self) {
        *self.shut.lock().expect("no panic under the lock") = true;
    }

    pub(super) fn open(&self) {
        *self.shut.lock().expect("no panic under the lock") = false;
        self.changed.notify_all();
    }

    /// How many threads have come, whether or not they have passed.
    pub(super) fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    pub(super) fn pass(&self) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let mut shut = self.shut.lock().expect("no panic under the lock");
        while *shut {
            shut = self.changed.wait(shut).expect("no panic under the lock");
        }
    }
}

/// What a test holds to steer its engine and to see what the engine has seen.
#[derive(Default)]
pub(super) struct Controls {
    pub(super) apply: Gate,
    pub(super) sync: Gate,
    pub(super) look: Gate,
    pub(super) read: Gate,
    pub(super) checkpoint: Gate,
    apply_error: Mutex<Option<StoreError>>,
    sync_error: Mutex<Option<StoreError>>,
    panic_in_apply: AtomicBool,
    panic_in_sync: AtomicBool,
    needs_disk: AtomicBool,
    closed: AtomicBool,
    applied: Mutex<Vec<Bytes>>,
    durable: Mutex<HashSet<Bytes>>,
}

impl Controls {
    pub(super) fn fail_apply(&self, error: StoreError) {
        *self.apply_error.lock().expect("no panic under the lock") = Some(error);
    }

    pub(super) fn fail_sync(&self, error: StoreError) {
        *self.sync_error.lock().expect("no panic under the lock") = Some(error);
    }

    pub(super) fn panic_in_apply(&self) {
        self.panic_in_apply.store(true, Ordering::SeqCst);
    }

    pub(super) fn panic_in_sync(&self) {
        self.panic_in_sync.store(true, Ordering::SeqCst);
    }

    pub(super) fn always_needs_disk(&self) {
        self.needs_disk.store(true, Ordering::SeqCst);
    }

    pub(super) fn applies(&self) -> usize {
        self.apply.arrived()
    }

    /// The keys put since the last sync, in the order in which they were applied.
    pub(super) fn put(&self) -> Vec<Bytes> {
        self.applied.lock().expect("no panic under the lock").clone()
    }

    /// Whether a sync that began after the key was put has ended.
    pub(super) fn is_durable(&self, key: &[u8]) -> bool {
        self.durable.lock().expect("no panic under the lock").contains(key)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn sync_all(&self) {
        let applied = std::mem::take(&mut *self.applied.lock().expect("no panic under the lock"));
        // Others may apply more here; this sync does not cover it.
        std::thread::yield_now();
        self.durable.lock().expect("no panic under the lock").extend(applied);
    }
}

/// The engine that obeys [`Controls`].
pub(super) struct FakeEngine {
    memory: MemoryEngine,
    controls: Arc<Controls>,
}

impl FakeEngine {
    pub(super) fn new(options: &Options) -> (FakeEngine, Arc<Controls>) {
        let controls = Arc::new(Controls::default());
        (FakeEngine { memory: MemoryEngine::new(Columns::new(options)), controls: Arc::clone(&controls) }, controls)
    }
}

impl Engine for FakeEngine {
    fn apply(&self, batches: &[&WriteBatch]) -> Result<(), StoreError> {
        self.controls.apply.pass();
        assert!(!self.controls.panic_in_apply.load(Ordering::SeqCst), "the test asked for it");
        if let Some(error) = self.controls.apply_error.lock().expect("no panic under the lock").clone() {
            return Err(error);
        }
        self.memory.apply(batches)?;
        let mut applied = self.controls.applied.lock().expect("no panic under the lock");
        for operation in batches.iter().flat_map(|batch| batch.operations()) {
            if let Operation::Put { key, .. } = operation {
                applied.push(key.clone());
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.controls.sync.pass();
        assert!(!self.controls.panic_in_sync.load(Ordering::SeqCst), "the test asked for it");
        if let Some(error) = self.controls.sync_error.lock().expect("no panic under the lock").clone() {
            return Err(error);
        }
        self.controls.sync_all();
        Ok(())
    }

    fn look(&self, column: usize, key: &[u8]) -> Result<Lookup, StoreError> {
        let seen = self.memory.look(column, key);
        self.controls.look.pass();
        if self.controls.needs_disk.load(Ordering::SeqCst) { Ok(Lookup::NeedsDisk) } else { seen }
    }

    fn lost(&self, column: usize) -> Vec<(Bytes, u64)> {
        self.memory.lost(column)
    }

    fn lost_count(&self, column: usize) -> usize {
        self.memory.lost_count(column)
    }

    fn read(&self, column: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.controls.read.pass();
        self.memory.read(column, key)
    }

    fn scan(&self, column: usize, range: &Range) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.memory.scan(column, range)
    }

    fn reclaim(&self, column: usize, span: &Span) -> Result<(), StoreError> {
        self.memory.reclaim(column, span)
    }

    fn sizes(&self) -> Vec<EngineSize> {
        self.memory.sizes()
    }

    fn checkpoint(&self, path: &Path) -> Result<(), StoreError> {
        self.controls.checkpoint.pass();
        self.memory.checkpoint(path)
    }

    fn close(&self, failed: bool) -> Result<(), StoreError> {
        if !failed {
            self.controls.sync_all();
        }
        self.controls.closed.store(true, Ordering::SeqCst);
        self.memory.close(failed)
    }
}
