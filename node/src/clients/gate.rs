//! How much may come in: connections, and weight in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rorqual_client::frames::{Hello, max_weight, request_limit};
use rorqual_config::parameters::ClientParameters;
use rorqual_config::{AuthorityIndex, Committee};
use tokio::sync::Semaphore;

use super::counters::Counters;

/// Answers of all connections that are not written yet, in KiB.
const ANSWERS_KIB: usize = 128 << 10;

/// Shared by all connections.
pub struct Gate {
    /// What happened.
    pub counters: Counters,
    /// Room for answers, in KiB.
    pub answers: Arc<Semaphore>,
    /// The greeting, without credit and commit time.
    facts: Hello,
    max_connections: u64,
    max_in_flight: u64,
    max_window: u64,
    retry_hint: Duration,
    connections: AtomicU64,
    in_flight: AtomicU64,
    commit_time: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// A place for one connection; given back when it is dropped.
pub struct Place(Arc<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gate {
    /// An open gate with nobody in.
    pub fn new(
        committee: &Committee,
        me: AuthorityIndex,
        parameters: &ClientParameters,
        commit_time: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Self {
        let rules = committee.protocol();
        let facts = Hello {
            chain_id: committee.chain_id(),
            author: me,
            commit_time_ms: 0,
            max_transaction_bytes: rules.max_transaction_bytes,
            max_submission_bytes: rules.max_submission_bytes,
            max_weight_bytes: max_weight(rules.max_batch_bytes),
            max_lifetime_ms: u64::try_from(rules.max_lifetime.as_millis()).unwrap_or(u64::MAX),
            credit_bytes: 0,
        };
        Self {
            counters: Counters::default(),
            answers: Arc::new(Semaphore::new(ANSWERS_KIB)),
            max_connections: parameters.max_connections as u64,
            max_in_flight: parameters.max_bytes_in_flight.max(facts.max_weight_bytes),
            max_window: parameters.max_bytes_per_connection.max(facts.max_weight_bytes),
            retry_hint: parameters.retry_hint,
            connections: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            facts,
            commit_time,
        }
    }

    /// The rules that every submission must keep, and what clients must know.
    pub fn facts(&self) -> &Hello {
        &self.facts
    }

    /// Largest frame of a client, in bytes.
    pub fn request_limit(&self) -> usize {
        request_limit(self.facts.max_weight_bytes)
    }

    /// Takes a place for a connection; none if all are taken.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.connections.fetch_add(1, Ordering::AcqRel) >= self.max_connections {
            self.connections.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Place(self.clone()))
    }

    /// The limit of connections.
    pub fn max_connections(&self) -> u64 {
        self.max_connections
    }

    /// Weight that one connection may have in flight now: its share, so that all of them together rarely exceed the limit, but
    /// always room for one submission. In bytes.
    pub fn window(&self) -> u64 {
        let share = self.max_in_flight.checked_div(self.connections()).unwrap_or(self.max_in_flight);
        share.min(self.max_window).max(self.facts.max_weight_bytes)
    }

    /// Counts weight in; false if that is more than all connections together may have. Either way it is counted until
    /// [`Self::leave`].
    pub fn take(&self, weight: u64) -> bool {
        self.in_flight.fetch_add(weight, Ordering::AcqRel).saturating_add(weight) <= self.max_in_flight
    }

    /// Counts weight out.
    pub fn leave(&self, weight: u64) {
        self.in_flight.fetch_sub(weight, Ordering::AcqRel);
    }

    /// When a client that was refused should try again, in milliseconds.
    pub fn retry_after_ms(&self) -> u64 {
        u64::try_from(self.retry_hint.as_millis()).unwrap_or(u64::MAX)
    }

    /// The time of the next commit, about, in milliseconds since the Unix epoch, see [`crate::clock`]. A wrong guess is refused by
    /// execution, never applied twice.
    pub fn commit_time_ms(&self) -> u64 {
        (self.commit_time)()
    }

    /// Connections that have a place now.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Acquire)
    }

    /// Weight that was counted in and not out, in bytes.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }
}
