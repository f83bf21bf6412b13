//! Places for client connections: who has one, and who gives it up when there is none left.
//!
//! Promises: never more than the limit; where all are taken, the connection that has asked for nothing for longest goes, if that
//! is at least [`IDLE`]; pings are no question, and whoever waits for a receipt or for an answer is not idle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Who asked for nothing for so long gives its place to whoever needs one. Longer than any question may wait.
pub const IDLE: Duration = Duration::from_secs(15);

/// All of them.
pub struct Places {
    limit: usize,
    began: Instant,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    taken: HashMap<u64, Arc<Occupant>>,
}

/// A connection that has a place.
pub struct Occupant {
    began: Instant,
    /// Cancelled when it has to go for another one.
    pub evicted: CancellationToken,
    /// When it last asked or was answered, in milliseconds since the start.
    touched_ms: AtomicU64,
    /// Weight of its submissions without a receipt.
    in_flight: AtomicU64,
}

impl Occupant {
    /// Something was asked or answered.
    pub fn touch(&self) {
        self.touched_ms.store(millis(self.began, Instant::now()), Ordering::Relaxed);
    }

    /// Weight in flight, in bytes.
    pub fn set_in_flight(&self, weight: u64) {
        self.in_flight.store(weight, Ordering::Relaxed);
    }
}

/// A place; given back when it is dropped.
pub struct Place {
    places: Arc<Places>,
    id: u64,
    /// Who has it.
    pub occupant: Arc<Occupant>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.id);
    }
}

impl Places {
    /// So many places, all free.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, began: Instant::now(), table: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Places taken now.
    pub fn taken(&self) -> usize {
        self.lock().taken.len()
    }

    /// Takes a place; none if all are taken. Then the one that is idle for longest was told to go, if there is one: its place is
    /// free as soon as it has gone.
    pub fn enter(self: &Arc<Self>, now: Instant) -> Option<Place> {
        let mut table = self.lock();
        if table.taken.len() >= self.limit {
            table.evict(millis(self.began, now));
            return None;
        }
        let occupant = Arc::new(Occupant {
            began: self.began,
            evicted: CancellationToken::new(),
            touched_ms: AtomicU64::new(millis(self.began, now)),
            in_flight: AtomicU64::new(0),
        });
        let id = table.next;
        table.next = table.next.saturating_add(1);
        table.taken.insert(id, occupant.clone());
        Some(Place { places: self.clone(), id, occupant })
    }
}

impl Table {
    fn evict(&self, now_ms: u64) {
        let touched = |occupant: &Arc<Occupant>| occupant.touched_ms.load(Ordering::Relaxed);
        let idle = |occupant: &&Arc<Occupant>| {
            let idle_ms = now_ms.saturating_sub(touched(occupant));
            u128::from(idle_ms) >= IDLE.as_millis()
                && occupant.in_flight.load(Ordering::Relaxed) == 0
                && !occupant.evicted.is_cancelled()
        };
        if let Some(oldest) = self.taken.values().filter(idle).min_by_key(|occupant| touched(occupant)) {
            oldest.evicted.cancel();
        }
    }
}

fn millis(began: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(began).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_idle_for_longest_goes_and_one_that_waits_for_a_receipt_stays() {
        let (places, now) = (Places::new(3), Instant::now());
        let waits = places.enter(now).unwrap();
        waits.occupant.set_in_flight(1);
        let idle = places.enter(now + Duration::from_secs(1)).unwrap();
        let fresh = places.enter(now + Duration::from_secs(14)).unwrap();
        assert!(places.enter(now + Duration::from_secs(15)).is_none());
        assert!(!idle.occupant.evicted.is_cancelled(), "idle for 14 s only");
        assert!(places.enter(now + Duration::from_secs(17)).is_none());
        assert!(idle.occupant.evicted.is_cancelled());
        assert!(!waits.occupant.evicted.is_cancelled() && !fresh.occupant.evicted.is_cancelled());
        drop(idle);
        assert!(places.enter(now + Duration::from_secs(17)).is_some());
        assert_eq!(places.taken(), 2);
    }
}
