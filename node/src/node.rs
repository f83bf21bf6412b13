//! The composition root: the only file that makes channels and spawns rooms.
//!
//! [`Node::open`] opens the data directory (blocking, before there is a runtime), [`Opened::start`] recovers, binds every
//! listener and starts the rooms. A room that ends takes the node down with its reason, and so does a panic in any task or thread:
//! [`Node::failed`].

mod error;
mod supervisor;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rorqual_config::load::NodeConfig;
use rorqual_config::parameters::Listen;
use rorqual_config::{Committee, Digest};
use rorqual_network::{Links, Listener};
use rorqual_protocol::core::Setup;
use rorqual_protocol::types::{CommitIndex, Delivery, Round, Sequence};
use rorqual_protocol::undelivered::Undelivered;
use rorqual_protocol::{Core, Effect, Input, Known};
use rorqual_store::Store;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backup;
use crate::batch::intake::Intake;
use crate::batch::maker::{Maker, MakerSetup};
use crate::batch::spread::Spreader;
use crate::clients;
use crate::clients::receipts::Receipts;
use crate::clock::{self, NodeClock};
use crate::consensus::driver::{Clock, ConsensusSetup};
use crate::consensus::effects::Rooms;
use crate::consensus::recovery;
use crate::consensus::safety::{self, Found, SafetyRecord};
use crate::control::Control;
use crate::disk::{Disk, Monitor};
use crate::execution::log::LogReader;
use crate::execution::{self, Execution, ExecutionSetup};
use crate::files::ClientFiles;
use crate::http;
use crate::metrics::{Metrics, Stages};
use crate::peers::Verdicts;
use crate::peers::links::link_config;
use crate::peers::router::Router;
use crate::schema;
use crate::sync::fetch::Fetcher;
use crate::sync::payload::{PayloadSetup, PayloadSync};
use crate::sync::refetch::{self, Refetch};
use crate::sync::server::Server;
use crate::view::{READY_LAG, View, ViewSetup};
pub use error::NodeError;
use supervisor::Supervisor;

/// Inputs that wait for consensus; full: the peer's stream, or the room, waits.
const CONSENSUS_QUEUE: usize = 4_096;
/// Deliveries that wait for execution; what does not fit waits in consensus.
const EXECUTION_QUEUE: usize = 256;
/// Applied commits that consensus has not seen; full: execution waits.
const EXECUTED_QUEUE: usize = 1_024;
/// Longest end of a node that is not drained.
const CLOSE: Duration = Duration::from_secs(2);
/// Longest drain at a clean stop.
const DRAIN: Duration = Duration::from_secs(5);

/// A node whose data directory is open.
pub struct Opened {
    config: NodeConfig,
    store: Store,
    safety: Arc<SafetyRecord>,
    monitor: Monitor,
    disk: Disk,
}

/// A running node.
pub struct Node {
    committee: Arc<Committee>,
    store: Store,
    safety: Arc<SafetyRecord>,
    links: Links,
    failure: watch::Receiver<Option<String>>,
    cause: mpsc::Receiver<NodeError>,
    /// Stops taking submissions.
    closing: CancellationToken,
    /// Stops everything else.
    stopping: CancellationToken,
    view: Arc<View>,
}

impl Node {
    /// Opens the data directory and decides whether this node may sign. Blocks; call it outside a runtime.
    ///
    /// # Errors
    /// [`NodeError::Directory`], [`NodeError::Amnesia`]; nothing was changed.
    pub fn open(config: NodeConfig) -> Result<Opened, NodeError> {
        let chain_id = config.committee.chain_id();
        let options = schema::options(&config.parameters.store, false);
        recovery::check_log(&config.data_dir, &options, chain_id, config.me)?;
        let store = schema::open_data_dir(&config.data_dir, &config.parameters.store, chain_id, config.me)?;
        match Self::prepare(&config, &store) {
            Ok((safety, monitor, disk)) => Ok(Opened { config, store, safety, monitor, disk }),
            Err(error) => {
                // The process may end at once: the database must not be closing in the background then.
                if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() {
                    let _ = runtime.block_on(store.shutdown());
                }
                Err(error)
            }
        }
    }

    /// What a node needs of its open data directory, if it may sign from it.
    fn prepare(config: &NodeConfig, store: &Store) -> Result<(Arc<SafetyRecord>, Monitor, Disk), NodeError> {
        let testimony = recovery::testimony(&config.data_dir, store)?;
        let record = testimony.judge(config.committee.chain_id(), config.me)?;
        if let Found::Valid { damaged: Some(slot), .. } = &testimony.found {
            warn!(file = safety::FILE, %slot, "one slot of the safety record is torn or damaged; the other one is whole");
        }
        let safety = SafetyRecord::open(&config.data_dir, record).map_err(NodeError::Other)?;
        let (monitor, disk) = Monitor::start(&config.data_dir, &config.parameters.store).map_err(NodeError::Other)?;
        Ok((safety, monitor, disk))
    }

