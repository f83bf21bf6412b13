//! `rorqual backup`: a copy of a node's data, of one moment, while it runs or while it does not.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rorqual_config::NodeConfig;
use rorqual_config::encoding::decode;
use rorqual_store::StoreError;
use rorqual_store::offline::{Lock, View};
use serde_json::{Value, json};

use super::CliError;
use super::config::Source;
use super::error::print;
use crate::logging::tell;
use crate::schema::{self, Identity, Meta};
use crate::{backup, control, disk};

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

/// Only reads the data directory: what a start would recover is in the copy as it is here.
fn offline(config: &NodeConfig, output: &Path) -> Result<(), Offline> {
    let failed = |error| Offline::Failed(super::verify_store::failed(error));
    let lock = match Lock::take(&config.data_dir) {
        Ok(lock) => lock,
        Err(StoreError::Locked { .. }) => return Err(Offline::Running),
        Err(error) => return Err(failed(error)),
    };
    whose(config).map_err(Offline::Failed)?;
    let made = backup::copy_stopped(&config.data_dir, output, &backup::name_of(config));
    drop(lock);
    made.map(drop).map_err(|error| Offline::Failed(CliError::failed(error)))
}

/// Refuses data of another member or chain.
fn whose(config: &NodeConfig) -> Result<(), CliError> {
    let failed = super::verify_store::failed;
    schema::check_format(&config.data_dir).map_err(|error| CliError::usage(error.to_string()))?;
    let view = View::open(&config.data_dir, &schema::options(&config.parameters.store, false)).map_err(failed)?;
    let identity = view.read(schema::META, Meta::IDENTITY).map_err(failed)?;
    let identity = identity.and_then(|bytes| decode::<Identity>(&bytes).ok());
    match identity {
        Some(found) if (found.chain_id, found.me) == (config.committee.chain_id(), config.me) => Ok(()),
        Some(found) => Err(CliError::usage(format!(
            "data directory {} belongs to member {} of chain {}, but this node is member {} of chain {}",
            config.data_dir.display(),
            found.me,
            found.chain_id,
            config.me,
            config.committee.chain_id()
        ))),
        None => Err(CliError::usage(format!("{} has no record of whose it is", config.data_dir.display()))),
    }
}

/// Asks the running node, on its control socket, and passes on how far it is.
fn online(data_dir: &Path, output: &Path) -> Result<(), CliError> {
    let cannot = |error: std::io::Error| {
        let reason = match error.kind() {
            ErrorKind::PermissionDenied => "run the command as the user that runs the node, or as root".to_owned(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!(
                    "it has said nothing for {} s: it hangs, or is stopped; the copy may still be made later",
                    SILENCE.as_secs()
                )
            }
            ErrorKind::NotFound => "there is no such socket yet, or its filesystem knows none".to_owned(),
            _ => error.to_string(),
        };
        let socket = data_dir.join(control::FILE);
        CliError::failed(format!(
            "the node runs, but its control socket {} cannot be asked: {reason}",
            socket.display()
        ))
    };
    let address = control::Address::of(data_dir).map_err(cannot)?;
    let mut stream = UnixStream::connect(&address.path).map_err(cannot)?;
    stream.set_read_timeout(Some(SILENCE)).map_err(cannot)?;
    writeln!(stream, "{}", json!({ "backup": output.display().to_string() })).map_err(cannot)?;
    let lines = BufReader::new(stream).lines();
    for line in lines {
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
