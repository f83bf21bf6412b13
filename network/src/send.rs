//! What waits to be sent to one peer: four bounded lanes on two streams, and three ways to send.
//!
//! Promises: a lane never holds more bytes than its limit, and when it is full the caller is told at once; frames of one lane
//! leave in order; the bulk lanes share their stream 4:4:1 by frame. *Best effort*: lost with the connection. *Tracked*: the same,
//! and the caller learns when the bytes were handed to the kernel. *Reliable*: queued again on every new connection until the
//! handle is gone; the receiver may see it more than once.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use crate::frame::FrameBatch;
use crate::peer::Shared;
use crate::{Limits, SendError, Stream};

/// Longest envelope: one byte of kind, eight of an id.
pub(crate) const MAX_ENVELOPE_BYTES: usize = 9;

/// What a waiting frame costs beyond its bytes, so that empty frames are bounded as well.
pub(crate) const FRAME_OVERHEAD_BYTES: usize = 128;

/// Bytes and frames that a writer takes at once.
pub(crate) const MAX_BATCH_BYTES: usize = 256 << 10;
const MAX_BATCH_FRAMES: usize = 256;

/// Frames of own, urgent and catch-up lane in one turn of the bulk stream.
const TURN: [u8; 3] = [4, 4, 1];

/// Which queue a frame waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The priority stream.
    Priority,
    /// Bulk: this node's own payload.
    Own,
    /// Bulk: answers that somebody waits for.
    Urgent,
    /// Bulk: history.
    CatchUp,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Priority, Self::Own, Self::Urgent, Self::CatchUp];

    /// The stream it travels on.
    pub fn stream(self) -> Stream {
        if self == Self::Priority { Stream::Priority } else { Stream::Bulk }
    }

    pub(crate) fn usize(self) -> usize {
        match self {
            Self::Priority => 0,
            Self::Own => 1,
            Self::Urgent => 2,
            Self::CatchUp => 3,
        }
    }
}

/// Content to send: `header` and `tail` arrive as one frame, one after the other; neither is copied before encryption.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// What was encoded.
    pub header: Bytes,
    /// Raw payload, possibly empty.
    pub tail: Bytes,
}

impl Frame {
    /// A frame with a header only.
    pub fn new(header: impl Into<Bytes>) -> Self {
        Self { header: header.into(), tail: Bytes::new() }
    }

    /// A header followed by raw payload.
    pub fn with_tail(header: impl Into<Bytes>, tail: Bytes) -> Self {
        Self { header: header.into(), tail }
    }

    /// Bytes of content.
    pub fn len(&self) -> usize {
        self.header.len() + self.tail.len()
    }

    /// Whether there is no content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn cost(&self) -> usize {
        self.len() + FRAME_OVERHEAD_BYTES
    }
}

/// First byte of a frame between two authenticated nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Ping = 2,
    Pong = 3,
    Message = 4,
    Request = 5,
    Response = 6,
    KeepAlive = 7,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Ping, Self::Pong, Self::Message, Self::Request, Self::Response, Self::KeepAlive]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }

    pub(crate) fn has_id(self) -> bool {
        !matches!(self, Self::Message | Self::KeepAlive)
    }
}

/// Adds one frame with its envelope to what will be written.
pub(crate) fn push_envelope(batch: &mut FrameBatch, kind: Kind, id: u64, parts: [Bytes; 2]) {
    let mut envelope = [0; MAX_ENVELOPE_BYTES];
    envelope[0] = kind as u8;
    envelope[1..].copy_from_slice(&id.to_le_bytes());
    let used = if kind.has_id() { MAX_ENVELOPE_BYTES } else { 1 };
    batch.push(&envelope[..used], parts);
}

/// Resolves when a tracked frame has left or never will.
///
/// `Ok`: every byte of the frame was written through TLS and handed to the kernel; the peer may still not have it. `Err`: the
/// connection broke before; the peer may have a part or, rarely, all of it. Dropping it changes nothing for the frame.
#[derive(Debug)]
pub struct Handed(oneshot::Receiver<()>);

impl Future for Handed {
    type Output = Result<(), SendError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|result| result.map_err(|_| SendError::Disconnected))
    }
}

/// A frame that is sent on every new connection as long as this handle lives.
///
/// Its memory is this handle's. Dropping it, which is what [`Reliable::done`] does, forgets the frame; if it still waits in a
/// queue it is taken out.
#[derive(Debug)]
#[must_use = "dropping the handle cancels the frame"]
pub struct Reliable {
    kept: Result<(Arc<Shared>, u64), SendError>,
}

