//! One connection to one node, with futures.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::connection::Connection;
use crate::error::ClientError;
use crate::frames::{Hello, MAX_QUESTIONS, MAX_WAIT, NotHere, Outcome, Placed, Purpose, ReadKey, Request, Response};
use crate::log::LogStream;
use crate::submission::{Submission, SubmissionId, Ticket};
use crate::table::Table;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether submissions that the client puts together get a ticket, and are therefore applied at most once however often they
    /// are sent. Without, what is sent twice is applied twice.
    pub ids: bool,
    /// Distance between commit time and the deadline of a ticket; none: half of what the rules allow. The longer, the later an
    /// unknown outcome is certain; at most nine tenths of what the rules allow, since the node can only estimate commit time.
    pub lifetime: Option<Duration>,
    /// For connecting and saying hello.
    pub connect_timeout: Duration,
    /// How long [`crate::Pool`] waits for one node's receipt before it goes to the next one.
    pub attempt_timeout: Duration,
    /// What for. With [`Purpose::Status`] only [`Client::status`] works, for a few seconds.
    pub purpose: Purpose,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ids: true,
            lifetime: None,
            connect_timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(5),
            purpose: Purpose::All,
        }
    }
}

/// The word of one node: this submission is in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Receipt {
    /// Where it is.
    pub placed: Placed,
    /// Whether it had been applied before: this was a copy or a retry.
    pub repeated: bool,
}

impl TryFrom<Outcome> for Receipt {
    type Error = ClientError;
    fn try_from(outcome: Outcome) -> Result<Self, ClientError> {
        match outcome {
            Outcome::Committed(placed) => Ok(Self { placed, repeated: false }),
            Outcome::Already(placed) => Ok(Self { placed, repeated: true }),
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }
}

/// What a node knows of a submission id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// It was applied.
    Applied(Placed),
    /// It is not among the ids alive at this commit time (milliseconds since the Unix epoch). If its deadline is later, it has not
    /// been applied up to then, but may be yet; if its deadline is earlier, it will not be applied any more, and whether it was
    /// cannot be said.
    NotFound {
        /// Commit time of the answer.
        as_of_ms: u64,
    },
}

/// A transaction or the content of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// Read by position.
    Transaction {
        /// Where it stands.
        position: u64,
        /// The commit that applied it.
        commit: u64,
        /// The batch that brought it.
        batch: crate::BatchId,
        /// The transaction.
        bytes: Bytes,
    },
    /// Read by batch id; see [`crate::content`].
    Batch(Bytes),
}

struct Inner {
    connection: Connection,
    table: Table,
    options: Options,
    tags: AtomicU64,
    nonce: u128,
    questions: Arc<Semaphore>,
}

/// A connection with many submissions and questions in flight. Cheap to clone; all clones share the connection, which closes
/// when the last one is dropped. A client does not reconnect: see [`crate::Pool`].
#[derive(Clone)]
pub struct Client(Arc<Inner>);

/// A submission that was handed over: resolves with its receipt. Dropping it loses the receipt, not the submission: then the
/// outcome is unknown, unless one asks for its id.
#[must_use = "the receipt is lost if nobody waits for it"]
pub struct InFlight {
    receipt: oneshot::Receiver<Result<Outcome, ClientError>>,
    client: Arc<Inner>,
}

impl Future for InFlight {
    type Output = Result<Receipt, ClientError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = std::task::ready!(Pin::new(&mut self.receipt).poll(context));
        Poll::Ready(match outcome {
            Ok(outcome) => outcome.and_then(Receipt::try_from),
            Err(_) => Err(self.client.gone()),
        })
    }
}

impl Inner {
    fn gone(&self) -> ClientError {
        let address = self.connection.address().to_owned();
        ClientError::Disconnected { address, reason: "its reader has ended".into() }
    }

    fn nonsense<T>(&self) -> Result<T, ClientError> {
        Err(ClientError::Nonsense { address: self.connection.address().to_owned() })
    }
}

