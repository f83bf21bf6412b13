//! What waits to be written to one client, and how much the client may send.
//!
//! Receipts are bounded by credit: the client is told of more only by a frame that the writer takes. Answers are bounded by the
//! permits they hold until they are written.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rorqual_client::Outcome;
use rorqual_client::frames::{Receipts, Response};
use rorqual_network::frame::FrameBatch;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use super::places::Occupant;

/// Receipts in one frame.
const RECEIPTS: usize = 4_096;
/// Longest write of what was taken at once.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// The same while room for answers runs short.
const SHORT_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// What an answer holds until it is written.
pub type Permits = Vec<OwnedSemaphorePermit>;

/// A frame that answers a question, or says why not.
struct Answer {
    parts: [Bytes; 2],
    /// Held until it is written.
    room: Permits,
    /// The question's place. Free again *before* the answer is written: a client that has got it may ask the next one at once.
    asked: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
struct State {
    receipts: Vec<(u64, Outcome)>,
    answers: Vec<Answer>,
    /// The client waits to hear of credit or commit time.
    credit_due: bool,
    /// Weight that came since the start.
    sent: u64,
    /// Weight that was answered since the start.
    answered: u64,
    /// Weight that the client knows it may send since the start.
    told: u64,
    /// Nobody reads any more.
    closed: bool,
}

/// One connection's way out. Shared by its reader, its writer, and every submission of it that waits for a receipt.
pub struct Outbox {
    gate: Arc<Gate>,
    occupant: Option<Arc<Occupant>>,
    state: Mutex<State>,
    wake: Notify,
    drained: Notify,
}

impl Outbox {
    /// For a client that was told of `credit`; whoever has a place.
    pub fn new(gate: Arc<Gate>, credit: u64, occupant: Option<Arc<Occupant>>) -> Self {
        let state = State { told: credit, ..State::default() };
        Self { gate, occupant, state: Mutex::new(state), wake: Notify::new(), drained: Notify::new() }
    }

    /// Something was asked or answered: the client is not idle.
    pub fn touch(&self) {
        if let Some(occupant) = &self.occupant {
            occupant.touch();
        }
    }

    /// The gate it counts at.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a submission in, and says how much is in flight with it; none if the client had no credit for it, and nothing was
    /// counted.
    pub fn charge(&self, weight: u64) -> Option<u64> {
        let mut state = self.lock();
        let sent = state.sent.saturating_add(weight);
        if sent > state.told {
            return None;
        }
        state.sent = sent;
        self.tell_in_flight(&state);
        Some(state.in_flight())
    }

    fn tell_in_flight(&self, state: &State) {
        if let Some(occupant) = &self.occupant {
            occupant.set_in_flight(state.in_flight());
        }
    }

    /// Counts a submission out, with its receipt if there is one.
    pub fn settle(&self, weight: u64, receipt: Option<(u64, Outcome)>) {
        self.gate.leave(weight);
        let (wake, drained) = {
            let mut state = self.lock();
            let wake = state.is_idle();
            state.answered = state.answered.saturating_add(weight);
            self.tell_in_flight(&state);
            match receipt {
                Some(receipt) if !state.closed => state.receipts.push(receipt),
                _ => state.credit_due = true,
            }
            (wake, state.answered == state.sent)
        };
        if wake {
            self.wake.notify_one();
        }
        if drained {
            self.drained.notify_waiters();
        }
    }

    /// Adds an answer. `room` is held until it is written, `asked` until it is about to be.
    pub fn answer(&self, parts: [Bytes; 2], room: Permits, asked: Option<OwnedSemaphorePermit>) {
        self.lock().answers.push(Answer { parts, room, asked });
        self.wake.notify_one();
    }

    /// Tells the client of credit and commit time soon.
    pub fn tell_credit(&self) {
        self.lock().credit_due = true;
        self.wake.notify_one();
    }

    /// Resolves when every submission has its receipt.
    pub async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            let in_flight = self.lock().in_flight();
            if in_flight == 0 {
                return;
            }
            drained.await;
        }
    }

    /// Writes until `finished` is cancelled, then what is left, then ends the stream. Nothing is kept after that.
    ///
    /// # Errors
    /// Where the stream failed or did not take anything for too long.
    pub async fn write(&self, stream: &mut (impl AsyncWrite + Unpin), finished: &CancellationToken) -> io::Result<()> {
        let result = self.write_all(stream, finished).await;
        let mut state = self.lock();
        state.closed = true;
        state.receipts = Vec::new();
        state.answers = Vec::new();
        result
    }

    async fn write_all(&self, stream: &mut (impl AsyncWrite + Unpin), finished: &CancellationToken) -> io::Result<()> {
        let mut frames = FrameBatch::default();
        loop {
            let finishing = finished.is_cancelled();
            let permits = self.take(&mut frames);
            if !frames.is_empty() {
                self.write_frames(&mut frames, stream).await?;
                drop(permits);
                self.touch();
                continue;
            }
            if finishing {
                return stream.shutdown().await;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = finished.cancelled() => {}
            }
        }
    }

    /// Writes what was taken, or gives up: sooner where others wait for the room.
    async fn write_frames(&self, frames: &mut FrameBatch, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let began = tokio::time::Instant::now();
        let mut writing = std::pin::pin!(frames.write_to(stream));
        loop {
            match tokio::time::timeout(SHORT_WRITE_TIMEOUT, &mut writing).await {
                Ok(written) => return written,
                Err(_) if began.elapsed() >= WRITE_TIMEOUT || self.gate.is_short_of_answers() => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(_) => {}
            }
        }
    }

    /// Moves everything that waits into frames.
    fn take(&self, frames: &mut FrameBatch) -> Vec<Permits> {
        let commit_time_ms = self.gate.commit_time_ms();
        let (receipts, answers, credit_due, credit_bytes) = {
            let mut state = self.lock();
            if state.is_idle() {
                return Vec::new();
            }
            state.told = state.told.max(state.answered.saturating_add(self.gate.window()));
            let credit_due = std::mem::take(&mut state.credit_due);
            let (receipts, answers) = (std::mem::take(&mut state.receipts), std::mem::take(&mut state.answers));
            (receipts, answers, credit_due, state.told)
        };
        for some in receipts.chunks(RECEIPTS) {
            let mut frame = Receipts { commit_time_ms, credit_bytes, ..Receipts::default() };
            for (tag, outcome) in some {
                self.gate.counters.receipt(outcome);
                frame.push(*tag, *outcome);
            }
            frames.push(&[], Response::Receipts(frame).frame(Bytes::new()));
        }
        if credit_due && receipts.is_empty() {
            frames.push(&[], Response::Credit { commit_time_ms, credit_bytes }.frame(Bytes::new()));
        }
        let push = |Answer { parts, room, asked }| {
            frames.push(&[], parts);
            drop(asked);
            room
        };
        answers.into_iter().map(push).collect()
    }
}

impl State {
    /// Weight that was not answered.
    fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }

    /// Whether there is nothing to write.
    fn is_idle(&self) -> bool {
        self.receipts.is_empty() && self.answers.is_empty() && !self.credit_due
    }
}
