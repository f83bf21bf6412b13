//! The composition root: the only file that makes channels and spawns rooms.
//!
//! [`Node::open`] opens the data directory (blocking, before there is a runtime), [`Opened::start`] recovers, binds every
//! listener and starts the rooms. A room that ends takes the node down with its reason: [`Node::failed`].

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rorqual_config::Committee;
use rorqual_config::load::NodeConfig;
use rorqual_network::{LinkConfig, Limits, Links, Listener, NetworkError, Peer};
use rorqual_protocol::core::Setup;
use rorqual_protocol::types::Sequence;
use rorqual_protocol::{Core, Halt};
use rorqual_store::{Store, StoreError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::batch::intake::Intake;
use crate::batch::maker::{Maker, MakerSetup};
use crate::batch::spread::Spreader;
use crate::clients;
use crate::clients::receipts::Receipts;
use crate::consensus::driver::{Clock, Consensus, ConsensusSetup};
use crate::consensus::effects::{Rooms, Stop};
use crate::consensus::recovery::{self, RecoveryError};
use crate::execution::{self, ExecutionSetup};
use crate::http;
use crate::metrics::Metrics;
use crate::peers::router::Router;
use crate::schema::{self, DirectoryError};
use crate::sync::fetch::Fetcher;
use crate::sync::payload::{PayloadSetup, PayloadSync};
use crate::sync::server::Server;
use crate::view::{View, ViewSetup};

/// Inputs that wait for consensus; full: the peer's stream, or the room, waits.
const CONSENSUS_QUEUE: usize = 4_096;
/// Deliveries that wait for execution; what does not fit waits in consensus.
const EXECUTION_QUEUE: usize = 256;
/// Applied commits that consensus has not seen; full: execution waits.
const EXECUTED_QUEUE: usize = 1_024;
/// Longest drain at a clean stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory is not usable.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What the disk holds cannot be used.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The core refuses to go on.
    #[error(transparent)]
    Halt(#[from] Halt),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A peer listener could not be bound.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Execution could not start or failed.
    #[error("execution: {0}")]
    Execution(String),
    /// One sentence.
    #[error("{0}")]
    Other(String),
}

impl NodeError {
    /// Whether the operator must correct configuration or data directory (exit code 2) rather than the surroundings (1).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Directory(DirectoryError::Store(error)) => matches!(error, StoreError::Format { .. }),
            Self::Directory(_) => true,
            Self::Store(error) => matches!(error, StoreError::Format { .. }),
            _ => false,
        }
    }
}

/// A node whose data directory is open.
pub struct Opened {
    config: NodeConfig,
    store: Store,
}