impl Reliable {
    pub(crate) fn refused(error: SendError) -> Self {
        Self { kept: Err(error) }
    }

    /// Why the frame is *not* kept, if so: no such peer, above the limit of its stream, or no room among the reliable
    /// frames of this peer ([`Limits::reliable_bytes`]).
    pub fn refusal(&self) -> Option<SendError> {
        self.kept.as_ref().err().copied()
    }

    /// The peer has what it needs: forget the frame.
    pub fn done(self) {}
}

impl Drop for Reliable {
    fn drop(&mut self) {
        if let Ok((peer, id)) = &self.kept {
            peer.queues.forget(*id);
        }
    }
}

/// A frame in a lane.
struct Waiting {
    kind: Kind,
    id: u64,
    frame: Frame,
    handed: Option<oneshot::Sender<()>>,
    reliable: Option<u64>,
}

/// A reliable frame, in a lane or not.
struct Kept {
    lane: Lane,
    frame: Frame,
    queued: bool,
}

#[derive(Default)]
struct LaneQueue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl LaneQueue {
    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.frame.cost();
        self.waiting.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= waiting.frame.cost();
        Some(waiting)
    }
}

#[derive(Default)]
struct State {
    /// Counts links; frames, replies and writers of an older one are not mixed into a newer one.
    link: u64,
    up: bool,
    lanes: [LaneQueue; 4],
    credits: [u8; 3],
    reliable: BTreeMap<u64, Kept>,
    reliable_bytes: usize,
    next_reliable: u64,
    pong: Option<u64>,
}

impl State {
    /// The lane whose frame goes next on a stream.
    fn next_lane(&mut self, stream: Stream) -> Option<Lane> {
        if stream == Stream::Priority {
            return (!self.lanes[0].waiting.is_empty()).then_some(Lane::Priority);
        }
        for _ in 0..2 {
            for (turn, lane) in [Lane::Own, Lane::Urgent, Lane::CatchUp].into_iter().enumerate() {
                if self.credits[turn] > 0 && !self.lanes[lane.usize()].waiting.is_empty() {
                    self.credits[turn] -= 1;
                    return Some(lane);
                }
            }
            self.credits = TURN;
        }
        None
    }

    fn enqueue_reliable(&mut self, id: u64) {
        let Some(kept) = self.reliable.get_mut(&id) else { return };
        kept.queued = true;
        let (lane, frame) = (kept.lane, kept.frame.clone());
        let waiting = Waiting { kind: Kind::Message, id: 0, frame, handed: None, reliable: Some(id) };
        self.lanes[lane.usize()].push(waiting);
    }
}

/// Everything that waits for one peer. Senders and the two writers share it; no lock is held across an await.
pub(crate) struct Queues {
    limits: Limits,
    state: Mutex<State>,
    ready: [Notify; 2],
}

