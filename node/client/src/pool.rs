//! Several nodes of one cluster: a submission goes through one of them, and through another one when that does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex as Lock, PoisonError};
use std::time::Duration;

use rorqual_config::ChainId;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::{Client, Options, Receipt};
use crate::error::{ClientError, Unknown};
use crate::frames::Refusal;
use crate::submission::Submission;

/// Pause after the first round in which no node was of use; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(2);

struct Node {
    address: String,
    client: Mutex<Option<Client>>,
}

/// Clients of several nodes, connected when they are needed. All methods take `&self`; many submissions may be under way at once.
///
/// Futures of one pool share its connections: one that connects anew makes the others wait for it. Poll them all, or give each a
/// task of its own; do not leave one unpolled while another is awaited.
pub struct Pool {
    nodes: Vec<Node>,
    options: Options,
    /// The node that served last; it is asked first.
    preferred: AtomicUsize,
    chain: Lock<Option<ChainId>>,
}

/// What is known of a submission after an attempt.
enum Attempt {
    /// The last word.
    Done(Result<Receipt, ClientError>),
    /// Not applied by this attempt; wait so long, then go on.
    Refused(Refusal, Duration),
    /// Not sent.
    NotSent(ClientError),
    /// Perhaps applied.
    Unknown(String),
}

impl Pool {
    /// A pool of nodes by their client addresses `host:port`. Connects to nobody yet.
    ///
    /// # Errors
    /// [`ClientError::Local`] without an address.
    pub fn new(addresses: impl IntoIterator<Item = impl Into<String>>, options: Options) -> Result<Self, ClientError> {
        let node = |address: String| Node { address, client: Mutex::default() };
        let nodes: Vec<Node> = addresses.into_iter().map(Into::into).map(node).collect();
        match nodes.is_empty() {
            true => Err(ClientError::Local("no node address was given".into())),
            false => Ok(Self { nodes, options, preferred: AtomicUsize::new(0), chain: Lock::default() }),
        }
    }

