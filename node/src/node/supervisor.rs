//! Who watches the rooms.
//!
//! Promises: a room that ends by itself, or a panic anywhere in the process, ends the node with its reason; the first reason is the
//! one that is told.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rorqual_store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::error::NodeError;
use crate::clock;
use crate::consensus::driver::{Consensus, ConsensusSetup};
use crate::consensus::effects::Stop;
use crate::control::Control;
use crate::disk::Monitor;
use crate::execution::ExecutionError;
use crate::http;
use crate::panics::Panics;
use crate::view::View;

/// Spawns rooms; the first one that ends by itself ends the node, and so does the first panic of the process, whoever spawned the
/// task in which it happened.
#[derive(Clone)]
pub(super) struct Supervisor {
    cause: mpsc::Sender<NodeError>,
    failure: watch::Sender<Option<String>>,
    pub(super) stopping: CancellationToken,
}

impl Supervisor {
    pub(super) fn new() -> (Self, mpsc::Receiver<NodeError>, watch::Receiver<Option<String>>) {
        let (cause, causes) = mpsc::channel(1);
        let (failure, failures) = watch::channel(None);
        let this = Self { cause, failure, stopping: CancellationToken::new() };
        let (watching, mut panics) = (this.clone(), Panics::watch());
        tokio::spawn(async move { watching.ends("panics", NodeError::Other(panics.next().await)) });
        (this, causes, failures)
    }

    pub(super) fn spawn<E: Into<NodeError>>(
        &self,
        name: &'static str,
        room: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let this = self.clone();
        let task = tokio::spawn(async move { room.await.map_err(Into::into) });
        tokio::spawn(async move {
            let outcome: Result<Result<(), NodeError>, _> = task.await;
            let cause = match outcome {
                Ok(Ok(())) => NodeError::Other(format!("{name} ended without a reason")),
                Ok(Err(cause)) => cause,
                // Told with its place by the one who watches for panics.
                Err(_) => return,
            };
            if !this.stopping.is_cancelled() {
                this.ends(name, cause);
            }
        });
    }

    fn ends(&self, name: &'static str, cause: NodeError) {
        error!(room = name, %cause, "stopping");
        self.failure.send_replace(Some(cause.to_string()));
        // One reason is enough; later ones follow from it.
        let _ = self.cause.try_send(cause);
    }

    pub(super) fn consensus(&self, setup: ConsensusSetup) {
        self.spawn("consensus", async move {
            match Consensus::run(setup).await {
                Stop::Halt(halt) => Err(NodeError::Halt(halt)),
                Stop::Store(error) => Err(NodeError::Store(error)),
                Stop::Safety(reason) => Err(NodeError::Other(reason)),
                Stop::Closed => {
                    // The neighbour's own reason is the one to show; it is there already or follows at once.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    Err(NodeError::Other(Stop::Closed.to_string()))
                }
            }
        });
    }

    pub(super) fn maker(&self, task: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        let stopping = self.stopping.clone();
        self.spawn("batch", async move {
            task.await?;
            // Drained by a clean stop: the room is empty, not broken.
            stopping.cancelled().await;
            Ok::<(), StoreError>(())
        });
    }

    pub(super) fn execution(&self, task: JoinHandle<Result<(), ExecutionError>>) {
        self.spawn("execution", async move {
            match task.await {
                Ok(result) => result.map_err(|error| NodeError::Execution(error.to_string())),
                Err(panic) => Err(NodeError::Execution(panic.to_string())),
            }
        });
    }

    pub(super) fn disk(&self, monitor: Monitor) {
        let stopping = self.stopping.clone();
        self.spawn("disk", async move { monitor.run(stopping).await.map_err(NodeError::Other) });
    }

    pub(super) fn clock(&self, monitor: clock::Monitor) {
        let stopping = self.stopping.clone();
        self.spawn("clock", async move {
            monitor.run(stopping).await;
            Ok::<(), NodeError>(())
        });
    }

    pub(super) fn store(&self, store: Store) {
        self.spawn("store", async move { Err::<(), StoreError>(store.failed().await) });
    }

    pub(super) fn control(&self, control: Control) {
        let stopping = self.stopping.clone();
        self.spawn("control", async move {
            control.serve(stopping).await;
            Ok::<(), NodeError>(())
        });
    }

    pub(super) fn http(&self, listener: TcpListener, operator: Arc<View>, names: Vec<String>) {
        let stopping = self.stopping.clone();
        self.spawn("http", async move {
            let served = http::serve(listener, operator, &names, stopping).await;
            served.map_err(|error| NodeError::Other(format!("operator endpoint: {error}")))
        });
    }
}