impl Queues {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), ready: [Notify::new(), Notify::new()] }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way; if it did, the counters are still only bounds.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new link is up: reliable frames are queued again, in the order they were given. Returns the link's number.
    pub(crate) fn open(&self) -> u64 {
        let mut state = self.lock();
        state.link += 1;
        state.up = true;
        state.credits = TURN;
        let ids: Vec<u64> = state.reliable.keys().copied().collect();
        for id in ids {
            state.enqueue_reliable(id);
        }
        state.link
    }

    /// The link is gone, and with it what waited. Returns how many frames were lost for good.
    pub(crate) fn close(&self) -> u64 {
        let mut state = self.lock();
        state.up = false;
        state.pong = None;
        let mut lost = 0;
        for lane in &mut state.lanes {
            lost += lane.waiting.iter().filter(|waiting| waiting.reliable.is_none()).count() as u64;
            *lane = LaneQueue::default();
        }
        for kept in state.reliable.values_mut() {
            kept.queued = false;
        }
        lost
    }

    pub(crate) fn is_up(&self) -> bool {
        self.lock().up
    }

    /// The number of the link that is up.
    pub(crate) fn link(&self) -> Option<u64> {
        let state = self.lock();
        state.up.then_some(state.link)
    }

    /// Bytes that wait in a lane.
    pub(crate) fn bytes(&self, lane: Lane) -> usize {
        self.lock().lanes[lane.usize()].bytes
    }

    /// Content that the lane takes now as one frame, were frames unlimited; zero while there is no link.
    pub(crate) fn room(&self, lane: Lane) -> usize {
        let state = self.lock();
        if !state.up {
            return 0;
        }
        let free = self.limits.queue_bytes(lane).saturating_sub(state.lanes[lane.usize()].bytes);
        free.saturating_sub(FRAME_OVERHEAD_BYTES)
    }

    fn largest(&self, lane: Lane) -> usize {
        self.limits.frame_bytes(lane.stream()).saturating_sub(MAX_ENVELOPE_BYTES)
    }

    /// Queues a frame. With `link`, only if that link is still the one that is up.
    pub(crate) fn push(
        &self,
        lane: Lane,
        kind: Kind,
        id: u64,
        frame: Frame,
        handed: Option<oneshot::Sender<()>>,
        link: Option<u64>,
    ) -> Result<(), SendError> {
        if frame.len() > self.largest(lane) {
            return Err(SendError::TooLarge);
        }
        {
            let mut state = self.lock();
            if !state.up || link.is_some_and(|link| link != state.link) {
                return Err(SendError::Disconnected);
            }
            if state.lanes[lane.usize()].bytes + frame.cost() > self.limits.queue_bytes(lane) {
                return Err(SendError::Full);
            }
            state.lanes[lane.usize()].push(Waiting { kind, id, frame, handed, reliable: None });
        }
        self.ready[lane.stream().usize()].notify_one();
        Ok(())
    }

    /// Keeps a frame until [`Self::forget`], and queues it if there is a link, even above the lane's limit: reliable
    /// frames have a limit of their own.
    pub(crate) fn keep(&self, lane: Lane, frame: Frame) -> Result<u64, SendError> {
        if frame.len() > self.largest(lane) {
            return Err(SendError::TooLarge);
        }
        let id = {
            let mut state = self.lock();
            if state.reliable_bytes + frame.cost() > self.limits.reliable_bytes {
                return Err(SendError::Full);
            }
            let id = state.next_reliable;
            state.next_reliable += 1;
            state.reliable_bytes += frame.cost();
            state.reliable.insert(id, Kept { lane, frame, queued: false });
            if state.up {
                state.enqueue_reliable(id);
            }
            id
        };
        self.ready[lane.stream().usize()].notify_one();
        Ok(id)
    }

    fn forget(&self, id: u64) {
        let mut state = self.lock();
        let Some(kept) = state.reliable.remove(&id) else { return };
        state.reliable_bytes -= kept.frame.cost();
        if kept.queued {
            let lane = &mut state.lanes[kept.lane.usize()];
            if let Some(at) = lane.waiting.iter().position(|waiting| waiting.reliable == Some(id)) {
                lane.waiting.remove(at);
                lane.bytes -= kept.frame.cost();
            }
        }
    }

    /// The peer wants its ping answered. Only the latest waits.
    pub(crate) fn pong(&self, nonce: u64) {
        self.lock().pong = Some(nonce);
        self.ready[Stream::Priority.usize()].notify_one();
    }

    /// Moves what goes next on a stream of link `link` into `batch`, and whom to tell when it left into `handed`.
    pub(crate) fn take(
        &self,
        stream: Stream,
        link: u64,
        batch: &mut FrameBatch,
        handed: &mut Vec<oneshot::Sender<()>>,
    ) {
        let mut state = self.lock();
        if state.link != link || !state.up {
            return;
        }
        if stream == Stream::Priority
            && let Some(nonce) = state.pong.take()
        {
            push_envelope(batch, Kind::Pong, nonce, [Bytes::new(), Bytes::new()]);
        }
        while batch.bytes() < MAX_BATCH_BYTES && batch.frames() < MAX_BATCH_FRAMES {
            let Some(lane) = state.next_lane(stream) else { return };
            let Some(waiting) = state.lanes[lane.usize()].pop() else { return };
            if let Some(kept) = waiting.reliable.and_then(|id| state.reliable.get_mut(&id)) {
                kept.queued = false;
            }
            handed.extend(waiting.handed);
            push_envelope(batch, waiting.kind, waiting.id, [waiting.frame.header, waiting.frame.tail]);
        }
    }

    /// Resolves when something may wait on a stream. One writer a stream waits here.
    pub(crate) async fn ready(&self, stream: Stream) {
        self.ready[stream.usize()].notified().await;
    }
}

/// Queues a tracked frame.
pub(crate) fn send_tracked(queues: &Queues, lane: Lane, frame: Frame) -> Result<Handed, SendError> {
    let (sender, receiver) = oneshot::channel();
    queues.push(lane, Kind::Message, 0, frame, Some(sender), None)?;
    Ok(Handed(receiver))
}

