//! `rorqual submit`: hand in transactions and wait for their receipts.

mod lines;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rorqual_client::submission::{Submission, Ticket};
use rorqual_client::{ClientError, Options, Pool, Receipt, Refusal};
use serde_json::{Value, json};

use super::CliError;
use super::error::print;
use super::link::{Target, block_on, failed};

/// Arguments of `rorqual submit`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// One transaction: this text; one that begins with a dash is given as `--text=-TEXT`
    #[arg(long, value_name = "TEXT", group = "what")]
    text: Option<String>,
    /// One transaction: the bytes of this file
    #[arg(long, value_name = "FILE", group = "what")]
    file: Option<PathBuf>,
    /// Every line of this file, a transaction each, without its end (LF or CRLF)
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
    if let Some(path) = &args.lines {
        return block_on(lines::submit(&args, lines::split(&read(path)?)));
    }
    let transaction = match (&args.text, &args.file) {
        (Some(text), _) => Bytes::from(text.clone().into_bytes()),
        (None, Some(path)) => read(path)?.into(),
        (None, None) => return Err(CliError::usage("nothing to submit: give --text, --file or --lines".into())),
    };
    block_on(one(&args, transaction))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    if path == Path::new("-") {
        let text = "`-` is not standard input here: write /dev/stdin, or ./- for a file of that name";
        return Err(CliError::usage(text.into()));
    }
    std::fs::read(path).map_err(|error| CliError::usage(format!("cannot read {}: {error}", path.display())))
}

fn ticket(args: &Args) -> Result<Option<Ticket>, CliError> {
    let (Some(text), Some(deadline_ms)) = (&args.nonce, args.deadline) else { return Ok(None) };
    let mut nonce = [0; 16];
    hex::decode_to_slice(text, &mut nonce)
        .map_err(|_| CliError::usage(format!("--nonce `{text}` is not 32 hex digits as `submit` printed them")))?;
    if deadline_ms == 0 {
        return Err(CliError::usage("--deadline 0: give the milliseconds that `submit` printed".into()));
    }
    Ok(Some(Ticket { nonce, deadline_ms }))
}

async fn one(args: &Args, transaction: Bytes) -> Result<(), CliError> {
    let given = ticket(args)?;
    let pool = Pool::new([args.target.node.clone()], Options::default()).map_err(failed)?;
    let ticket = match given {
        Some(ticket) => ticket,
        None => pool.client().await.map_err(failed)?.ticket(),
    };
    let submission = Submission::one(Some(ticket), transaction);
    let fate = Fate::of(pool.submit(&submission, args.timeout).await, given.is_some());
    if args.json {
        print(&fate.json(&ticket).to_string())?;
    } else if let Fate::Committed(receipt) = &fate {
        print(&committed(receipt))?;
    }
    match fate.text(&ticket, "the same command") {
        None => Ok(()),
        Some(text) => Err(CliError::failed(text)),
    }
}

/// What is known of a submission in the end.
enum Fate {
    /// In the log, by the word of one node.
    Committed(Receipt),
    /// Not applied by what was sent here, and will not be.
    Refused(String),
    /// Nothing was handed over.
    NotSent(String),
    /// In the log, or not, or later.
    Unknown(String),
}

impl Fate {
    /// `repeated`: it had been sent before this process sent it.
    fn of(result: Result<Receipt, ClientError>, repeated: bool) -> Self {
        match result {
            // What only this process sent was applied by what it sent: that it sent it twice is nobody's concern.
            Ok(receipt) => Self::Committed(Receipt { repeated: receipt.repeated && repeated, ..receipt }),
            Err(ClientError::Refused(Refusal::Expired)) if repeated => Self::Refused(
                "its deadline has passed, so that it cannot be applied any more; whether it was before, the log tells \
                 (`rorqual log`)"
                    .into(),
            ),
            Err(ClientError::Refused(refusal)) => Self::Refused(refusal.to_string()),
            Err(ClientError::OutcomeUnknown(unknown)) => Self::Unknown(unknown.reason),
            // What was sent before may still be applied.
            Err(error) if repeated => Self::Unknown(error.to_string()),
            Err(error) => Self::NotSent(error.to_string()),
        }
    }

