//! One connection to one node, without policy: submissions go out with the caller's tags, receipts come in with them. Nothing is
//! repeated, reordered or remembered.
//!
//! Two tasks a connection: the reader calls [`Events`], the writer writes everything that waits with one system call. A
//! submission costs one encoded header; its transactions are not copied. Meant for load generators and as the ground
//! [`crate::Client`] stands on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use rorqual_network::frame::{FrameError, FrameReader, write_frame};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::CommitClock;
use crate::error::ClientError;
use crate::frames::{
    ClientHello, Greeting, Hello, HelloError, MAX_HELLO_BYTES, MAX_RESPONSE_BYTES, PING_INTERVAL, Purpose, Receipts,
    Refusal, Request, Response, SILENCE,
};
use crate::outbound::Outbound;
use crate::submission::Submission;

/// Most credit in bytes that a client believes to have at once, whatever the node says.
const MAX_CREDIT: u64 = 1 << 30;

/// What happens on a connection. Called by its reader task, in order: do not block, and leave long work to others.
pub trait Events: Send + 'static {
    /// Receipts for the tags of submissions.
    fn receipts(&mut self, receipts: &Receipts);

    /// The answer to a question.
    fn answer(&mut self, response: Response, tail: Bytes) {
        let _ = (response, tail);
    }

    /// The connection is gone, and nothing else comes. Submissions without a receipt: outcome unknown. Called once.
    fn closed(&mut self, reason: ClientError);
}

/// Why a submission was not handed over: it was not sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotSent {
    /// The node would refuse it.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// As many bytes as the node allows are in flight. Wait for receipts, or use [`Connection::submit`], which does.
    #[error("no credit: as many bytes as the node allows are in flight")]
    NoCredit,
    /// The connection is gone.
    #[error(transparent)]
    Closed(ClientError),
}

impl From<NotSent> for ClientError {
    fn from(error: NotSent) -> Self {
        match error {
            NotSent::Refused(refusal) => Self::Refused(refusal),
            NotSent::NoCredit => Self::Refused(Refusal::Overloaded { retry_after_ms: 0 }),
            NotSent::Closed(reason) => reason,
        }
    }
}

struct Shared {
    address: String,
    hello: Hello,
    outbound: Outbound,
    /// Weight that may still be sent.
    credit: Semaphore,
    /// Weight granted since the start.
    granted: AtomicU64,
    clock: CommitClock,
    closed: CancellationToken,
    reason: OnceLock<ClientError>,
}

/// A handle on one connection. Cheap to clone; when the last clone is dropped, what was handed over is written and the
/// connection closes.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
    _open: Arc<DropGuard>,
}

/// Credit for one submission; comes back if it is dropped.
pub(crate) struct Admitted<'a>(SemaphorePermit<'a>);

impl Connection {
    /// Connects to the client address `host:port` of a node and exchanges hellos, which together take at most `timeout`.
    /// Dropping the future closes the connection.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::NotANode`] or [`ClientError::Turned`].
    pub async fn open(address: &str, timeout: Duration, events: impl Events) -> Result<Self, ClientError> {
        Self::open_for(Purpose::All, address, timeout, events).await
    }

    /// The same with a purpose; with [`Purpose::Status`] there is no credit, and the node closes after a few seconds.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_for(
        purpose: Purpose,
        address: &str,
        timeout: Duration,
        events: impl Events,
    ) -> Result<Self, ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable { address: address.to_owned(), reason };
        let opened = tokio::time::timeout(timeout, greet(address, purpose)).await;
        let (reader, writer, hello) = opened.map_err(|_| unreachable(format!("no answer within {timeout:?}")))??;
        let closed = CancellationToken::new();
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            outbound: Outbound::default(),
            credit: Semaphore::new(0),
            granted: AtomicU64::new(0),
            clock: CommitClock::new(hello.commit_time_ms),
            closed: closed.clone(),
            reason: OnceLock::new(),
            hello,
        });
        shared.grant(shared.hello.credit_bytes);
        tokio::spawn(shared.clone().read(reader, events));
        let writing = shared.clone();
        tokio::spawn(async move {
            if let Err(error) = writing.outbound.write(writer, writing.closed.clone()).await {
                writing.close(error.to_string());
            }
        });
        Ok(Self { shared, _open: Arc::new(closed.drop_guard()) })
    }

    /// Where it leads.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// What the node said of itself.
    pub fn hello(&self) -> &Hello {
        &self.shared.hello
    }

    /// Commit time now, about, in milliseconds since the Unix epoch; deadlines are counted from here.
    pub fn commit_time_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }

    /// Weight that could be sent now, in bytes.
    pub fn credit_bytes(&self) -> u64 {
        self.shared.credit.available_permits() as u64
    }

    /// Hands over a submission if there is credit for it now. Its receipt comes to [`Events::receipts`] with this tag, which may
    /// happen before this call returns.
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn try_submit(&self, tag: u64, submission: &Submission) -> Result<(), NotSent> {
        let weight = self.weigh(submission)?;
        match self.shared.credit.try_acquire_many(weight) {
            Ok(permit) => {
                self.hand_over(Admitted(permit), tag, submission);
                Ok(())
            }
            Err(tokio::sync::TryAcquireError::NoPermits) => Err(NotSent::NoCredit),
            Err(tokio::sync::TryAcquireError::Closed) => Err(NotSent::Closed(self.closing())),
        }
    }

    /// Hands over a submission as soon as there is credit for it; those who wait are served in order. Resolves when it is handed
    /// over, not when it has its receipt. Dropping the future before that hands over nothing.
    ///
    /// # Errors
    /// [`NotSent`], but not for lack of credit.
    pub async fn submit(&self, tag: u64, submission: &Submission) -> Result<(), NotSent> {
        let admitted = self.admit(submission).await?;
        self.hand_over(admitted, tag, submission);
        Ok(())
    }

    /// Waits for credit.
    pub(crate) async fn admit(&self, submission: &Submission) -> Result<Admitted<'_>, NotSent> {
        let weight = self.weigh(submission)?;
        let permit = self.shared.credit.acquire_many(weight).await.map_err(|_| NotSent::Closed(self.closing()))?;
        Ok(Admitted(permit))
    }

    pub(crate) fn hand_over(&self, admitted: Admitted<'_>, tag: u64, submission: &Submission) {
        admitted.0.forget();
        self.shared.outbound.push(Request::submit(tag, submission));
    }

    /// Sends anything but a submission; the answer comes to [`Events::answer`]. At most
    /// [`MAX_QUESTIONS`](crate::frames::MAX_QUESTIONS) at once. Lost if the connection is gone.
    pub fn ask(&self, request: &Request) {
        self.shared.outbound.push(request.frame());
    }

    /// Resolves when the connection is gone.
    pub async fn closed(&self) -> ClientError {
        self.shared.closed.cancelled().await;
        self.closing()
    }

    /// Whether it is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    fn weigh(&self, submission: &Submission) -> Result<u32, NotSent> {
        let weight = self.shared.hello.check(submission)?;
        u32::try_from(weight).map_err(|_| NotSent::Refused(Refusal::TooLarge { limit: u64::from(u32::MAX) }))
    }

    fn closing(&self) -> ClientError {
        self.shared.reason()
    }
}