/// Keeps and queues a reliable frame.
pub(crate) fn send_reliable(peer: &Arc<Shared>, lane: Lane, frame: Frame) -> Reliable {
    Reliable { kept: peer.queues.keep(lane, frame).map(|id| (Arc::clone(peer), id)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(limits: Limits) -> Queues {
        let queues = Queues::new(limits);
        queues.open();
        queues
    }

    fn send(queues: &Queues, lane: Lane, bytes: usize) -> Result<(), SendError> {
        queues.push(lane, Kind::Message, 0, Frame::new(vec![0; bytes]), None, None)
    }

    #[test]
    fn bulk_lanes_are_served_four_four_one() {
        let queues = queues(Limits::default());
        for lane in [Lane::CatchUp, Lane::Urgent, Lane::Own] {
            for _ in 0..40 {
                send(&queues, lane, 1).unwrap();
            }
        }
        let mut state = queues.lock();
        let mut served = [0; 4];
        for _ in 0..45 {
            let lane = state.next_lane(Stream::Bulk).unwrap();
            state.lanes[lane.usize()].pop().unwrap();
            served[lane.usize()] += 1;
        }
        assert_eq!(served, [0, 20, 20, 5]);
    }

    #[test]
    fn a_lane_alone_gets_the_whole_stream() {
        let queues = queues(Limits::default());
        for _ in 0..20 {
            send(&queues, Lane::CatchUp, 1).unwrap();
        }
        let mut batch = FrameBatch::default();
        queues.take(Stream::Bulk, 1, &mut batch, &mut Vec::new());
        assert_eq!(batch.frames(), 20);
    }

    #[test]
    fn a_full_lane_refuses_and_room_says_what_fits() {
        let queues = queues(Limits { own_queue_bytes: 10_000, ..Limits::default() });
        assert_eq!(queues.room(Lane::Own), 10_000 - FRAME_OVERHEAD_BYTES);
        send(&queues, Lane::Own, 6_000).unwrap();
        let room = queues.room(Lane::Own);
        assert_eq!(send(&queues, Lane::Own, room + 1), Err(SendError::Full));
        send(&queues, Lane::Own, room).unwrap();
        assert_eq!(queues.room(Lane::Own), 0);
        assert_eq!(send(&queues, Lane::Own, 0), Err(SendError::Full));
        send(&queues, Lane::Urgent, 6_000).unwrap();
        assert_eq!(send(&queues, Lane::Priority, 100 << 20), Err(SendError::TooLarge));
    }

    #[test]
    fn a_closed_link_takes_nothing_and_forgets_all_but_reliable_frames() {
        let queues = queues(Limits::default());
        send(&queues, Lane::Own, 1).unwrap();
        let id = queues.keep(Lane::Own, Frame::new(vec![1])).unwrap();
        assert_eq!(queues.close(), 1);
        assert_eq!(send(&queues, Lane::Own, 1), Err(SendError::Disconnected));
        assert_eq!((queues.room(Lane::Own), queues.bytes(Lane::Own)), (0, 0));
        let link = queues.open();
        let mut batch = FrameBatch::default();
        queues.take(Stream::Bulk, link, &mut batch, &mut Vec::new());
        assert_eq!(batch.frames(), 1);
        queues.close();
        queues.forget(id);
        let link = queues.open();
        let mut batch = FrameBatch::default();
        queues.take(Stream::Bulk, link, &mut batch, &mut Vec::new());
        assert!(batch.is_empty());
    }

    #[test]
    fn a_cancelled_reliable_frame_leaves_nothing_behind() {
        let queues = queues(Limits { reliable_bytes: 1_000, ..Limits::default() });
        for _ in 0..100 {
            let id = queues.keep(Lane::Priority, Frame::new(vec![0; 500])).unwrap();
            assert_eq!(queues.keep(Lane::Priority, Frame::new(vec![0; 500])), Err(SendError::Full));
            queues.forget(id);
            assert_eq!(queues.bytes(Lane::Priority), 0);
        }
        assert!(queues.lock().lanes[0].waiting.is_empty());
    }

    #[test]
    fn an_older_link_gets_nothing_of_a_newer_one() {
        let queues = queues(Limits::default());
        queues.close();
        queues.open();
        send(&queues, Lane::Own, 1).unwrap();
        let mut batch = FrameBatch::default();
        queues.take(Stream::Bulk, 1, &mut batch, &mut Vec::new());
        assert!(batch.is_empty());
        let reply = queues.push(Lane::Own, Kind::Response, 7, Frame::default(), None, Some(1));
        assert_eq!(reply, Err(SendError::Disconnected));
    }
}
