//! `rorqual certificate`: the first commit certificate that covers a commit.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::CliError;
use super::error::print;
use super::link::{Target, block_on, failed};

/// Arguments of `rorqual certificate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Index of the commit
    #[arg(value_name = "INDEX")]
    index: u64,
    /// Where to write it; an existing file is not overwritten
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Fetches and writes it, unverified: `rorqual verify` checks it.
///
/// # Errors
/// Where there is none yet, or the file cannot be written.
pub fn run(args: Args) -> Result<(), CliError> {
    // Before anybody is asked: the answer would have nowhere to go.
    if args.output.symlink_metadata().is_ok() {
        let name = args.output.display();
        return Err(CliError::usage(format!("{name} exists already and is not overwritten: choose another --output")));
    }
    let (commit, bytes) =
        block_on(async { args.target.connect().await?.certificate(args.index).await.map_err(failed) })?;
    let name = args.output.display();
    write(&args.output, &bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::StorageFull => CliError::failed(format!("cannot write {name}: {error}")),
        _ => CliError::usage(format!("cannot write {name}: {error}: choose another --output")),
    })?;
    match args.json {
        true => print(&json!({ "commit": commit, "bytes": bytes.len(), "file": name.to_string() }).to_string()),
        false => print(&format!(
            "{name}: certificate of commit {commit}, {} bytes; check it with `rorqual verify --committee FILE {name}`",
            bytes.len()
        )),
    }
}

/// Writes a new file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create_new(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // The file is ours, and half of a certificate is none.
        let _ = std::fs::remove_file(path);
    }
    written
}