/// A running node.
pub struct Node {
    committee: Arc<Committee>,
    store: Store,
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
    /// Opens the data directory. Blocks; call it outside a runtime.
    ///
    /// # Errors
    /// [`NodeError::Directory`]; nothing was changed.
    pub fn open(config: NodeConfig) -> Result<Opened, NodeError> {
        let chain_id = config.committee.chain_id();
        let store = schema::open_data_dir(&config.data_dir, &config.parameters.store, chain_id, config.me)?;
        Ok(Opened { config, store })
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
        info!("stopped");
        Ok(())
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

/// Spawns rooms; the first one that ends by itself ends the node.
#[derive(Clone)]
struct Supervisor {
    cause: mpsc::Sender<NodeError>,
    failure: watch::Sender<Option<String>>,
    stopping: CancellationToken,
}

impl Supervisor {
    fn spawn<E: Into<NodeError>>(
        &self,
        name: &'static str,
        room: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let this = self.clone();
        let task = tokio::spawn(async move { room.await.map_err(Into::into) });
        tokio::spawn(async move {
            let outcome: Result<Result<(), NodeError>, _> = task.await;
            let cause = match outcome {
                Ok(Ok(())) if this.stopping.is_cancelled() => return,
                Ok(Ok(())) => NodeError::Other(format!("{name} ended without a reason")),
                Ok(Err(cause)) => cause,
                Err(panic) => NodeError::Other(format!("{name} panicked: {panic}")),
            };
            if this.stopping.is_cancelled() {
                return;
            }
            error!(room = name, %cause, "stopping");
            this.failure.send_replace(Some(cause.to_string()));
            // One reason is enough; later ones follow from it.
            let _ = this.cause.try_send(cause);
        });
    }
}

impl Opened {
    /// Recovers, binds all listeners, starts all rooms.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is left running.
    pub async fn start(self) -> Result<Node, NodeError> {
        let Self { config, store } = self;
        let parameters = config.parameters.clone();
        let committee = Arc::new(config.committee.clone());
        let me = config.me;
        recovery::check_boot(&store, me).await.map_err(NodeError::Other)?;
        let peers = Listener::bind(parameters.listen.peer).await?;
        let clients_listener = clients::bind(parameters.listen.client).await.map_err(NodeError::Other)?;
        let http_listener = http::bind(parameters.listen.http).await.map_err(NodeError::Other)?;

        let (closing, stopping) = (CancellationToken::new(), CancellationToken::new());
        let (cause_sender, cause) = mpsc::channel(1);
        let (failure_sender, failure) = watch::channel(None);
        let supervisor = Supervisor { cause: cause_sender, failure: failure_sender, stopping: stopping.clone() };
        let metrics =
            Arc::new(Metrics::new(&committee).map_err(|error| NodeError::Other(format!("metrics: {error}")))?);
        let stages = metrics.stages();

        let (inputs, consensus_inputs) = mpsc::channel(CONSENSUS_QUEUE);
        let (deliveries, execution_deliveries) = mpsc::channel(EXECUTION_QUEUE);
        let (executed, consensus_executed) = mpsc::channel(EXECUTED_QUEUE);

        // Execution recovers first: what it has applied decides what consensus delivers again.
        let receipts = Receipts::default();
        let execution = execution::start(ExecutionSetup {
            store: store.clone(),
            committee: committee.clone(),
            me,
            parameters: parameters.clone(),
            deliveries: execution_deliveries,
            executed,
            receipts: receipts.clone(),
            shutdown: stopping.clone(),
        })
        .await
        .map_err(|error| NodeError::Execution(error.to_string()))?;
        let found = recovery::load(&store, execution.recovered, execution.state_digests.clone()).await?;
        let sealed_from = found.own_batches.first().map_or(found.last_sealed, |batch| batch.sequence);
        let clock = Clock::start();
        let setup = Setup {
            committee: committee.clone(),
            me,
            key: config.key.clone(),
            parameters: parameters.consensus.clone(),
        };
        let (core, effects) = Core::recover(setup, found.recovered, clock.now())?;
        let highest: Vec<Sequence> = committee.authorities().map(|author| core.highest_delivered(author)).collect();
        let next = found.last_sealed.max(highest[me.usize()]).next();

        let (links, inbound) = Links::start(peers, link_config(&config, &committee));
        let quota = parameters.batch.author_quota_bytes;
        let intake = Intake::new(committee.clone(), me, store.clone(), &highest, quota, metrics.clone());
        let server = Server::spawn(&links, &store, &committee);
        let fetcher = Fetcher {
            links: links.clone(),
            committee: committee.clone(),
            consensus: inputs.clone(),
            metrics: metrics.clone(),
        };
        let (payload, payload_task) = PayloadSync::new(PayloadSetup {
            me,
            store: store.clone(),
            links: links.clone(),
            intake: intake.clone(),
            consensus: inputs.clone(),
            grace: parameters.consensus.payload_grace,
            metrics: metrics.clone(),
        });
        let (seal_below_sender, seal_below) = watch::channel(Sequence(0));
        let (maker, maker_task) = Maker::new(MakerSetup {
            max_bytes: parameters.batch.max_bytes as usize,
            max_delay: parameters.batch.max_delay,
            queue_bytes: parameters.client.max_bytes_in_flight as usize,
            next,
            seal_below,
            spreader: Spreader {
                links: links.clone(),
                committee: committee.clone(),
                me,
                consensus: inputs.clone(),
            },
            store: store.clone(),
            receipts: receipts.clone(),
            stages: stages.clone(),
            metrics: metrics.clone(),
            shutdown: closing.clone(),
        });
        let (status_sender, status) = watch::channel(core.status());
        let view = Arc::new(View::new(ViewSetup {
            config: config.clone(),
            store: store.clone(),
            links: links.clone(),
            log: execution.log.clone(),
            status,
            maker: maker.clone(),
            intake: intake.clone(),
            metrics: metrics.clone(),
            failure: failure.clone(),
            closing: closing.clone(),
        }));
        let router = Router {
            committee: committee.clone(),
            consensus: inputs.clone(),
            server: server.clone(),
            payload: payload.clone(),
            intake: intake.clone(),
            metrics: metrics.clone(),
        };
        let consensus = Consensus::run(ConsensusSetup {
            core,
            effects,
            clock,
            rooms: Rooms {
                committee: committee.clone(),
                me,
                store: store.clone(),
                durability: parameters.durability,
                links: links.clone(),
                fetcher,
                payload,
                server,
                intake,
                execution: deliveries,
                seal_below: seal_below_sender,
                stages,
                metrics,
            },
            sealed_from,
            inputs: consensus_inputs,
            executed: consensus_executed,
            status: status_sender,
        });
        supervisor.spawn("consensus", async move {
            match consensus.await {
                Stop::Halt(halt) => Err(NodeError::Halt(halt)),
                Stop::Store(error) => Err(NodeError::Store(error)),
                // The neighbour's own reason is the one to show; it is there first or follows at once.
                Stop::Closed => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    Err(NodeError::Other(Stop::Closed.to_string()))
                }
            }
        });
        inbound.into_iter().for_each(|peer| router.spawn(peer));
        supervisor.spawn("payload", payload_task);
        let drained = stopping.clone();
        supervisor.spawn("batch", async move {
            maker_task.await?;
            // Drained by a clean stop: the room is empty, not broken.
            drained.cancelled().await;
            Ok::<(), StoreError>(())
        });
        let execution_task = execution.task;
        supervisor.spawn("execution", async move {
            match execution_task.await {
                Ok(result) => result.map_err(|error| NodeError::Execution(error.to_string())),
                Err(panic) => Err(NodeError::Execution(panic.to_string())),
            }
        });
        let failed_store = store.clone();
        supervisor.spawn("store", async move { Err::<(), StoreError>(failed_store.failed().await) });
        let http_stop = stopping.clone();
        let operator = view.clone();
        supervisor.spawn("http", async move {
            http::serve(http_listener, operator, http_stop)
                .await
                .map_err(|error| NodeError::Other(format!("operator endpoint: {error}")))
        });
        let clients = clients::spawn(
            clients::ClientsSetup {
                committee: committee.clone(),
                me,
                parameters: parameters.client.clone(),
                maker,
                log: execution.log,
                store: store.clone(),
                receipts,
                status: view.status_source(),
                closing: closing.clone(),
            },
            clients_listener,
            stopping.clone(),
        );
        view.attach_clients(clients);
        info!(
            node = %committee.member(me).name,
            chain = %&committee.chain_id().to_string()[..16],
            peer = %parameters.listen.peer,
            client = %parameters.listen.client,
            http = %parameters.listen.http,
            "ready: all listeners are bound"
        );
        Ok(Node { committee, store, links, failure, cause, closing, stopping, view })
    }
}

fn link_config(config: &NodeConfig, committee: &Committee) -> LinkConfig {
    let peers = committee.authorities().filter(|index| *index != config.me).map(|index| {
        let member = committee.member(index);
        Peer {
            index,
            name: member.name.clone(),
            public_key: member.public_key,
            address: member.address.clone(),
        }
    });
    LinkConfig {
        key: config.key.clone(),
        me: config.me,
        peers: peers.collect(),
        chain_id: committee.chain_id(),
        epoch: committee.epoch(),
        limits: Limits::default(),
    }
}
