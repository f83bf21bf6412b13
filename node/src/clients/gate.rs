//! How much may come in: connections, and weight in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rorqual_client::frames::{Hello, max_weight, request_limit};
use rorqual_config::parameters::ClientParameters;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_network::unfinished::Unfinished;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::counters::Counters;
use super::places::{Place, Places};

/// Answers of all connections that are not written yet, in KiB.
const ANSWERS_KIB: usize = 128 << 10;
/// Memory of requests of all connections that are not whole yet, in bytes; or four of the largest.
const UNFINISHED_BYTES: usize = 64 << 20;
/// Reads of the log at work, of all connections.
const READS: usize = 8;
/// What every connection may have in flight, however much the others have, in bytes.
const FLOOR: u64 = 64 << 10;

/// Shared by all connections.
pub struct Gate {
    /// What happened.
    pub counters: Counters,
    /// Room for answers, in KiB.
    pub answers: Arc<Semaphore>,
    /// Turns to read the log.
    pub reads: Arc<Semaphore>,
    /// Memory of requests that are not whole yet.
    pub unfinished: Arc<Unfinished>,
    /// The greeting, without credit and commit time.
    facts: Hello,
    places: Arc<Places>,
    max_in_flight: u64,
    max_window: u64,
    retry_hint: Duration,
    in_flight: AtomicU64,
    commit_time: Arc<dyn Fn() -> u64 + Send + Sync>,
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
            reads: Arc::new(Semaphore::new(READS)),
            unfinished: Unfinished::new(UNFINISHED_BYTES.max(request_limit(facts.max_weight_bytes).saturating_mul(4))),
            places: Places::new(parameters.max_connections),
            max_in_flight: parameters.max_bytes_in_flight.max(facts.max_weight_bytes),
            max_window: parameters.max_bytes_per_connection.max(facts.max_weight_bytes),
            retry_hint: parameters.retry_hint,
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

    /// Takes a place for a connection; none if all are taken, see [`Places::enter`].
    pub fn enter(&self) -> Option<Place> {
        self.places.enter(Instant::now())
    }

    /// Places for connections.
    #[cfg(test)]
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// The limit of connections.
    pub fn max_connections(&self) -> u64 {
        self.places.limit() as u64
    }

    /// Whether room for answers runs short: whoever does not read is waited for no longer.
    pub fn is_short_of_answers(&self) -> bool {
        self.answers.available_permits() < ANSWERS_KIB / 16
    }

    /// Weight that one connection may have in flight now: its share, so that all of them together rarely exceed the limit, but
    /// always room for one submission. In bytes.
    pub fn window(&self) -> u64 {
        self.share().min(self.max_window).max(self.facts.max_weight_bytes)
    }

    /// What is one connection's part of the limit now, in bytes.
    fn share(&self) -> u64 {
        self.max_in_flight.checked_div(self.connections()).unwrap_or(self.max_in_flight)
    }

    /// Counts weight in; `mine` is what its connection has in flight with it. False if that is more than the connection's share
    /// *and* all together have more than the limit: who was told of much credit while few were connected cannot keep the others
    /// out. Either way it is counted until [`Self::leave`].
    pub fn take(&self, weight: u64, mine: u64) -> bool {
        let all = self.in_flight.fetch_add(weight, Ordering::AcqRel).saturating_add(weight);
        all <= self.max_in_flight || mine <= self.share().max(FLOOR)
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
        self.places.taken() as u64
    }

    /// Weight that was counted in and not out, in bytes.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }
}
