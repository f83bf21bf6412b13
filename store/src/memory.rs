//! The engine without a disk: ordered maps behind a lock.
//!
//! It keeps every promise of the store but survival. `sync` is the seam where a simulated power cut would note how far
//! the log is safe; here nothing outlives the process, so it has nothing to note.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::batch::{Operation, WriteBatch};
use crate::engine::{Direction, Engine, EngineSize, Lookup, Page, Range};
use crate::error::StoreError;
use crate::lost::{Change, Lost};
use crate::options::Columns;
use crate::reclaim::Span;

type Map = BTreeMap<Bytes, Bytes>;

/// All columns in memory.
pub(crate) struct MemoryEngine {
    columns: Columns,
    maps: RwLock<Vec<Map>>,
    lost: Lost,
}

impl MemoryEngine {
    pub(crate) fn new(columns: Columns) -> MemoryEngine {
        let maps = columns.names().iter().map(|_| Map::new()).collect();
        let lost = Lost::new(columns.names().len());
        MemoryEngine { columns, maps: RwLock::new(maps), lost }
    }

    fn maps(&self) -> RwLockReadGuard<'_, Vec<Map>> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn maps_mut(&self) -> RwLockWriteGuard<'_, Vec<Map>> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryEngine {
    fn note_lost(&self, column: usize, operation: &Operation) {
        if !self.columns.is_large(column) {
            return;
        }
        let changes = match operation {
            Operation::Lose { key, bytes, .. } => vec![Change::Lost(column, key.clone(), *bytes)],
            Operation::Put { key, .. } | Operation::Delete { key, .. } => vec![Change::Settled(column, key.clone())],
            Operation::DeleteRange { from, to, .. } => {
                let within = self.lost.of(column).into_iter().map(|(key, _)| key);
                let within = within.filter(|key| key >= from && (to.is_empty() || key < to));
                within.map(|key| Change::Settled(column, key)).collect()
            }
        };
        self.lost.apply(changes);
    }
}

/// Costs what it removes, not what it keeps.
fn delete_range(map: &mut Map, from: &Bytes, to: &Bytes) {
    if !to.is_empty() && from >= to {
        return;
    }
    let end = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
    let keys: Vec<Bytes> = map.range::<Bytes, _>((Bound::Included(from), end)).map(|(key, _)| key.clone()).collect();
    for key in keys {
        map.remove(&key);
    }
}

impl Engine for MemoryEngine {
    fn apply(&self, batches: &[&WriteBatch]) -> Result<(), StoreError> {
        let mut maps = self.maps_mut();
        for operation in batches.iter().flat_map(|batch| batch.operations()) {
            let column = self.columns.index(operation.column())?;
            self.note_lost(column, operation);
            let map = &mut maps[column];
            match operation {
                Operation::Put { key, value, .. } => drop(map.insert(key.clone(), value.clone())),
                Operation::Delete { key, .. } | Operation::Lose { key, .. } => drop(map.remove(key)),
                Operation::DeleteRange { from, to, .. } => delete_range(map, from, to),
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn look(&self, column: usize, key: &[u8]) -> Result<Lookup, StoreError> {
        Ok(self.maps()[column].get(key).map_or(Lookup::Absent, |value| Lookup::Found(value.clone())))
    }

    fn lost(&self, column: usize) -> Vec<(Bytes, u64)> {
        self.lost.of(column)
    }

    fn lost_count(&self, column: usize) -> usize {
        self.lost.count(column)
    }

    fn read(&self, column: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.maps()[column].get(key).cloned())
    }

    fn scan(&self, column: usize, range: &Range) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut page = Page::new(range);
        if range.is_empty() {
            return Ok(page.into_entries());
        }
        let maps = self.maps();
        let end = if range.to.is_empty() { Bound::Unbounded } else { Bound::Excluded(&range.to) };
        let mut entries = maps[column].range::<Bytes, _>((Bound::Included(&range.from), end));
        let mut next = || match range.direction {
            Direction::Forward => entries.next(),
            Direction::Backward => entries.next_back(),
        };
        while let Some((key, value)) = next() {
            if !page.offer(key, value) {
                break;
            }
        }
        Ok(page.into_entries())
    }

    fn reclaim(&self, _column: usize, _span: &Span) -> Result<(), StoreError> {
        Ok(())
    }

    fn sizes(&self) -> Vec<EngineSize> {
        let bytes = |map: &Map| map.iter().map(|(key, value)| key.len() as u64 + value.len() as u64).sum();
        self.maps().iter().map(|map| EngineSize { memory_bytes: bytes(map), ..EngineSize::default() }).collect()
    }

    fn checkpoint(&self, _path: &Path) -> Result<(), StoreError> {
        Err(StoreError::Unsupported { what: "a checkpoint" })
    }

    fn close(&self, _failed: bool) -> Result<(), StoreError> {
        self.maps_mut().iter_mut().for_each(Map::clear);
        Ok(())
    }
}