    fn json(&self, ticket: &Ticket) -> Value {
        match self {
            Self::Committed(Receipt { placed, repeated }) => json!({
                "outcome": "committed", "commit": placed.commit, "position": placed.first_position,
                "batch": placed.batch.to_string(), "repeated": repeated,
            }),
            Self::Refused(reason) => json!({ "outcome": "refused", "reason": reason }),
            Self::NotSent(reason) => json!({ "outcome": "not sent", "reason": reason }),
            Self::Unknown(reason) => json!({
                "outcome": "unknown", "reason": reason, "until": until(ticket), "nonce": hex::encode(ticket.nonce),
                "deadline": ticket.deadline_ms,
            }),
        }
    }

    /// The sentence for a person where there is no receipt. `command` is what sends it again when options are added.
    fn text(&self, ticket: &Ticket, command: &str) -> Option<String> {
        match self {
            Self::Committed(_) => None,
            Self::Refused(reason) => Some(format!("refused: {reason}")),
            Self::NotSent(reason) => Some(format!("not submitted: {reason}")),
            Self::Unknown(reason) => Some(format!(
                "outcome unknown until {} (commit time): {reason}; to send the same again, through any node: {command} with \
                 `--nonce {} --deadline {}`",
                until(ticket),
                hex::encode(ticket.nonce),
                ticket.deadline_ms
            )),
        }
    }
}

fn committed(receipt: &Receipt) -> String {
    let (placed, again) = (receipt.placed, if receipt.repeated { " (already)" } else { "" });
    format!("committed{again}: commit {}, position {}, batch {}", placed.commit, placed.first_position, placed.batch)
}

/// The deadline for people. One that no calendar has stays a number.
fn until(ticket: &Ticket) -> String {
    const YEAR_9999: u64 = 253_402_300_799_000;
    match ticket.deadline_ms {
        deadline if deadline <= YEAR_9999 => {
            humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + Duration::from_millis(deadline)).to_string()
        }
        deadline => format!("{deadline} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rorqual_client::Unknown;

    fn unreachable() -> ClientError {
        ClientError::Unreachable { address: "x:1".into(), reason: "refused".into() }
    }

    #[test]
    fn what_was_not_sent_is_told_from_what_may_have_been_applied() {
        let ticket = Ticket { nonce: [7; 16], deadline_ms: 1_000 };
        let text = |result, repeated| Fate::of(result, repeated).text(&ticket, "the same command").unwrap();
        assert!(text(Err(unreachable()), false).starts_with("not submitted: cannot connect to x:1"));
        assert!(text(Err(unreachable()), true).starts_with("outcome unknown until 1970-01-01T00:00:01.000Z"));
        let unknown = Unknown { id: None, ticket: Some(ticket), reason: "late".into() };
        let text = text(Err(ClientError::OutcomeUnknown(Box::new(unknown))), false);
        let again = format!("the same command with `--nonce {} --deadline 1000`", "07".repeat(16));
        assert!(text.contains("late") && text.ends_with(&again), "{text}");
    }

    #[test]
    fn a_deadline_beyond_every_calendar_does_not_panic() {
        for deadline_ms in [1, 253_402_300_799_000, 253_402_300_799_001, u64::MAX] {
            let ticket = Ticket { nonce: [0; 16], deadline_ms };
            assert!(!until(&ticket).is_empty());
        }
    }

    #[test]
    fn what_this_process_sent_twice_itself_is_simply_committed() {
        let batch = rorqual_client::BatchId {
            author: rorqual_config::AuthorityIndex(0),
            sequence: 1,
            digest: rorqual_config::Digest::default(),
        };
        let placed = rorqual_client::Placed { commit: 1, first_position: 2, batch };
        let said = |given| match Fate::of(Ok(Receipt { placed, repeated: true }), given) {
            Fate::Committed(receipt) => committed(&receipt),
            _ => String::new(),
        };
        assert!(said(false).starts_with("committed: "), "{}", said(false));
        assert!(said(true).starts_with("committed (already): "), "{}", said(true));
    }

    #[test]
    fn a_late_repetition_says_where_to_look() {
        let fate = Fate::of(Err(ClientError::Refused(Refusal::Expired)), true);
        let text = fate.text(&Ticket { nonce: [0; 16], deadline_ms: 1 }, "").unwrap();
        assert!(text.contains("cannot be applied any more") && text.contains("rorqual log"), "{text}");
    }
}
