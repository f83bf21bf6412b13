//! `rorqual run`: one node in the foreground.

use std::path::PathBuf;

use rorqual_config::load::{environment, load_node};
use rorqual_config::parameters::{LogFormat, LogParameters};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use super::CliError;
use super::config::flags;
use super::service_manager::ServiceManager;
use crate::node::{Node, NodeError};

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
    start_log(&config.parameters.log)?;
    // Opening the store blocks; it happens before there is a runtime.
    let opened = Node::open(config).map_err(into_cli)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        let mut node = opened.start().await.map_err(into_cli)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| CliError::failed(error.to_string()))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| CliError::failed(error.to_string()))?;
        let manager = ServiceManager::of_environment();
        manager.ready();
        tokio::select! {
            reason = node.failed() => {
                node.release().await;
                return Err(into_cli(reason));
            }
            _ = terminate.recv() => info!("SIGTERM: draining"),
            _ = interrupt.recv() => info!("SIGINT: draining"),
        }
        manager.stopping();
        tokio::select! {
            result = node.shutdown() => result.map_err(into_cli),
            _ = terminate.recv() => Err(CliError::failed("a second signal ended the drain".into())),
            _ = interrupt.recv() => Err(CliError::failed("a second signal ended the drain".into())),
        }
    })
}

fn into_cli(error: NodeError) -> CliError {
    match error.is_usage() {
        true => CliError::usage(error.to_string()),
        false => CliError::failed(error.to_string()),
    }
}

fn start_log(log: &LogParameters) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| CliError::usage(format!("log.filter `{}` is not a filter: {error}", log.filter)))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let result = match log.format {
        LogFormat::Text => subscriber.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| CliError::failed(format!("cannot start the log: {error}")))
}
