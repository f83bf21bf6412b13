//! What outsiders see of a node: status, readiness, gauges. Reads, never decides.

use std::sync::{Arc, OnceLock};

use rorqual_config::committee::AuthoritySet;
use rorqual_config::load::NodeConfig;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_network::Links;
use rorqual_protocol::types::CommitIndex;
use rorqual_store::Store;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::batch::Maker;
use crate::batch::intake::Intake;
use crate::clients::ClientsHandle;
use crate::clock::{NodeClock, State};
use crate::consensus::ConsensusStatus;
use crate::disk::Disk;
use crate::execution::log::LogReader;
use crate::http::{Check, Operator};
use crate::logging;
use crate::metrics::{Family, Metrics, names, process};
use crate::sync::refetch;

/// Commits behind the certified tip up to which a node calls itself caught up.
pub const READY_LAG: u64 = 100;

/// What a view looks at.
pub struct ViewSetup {
    /// Who we are.
    pub config: NodeConfig,
    /// Disk.
    pub store: Store,
    /// Peers.
    pub links: Links,
    /// The ordered log.
    pub log: LogReader,
    /// The core.
    pub status: watch::Receiver<ConsensusStatus>,
    /// Own batches in the making.
    pub maker: Maker,
    /// Others' payload.
    pub intake: Intake,
    /// Room on the disk.
    pub disk: Disk,
    /// Time.
    pub clock: NodeClock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Set once a part has failed.
    pub failure: watch::Receiver<Option<String>>,
    /// Cancelled when the node drains.
    pub closing: CancellationToken,
}

/// Everything an outsider may see.
pub struct View {
    setup: ViewSetup,
    clients: OnceLock<ClientsHandle>,
    /// What has to be applied before the node calls itself caught up for the first time: what was known to be decided when it took
    /// part again.
    goal: OnceLock<CommitIndex>,
}

impl View {
    /// Looks at a node.
    pub fn new(setup: ViewSetup) -> Self {
        Self { setup, clients: OnceLock::new(), goal: OnceLock::new() }
    }

    /// The client link is spawned last.
    pub fn attach_clients(&self, clients: ClientsHandle) {
        let _ = self.clients.set(clients);
    }

    /// For the client link's `status`.
    pub fn status_source(self: &Arc<Self>) -> Arc<dyn Fn() -> Value + Send + Sync> {
        let view = self.clone();
        Arc::new(move || view.status())
    }

    /// Whether own payload is all delivered and executed.
    pub fn is_drained(&self) -> bool {
        let status = self.setup.status.borrow();
        self.setup.maker.queued_bytes() == 0
            && status.pending_own_batches == 0
            && self.setup.log.applied().index >= status.last_commit
    }

    /// Whether peers that with us hold a quorum are connected.
    pub fn has_quorum(&self, committee: &Committee) -> bool {
        committee.is_quorum(&self.connected(committee))
    }

    fn connected(&self, committee: &Committee) -> AuthoritySet {
        let me = self.setup.config.me;
        committee.authorities().filter(|peer| *peer == me || self.setup.links.is_connected(*peer)).collect()
    }

    fn peers(&self) -> Vec<Value> {
        let committee = &self.setup.config.committee;
        let links = &self.setup.links;
        let peer = |index: AuthorityIndex| {
            let member = committee.member(index);
            json!({
                "index": index.0,
                "name": member.name,
                "address": member.address,
                "connected": links.is_connected(index),
                "round_trip_ms": links.round_trip(index).map(|d| d.as_secs_f64() * 1e3),
            })
        };
        committee.authorities().filter(|index| *index != self.setup.config.me).map(peer).collect()
    }

    /// What is read when somebody asks.
    fn families(&self) -> Vec<Family> {
        let mut families = self.core_families();
        families.extend(self.queue_families());
        families.extend(self.link_families());
        families.extend(self.store_families());
        families.extend(self.client_families());
        families.extend(self.clock_families());
        families.push(Family::new(names::BUILD).with([("version", env!("CARGO_PKG_VERSION"))], 1.0));
        families.push(Family::plain(names::LOG_LOST, logging::lost() as f64));
        families.extend(process::families());
        families
    }

