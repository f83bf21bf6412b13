//! `rorqual log`: committed transactions in order.

mod printer;
mod source;

use std::io::Write;

use rorqual_client::LogEntry;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use self::printer::{PAGE_BYTES, Page, Printer};
use self::source::Source;
use super::CliError;
use super::link::{Target, block_on, failed, printable};
use crate::logging;

/// Arguments of `rorqual log`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// The first position to print; without it, where the node's log begins
    #[arg(long, value_name = "POS")]
    from: Option<u64>,
    /// Wait for further transactions, and for a node that restarts, until interrupted; then say at which position to go on
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
/// Where the node cannot be asked, or does not have the position; with the position at which it ended.
pub fn run(args: Args) -> Result<(), CliError> {
    block_on(async {
        let client = args.target.connect().await?;
        let from = match args.from {
            Some(from) => from,
            None => begins(&client.status().await.map_err(failed)?),
        };
        let mut source = Source::new(args.target.clone(), client, from, args.follow);
        let printer = Printer::start(std::io::stdout(), from);
        let outcome = if args.follow {
            tokio::select! {
                outcome = copy(&mut source, &printer, &args) => outcome,
                stopped = stopped() => {
                    stopped?;
                    // Whoever reads may not read any more: what is printed now counts.
                    let next = printer.next_position();
                    logging::tell(&format!("rorqual: stopped at position {next}: go on with --from {next}"));
                    return Ok(());
                }
            }
        } else {
            copy(&mut source, &printer, &args).await
        };
        let next = printer.next_position();
        // A reader that has gone is the first reason.
        printer.finish().await.map_err(|error| CliError::output(&error))?;
        outcome.map_err(|error| match next > from {
            true => CliError { message: format!("{error}; the log was printed up to position {next}"), ..error },
            false => error,
        })
    })
}

/// Copies the log until it ends, or until nobody reads.
async fn copy(source: &mut Source, printer: &Printer, args: &Args) -> Result<(), CliError> {
    let mut page = Page::default();
    let outcome = loop {
        let entry = match source.next().await {
            Ok(Some(entry)) => entry,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        write(&mut page.bytes, &entry, args).map_err(|error| CliError::output(&error))?;
        page.ends.push((page.bytes.len(), entry.position.saturating_add(1)));
        let full = page.bytes.len() >= PAGE_BYTES || (args.follow && !source.has_next());
        if full && !printer.print(std::mem::take(&mut page)).await {
            return Ok(());
        }
    };
    // The reader's absence is told by the printer.
    let _ = printer.print(page).await;
    outcome
}

/// Resolves when the user or the system asks to stop.
async fn stopped() -> Result<(), CliError> {
    let listen = |kind| signal(kind).map_err(|error| CliError::failed(format!("cannot listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
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
