//! What outsiders see of a node: status, readiness, gauges. Reads, never decides.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use rorqual_config::committee::AuthoritySet;
use rorqual_config::load::NodeConfig;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_network::Links;
use rorqual_store::Store;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backup;
use crate::batch::Maker;
use crate::batch::intake::Intake;
use crate::clients::ClientsHandle;
use crate::consensus::ConsensusStatus;
use crate::disk::Disk;
use crate::execution::log::LogReader;
use crate::http::{Check, Operator};
use crate::metrics::{Gauge, Metrics, names};

/// Commits behind the certified tip up to which a node calls itself caught up.
const READY_LAG: u64 = 100;

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
}

impl View {
    /// Looks at a node.
    pub fn new(setup: ViewSetup) -> Self {
        Self { setup, clients: OnceLock::new() }
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

    fn gauges(&self) -> Vec<Gauge> {
        let status = self.setup.status.borrow().clone();
        let applied = self.setup.log.applied();
        let mut gauges = vec![
            Gauge::plain(names::ROUND, status.round.0 as f64),
            Gauge::plain(names::COMMIT_INDEX, status.last_commit.0 as f64),
            Gauge::plain(names::APPLIED_INDEX, applied.index.0 as f64),
            Gauge::labelled(names::QUEUE_BYTES, "queue", "seal", self.setup.maker.queued_bytes() as f64),
            Gauge::labelled(names::QUEUE_BYTES, "queue", "undelivered", self.setup.intake.undelivered_bytes() as f64),
        ];
        let disk = self.setup.disk.state();
        gauges.push(Gauge::plain(names::DISK_FREE_BYTES, disk.free as f64));
        gauges.push(Gauge::plain(names::DISK_LEVEL, f64::from(disk.level as u8)));
        let store = self.setup.store.statistics();
        gauges.push(Gauge::labelled(names::QUEUE_BYTES, "queue", "store", store.queue_bytes as f64));
        for (what, value) in status.counters() {
            gauges.push(Gauge::labelled(names::CORE, "what", what, value as f64));
        }
        self.link_gauges(&mut gauges);
        for (what, value) in [("writes", store.writes), ("syncs", store.syncs), ("waiters", store.waiters as u64)] {
            gauges.push(Gauge::labelled(names::STORE, "what", what, value as f64));
        }
        for column in self.setup.store.sizes() {
            let parts = [("disk", column.disk_bytes), ("memory", column.memtable_bytes), ("cache", column.cache_bytes)];
            for (place, bytes) in parts {
                let labels = vec![("column", column.column.to_string()), ("where", place.to_string())];
                gauges.push(Gauge { name: names::STORE_BYTES, labels, value: bytes as f64 });
            }
        }
        if let Some(clients) = self.clients.get() {
            for (what, value) in clients.counters() {
                gauges.push(Gauge::labelled(names::CLIENTS, "what", what, value as f64));
            }
        }
        gauges
    }

    fn link_gauges(&self, gauges: &mut Vec<Gauge>) {
        let committee = &self.setup.config.committee;
        let name = |index: AuthorityIndex| committee.member(index).name.clone();
        let peers: Vec<AuthorityIndex> = committee.authorities().filter(|i| *i != self.setup.config.me).collect();
        for peer in &peers {
            let up = f64::from(u8::from(self.setup.links.is_connected(*peer)));
            gauges.push(Gauge::labelled(names::PEER_CONNECTED, "peer", name(*peer), up));
        }
        for peer in &peers {
            if let Some(trip) = self.setup.links.round_trip(*peer) {
                gauges.push(Gauge::labelled(names::PEER_ROUND_TRIP, "peer", name(*peer), trip.as_secs_f64()));
            }
        }
    }
}

impl Operator for View {
    fn ready(&self) -> Vec<Check> {
        let status = self.setup.status.borrow().clone();
        let committee = &self.setup.config.committee;
        let connected = self.connected(committee);
        let check = |name, ok: bool, missing: String| Check { name, result: if ok { Ok(()) } else { Err(missing) } };
        let failure = self.setup.failure.borrow().clone();
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
            check("caught-up", status.lag <= READY_LAG, format!("{} commits behind", status.lag)),
            Check { name: "disk", result: self.setup.disk.state().trouble().map_or(Ok(()), Err) },
        ]
    }

    fn status(&self) -> Value {
        let status = self.setup.status.borrow().clone();
        let applied = self.setup.log.applied();
        let config = &self.setup.config;
        let sizes = self.setup.store.sizes();
        let disk = self.setup.disk.state();
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
            "lag": status.lag,
            "applied": { "index": applied.index.0, "positions": applied.next_position, "time_ms": applied.time_ms },
            "log_begins": applied.begins,
            "peers": self.peers(),
            "disk_bytes": sizes.iter().map(|column| column.disk_bytes).sum::<u64>(),
            "disk": { "level": disk.level.name(), "free_bytes": disk.free, "reserve_bytes": disk.reserve },
            "failure": self.setup.failure.borrow().clone(),
        })
    }

    fn backup(&self, output: PathBuf) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let (store, of) = (self.setup.store.clone(), backup::name_of(&self.setup.config));
        Box::pin(async move { backup::make(&store, &output, &of).await })
    }

    fn metrics(&self) -> String {
        self.setup.metrics.render(&self.gauges())
    }
}