    fn core_families(&self) -> Vec<Family> {
        let status = self.setup.status.borrow().clone();
        let applied = self.setup.log.applied();
        let mut decisions = Family::new(names::DECISIONS);
        let mut events = Family::new(names::CORE_EVENTS);
        let mut held = Family::new(names::CORE_HELD);
        status.decisions().iter().for_each(|(rule, count)| decisions.push([("rule", rule)], *count as f64));
        status.happened().iter().for_each(|(event, count)| events.push([("event", event)], *count as f64));
        status.held().iter().for_each(|(what, count)| held.push([("what", what)], *count as f64));
        let plain = |name, value: u64| Family::plain(name, value as f64);
        vec![
            plain(names::ROUND, status.round.0),
            plain(names::COMMIT_INDEX, status.last_commit.0),
            plain(names::APPLIED_INDEX, applied.index.0),
            plain(names::CERTIFIED_INDEX, status.highest_certified.0),
            plain(names::SOLID_INDEX, status.solid.0),
            plain(names::LAG, lag(&status, applied.index)),
            plain(names::GC_ROUND, status.gc_round.0),
            plain(names::LOG_END, applied.next_position),
            plain(names::LOG_BEGINS, applied.begins),
            Family::plain(names::QUORUM_ROUND_TRIP, status.quorum_round_trip.as_secs_f64()),
            Family::plain(names::DELAY_BOUND, status.delay_bound.as_secs_f64()),
            Family::plain(names::LEADER_TIMEOUT, status.leader_timeout.as_secs_f64()),
            plain(names::MUTED_LEADERS, status.muted.len() as u64),
            plain(names::PENDING_OWN_BATCHES, status.pending_own_batches as u64),
            decisions,
            events,
            held,
        ]
    }

    fn queue_families(&self) -> Vec<Family> {
        let store = self.setup.store.statistics();
        let queues = Family::new(names::QUEUE_BYTES)
            .with([("queue", "seal")], self.setup.maker.queued_bytes() as f64)
            .with([("queue", "undelivered")], self.setup.intake.undelivered_bytes() as f64)
            .with([("queue", "store")], store.queue_bytes as f64);
        let disk = self.setup.disk.state();
        vec![
            queues,
            Family::plain(names::DISK_FREE_BYTES, disk.free as f64),
            Family::plain(names::DISK_LEVEL, f64::from(disk.level as u8)),
        ]
    }

    fn link_families(&self) -> Vec<Family> {
        let mut connected = Family::new(names::PEER_CONNECTED);
        let mut round_trips = Family::new(names::PEER_ROUND_TRIP);
        let mut bytes = Family::new(names::PEER_BYTES);
        let mut frames = Family::new(names::PEER_FRAMES);
        let mut queues = Family::new(names::PEER_QUEUE_BYTES);
        let mut links = Family::new(names::PEER_LINKS);
        let mut failed_dials = Family::new(names::PEER_FAILED_DIALS);
        let mut lost = Family::new(names::PEER_LOST);
        let mut broken = Family::new(names::PEER_BROKEN);
        for peer in self.setup.links.statistics() {
            let name = ("peer", peer.name.as_str());
            connected.push([name], f64::from(u8::from(peer.connected)));
            peer.round_trip.iter().for_each(|trip| round_trips.push([name], trip.as_secs_f64()));
            for (stream, counted) in [("priority", peer.priority), ("bulk", peer.bulk)] {
                let stream = ("stream", stream);
                bytes.push([name, stream, ("direction", "in")], counted.bytes_in as f64);
                bytes.push([name, stream, ("direction", "out")], counted.bytes_out as f64);
                frames.push([name, stream, ("direction", "in")], counted.frames_in as f64);
                frames.push([name, stream, ("direction", "out")], counted.frames_out as f64);
            }
            for (lane, waiting) in ["priority", "own", "urgent", "catch_up"].iter().zip(peer.queued_bytes) {
                queues.push([name, ("lane", lane)], waiting as f64);
            }
            links.push([name], peer.links as f64);
            failed_dials.push([name], peer.failed_dials as f64);
            lost.push([name], peer.lost as f64);
            broken.push([name, ("reason", "oversized")], peer.oversized as f64);
            broken.push([name, ("reason", "malformed")], peer.malformed as f64);
            broken.push([name, ("reason", "excess")], peer.excess as f64);
            broken.push([name, ("reason", "unread")], peer.unread as f64);
        }
        let refused = self.setup.links.refused();
        let mut strangers = Family::new(names::STRANGERS);
        refused.reasons().iter().for_each(|(reason, count)| strangers.push([("reason", reason)], *count as f64));
        let handshakes = Family::plain(names::HANDSHAKES, refused.handshakes as f64);
        vec![connected, round_trips, bytes, frames, queues, links, failed_dials, lost, broken, strangers, handshakes]
    }

