//! `rorqual run`: one node in the foreground.

use std::path::PathBuf;
use std::time::Duration;

use rorqual_config::NodeConfig;
use rorqual_config::load::{environment, load_node};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use super::config::flags;
use super::service_manager::ServiceManager;
use super::{CliError, limits};
use crate::files::raise_limit;
use crate::logging::{Log, LogError};
use crate::node::{Node, NodeError};
use crate::private::keep_to_ourselves;

/// How long tasks may take to end once the node has stopped.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// Arguments of `rorqual run`.
#[derive(clap::Args)]
pub struct Args {
    /// The node's configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Set one value of node.toml, for example `--set batch.max_delay=5ms`; wins over file and environment
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs until a signal or a fault.
///
/// # Errors
/// The reason the node stopped, with the exit code that belongs to it.
pub fn run(args: Args) -> Result<(), CliError> {
    let config = load_node(&args.config, &flags(&args.set)?, &environment())?;
    let store = &config.parameters.store;
    let caches =
        store.block_cache_bytes.saturating_add(store.write_buffer_bytes).saturating_add(store.payload_cache_bytes);
    limits::check(store.reader_threads, caches)?;
    let log = Log::start(&config.parameters.log).map_err(|error| match error {
        LogError::Filter { .. } => CliError::usage(error.to_string()),
        LogError::Failed(_) => CliError::failed(error.to_string()),
    })?;
    raise_limit();
    keep_to_ourselves();
    let result = run_to_the_end(config);
    // The last line is a line of the log: in its format, and as little waited for.
    let told = result.map_err(|error| {
        log.reason(error.code, &error.message);
        CliError { message: String::new(), ..error }
    });
    log.finish();
    told
}

fn run_to_the_end(config: NodeConfig) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .build()
        .map_err(|error| CliError::failed(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(serve(config));
    // What has not ended by itself may wait for a disk that never answers.
    runtime.shutdown_timeout(LAST_TASKS);
    result
}

/// From the data directory to the end.
async fn serve(config: NodeConfig) -> Result<(), CliError> {
    // First of all: a signal that comes while the node starts must not cut it off.
    let mut signals = Signals::new()?;
    let starting = async {
        // Opening the store blocks, and can take long after a crash.
        let opened = tokio::task::spawn_blocking(|| Node::open(config)).await;
        let opened = opened.map_err(|panic| NodeError::Other(format!("opening the data directory: {panic}")))??;
        opened.start().await
    };
    let mut starting = std::pin::pin!(starting);
    let mut stopping = false;
    let mut node = loop {
        tokio::select! {
            node = &mut starting => break node.map_err(into_cli)?,
            name = signals.next() => match stopping {
                true => return Err(second_signal("start")),
                false => info!("{name}: stopping as soon as the node has started"),
            },
        }
        stopping = true;
    };
    let result = work(&mut node, &mut signals, stopping).await;
    if result.is_err() {
        node.close().await;
    }
    result
}

/// Runs a node that has started until a signal, and drains it. `stopping`: the signal came before.
async fn work(node: &mut Node, signals: &mut Signals, stopping: bool) -> Result<(), CliError> {
    let manager = ServiceManager::of_environment();
    if !stopping {
        manager.ready();
        tokio::select! {
            reason = node.failed() => return Err(into_cli(reason)),
            name = signals.next() => info!("{name}: draining"),
        }
    }
    manager.stopping();
    tokio::select! {
        result = node.shutdown() => result.map_err(into_cli),
        _ = signals.next() => Err(second_signal("drain")),
    }
}

fn second_signal(what: &str) -> CliError {
    CliError::failed(format!(
        "a second signal ended the {what}: nothing with a receipt is lost, but own payload that waited is proposed only after \
         the next start"
    ))
}

/// SIGTERM, SIGINT and SIGHUP mean the same: a terminal that is closed must not cut a node off. Nothing is read again on SIGHUP.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, CliError> {
        let listen =
            |kind| signal(kind).map_err(|error| CliError::failed(format!("cannot listen for signals: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}

fn into_cli(error: NodeError) -> CliError {
    match error.is_usage() {
        true => CliError::usage(error.to_string()),
        false => CliError::failed(error.to_string()),
    }
}
