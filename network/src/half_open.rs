//! Connections that have not said who they are yet: at the peer address, and at any other listener that wants the same.
//!
//! Promises: never more than the limit; when one more comes, the oldest of the address with most of them goes, and a
//! connection from a preferred address only if there is no other.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// All of them.
#[derive(Debug)]
pub struct HalfOpen {
    limit: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Oldest first.
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    address: IpAddr,
    preferred: bool,
    token: CancellationToken,
}

impl HalfOpen {
    /// Room for `limit` connections, at least one.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), table: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection; another one may have to go for it, whose token is cancelled. It leaves when the seat is dropped.
    pub fn enter(&self, address: IpAddr, preferred: bool) -> (Seat<'_>, CancellationToken) {
        let mut table = self.lock();
        if table.entries.len() >= self.limit
            && let Some(victim) = table.victim().and_then(|at| table.entries.remove(at))
        {
            victim.token.cancel();
        }
        let token = CancellationToken::new();
        let id = table.next;
        table.next += 1;
        table.entries.push_back(Entry { id, address, preferred, token: token.clone() });
        (Seat { half_open: self, id }, token)
    }
}

impl Table {
    /// The oldest entry of the address with most entries, among those not preferred if there are any.
    fn victim(&self) -> Option<usize> {
        let only_preferred = self.entries.iter().all(|entry| entry.preferred);
        let candidates = || self.entries.iter().filter(|entry| only_preferred || !entry.preferred);
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for entry in candidates() {
            *counts.entry(entry.address).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let id = candidates().find(|entry| counts.get(&entry.address) == Some(&most))?.id;
        self.entries.iter().position(|entry| entry.id == id)
    }
}

/// A place in the table.
#[derive(Debug)]
pub struct Seat<'a> {
    half_open: &'a HalfOpen,
    id: u64,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.half_open.lock().entries.retain(|entry| entry.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_flooding_address_loses_its_own_oldest_connection() {
        let half_open = HalfOpen::new(3);
        let (_honest, honest) = half_open.enter(address(2), false);
        let (_first, first) = half_open.enter(address(1), false);
        let (_second, second) = half_open.enter(address(1), false);
        let (_third, third) = half_open.enter(address(1), false);
        assert!(first.is_cancelled());
        assert!(!honest.is_cancelled() && !second.is_cancelled() && !third.is_cancelled());
    }

    #[test]
    fn a_flood_from_many_addresses_does_not_push_a_member_out() {
        let half_open = HalfOpen::new(4);
        let (_member, member) = half_open.enter(address(1), true);
        let flood: Vec<_> = (2..=255).map(|last| half_open.enter(address(last), false)).collect();
        assert!(!member.is_cancelled());
        assert_eq!(flood.iter().filter(|(_, token)| !token.is_cancelled()).count(), 3);
        // Members among themselves are like everybody.
        let members: Vec<_> = (0..4).map(|_| half_open.enter(address(1), true)).collect();
        assert!(member.is_cancelled());
        assert!(members.iter().all(|(_, token)| !token.is_cancelled()));
    }

    #[test]
    fn a_finished_handshake_makes_room() {
        let half_open = HalfOpen::new(1);
        let (seat, first) = half_open.enter(address(1), false);
        drop(seat);
        let _second = half_open.enter(address(1), false);
        assert!(!first.is_cancelled());
    }
}
