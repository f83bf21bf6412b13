//! Every line of a file, many in flight, their receipts in the order of the lines.
//!
//! Lines are handed over in order on one connection, so that a healthy node puts them into the log in order. Where the
//! connection breaks or the node has no room, a line is sent again with its own ticket: it is applied once. No line is lost
//! in silence: in the end each one is committed, refused, not sent, or unknown, and said to be so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rorqual_client::submission::{Submission, Ticket};
use rorqual_client::{Client, ClientError, InFlight, Options, Pool, Receipt};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::{Args, Fate, committed};
use crate::cli::CliError;
use crate::cli::error::print;
use crate::cli::link::failed;
use crate::logging::tell;

/// Lines in flight at once.
const IN_FLIGHT: usize = 1_024;

/// Lines without a receipt that are described one by one; the others are counted.
const DESCRIBED: usize = 2 * IN_FLIGHT;

/// The lines of a file without their ends, LF or CRLF; an end of line at the end of the file begins no further line. A CR anywhere
/// else belongs to its line.
pub fn split(content: &[u8]) -> Vec<Bytes> {
    let ended = content.ends_with(b"\n");
    let mut lines: Vec<&[u8]> = content.split(|byte| *byte == b'\n').collect();
    let last = lines.len().saturating_sub(1);
    for (number, line) in lines.iter_mut().enumerate() {
        if number < last || ended {
            *line = line.strip_suffix(b"\r").unwrap_or(line);
        }
    }
    let mut lines: Vec<Bytes> = lines.into_iter().map(Bytes::copy_from_slice).collect();
    if lines.last().is_some_and(Bytes::is_empty) {
        lines.pop();
    }
    lines
}

/// One line on its way.
struct Line {
    number: usize,
    ticket: Ticket,
    submission: Submission,
}

/// Submits every line and prints receipts in the order of the lines.
///
/// # Errors
/// Says of every line without a receipt what is known of it.
pub async fn submit(args: &Args, lines: Vec<Bytes>) -> Result<(), CliError> {
    let pool = Arc::new(Pool::new([args.target.node.clone()], Options::default()).map_err(failed)?);
    let mut client = pool.client().await.map_err(failed)?;
    let until = Instant::now() + args.timeout;
    let mut report = Report::new(args.json, lines.len());
    let mut waiting = VecDeque::new();
    for (number, bytes) in (1..).zip(lines) {
        if waiting.len() == IN_FLIGHT {
            next(&mut waiting, &mut report).await?;
        }
        if client.connection().is_closed()
            && let Ok(Ok(again)) = timeout_at(until, pool.client()).await
        {
            client = again;
        }
        let (line, started) = start(&client, number, bytes, until).await;
        // A task of its own: one that holds the pool's connection while it connects anew must go on whatever is awaited here.
        waiting.push_back(tokio::spawn(settle(line, started, pool.clone(), until)));
    }
    while !waiting.is_empty() {
        next(&mut waiting, &mut report).await?;
    }
    report.end()
}

/// Waits for the fate of the first line that waits, and reports it.
async fn next(waiting: &mut VecDeque<JoinHandle<(Line, Fate)>>, report: &mut Report) -> Result<(), CliError> {
    let Some(task) = waiting.pop_front() else { return Ok(()) };
    let (line, fate) = task.await.map_err(|error| CliError::failed(format!("a line was lost sight of: {error}")))?;
    report.line(&line, &fate)
}

/// Hands a line over, or says why not.
async fn start(client: &Client, number: usize, bytes: Bytes, until: Instant) -> (Line, Result<InFlight, ClientError>) {
    let ticket = client.ticket();
    let line = Line { number, ticket, submission: Submission::one(Some(ticket), bytes) };
    let started = match timeout_at(until, client.start(&line.submission)).await {
        Ok(started) => started,
        Err(_) => Err(ClientError::Local("there was no more time".into())),
    };
    (line, started)
}

