//! `rorqual log`: committed transactions in order.

use std::io::Write;

use rorqual_client::LogEntry;
use serde_json::json;

use super::CliError;
use super::link::{Target, block_on, failed, printable};

/// Arguments of `rorqual log`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// The first position to print; without it, where the node's log begins
    #[arg(long, value_name = "POS")]
    from: Option<u64>,
    /// Wait for further transactions until interrupted
    #[arg(long)]
    follow: bool,
    /// One JSON object a line
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// The bytes of the transactions, one after the other, with nothing between
    #[arg(long)]
    raw: bool,
}

/// Prints the log.
///
/// # Errors
/// Where the node cannot be asked, or does not have the position.
pub fn run(args: Args) -> Result<(), CliError> {
    block_on(async {
        let client = args.target.connect().await?;
        let from = match args.from {
            Some(from) => from,
            None => begins(&client.status().await.map_err(failed)?),
        };
        let mut log = client.log(from, args.follow);
        let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
        while let Some(entry) = log.next().await.map_err(failed)? {
            let written = write(&mut out, &entry, &args);
            let flushed = if args.follow { written.and_then(|()| out.flush()) } else { written };
            flushed.map_err(|error| CliError::output(&error))?;
        }
        out.flush().map_err(|error| CliError::output(&error))
    })
}

/// Where the node's log begins; 0 where it does not say.
fn begins(status: &str) -> u64 {
    let status: serde_json::Value = serde_json::from_str(status).unwrap_or_default();
    status["log_begins"].as_u64().unwrap_or(0)
}

fn write(out: &mut impl Write, entry: &LogEntry, args: &Args) -> std::io::Result<()> {
    if args.raw {
        return out.write_all(&entry.bytes);
    }
    let text = printable(&entry.bytes);
    if !args.json {
        return writeln!(out, "{}\t{text}", entry.position);
    }
    let (hex, batch) = (hex::encode(&entry.bytes), entry.batch.to_string());
    writeln!(
        out,
        "{}",
        json!({ "position": entry.position, "commit": entry.commit, "batch": batch, "text": text, "hex": hex })
    )
}