    /// A connected client of the preferred node, or of the next one that can be reached.
    ///
    /// # Errors
    /// Why the last of them could not be reached.
    pub async fn client(&self) -> Result<Client, ClientError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for step in 0..self.nodes.len() {
            let index = (first + step) % self.nodes.len();
            match self.connected(index).await {
                Ok(client) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(client);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Local("no node address was given".into())))
    }

    async fn connected(&self, index: usize) -> Result<Client, ClientError> {
        let node = &self.nodes[index];
        let mut place = node.client.lock().await;
        if let Some(client) = place.as_ref().filter(|client| !client.connection().is_closed()) {
            return Ok(client.clone());
        }
        let client = Client::connect(&node.address, self.options.clone()).await?;
        let found = client.hello().chain_id;
        let expected = *self.chain.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
        if found != expected {
            return Err(ClientError::OtherChain { address: node.address.clone(), found, expected });
        }
        *place = Some(client.clone());
        Ok(client)
    }

    /// Submits transactions and waits up to `timeout` for their receipt, through as many nodes as it takes. The ticket is the same
    /// for all of them, so that they are applied once. Dropping the future leaves the outcome unknown.
    ///
    /// # Errors
    /// As [`Self::submit`], and why no node could be reached at first.
    pub async fn submit_with_retry<'a>(
        &self,
        transactions: impl IntoIterator<Item = &'a [u8]>,
        timeout: Duration,
    ) -> Result<Receipt, ClientError> {
        let until = Instant::now() + timeout;
        let client = match tokio::time::timeout_at(until, self.client()).await {
            Ok(client) => client?,
            Err(_) => return Err(ClientError::Local(format!("no node could be reached within {timeout:?}"))),
        };
        let submission = client.submission(transactions);
        self.submit(&submission, until.saturating_duration_since(Instant::now())).await
    }

    /// The same for a submission that has its ticket, for instance one whose outcome is unknown. Without a ticket it goes to another
    /// node only if it certainly was not handed over before.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if it was not applied and will not be by what was sent here. [`ClientError::OutcomeUnknown`] after
    /// `timeout`, or when all that is left to know is lost. Another error: it was not sent.
    pub async fn submit(&self, submission: &Submission, timeout: Duration) -> Result<Receipt, ClientError> {
        let until = Instant::now() + timeout;
        let mut unknown: Option<String> = None;
        let mut last: Option<ClientError> = None;
        let mut pause = FIRST_PAUSE;
        let mut tried = 0;
        loop {
            let index = self.preferred.load(Ordering::Relaxed) % self.nodes.len();
            let mut rest = Duration::ZERO;
            match self.attempt(index, submission, until).await {
                Attempt::Done(Ok(receipt)) => return Ok(receipt),
                // What is refused now may have been applied before.
                Attempt::Done(Err(error)) => match unknown {
                    Some(_) => return Err(self.unknown(submission, error.to_string())),
                    None => return Err(error),
                },
                Attempt::Refused(refusal, advice) => (last, rest) = (Some(refusal.into()), advice),
                Attempt::NotSent(error) => last = Some(error),
                Attempt::Unknown(reason) => unknown = Some(reason),
            }
            if unknown.is_some() && submission.ticket.is_none() {
                return Err(self.unknown(submission, unknown.unwrap_or_default()));
            }
            self.prefer_next(index);
            tried += 1;
            if tried % self.nodes.len() == 0 {
                rest = rest.max(pause);
                pause = (2 * pause).min(LAST_PAUSE);
            } else if self.nodes.len() > 1 {
                // Another node may have room at once.
                rest = Duration::ZERO;
            }
            if Instant::now() + rest >= until {
                return Err(match (unknown, last) {
                    (Some(reason), _) => self.unknown(submission, reason),
                    (None, Some(error)) => error,
                    (None, None) => ClientError::Local("no time was given".into()),
                });
            }
            tokio::time::sleep(rest).await;
        }
    }

    async fn attempt(&self, index: usize, submission: &Submission, until: Instant) -> Attempt {
        let until = until.min(Instant::now() + self.options.attempt_timeout);
        let address = &self.nodes[index].address;
        let late = || format!("no receipt from {address} in time");
        let client = match tokio::time::timeout_at(until, self.connected(index)).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Attempt::NotSent(error),
            Err(_) => return Attempt::NotSent(ClientError::Unreachable { address: address.clone(), reason: late() }),
        };
        let in_flight = match tokio::time::timeout_at(until, client.start(submission)).await {
            Ok(Ok(in_flight)) => in_flight,
            Ok(Err(error @ ClientError::Refused(_))) => return Attempt::Done(Err(error)),
            Ok(Err(error)) => return Attempt::NotSent(error),
            Err(_) => return Attempt::NotSent(Refusal::Overloaded { retry_after_ms: 0 }.into()),
        };
        match tokio::time::timeout_at(until, in_flight).await {
            Ok(Ok(receipt)) => Attempt::Done(Ok(receipt)),
            Ok(Err(ClientError::Refused(refusal))) if refusal.is_temporary() => {
                let advice = match refusal {
                    Refusal::Overloaded { retry_after_ms } => Duration::from_millis(retry_after_ms).min(LAST_PAUSE),
                    _ => Duration::ZERO,
                };
                Attempt::Refused(refusal, advice)
            }
            Ok(Err(error @ ClientError::Refused(_))) => Attempt::Done(Err(error)),
            Ok(Err(error)) => Attempt::Unknown(error.to_string()),
            Err(_) => Attempt::Unknown(late()),
        }
    }

    fn prefer_next(&self, index: usize) {
        let next = (index + 1) % self.nodes.len();
        // Another submission may have moved on already.
        let _ = self.preferred.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn unknown(&self, submission: &Submission, reason: String) -> ClientError {
        let chain = *self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        let id = chain.and_then(|chain| submission.id(chain));
        ClientError::OutcomeUnknown(Box::new(Unknown { id, ticket: submission.ticket, reason }))
    }
}