    fn store_families(&self) -> Vec<Family> {
        let store = self.setup.store.statistics();
        let mut columns = Family::new(names::STORE_BYTES);
        for column in self.setup.store.sizes() {
            let parts = [
                ("disk", column.disk_bytes),
                ("segments", column.segment_bytes),
                ("memory", column.memtable_bytes),
                ("tables", column.table_reader_bytes),
                ("cache", column.cache_bytes),
            ];
            for (place, bytes) in parts {
                columns.push([("column", column.column), ("where", place)], bytes as f64);
            }
        }
        let mut segments = Family::new(names::STORE_SEGMENTS);
        let counted = [("files", store.segments.file_bytes), ("spare", store.segments.spare_bytes)];
        let parts = counted.into_iter().chain([("live", store.segments.live_bytes)]);
        parts.for_each(|(what, bytes)| segments.push([("what", what)], bytes as f64));
        vec![
            columns,
            segments,
            Family::plain(names::STORE_SEGMENT_WRITTEN, store.segments.written_bytes as f64),
            Family::plain(names::STORE_SEGMENT_SYNCS, store.segments.syncs as f64),
            Family::plain(names::STORE_BLOCK_CACHE, store.block_cache_bytes as f64),
            Family::plain(names::STORE_WRITES, store.writes as f64),
            Family::plain(names::STORE_WRITTEN_BYTES, store.written_bytes as f64),
            Family::plain(names::STORE_SYNCS, store.syncs as f64),
            Family::plain(names::STORE_SYNCED_WRITES, store.synced_writes as f64),
            Family::plain(names::STORE_WAITERS, store.waiters as f64),
        ]
    }

    fn clock_families(&self) -> Vec<Family> {
        let State { deviation, wrong, .. } = self.setup.clock.state();
        let mut deviations = Family::new(names::CLOCK_DEVIATION);
        for (from, ms) in [("peers", deviation.from_peers_ms), ("commit_time", deviation.from_commits_ms)] {
            ms.iter().for_each(|ms| deviations.push([("from", from)], *ms as f64 / 1e3));
        }
        vec![
            deviations,
            Family::plain(names::CLOCK_WRONG, f64::from(u8::from(wrong))),
            Family::plain(names::CLOCK_WARNINGS, self.setup.clock.warnings() as f64),
        ]
    }

    fn client_families(&self) -> Vec<Family> {
        let Some(clients) = self.clients.get() else { return Vec::new() };
        let mut events = Family::new(names::CLIENT_EVENTS);
        clients.events().iter().for_each(|(event, count)| events.push([("event", event)], *count as f64));
        vec![
            events,
            Family::plain(names::CLIENT_CONNECTIONS, clients.connections() as f64),
            Family::plain(names::CLIENT_IN_FLIGHT, clients.in_flight_bytes() as f64),
            Family::plain(names::CLIENT_AWAITING, clients.batches_awaiting_receipts() as f64),
        ]
    }
}

/// The last commit that is known to be decided: here, or by members of whom one is honest.
fn decided(status: &ConsensusStatus) -> CommitIndex {
    let reached = status.last_commit.plus(status.lag);
    reached.max(status.quorum_commit_index).max(status.highest_certified)
}

/// Commits that are known to be decided and whose effects nobody can read here yet.
fn lag(status: &ConsensusStatus, applied: CommitIndex) -> u64 {
    decided(status).0.saturating_sub(applied.0)
}

