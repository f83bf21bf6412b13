//! `rorqual read`: stored payload by batch id or by log position; with `--wait` it is `notify_read` for people.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use rorqual_client::content::Content;
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
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// The stored bytes and nothing else: of a transaction, or of a batch with its tables
    #[arg(long)]
    raw: bool,
}

/// Reads and prints: a transaction as text (hex if not printable), of a batch every transaction on a line of its own.
///
/// # Errors
/// What is not there is named as such.
pub fn run(args: Args) -> Result<(), CliError> {
    let what = match args.what.parse() {
        Ok(position) => ReadKey::Position(position),
        Err(_) => ReadKey::Batch(args.what.parse().map_err(CliError::usage)?),
    };
    let value = block_on(async { args.target.connect().await?.read(what, args.wait).await.map_err(failed) })?;
    let bytes = match (value, args.json, args.raw) {
        (Value::Transaction { bytes, .. } | Value::Batch(bytes), _, true) => bytes.to_vec(),
        (Value::Transaction { bytes, .. }, false, false) => line(&printable(&bytes)),
        (Value::Transaction { position, commit, batch, bytes }, true, _) => {
            let (text, hex, batch) = (printable(&bytes), hex::encode(&bytes), batch.to_string());
            let facts = json!({ "position": position, "commit": commit, "batch": batch, "text": text, "hex": hex });
            line(&facts.to_string())
        }
        (Value::Batch(content), false, false) => {
            transactions(&args.what, content)?.iter().flat_map(|bytes| line(&printable(bytes))).collect()
        }
        (Value::Batch(content), true, _) => {
            let count = Content::parse(content.clone()).map(|content| content.transactions());
            let facts = json!({
                "batch": args.what, "bytes": content.len(), "transactions": count, "hex": hex::encode(&content),
            });
            line(&facts.to_string())
        }
    };
    let mut out = std::io::stdout().lock();
    let written = out.write_all(&bytes).and_then(|()| out.flush());
    written.map_err(|error| CliError::output(&error))
}

/// The transactions of a batch, whether or not they were applied.
fn transactions(name: &str, content: Bytes) -> Result<Vec<Bytes>, CliError> {
    let Some(content) = Content::parse(content) else {
        let text =
            format!("batch {name} is stored, but no list of transactions: its author is faulty; see it with --raw");
        return Err(CliError::failed(text));
    };
    Ok((0..content.transactions()).map(|number| content.transaction(number)).collect())
}

fn line(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\n"].concat()
}
