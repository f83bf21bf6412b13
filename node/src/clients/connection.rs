//! One connection: hello, then requests until one side has enough.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rorqual_client::Refusal;
use rorqual_client::frames::{
    ClientHello, Greeting, Hello, HelloError, MAX_HELLO_BYTES, MAX_QUESTIONS, NotHere, Purpose, Request, Response,
    SILENCE, Turned, weight,
};
use rorqual_client::submission::Submission;
use rorqual_network::frame::{FrameError, FrameReader, write_frame};
use rorqual_network::half_open::HalfOpen;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Sink;
use super::gate::Gate;
use super::outbox::Outbox;
use super::places::Place;
use super::questions::{AnswerRoom, Questions};
use super::receipts::ReceiptSlot;
use crate::batch::{Busy, Pending};

/// From the connection to the client's hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stopping node waits for receipts that execution may still send.
const GRACE: Duration = Duration::from_millis(250);
/// How long the last words of a connection may take to arrive.
const LINGER: Duration = Duration::from_millis(500);
/// A client sends a ping every few seconds: where no request is complete for so long, one is made to take for ever.
const FRAME_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection that only asks for the status may stay.
const STATUS_TIME: Duration = Duration::from_secs(5);
/// How often silence is looked for.
const TICK: Duration = Duration::from_secs(5);

/// What all connections share.
#[derive(Clone)]
pub struct Room {
    /// Limits and counters.
    pub gate: Arc<Gate>,
    /// Takes submissions.
    pub sink: Arc<dyn Sink>,
    /// Answers everything else.
    pub questions: Questions,
    /// Connections without a hello.
    pub half_open: Arc<HalfOpen>,
    /// Connections that only ask for the status.
    pub status_places: Arc<HalfOpen>,
    /// Cancelled: refuse submissions.
    pub closing: CancellationToken,
    /// Cancelled: close.
    pub stopping: CancellationToken,
}

/// Why a connection ends.
enum End {
    /// The client has gone, or the stream failed.
    Gone(String),
    /// The client broke a rule.
    Broke(String),
    /// The node stops.
    Stopping,
}

/// One connection that has said hello.
struct Connection {
    room: Room,
    outbox: Arc<Outbox>,
    asked: Arc<Semaphore>,
    /// Refusals of questions that are not written yet.
    refused: Arc<Semaphore>,
    purpose: Purpose,
    answers: AnswerRoom,
    tasks: JoinSet<()>,
}

/// A client that said hello and was welcomed.
struct Welcomed {
    reader: FrameReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    credit: u64,
    purpose: Purpose,
    /// None for one that only asks for the status.
    place: Option<Place>,
}

impl Room {
    /// Serves a connection to its end.
    pub async fn serve(self, stream: TcpStream, from: SocketAddr) {
        let half_open = self.half_open.clone();
        let (seat, evicted) = half_open.enter(from.ip(), false);
        let stopping = self.stopping.clone();
        let greeted = tokio::select! {
            () = stopping.cancelled() => return,
            () = evicted.cancelled() => {
                self.gate.counters.connections_refused_half_open.bump();
                debug!(%from, "a connection to the client address was closed for newer ones before its hello");
                return;
            }
            greeted = tokio::time::timeout(HELLO_TIMEOUT, self.greet(stream)) => greeted,
        };
        drop(seat);
        match greeted {
            Ok(Some(welcomed)) if welcomed.purpose == Purpose::Status => self.attend_status(welcomed, from).await,
            Ok(Some(welcomed)) => self.attend(welcomed, from).await,
            // Told why, and counted.
            Ok(None) => {}
            Err(_) => {
                self.gate.counters.connections_refused_hello.bump();
                debug!(%from, "a connection to the client address did not say hello in time");
            }
        }
    }

    /// The same in one of the places that are kept for the status, for a short time.
    async fn attend_status(self, welcomed: Welcomed, from: SocketAddr) {
        self.gate.counters.connections_status.bump();
        let places = self.status_places.clone();
        let (_seat, evicted) = places.enter(from.ip(), false);
        tokio::select! {
            () = evicted.cancelled() => debug!(%from, "a connection that asks for the status was closed for a newer one"),
            _ = tokio::time::timeout(STATUS_TIME, self.attend(welcomed, from)) => {}
        }
    }