/// Whether the log can be read here up to where others have it, or what is missing. `goal` keeps what has to be reached first.
fn caught_up(status: &ConsensusStatus, applied: CommitIndex, goal: &OnceLock<CommitIndex>) -> Result<(), String> {
    // Only a node that takes part has heard of a quorum where the others are.
    if goal.get().is_none() && status.events.proposed == 0 {
        return Err("has not taken part since its start: it does not know yet how far the others are".into());
    }
    let (lag, goal) = (lag(status, applied), *goal.get_or_init(|| decided(status)));
    match lag <= READY_LAG && applied >= goal {
        true => Ok(()),
        false => Err(format!("{lag} commits behind in what is applied")),
    }
}

impl View {
    /// Who says that it cannot help a node that is behind.
    fn dropped(&self, status: &ConsensusStatus) -> String {
        let dropped = status.dropped_by.iter().map(|peer| &*self.setup.config.committee.member(*peer).name);
        match dropped.collect::<Vec<&str>>().join(", ") {
            names if names.is_empty() => names,
            names => format!("; dropped the next one, by their word: {names}; waiting for the others"),
        }
    }
}

impl Operator for View {
    fn ready(&self) -> Vec<Check> {
        let status = self.setup.status.borrow().clone();
        let committee = &self.setup.config.committee;
        let connected = self.connected(committee);
        let check = |name, ok: bool, missing: String| Check::needed(name, if ok { Ok(()) } else { Err(missing) });
        let failure = self.setup.failure.borrow().clone();
        let holes = refetch::holes(&self.setup.store);
        vec![
            check("running", failure.is_none(), failure.unwrap_or_default()),
            check("accepting", !self.setup.closing.is_cancelled(), "the node is draining".into()),
            check(
                "quorum",
                committee.is_quorum(&connected),
                format!(
                    "connected stake {} of {} needed (own stake counts)",
                    committee.stake_of(&connected).0,
                    committee.quorum().0
                ),
            ),
            check(
                "log",
                holes == 0,
                format!("{holes} batches of the log were lost with this disk and are being fetched from peers"),
            ),
            Check::needed(
                "caught-up",
                caught_up(&status, self.setup.log.applied().index, &self.goal)
                    .map_err(|behind| behind + &self.dropped(&status)),
            ),
            Check::needed("disk", self.setup.disk.state().trouble().map_or(Ok(()), Err)),
            Check::advisory("clock", self.setup.clock.state().trouble().map_or(Ok(()), Err)),
        ]
    }

    fn status(&self) -> Value {
        let status = self.setup.status.borrow().clone();
        let applied = self.setup.log.applied();
        let config = &self.setup.config;
        let sizes = self.setup.store.sizes();
        let (disk, clock) = (self.setup.disk.state(), self.setup.clock.state());
        json!({
            "name": config.committee.member(config.me).name,
            "index": config.me.0,
            "version": env!("CARGO_PKG_VERSION"),
            "chain_id": config.committee.chain_id().to_string(),
            "epoch": config.committee.epoch(),
            "durability": format!("{:?}", config.parameters.durability).to_lowercase(),
            "round": status.round.0,
            "last_commit": status.last_commit.0,
            "highest_certified": status.highest_certified.0,
            "gc_round": status.gc_round.0,
            "lag": lag(&status, applied.index),
            "history_dropped_by": status.dropped_by.iter().map(|peer| &config.committee.member(*peer).name).collect::<Vec<_>>(),
            "applied": { "index": applied.index.0, "positions": applied.next_position, "time_ms": applied.time_ms },
            "clock": {
                "next_commit_ms": self.setup.clock.next_commit_ms(),
                "ahead_of_peers_ms": clock.deviation.from_peers_ms,
                "ahead_of_commits_ms": clock.deviation.from_commits_ms,
                "wrong": clock.wrong,
            },
            "log_begins": applied.begins,
            "peers": self.peers(),
            "disk_bytes": sizes.iter().map(|column| column.disk_bytes).sum::<u64>(),
            "disk": { "level": disk.level.name(), "free_bytes": disk.free, "reserve_bytes": disk.reserve },
            "failure": self.setup.failure.borrow().clone(),
        })
    }

    fn metrics(&self) -> String {
        self.setup.metrics.render(&self.families())
    }
}

#[cfg(test)]
mod tests;
