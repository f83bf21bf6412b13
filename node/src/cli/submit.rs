//! `rorqual submit`: hand in transactions and wait for their receipts.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rorqual_client::submission::{Submission, Ticket};
use rorqual_client::{Client, ClientError, InFlight, Options, Pool, Receipt};
use serde_json::json;

use super::CliError;
use super::error::print;
use super::link::{Target, block_on, failed};

/// Lines in flight at once.
const IN_FLIGHT: usize = 1_024;

/// Arguments of `rorqual submit`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// One transaction: this text
    #[arg(long, value_name = "TEXT", group = "what")]
    text: Option<String>,
    /// One transaction: the bytes of this file
    #[arg(long, value_name = "FILE", group = "what")]
    file: Option<PathBuf>,
    /// Every line of this file, a transaction each
    #[arg(long, value_name = "FILE", group = "what", conflicts_with_all = ["nonce", "deadline"])]
    lines: Option<PathBuf>,
    /// How long to wait for the receipts
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "30s")]
    timeout: Duration,
    /// Send what was sent before again: its nonce, 32 hex digits
    #[arg(long, value_name = "HEX", requires = "deadline")]
    nonce: Option<String>,
    /// Send what was sent before again: its deadline, in milliseconds of commit time
    #[arg(long, value_name = "MS", requires = "nonce")]
    deadline: Option<u64>,
    /// Print JSON, one object a transaction
    #[arg(long)]
    json: bool,
}

/// Submits and prints a line for every receipt.
///
/// # Errors
/// Refused, unreachable, or not answered in time; what is unknown is called so.
pub fn run(args: Args) -> Result<(), CliError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| CliError::usage(format!("cannot read {}: {error}", path.display())))
    };
    if let Some(path) = &args.lines {
        let content = read(path)?;
        let mut lines: Vec<Bytes> = content.split(|byte| *byte == b'\n').map(Bytes::copy_from_slice).collect();
        if lines.last().is_some_and(Bytes::is_empty) {
            lines.pop();
        }
        return block_on(many(&args, lines));
    }
    let transaction = match (&args.text, &args.file) {
        (Some(text), _) => Bytes::from(text.clone().into_bytes()),
        (None, Some(path)) => read(path)?.into(),
        (None, None) => return Err(CliError::usage("nothing to submit: give --text, --file or --lines".into())),
    };
    block_on(one(&args, transaction))
}

fn ticket(args: &Args) -> Result<Option<Ticket>, CliError> {
    let (Some(text), Some(deadline_ms)) = (&args.nonce, args.deadline) else { return Ok(None) };
    let mut nonce = [0; 16];
    hex::decode_to_slice(text, &mut nonce)
        .map_err(|_| CliError::usage(format!("--nonce `{text}` is not 32 hex digits as `submit` printed them")))?;
    Ok(Some(Ticket { nonce, deadline_ms }))
}

async fn one(args: &Args, transaction: Bytes) -> Result<(), CliError> {
    let pool = Pool::new([args.target.node.clone()], Options::default()).map_err(failed)?;
    let client = pool.client().await.map_err(failed)?;
    let ticket = ticket(args)?.unwrap_or_else(|| client.ticket());
    let submission = Submission::one(Some(ticket), transaction);
    match tokio::time::timeout(args.timeout, pool.submit(&submission, args.timeout)).await {
        Ok(Ok(receipt)) => print(&describe(&receipt, args.json, None)),
        Ok(Err(ClientError::Refused(refusal))) => Err(CliError::failed(format!("refused: {refusal}"))),
        Ok(Err(error)) => Err(unknown(&ticket, &error.to_string())),
        Err(_) => Err(unknown(&ticket, &format!("no receipt within {}", humantime::format_duration(args.timeout)))),
    }
}

fn unknown(ticket: &Ticket, reason: &str) -> CliError {
    let (nonce, deadline) = (hex::encode(ticket.nonce), ticket.deadline_ms);
    let until = humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + Duration::from_millis(deadline));
    CliError::failed(format!(
        "outcome unknown until {until} (commit time): {reason}; to send the same again, through any node: the same command with `--nonce {nonce} --deadline {deadline}`"
    ))
}

fn describe(receipt: &Receipt, json: bool, line: Option<usize>) -> String {
    let placed = receipt.placed;
    let batch = placed.batch.to_string();
    if json {
        let (commit, position, repeated) = (placed.commit, placed.first_position, receipt.repeated);
        return match line {
            Some(line) => {
                json!({ "line": line, "commit": commit, "position": position, "batch": batch, "repeated": repeated })
            }
            None => json!({ "commit": commit, "position": position, "batch": batch, "repeated": repeated }),
        }
        .to_string();
    }
    let again = if receipt.repeated { " (already)" } else { "" };
    format!("committed{again}: commit {}, position {}, batch {batch}", placed.commit, placed.first_position)
}

/// Submits every line, many in flight; prints receipts in the order of the lines.
async fn many(args: &Args, lines: Vec<Bytes>) -> Result<(), CliError> {
    let client = args.target.connect().await?;
    let deadline = tokio::time::Instant::now() + args.timeout;
    let mut progress = Progress::new(lines.len());
    let mut waiting = VecDeque::new();
    for (number, line) in lines.iter().enumerate() {
        if waiting.len() == IN_FLIGHT {
            settle(&mut waiting, args, deadline, &mut progress).await?;
        }
        let submission = Submission::one(Some(client.ticket()), line.clone());
        let started = tokio::time::timeout_at(deadline, start(&client, &submission));
        let in_flight = started.await.map_err(|_| late(number + 1, lines.len()))?.map_err(failed)?;
        waiting.push_back((number + 1, in_flight));
    }
    while !waiting.is_empty() {
        settle(&mut waiting, args, deadline, &mut progress).await?;
    }
    progress.end();
    Ok(())
}

async fn start(client: &Client, submission: &Submission) -> Result<InFlight, ClientError> {
    client.start(submission).await
}

async fn settle(
    waiting: &mut VecDeque<(usize, InFlight)>,
    args: &Args,
    deadline: tokio::time::Instant,
    progress: &mut Progress,
) -> Result<(), CliError> {
    let Some((number, in_flight)) = waiting.pop_front() else { return Ok(()) };
    match tokio::time::timeout_at(deadline, in_flight).await {
        Ok(Ok(receipt)) => {
            progress.step();
            print(&describe(&receipt, args.json, Some(number)))
        }
        Ok(Err(error)) => Err(CliError::failed(format!("line {number}: {error}"))),
        Err(_) => Err(late(number, progress.total)),
    }
}

fn late(line: usize, total: usize) -> CliError {
    CliError::failed(format!(
        "no receipt for line {line} of {total} in time; the outcome of it and of later lines is unknown"
    ))
}

/// A line a second on standard error once it has taken two.
struct Progress {
    total: usize,
    done: usize,
    began: Instant,
    told: Option<Instant>,
}

impl Progress {
    fn new(total: usize) -> Self {
        Self { total, done: 0, began: Instant::now(), told: None }
    }

    fn step(&mut self) {
        self.done += 1;
        let due = self.told.map_or(self.began + Duration::from_secs(2), |told| told + Duration::from_secs(1));
        if Instant::now() >= due {
            self.told = Some(Instant::now());
            eprintln!("{} of {} committed", self.done, self.total);
        }
    }

    fn end(&self) {
        if self.told.is_some() {
            eprintln!("{} of {} committed", self.done, self.total);
        }
    }
}