    /// From the welcome to the end.
    async fn attend(self, welcomed: Welcomed, from: SocketAddr) {
        let Welcomed { mut reader, writer, credit, purpose, place } = welcomed;
        self.gate.counters.connections_accepted.bump();
        let share = self.gate.unfinished.share();
        let unfinished = share.evicted();
        reader.set_share(share);
        let occupant = place.as_ref().map(|place| place.occupant.clone());
        let idle = occupant.as_ref().map_or_else(CancellationToken::new, |occupant| occupant.evicted.clone());
        let outbox = Arc::new(Outbox::new(self.gate.clone(), credit, occupant));
        let (finished, failed) = (CancellationToken::new(), CancellationToken::new());
        let writing = tokio::spawn(write(outbox.clone(), writer, finished.clone(), failed.clone(), self.gate.clone()));
        let mut connection = Connection {
            asked: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            refused: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            purpose,
            answers: AnswerRoom::new(&self.gate),
            tasks: JoinSet::new(),
            outbox: outbox.clone(),
            room: self,
        };
        let gate = connection.room.gate.clone();
        let end = tokio::select! {
            end = connection.read(&mut reader, &failed) => end,
            () = unfinished.cancelled() => {
                gate.counters.closed_unfinished.bump();
                End::Broke("its request was unfinished for longest when memory for unfinished requests ran out".into())
            }
            () = idle.cancelled() => {
                gate.counters.closed_idle.bump();
                End::Broke("it asked for nothing for a while, and all places were taken: connect again when needed".into())
            }
        };
        // Others may wait for the memory.
        reader.forget();
        connection.tasks.abort_all();
        match end {
            End::Gone(reason) => debug!(%from, %reason, "a client has gone"),
            End::Broke(reason) => {
                debug!(%from, %reason, "a client connection is closed");
                outbox.answer(Response::Closing { reason }.frame(Bytes::new()), Vec::new(), None);
            }
            End::Stopping => {
                let _ = tokio::time::timeout(GRACE, outbox.drained()).await;
                let reason = "it is shutting down".to_owned();
                outbox.answer(Response::Closing { reason }.frame(Bytes::new()), Vec::new(), None);
            }
        }
        finished.cancel();
        // The place is taken until the last word is written.
        let _ = writing.await;
        linger(&mut reader).await;
        drop(place);
    }

    /// Exchanges hellos; none if there is nobody to talk to, which is counted.
    async fn greet(&self, stream: TcpStream) -> Option<Welcomed> {
        let counters = &self.gate.counters;
        stream.set_nodelay(true).ok()?;
        let (reader, writer) = stream.into_split();
        let mut reader = FrameReader::new(reader, MAX_HELLO_BYTES);
        let hello = reader.next().await.map_err(|_| HelloError::Foreign).and_then(|frame| ClientHello::check(&frame));
        let purpose = match hello {
            Ok(purpose) => purpose,
            Err(HelloError::Foreign) => {
                counters.connections_refused_hello.bump();
                return None;
            }
            Err(HelloError::Version { .. }) => {
                counters.connections_refused_hello.bump();
                return turn_away(reader, writer, Turned::Version).await;
            }
        };
        if self.closing.is_cancelled() {
            counters.connections_refused_stopping.bump();
            return turn_away(reader, writer, Turned::ShuttingDown).await;
        }
        if purpose == Purpose::Status {
            return self.welcome(reader, writer, purpose, None).await.ok();
        }
        let Some(place) = self.gate.enter() else {
            counters.connections_refused_full.bump();
            let limit = self.gate.max_connections();
            return turn_away(reader, writer, Turned::Full { limit }).await;
        };
        self.welcome(reader, writer, purpose, Some(place)).await.ok()
    }

    async fn welcome(
        &self,
        mut reader: FrameReader<OwnedReadHalf>,
        mut writer: OwnedWriteHalf,
        purpose: Purpose,
        place: Option<Place>,
    ) -> std::io::Result<Welcomed> {
        let credit = if purpose == Purpose::Status { 0 } else { self.gate.window() };
        let commit_time_ms = self.gate.commit_time_ms();
        let hello = Hello { credit_bytes: credit, commit_time_ms, ..self.gate.facts().clone() };
        write_frame(&mut writer, Greeting::Welcome(hello).frame()).await?;
        // What a stranger announces is not believed: memory grows with what has come.
        reader.set_limit(self.gate.request_limit(), false);
        Ok(Welcomed { reader, writer, credit, purpose, place })
    }
}

/// Says why there is no welcome. Whoever does not wait for the reason does not get it.
async fn turn_away(
    mut reader: FrameReader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    why: Turned,
) -> Option<Welcomed> {
    debug!(%why, "client connection refused");
    if write_frame(&mut writer, Greeting::Turned(why).frame()).await.is_ok() && writer.shutdown().await.is_ok() {
        linger(&mut reader).await;
    }
    None
}

impl Connection {
    async fn read(&mut self, reader: &mut FrameReader<OwnedReadHalf>, failed: &CancellationToken) -> End {
        let stopping = self.room.stopping.clone();
        let (mut stopping, mut failed) = (std::pin::pin!(stopping.cancelled()), std::pin::pin!(failed.cancelled()));
        let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
        let (mut received, mut heard, mut whole) = (0, Instant::now(), Instant::now());
        loop {
            let frame = tokio::select! {
                () = &mut stopping => return End::Stopping,
                () = &mut failed => return End::Gone("nothing can be written to it".into()),
                frame = reader.next() => frame,
                Some(_) = self.tasks.join_next() => continue,
                _ = tick.tick() => {
                    if reader.received() != received {
                        (received, heard) = (reader.received(), Instant::now());
                    } else if heard.elapsed() > SILENCE {
                        self.room.gate.counters.closed_silent.bump();
                        return End::Broke(format!("nothing was heard of the client for {} s", SILENCE.as_secs()));
                    }
                    if whole.elapsed() > FRAME_TIMEOUT {
                        self.room.gate.counters.closed_silent.bump();
                        return End::Broke(format!("no whole request arrived for {} s", FRAME_TIMEOUT.as_secs()));
                    }
                    continue;
                }
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(error @ FrameError::Oversized { .. }) => {
                    self.room.gate.counters.closed_oversized.bump();
                    return End::Broke(error.to_string());
                }
                Err(error) => return End::Gone(error.to_string()),
            };
            if let Err(end) = self.request(&frame) {
                return end;
            }
            whole = Instant::now();
        }
    }