impl Client {
    /// Connects to the client address `host:port` of a node.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub async fn connect(address: &str, options: Options) -> Result<Self, ClientError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| ClientError::Local(format!("no random numbers: {error}")))?;
        let table = Table::default();
        let connection = Connection::open_for(options.purpose, address, options.connect_timeout, table.clone()).await?;
        let questions = Arc::new(Semaphore::new(MAX_QUESTIONS));
        let nonce = u128::from_le_bytes(nonce);
        Ok(Self(Arc::new(Inner { connection, table, options, tags: AtomicU64::new(0), nonce, questions })))
    }

    /// What the node said of itself.
    pub fn hello(&self) -> &Hello {
        self.0.connection.hello()
    }

    /// The connection below.
    pub fn connection(&self) -> &Connection {
        &self.0.connection
    }

    fn tag(&self) -> u64 {
        self.0.tags.fetch_add(1, Ordering::Relaxed)
    }

    /// A new ticket: a nonce that no other ticket has, and a deadline counted from commit time as the node tells it.
    pub fn ticket(&self) -> Ticket {
        // One random start and a counter: as distinct as fresh random numbers, without a system call each.
        let nonce = self.0.nonce.wrapping_add(u128::from(self.tag())).to_le_bytes();
        let longest = self.hello().max_lifetime_ms;
        let asked = self.0.options.lifetime.map(|lifetime| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX));
        // A deadline beyond the longest lifetime is refused, and the commit may be a little earlier than the node expects.
        let lifetime = asked.unwrap_or(longest / 2).min(longest - longest / 10);
        Ticket { nonce, deadline_ms: self.0.connection.commit_time_ms().saturating_add(lifetime).max(1) }
    }

    /// Puts a submission together, with a ticket unless the options say otherwise. Transactions are copied together.
    pub fn submission<'a>(&self, transactions: impl IntoIterator<Item = &'a [u8]>) -> Submission {
        Submission::many(self.0.options.ids.then(|| self.ticket()), transactions)
    }

    /// Hands a submission over as soon as there is credit for it: waiting here is backpressure. Resolves with a future for the
    /// receipt, of which there may be thousands; none has a task of its own. Dropping the outer future hands over nothing.
    ///
    /// # Errors
    /// [`ClientError::Refused`] without asking the node where it would refuse for size or form, and
    /// [`ClientError::Disconnected`]. It was not sent.
    pub async fn start(&self, submission: &Submission) -> Result<InFlight, ClientError> {
        let admitted = self.0.connection.admit(submission).await?;
        let tag = self.tag();
        let receipt = self.0.table.submission(tag)?;
        self.0.connection.hand_over(admitted, tag, submission);
        Ok(InFlight { receipt, client: self.0.clone() })
    }

    /// [`Self::start`], and waits for the receipt. Dropping the future leaves the outcome unknown.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where a receipt says so. [`ClientError::Disconnected`]: if it had been handed over, the outcome is
    /// unknown; with a ticket, [`Self::lookup`] finds out, and sending it again is harmless.
    pub async fn submit(&self, submission: &Submission) -> Result<Receipt, ClientError> {
        self.start(submission).await?.await
    }

    async fn ask(&self, request: impl FnOnce(u64) -> Request) -> Result<(Response, Bytes), ClientError> {
        let permit = self.0.questions.clone().acquire_owned().await.map_err(|_| self.0.gone())?;
        let tag = self.tag();
        let answer = self.0.table.question(tag, permit)?;
        self.0.connection.ask(&request(tag));
        match answer.await {
            Ok(Ok((Response::NotHere { reason, .. }, _))) => Err(reason.into()),
            Ok(answer) => answer,
            Err(_) => Err(self.0.gone()),
        }
    }

    /// What became of a submission id. Dropping the future is harmless.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`], and [`ClientError::NotHere`] where the node is overloaded with questions.
    pub async fn lookup(&self, id: SubmissionId) -> Result<Lookup, ClientError> {
        match self.ask(|tag| Request::Lookup { tag, id }).await? {
            (Response::Located { placed: Some(placed), .. }, _) => Ok(Lookup::Applied(placed)),
            (Response::Located { placed: None, as_of_ms, .. }, _) => Ok(Lookup::NotFound { as_of_ms }),
            _ => self.0.nonsense(),
        }
    }

    /// Stored payload. If it is not there yet, waits up to `wait` for it. Dropping the future is harmless.
    ///
    /// # Errors
    /// [`ClientError::NotHere`] with the reason, [`ClientError::Disconnected`].
    pub async fn read(&self, what: ReadKey, wait: Duration) -> Result<Value, ClientError> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait_ms = left.min(MAX_WAIT).as_millis() as u64;
            match self.ask(|tag| Request::Read { tag, what, wait_ms }).await {
                Ok((Response::Transaction { position, commit, batch, .. }, bytes)) => {
                    return Ok(Value::Transaction { position, commit, batch, bytes });
                }
                Ok((Response::Batch { .. }, bytes)) => return Ok(Value::Batch(bytes)),
                Ok(_) => return self.0.nonsense(),
                Err(ClientError::NotHere(NotHere::NotYet { .. } | NotHere::NoBatch { .. })) if left > MAX_WAIT => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The log from a position on: to where it ends now, or, with `follow`, for ever.
    pub fn log(&self, from: u64, follow: bool) -> LogStream {
        LogStream::new(self.clone(), from, follow)
    }

    pub(crate) async fn log_chunk(&self, from: u64, wait: Duration) -> Result<(Response, Bytes), ClientError> {
        let wait_ms = wait.min(MAX_WAIT).as_millis() as u64;
        self.ask(|tag| Request::Log { tag, from, max_count: u32::MAX, wait_ms }).await
    }

    pub(crate) fn nonsense<T>(&self) -> Result<T, ClientError> {
        self.0.nonsense()
    }

    /// What the node is doing: a JSON object. Dropping the future is harmless.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`].
    pub async fn status(&self) -> Result<String, ClientError> {
        let (Response::Status { .. }, json) = self.ask(|tag| Request::Status { tag }).await? else {
            return self.0.nonsense();
        };
        String::from_utf8(json.into()).or_else(|_| self.0.nonsense())
    }

    /// The first certificate that covers a commit, encoded, and the commit it certifies. Not verified here. Dropping the future is
    /// harmless.
    ///
    /// # Errors
    /// [`ClientError::NotHere`] where there is none yet, [`ClientError::Disconnected`].
    pub async fn certificate(&self, commit: u64) -> Result<(u64, Bytes), ClientError> {
        match self.ask(|tag| Request::Certificate { tag, commit }).await? {
            (Response::Certificate { commit, .. }, bytes) => Ok((commit, bytes)),
            _ => self.0.nonsense(),
        }
    }
}
