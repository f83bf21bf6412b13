//! `rorqual run`: one node in the foreground.

use std::path::PathBuf;
use std::time::Duration;

use rorqual_config::NodeConfig;
use rorqual_config::load::{environment, load_node};
use rorqual_config::parameters::{LogFormat, LogParameters};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use super::CliError;
use super::config::flags;
use super::service_manager::ServiceManager;
use crate::files::raise_limit;
use crate::node::{Node, NodeError};

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
    start_log(&config.parameters.log)?;
    raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
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

/// SIGTERM and SIGINT mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, CliError> {
        let listen =
            |kind| signal(kind).map_err(|error| CliError::failed(format!("cannot listen for signals: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
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
        LogFormat::Text => {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            subscriber.with_ansi(is_coloured(terminal, std::env::var_os("NO_COLOR"))).try_init()
        }
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| CliError::failed(format!("cannot start the log: {error}")))
}

/// Colours are for terminals, and for nobody who has set NO_COLOR to anything.
fn is_coloured(terminal: bool, no_color: Option<std::ffi::OsString>) -> bool {
    terminal && no_color.is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::is_coloured;

    #[test]
    fn no_color_is_honoured() {
        assert!(is_coloured(true, None) && is_coloured(true, Some("".into())));
        assert!(!is_coloured(true, Some("1".into())) && !is_coloured(false, None));
    }
}
