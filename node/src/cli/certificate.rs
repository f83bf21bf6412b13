//! `rorqual certificate`: the first commit certificate that covers a commit.

use std::io::Write;
use std::path::PathBuf;

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
    let (commit, bytes) =
        block_on(async { args.target.connect().await?.certificate(args.index).await.map_err(failed) })?;
    let name = args.output.display();
    let file = std::fs::File::create_new(&args.output);
    let written = file.and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| CliError::failed(format!("cannot write {name}: {error}")))?;
    match args.json {
        true => print(&json!({ "commit": commit, "bytes": bytes.len(), "file": name.to_string() }).to_string()),
        false => print(&format!(
            "{name}: certificate of commit {commit}, {} bytes; check it with `rorqual verify --committee FILE {name}`",
            bytes.len()
        )),
    }
}