/// Waits for the fate of a line.
async fn settle(line: Line, started: Result<InFlight, ClientError>, pool: Arc<Pool>, until: Instant) -> (Line, Fate) {
    let handed_over = started.is_ok();
    let first = match started {
        Ok(in_flight) => match timeout_at(until, in_flight).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Local("no receipt in time".into())),
        },
        Err(error) => Err(error),
    };
    let fate = match first {
        Ok(receipt) => Fate::of(Ok(receipt), false),
        Err(ClientError::Refused(refusal)) if !refusal.is_temporary() => Fate::Refused(refusal.to_string()),
        // Not applied by what was sent: only what comes now can leave it unknown.
        Err(error @ ClientError::Refused(_)) => again(&pool, &line.submission, until, error, false).await,
        Err(error) => again(&pool, &line.submission, until, error, handed_over).await,
    };
    (line, fate)
}

/// Sends a line again while there is time. `unknown`: it may have been applied already.
async fn again(pool: &Pool, submission: &Submission, until: Instant, first: ClientError, unknown: bool) -> Fate {
    let left = until.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true if unknown => Fate::Unknown(first.to_string()),
        true => Fate::NotSent(first.to_string()),
        false => match Fate::of(only_ours(pool.submit(submission, left).await), unknown) {
            // It may have been applied by what was sent first.
            Fate::Refused(reason) if unknown => Fate::Unknown(reason),
            fate => fate,
        },
    }
}

/// Tickets of lines are new: nobody else has sent them.
fn only_ours(result: Result<Receipt, ClientError>) -> Result<Receipt, ClientError> {
    result.map(|receipt| Receipt { repeated: false, ..receipt })
}

/// Prints what became of lines, and counts.
struct Report {
    json: bool,
    total: usize,
    committed: usize,
    failed: usize,
    began: Instant,
    told: Option<Instant>,
}

impl Report {
    fn new(json: bool, total: usize) -> Self {
        Self { json, total, committed: 0, failed: 0, began: Instant::now(), told: None }
    }

    fn line(&mut self, line: &Line, fate: &Fate) -> Result<(), CliError> {
        let Line { number, ticket, .. } = line;
        if self.json {
            let mut object = fate.json(ticket);
            object["line"] = json!(number);
            print(&object.to_string())?;
        }
        if let Fate::Committed(receipt) = fate {
            return self.receipt(receipt);
        }
        self.failed += 1;
        if self.failed <= DESCRIBED
            && let Some(text) = fate.text(ticket, "`rorqual submit --file` on that line, without its end,")
        {
            tell(&format!("line {number}: {text}"));
        }
        Ok(())
    }

    fn receipt(&mut self, receipt: &Receipt) -> Result<(), CliError> {
        self.committed += 1;
        if !self.json {
            print(&committed(receipt))?;
        }
        // A line a second on standard error once it has taken two.
        let due = self.told.map_or(self.began + Duration::from_secs(2), |told| told + Duration::from_secs(1));
        if Instant::now() >= due {
            self.told = Some(Instant::now());
            tell(&format!("{} of {} committed", self.committed, self.total));
        }
        Ok(())
    }

    fn end(&self) -> Result<(), CliError> {
        if self.told.is_some() && self.failed == 0 {
            tell(&format!("{} of {} committed", self.committed, self.total));
        }
        match self.failed {
            0 => Ok(()),
            failed => Err(CliError::failed(format!(
                "{failed} of {} lines have no receipt{}",
                self.total,
                match failed > DESCRIBED && !self.json {
                    true => format!("; the last {} of them are not listed above: use --json", failed - DESCRIBED),
                    false => String::new(),
                }
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_be_empty_but_the_end_of_the_file_is_no_line() {
        let texts = |content: &str| -> Vec<String> {
            split(content.as_bytes()).iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
        };
        assert_eq!(texts("a\n\nb\n"), ["a", "", "b"]);
        assert_eq!(texts("a\nb"), ["a", "b"]);
        assert_eq!(texts("a\r\n\r\nb\rc\r\nd\r"), ["a", "", "b\rc", "d\r"]);
        assert!(texts("").is_empty());
    }
}
