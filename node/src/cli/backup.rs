//! `rorqual backup`: a copy of a node's data, of one moment, while it runs or while it does not.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rorqual_config::NodeConfig;
use rorqual_store::StoreError;
use serde_json::{Value, json};

use super::CliError;
use super::config::Source;
use super::error::print;
use super::link::block_on;
use crate::logging::tell;
use crate::{backup, control, disk};
use crate::schema::{self, DirectoryError};

/// A node that copies says so each second.
const SILENCE: Duration = Duration::from_secs(15);

/// Arguments of `rorqual backup`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Where the copy goes: a directory that does not exist yet. A running node makes it itself, on its machine
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

/// Copies and prints where to.
///
/// # Errors
/// Exit code 1 where the copy cannot be made; 2 where there is no data directory, or of another chain or format.
pub fn run(args: Args) -> Result<(), CliError> {
    let config = args.source.load()??;
    let output = std::path::absolute(&args.output).map_err(|error| CliError::usage(error.to_string()))?;
    let how = match offline(&config, &output) {
        Err(Offline::Running) => online(&config.data_dir, &output).map(|()| "by the running node"),
        Err(Offline::Failed(error)) => Err(error),
        Ok(()) => Ok("of the stopped node"),
    }?;
    let bytes = disk::used(&output).map_err(|error| CliError::failed(format!("{}: {error}", output.display())))?;
    let path = output.display().to_string();
    match args.source.json {
        true => print(&json!({ "backup": path, "bytes": bytes, "made": how }).to_string()),
        false => print(&format!("{path}: {bytes} bytes, made {how}; whoever starts from it must not sign")),
    }
}

enum Offline {
    /// A process has the directory open.
    Running,
    Failed(CliError),
}

fn offline(config: &NodeConfig, output: &Path) -> Result<(), Offline> {
    let (chain_id, me) = (config.committee.chain_id(), config.me);
    let store = match schema::open_data_dir(&config.data_dir, &config.parameters.store, chain_id, me) {
        Ok(store) => store,
        Err(DirectoryError::Store(StoreError::Locked { .. })) => return Err(Offline::Running),
        Err(DirectoryError::Store(error)) => return Err(Offline::Failed(super::verify_store::failed(error))),
        Err(error) => return Err(Offline::Failed(CliError::usage(error.to_string()))),
    };
    let copy = async {
        let made = backup::make(&store, &config.data_dir, output, &backup::name_of(config)).await.map_err(CliError::failed);
        let closed = store.shutdown().await.map_err(super::verify_store::failed);
        made.and(closed)
    };
    block_on(copy).map_err(Offline::Failed)
}

/// Asks the running node, on its control socket, and passes on how far it is.
fn online(data_dir: &Path, output: &Path) -> Result<(), CliError> {
    let cannot = |error: std::io::Error| {
        let reason = match error.kind() {
            ErrorKind::PermissionDenied => "run the command as the user that runs the node, or as root".to_owned(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!("it has said nothing for {} s: it hangs, or is stopped; the copy may still be made later", SILENCE.as_secs())
            }
            ErrorKind::NotFound => "there is no such socket yet, or its filesystem knows none".to_owned(),
            _ => error.to_string(),
        };
        let socket = data_dir.join(control::FILE);
        CliError::failed(format!("the node runs, but its control socket {} cannot be asked: {reason}", socket.display()))
    };
    let address = control::Address::of(data_dir).map_err(cannot)?;
    let mut stream = UnixStream::connect(&address.path).map_err(cannot)?;
    stream.set_read_timeout(Some(SILENCE)).map_err(cannot)?;
    writeln!(stream, "{}", json!({ "backup": output.display().to_string() })).map_err(cannot)?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next() {
        let facts: Value = serde_json::from_str(&line.map_err(cannot)?).unwrap_or_default();
        if facts["backup"].is_string() {
            return Ok(());
        }
        if let Some(reason) = facts["error"].as_str() {
            return Err(CliError::failed(format!("the node made no backup: {reason}")));
        }
        if let Some(progress) = facts["progress"].as_str() {
            tell(&format!("copying: {progress}"));
        }
    }
    Err(CliError::failed("the node has ended while it made the backup: ask again when it runs".into()))
}