    /// Resolves with the reason when a part of the node has failed.
    pub async fn failed(&mut self) -> NodeError {
        match self.cause.recv().await {
            Some(cause) => cause,
            None => NodeError::Other("every part of the node has ended".into()),
        }
    }

    /// Stops cleanly: refuses new submissions, seals what was taken, waits until own payload is delivered, or no quorum is
    /// connected, or 5 s have passed; then flushes. What was not delivered is proposed after the restart.
    ///
    /// # Errors
    /// What failed meanwhile.
    pub async fn shutdown(&mut self) -> Result<(), NodeError> {
        self.closing.cancel();
        let deadline = Instant::now() + DRAIN;
        while Instant::now() < deadline && !self.view.is_drained() && self.view.has_quorum(&self.committee) {
            tokio::select! {
                cause = self.cause.recv() => return cause.map_or(Ok(()), Err),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
        self.stopping.cancel();
        self.links.shutdown().await;
        self.store.shutdown().await?;
        // What the last block left behind in the kernel.
        self.safety.sync().done().await.map_err(NodeError::Other)?;
        // Rooms may end now; a panic is still one.
        if let Ok(cause) = self.cause.try_recv() {
            return Err(cause);
        }
        info!("stopped");
        Ok(())
    }

    /// Ends everything without draining, for a node that has failed or must not wait: what was not delivered is proposed after
    /// the restart. Returns when the store is closed, or after 2 s: a process must not end while the database is still closing,
    /// but a disk that never answers must not keep it.
    pub async fn close(&mut self) {
        self.closing.cancel();
        self.stopping.cancel();
        let closing = async {
            self.links.shutdown().await;
            // Why it failed is known already.
            let _ = self.store.shutdown().await;
        };
        let _ = tokio::time::timeout(CLOSE, closing).await;
    }

    /// The facts that status, metrics and readiness are made of.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Becomes true once a part has failed; for tests.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }
}

/// The sockets of a node, all bound before anything is started.
struct Listeners {
    peers: Listener,
    clients: TcpListener,
    http: TcpListener,
}

impl Listeners {
    async fn bind(listen: &Listen) -> Result<Self, NodeError> {
        Ok(Self {
            peers: Listener::bind(listen.peer).await?,
            clients: clients::bind(listen.client).await.map_err(NodeError::Other)?,
            http: http::bind(listen.http).await.map_err(NodeError::Other)?,
        })
    }
}

/// What every room gets a share of.
struct Commons {
    config: NodeConfig,
    committee: Arc<Committee>,
    store: Store,
    disk: Disk,
    metrics: Arc<Metrics>,
    stages: Stages,
    inputs: mpsc::Sender<Input>,
    receipts: Receipts,
    closing: CancellationToken,
    stopping: CancellationToken,
}

/// The core as recovery found it, and where own batches continue.
struct RecoveredCore {
    core: Core,
    effects: Vec<Effect>,
    clock: Clock,
    next: Sequence,
    sealed_from: Sequence,
}

impl Commons {
    async fn recover_core(&self, execution: &Execution, completed: Round) -> Result<RecoveredCore, NodeError> {
        let me = self.config.me;
        let (executed, digests) = (execution.recovered, execution.state_digests.clone());
        let found = recovery::load(&self.store, me, completed, executed, digests).await?;
        let sealed_from = found.first_sealed;
        let clock = Clock::start();
        let setup = Setup {
            committee: self.committee.clone(),
            me: self.config.me,
            key: self.config.key.clone(),
            parameters: self.config.parameters.consensus.clone(),
        };
        let (core, effects) = Core::recover(setup, found.recovered, clock.now())?;
        let next = found.last_sealed.max(core.highest_delivered(me)).next();
        Ok(RecoveredCore { core, effects, clock, next, sealed_from })
    }

    fn intake(&self, core: &Core) -> Intake {
        let quota = self.config.parameters.consensus.author_quota_bytes;
        let ahead = self.committee.protocol().sequence_ahead;
        let author = |author| Undelivered::new(author, core.window(author).clone(), ahead, quota);
        let undelivered = self.committee.authorities().map(author).collect();
        let (committee, store, disk) = (self.committee.clone(), self.store.clone(), self.disk.clone());
        Intake::new(committee, self.config.me, store, disk, undelivered, self.metrics.clone())
    }

    fn payload_setup(&self, links: &Links, intake: &Intake) -> PayloadSetup {
        PayloadSetup {
            me: self.config.me,
            store: self.store.clone(),
            links: links.clone(),
            intake: intake.clone(),
            disk: self.disk.clone(),
            consensus: self.inputs.clone(),
            grace: self.config.parameters.consensus.payload_grace,
            metrics: self.metrics.clone(),
        }
    }

    /// Fetches what the log holds and this disk has lost, beside everything else.
    fn refetch(&self, payload: &PayloadSync) {
        let me = self.config.me;
        let refetch = Refetch {
            store: self.store.clone(),
            payload: payload.clone(),
            peers: self.committee.authorities().filter(|peer| *peer != me).collect(),
        };
        let stopping = self.stopping.clone();
        tokio::spawn(async move {
            // A store that fails ends the node by itself.
            let _ = stopping.run_until_cancelled(refetch.run()).await;
        });
    }

    fn maker_setup(&self, links: &Links, next: Sequence, seal_below: watch::Receiver<Sequence>) -> MakerSetup {
        let parameters = &self.config.parameters;
        MakerSetup {
            max_bytes: parameters.batch.max_bytes as usize,
            max_delay: parameters.batch.max_delay,
            // What one connection may have beyond the limit is refused at the gate of the clients, never here.
            queue_bytes: (parameters.client.max_bytes_in_flight as usize).saturating_mul(3),
            next,
            seal_below,
            spreader: Spreader {
                links: links.clone(),
                committee: self.committee.clone(),
                me: self.config.me,
                consensus: self.inputs.clone(),
            },
            store: self.store.clone(),
            disk: self.disk.clone(),
            receipts: self.receipts.clone(),
            stages: self.stages.clone(),
            metrics: self.metrics.clone(),
            shutdown: self.closing.clone(),
        }
    }

    fn fetcher(&self, links: &Links, known: Known, verdicts: Verdicts) -> Fetcher {
        Fetcher {
            links: links.clone(),
            committee: self.committee.clone(),
            consensus: self.inputs.clone(),
            disk: self.disk.clone(),
            known,
            metrics: self.metrics.clone(),
            verdicts,
        }
    }

    /// Execution recovers first: what it has applied decides what consensus delivers again.
    async fn execution(
        &self,
        deliveries: mpsc::Receiver<Arc<Delivery>>,
        executed: mpsc::Sender<(CommitIndex, Digest)>,
    ) -> Result<Execution, NodeError> {
        execution::start(ExecutionSetup {
            store: self.store.clone(),
            committee: self.committee.clone(),
            me: self.config.me,
            parameters: self.config.parameters.clone(),
            deliveries,
            executed,
            receipts: self.receipts.clone(),
            shutdown: self.stopping.clone(),
        })
        .await
        .map_err(|error| NodeError::Execution(error.to_string()))
    }

    fn spawn_clients(&self, listener: TcpListener, maker: Maker, log: LogReader, view: &Arc<View>, clock: &NodeClock) {
        let commit_time = clock.source();
        let mut parameters = self.config.parameters.client.clone();
        let files = ClientFiles::of_process(self.committee.size() as u64, parameters.max_connections);
        parameters.max_connections = files.connections;
        let setup = clients::ClientsSetup {
            half_open: files.half_open,
            committee: self.committee.clone(),
            me: self.config.me,
            parameters,
            maker,
            log,
            store: self.store.clone(),
            receipts: self.receipts.clone(),
            status: view.status_source(),
            commit_time,
            closing: self.closing.clone(),
        };
        view.attach_clients(clients::spawn(setup, listener, self.stopping.clone()));
    }

    fn announce(&self) {
        let listen = &self.config.parameters.listen;
        info!(
            node = %self.committee.member(self.config.me).name,
            chain = %&self.committee.chain_id().to_string()[..16],
            peer = %listen.peer,
            client = %listen.client,
            http = %listen.http,
            "ready: all listeners are bound"
        );
    }
}

impl Opened {
    /// Recovers, binds all listeners, starts all rooms.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is left running, and the store is closed.
    pub async fn start(self) -> Result<Node, NodeError> {
        let store = self.store.clone();
        let started = self.start_rooms().await;
        if started.is_err() {
            // The first reason is the one to show.
            let _ = store.shutdown().await;
        }
        started
    }

    async fn start_rooms(self) -> Result<Node, NodeError> {
        let Self { config, store, safety, monitor, disk } = self;
        recovery::check_boot(&store, config.me, config.parameters.durability, &recovery::boot_id())
            .await
            .map_err(NodeError::Other)?;
        let listeners = Listeners::bind(&config.parameters.listen).await?;
        let committee = Arc::new(config.committee.clone());
        let metrics =
            Arc::new(Metrics::new(&committee).map_err(|error| NodeError::Other(format!("metrics: {error}")))?);
        let (inputs, consensus_inputs) = mpsc::channel(CONSENSUS_QUEUE);
        let (deliveries, execution_deliveries) = mpsc::channel(EXECUTION_QUEUE);
        let (executed, consensus_executed) = mpsc::channel(EXECUTED_QUEUE);
        let (seal_below_sender, seal_below) = watch::channel(Sequence(0));
        let (supervisor, cause, failure) = Supervisor::new();
        let commons = Commons {
            stages: metrics.stages(),
            closing: CancellationToken::new(),
            stopping: supervisor.stopping.clone(),
            receipts: Receipts::default(),
            config,
            committee: committee.clone(),
            store: store.clone(),
            disk,
            metrics,
            inputs,
        };
        let execution = commons.execution(execution_deliveries, executed).await?;
        let recovered = commons.recover_core(&execution, safety.named()).await?;
        let (links, inbound) = Links::start(listeners.peers, link_config(&commons.config));
        let core = &recovered.core;
        let fresh = |author, sequence| !committee.contains(author) || core.window(author).is_fresh(sequence);
        refetch::settle(&store, fresh).await?;
        let intake = commons.intake(&recovered.core);
        intake.restore(&recovered.core.kept_at_start(&recovered.effects)).await?;
        let server = Server::spawn(&links, &store, &committee);
        let (payload, payload_task) = PayloadSync::new(commons.payload_setup(&links, &intake));
        let (maker, maker_task) = Maker::new(commons.maker_setup(&links, recovered.next, seal_below));
        let (status_sender, status) = watch::channel(recovered.core.status());
        let (clock_monitor, clock) = clock::Monitor::new(recovered.clock, status.clone(), READY_LAG);
        let view = Arc::new(View::new(ViewSetup {
            config: commons.config.clone(),
            store: store.clone(),
            links: links.clone(),
            log: execution.log.clone(),
            status,
            maker: maker.clone(),
            intake: intake.clone(),
            disk: commons.disk.clone(),
            clock: clock.clone(),
            metrics: commons.metrics.clone(),
            failure: failure.clone(),
            closing: commons.closing.clone(),
        }));
        let verdicts = Verdicts::new(committee.clone(), commons.metrics.clone());
        let router = Router {
            committee: committee.clone(),
            consensus: commons.inputs.clone(),
            server: server.clone(),
            payload: payload.clone(),
            intake: intake.clone(),
            disk: commons.disk.clone(),
            known: recovered.core.known(),
            parameters: commons.config.parameters.consensus.clone(),
            links: links.clone(),
            verdicts: verdicts.clone(),
            metrics: commons.metrics.clone(),
        };
        commons.refetch(&payload);
        let rooms = Rooms {
            committee: committee.clone(),
            me: commons.config.me,
            store: store.clone(),
            durability: commons.config.parameters.durability,
            safety: safety.clone(),
            links: links.clone(),
            fetcher: commons.fetcher(&links, recovered.core.known(), verdicts),
            payload,
            server,
            intake,
            execution: deliveries,
            seal_below: seal_below_sender,
            stages: commons.stages.clone(),
            metrics: commons.metrics.clone(),
        };
        supervisor.consensus(ConsensusSetup {
            core: recovered.core,
            effects: recovered.effects,
            clock: recovered.clock,
            rooms,
            sealed_from: recovered.sealed_from,
            inputs: consensus_inputs,
            executed: consensus_executed,
            status: status_sender,
        });
        inbound.into_iter().for_each(|peer| router.spawn(peer));
        supervisor.spawn("payload", payload_task);
        supervisor.maker(maker_task);
        supervisor.execution(execution.task);
        supervisor.store(store.clone());
        supervisor.disk(monitor);
        supervisor.clock(clock_monitor);
        let config = &commons.config;
        supervisor.http(listeners.http, view.clone(), config.parameters.listen.http_names.clone());
        supervisor.control(Control::new(store.clone(), config.data_dir.clone(), backup::name_of(config)));
        commons.spawn_clients(listeners.clients, maker, execution.log, &view, &clock);
        commons.announce();
        let (closing, stopping) = (commons.closing, commons.stopping);
        Ok(Node { committee, store, safety, links, failure, cause, closing, stopping, view })
    }
}
