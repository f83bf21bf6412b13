//! `rorqual backup`: a copy of a node's data, of one moment, while it runs or while it does not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rorqual_config::NodeConfig;
use rorqual_store::StoreError;
use serde_json::{Value, json};

use super::CliError;
use super::config::Source;
use super::error::print;
use super::link::block_on;
use crate::backup;
use crate::disk;
use crate::schema::{self, DirectoryError};

/// A copy on the same filesystem is hard links; on another one it is the data.
const PATIENCE: Duration = Duration::from_secs(3_600);

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
        Err(Offline::Running) => online(config.parameters.listen.http, &output).map(|()| "by the running node"),
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
        let made = backup::make(&store, output, &backup::name_of(config)).await.map_err(CliError::failed);
        let closed = store.shutdown().await.map_err(super::verify_store::failed);
        made.and(closed)
    };
    block_on(copy).map_err(Offline::Failed)
}

/// Asks the running node, on its operator endpoint.
fn online(address: SocketAddr, output: &Path) -> Result<(), CliError> {
    let body = json!({ "output": output.display().to_string() }).to_string();
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        write!(
            stream,
            "POST /backup HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| {
        CliError::failed(format!("the node runs, but its operator endpoint {address} cannot be asked: {error}"))
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let facts: Value = serde_json::from_str(body).unwrap_or_default();
    let reason = facts["error"].as_str().unwrap_or(body.trim());
    Err(CliError::failed(format!("the node made no backup: {reason}")))
}
