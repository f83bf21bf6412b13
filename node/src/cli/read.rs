//! `rorqual read`: stored payload by batch id or by log position; with `--wait` it is `notify_read` for people.

use std::io::Write;
use std::time::Duration;

use rorqual_client::{ReadKey, Value};
use serde_json::json;

use super::CliError;
use super::link::{Target, block_on, failed, printable};

/// Arguments of `rorqual read`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// AUTHOR/SEQUENCE/DIGEST as receipts print it, or a position of the log
    #[arg(value_name = "BATCH|POSITION")]
    what: String,
    /// Wait so long for it if it is not there yet
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "0s")]
    wait: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reads and prints: a transaction as text (hex if not printable), a batch as its raw bytes.
///
/// # Errors
/// What is not there is named as such.
pub fn run(args: Args) -> Result<(), CliError> {
    let what = match args.what.parse() {
        Ok(position) => ReadKey::Position(position),
        Err(_) => ReadKey::Batch(args.what.parse().map_err(CliError::usage)?),
    };
    let value = block_on(async { args.target.connect().await?.read(what, args.wait).await.map_err(failed) })?;
    let bytes = match (value, args.json) {
        (Value::Transaction { bytes, .. }, false) => [printable(&bytes).as_bytes(), b"\n"].concat(),
        (Value::Batch(content), false) => content.to_vec(),
        (Value::Transaction { position, commit, batch, bytes }, true) => {
            let (text, hex, batch) = (printable(&bytes), hex::encode(&bytes), batch.to_string());
            line(&json!({ "position": position, "commit": commit, "batch": batch, "text": text, "hex": hex }))
        }
        (Value::Batch(content), true) => {
            line(&json!({ "batch": args.what, "bytes": content.len(), "hex": hex::encode(&content) }))
        }
    };
    let mut out = std::io::stdout().lock();
    let written = out.write_all(&bytes).and_then(|()| out.flush());
    written.map_err(|error| CliError::failed(format!("cannot print: {error}")))
}

fn line(facts: &serde_json::Value) -> Vec<u8> {
    format!("{facts}\n").into_bytes()
}