    fn request(&mut self, frame: &Bytes) -> Result<(), End> {
        let (request, tail) = Request::parse(frame).map_err(|error| {
            self.room.gate.counters.closed_malformed.bump();
            // What the codec says is for whoever wrote the client, and names types of this program.
            debug!(%error, "a client sent what is no request");
            End::Broke("it sent what is no request of the client protocol of rorqual".into())
        })?;
        if self.purpose == Purpose::Status && !matches!(request, Request::Status { .. } | Request::Ping) {
            self.room.gate.counters.closed_malformed.bump();
            return Err(End::Broke("it said that it only asks for the status, and asked for something else".into()));
        }
        if request != Request::Ping {
            self.outbox.touch();
        }
        match request {
            Request::Submit { tag, ticket, ends } => self.submit(tag, Submission { ticket, ends, bytes: tail }),
            Request::Ping => {
                self.outbox.tell_credit();
                Ok(())
            }
            Request::Lookup { tag, .. }
            | Request::Read { tag, .. }
            | Request::Log { tag, .. }
            | Request::Status { tag }
            | Request::Certificate { tag, .. } => self.question(tag, request),
        }
    }

    fn submit(&mut self, tag: u64, submission: Submission) -> Result<(), End> {
        let gate = &self.room.gate;
        let weight = weight(&submission);
        let Some(mine) = self.outbox.charge(weight) else {
            gate.counters.closed_credit.bump();
            return Err(End::Broke("it sent more than it has credit for".into()));
        };
        gate.counters.submissions.bump();
        gate.counters.transactions.add(submission.count() as u64);
        let has_room = gate.take(weight, mine);
        let slot = ReceiptSlot::new(self.outbox.clone(), tag, weight);
        if let Err(refusal) = gate.facts().check(&submission) {
            slot.refuse(refusal);
        } else if self.room.closing.is_cancelled() {
            slot.refuse(Refusal::ShuttingDown);
        } else if !has_room {
            slot.refuse(Refusal::Overloaded { retry_after_ms: gate.retry_after_ms() });
        } else if let Err((pending, busy)) = self.room.sink.try_submit(Pending { submission, slot }) {
            pending.slot.refuse(match busy {
                Busy::Full => Refusal::Overloaded { retry_after_ms: gate.retry_after_ms() },
                Busy::ShuttingDown => Refusal::ShuttingDown,
                Busy::DiskNearlyFull => Refusal::DiskNearlyFull,
            });
        }
        Ok(())
    }

    fn question(&mut self, tag: u64, request: Request) -> Result<(), End> {
        self.room.gate.counters.questions.bump();
        let Ok(permit) = self.asked.clone().try_acquire_owned() else {
            return self.refuse_question(tag);
        };
        let (questions, answers, outbox) = (self.room.questions.clone(), self.answers.clone(), self.outbox.clone());
        self.tasks.spawn(async move {
            let (parts, room) = questions.answer(tag, request, &answers).await;
            outbox.answer(parts, room, Some(permit));
        });
        Ok(())
    }

    /// Our client never asks so much. One that does is told so, and cannot pile up refusals either.
    fn refuse_question(&self, tag: u64) -> Result<(), End> {
        self.room.gate.counters.refused_questions.bump();
        let reason = NotHere::TooMany { limit: MAX_QUESTIONS as u64 };
        let Ok(permit) = self.refused.clone().try_acquire_owned() else {
            self.room.gate.counters.closed_questions.bump();
            return Err(End::Broke(reason.to_string()));
        };
        self.outbox.answer(Response::NotHere { tag, reason }.frame(Bytes::new()), vec![permit], None);
        Ok(())
    }
}

async fn write(
    outbox: Arc<Outbox>,
    mut writer: OwnedWriteHalf,
    finished: CancellationToken,
    failed: CancellationToken,
    gate: Arc<Gate>,
) {
    if let Err(error) = outbox.write(&mut writer, &finished).await {
        if error.kind() == std::io::ErrorKind::TimedOut {
            gate.counters.closed_silent.bump();
        }
        debug!(%error, "a client does not take what is written to it");
        failed.cancel();
    }
}

/// Reads on for a while without listening: closing with unread bytes could take the last words away from the client.
async fn linger<R: AsyncRead + Unpin>(reader: &mut FrameReader<R>) {
    // Whoever does not close in time is cut off.
    let _ = tokio::time::timeout(LINGER, reader.discard()).await;
}