impl Shared {
    fn disconnected(&self, reason: String) -> ClientError {
        ClientError::Disconnected { address: self.address.clone(), reason }
    }

    fn reason(&self) -> ClientError {
        self.reason.get().cloned().unwrap_or_else(|| self.disconnected("closed by this side".into()))
    }

    /// The first reason counts.
    fn close(&self, reason: String) {
        let _ = self.reason.set(self.disconnected(reason));
        self.credit.close();
        self.closed.cancel();
    }

    /// Takes in that the node allows `credit_bytes` since the start. Called by one task.
    fn grant(&self, credit_bytes: u64) {
        let granted = self.granted.load(Ordering::Relaxed);
        let room = MAX_CREDIT.saturating_sub(self.credit.available_permits() as u64);
        let more = credit_bytes.saturating_sub(granted).min(room);
        self.granted.store(granted + more, Ordering::Relaxed);
        self.credit.add_permits(more as usize);
    }

    async fn read(self: Arc<Self>, reader: FrameReader<OwnedReadHalf>, mut events: impl Events) {
        let reason = self.read_until_closed(reader, &mut events).await;
        self.close(reason);
        events.closed(self.reason());
    }

    async fn read_until_closed(&self, mut reader: FrameReader<OwnedReadHalf>, events: &mut impl Events) -> String {
        let mut tick = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        let (mut received, mut heard) = (0, Instant::now());
        let mut closed = std::pin::pin!(self.closed.cancelled());
        loop {
            let frame = tokio::select! {
                () = &mut closed => return "closed by this side".into(),
                frame = reader.next() => frame,
                _ = tick.tick() => {
                    if reader.received() != received {
                        (received, heard) = (reader.received(), Instant::now());
                    } else if heard.elapsed() > SILENCE {
                        return format!("nothing heard for {} s", SILENCE.as_secs());
                    }
                    self.outbound.push(Request::Ping.frame());
                    continue;
                }
            };
            match frame.map(|frame| Response::parse(&frame)) {
                Ok(Ok((Response::Receipts(receipts), _))) => {
                    self.clock.hear(receipts.commit_time_ms);
                    self.grant(receipts.credit_bytes);
                    events.receipts(&receipts);
                }
                Ok(Ok((Response::Credit { commit_time_ms, credit_bytes }, _))) => {
                    self.clock.hear(commit_time_ms);
                    self.grant(credit_bytes);
                }
                Ok(Ok((Response::Closing { reason }, _))) => return format!("the node says: {reason}"),
                Ok(Ok((response, tail))) => events.answer(response, tail),
                Ok(Err(_)) => return "the node sent what is no answer of the client protocol of rorqual".into(),
                Err(error) => return error.to_string(),
            }
        }
    }
}

/// Connects and exchanges hellos.
async fn greet(
    address: &str,
    purpose: Purpose,
) -> Result<(FrameReader<OwnedReadHalf>, tokio::net::tcp::OwnedWriteHalf, Hello), ClientError> {
    let unreachable =
        |error: std::io::Error| ClientError::Unreachable { address: address.to_owned(), reason: error.to_string() };
    let not_a_node = |error| ClientError::NotANode { address: address.to_owned(), error };
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = FrameReader::new(reader, MAX_HELLO_BYTES);
    write_frame(&mut writer, ClientHello::frame_for(purpose)).await.map_err(unreachable)?;
    let frame = match reader.next().await {
        Ok(frame) => frame,
        Err(FrameError::Io(error)) => return Err(unreachable(error)),
        Err(FrameError::Closed | FrameError::Truncated) => {
            let reason = "the other side closed before it said who it is".to_owned();
            return Err(ClientError::Unreachable { address: address.to_owned(), reason });
        }
        Err(FrameError::Oversized { .. }) => return Err(not_a_node(HelloError::Foreign)),
    };
    match Greeting::parse(&frame).map_err(not_a_node)? {
        Greeting::Welcome(hello) => {
            reader.set_limit(MAX_RESPONSE_BYTES, false);
            Ok((reader, writer, hello))
        }
        Greeting::Turned(why) => Err(ClientError::Turned { address: address.to_owned(), why }),
    }
}
