//! All links of one node under one handle.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rorqual_config::committee::AuthorityIndex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dialer::dial_for_ever;
use crate::handshake::Hello;
use crate::listener::{Listener, Reception, listen};
use crate::peer::{Outlets, Shared, accept_for_ever};
use crate::request::ReplyTo;
use crate::send::{self, Frame, Handed, Kind, Lane, Reliable};
use crate::statistics::{PeerStatistics, Refused, RefusedCounters};
use crate::{LinkConfig, PEER_ALPN, PROTOCOL_VERSION, PeerInbound, RequestError, SendError, Stream, tls};

/// Link events of one peer that wait for the node.
const EVENTS: usize = 16;

/// Authenticated connections of one peer that wait to be paired.
const ARRIVALS: usize = 4;

/// The handle to all links. Clones are cheap and mean the same links; when the last one is dropped the links
/// end as with [`Links::shutdown`], but nobody waits for it.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    /// By authority index; none for this node itself.
    peers: Vec<Option<Arc<Shared>>>,
    refused: Arc<RefusedCounters>,
    cancel: CancellationToken,
    tracker: TaskTracker,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Links({} peers)", self.0.peers.iter().flatten().count())
    }
}

impl Links {
    /// Starts accepting peers with a lower index and dialling those with a higher one. Must be called inside a tokio
    /// runtime; spawns an accept task, a task for each peer, and four for each link.
    pub fn start(listener: Listener, config: LinkConfig) -> (Self, Vec<PeerInbound>) {
        let refused = Arc::new(RefusedCounters::default());
        let (cancel, tracker) = (CancellationToken::new(), TaskTracker::new());
        let hello = Hello {
            version: PROTOCOL_VERSION,
            chain_id: config.chain_id,
            epoch: config.epoch,
            author: config.me,
            stream: Stream::Priority,
            session: 0,
        };
        let size = config.peers.iter().map(|peer| peer.index.usize() + 1).max().unwrap_or(0);
        let mut peers = vec![None; size];
        let mut inbounds = Vec::with_capacity(config.peers.len());
        let mut expected = Vec::new();
        for peer in config.peers.iter().filter(|peer| peer.index != config.me) {
            let shared = Arc::new(Shared::new(peer.clone(), config.limits.clone()));
            peers[peer.index.usize()] = Some(Arc::clone(&shared));
            let (outlets, inbound) = channels(&shared);
            inbounds.push(inbound);
            if peer.index > config.me {
                let client = tls::client_config(&config.key, peer.public_key, PEER_ALPN);
                tracker.spawn(dial_for_ever(shared, client, hello, outlets, cancel.clone()));
            } else {
                let (sender, receiver) = mpsc::channel(ARRIVALS);
                expected.push((Arc::clone(&shared), sender));
                tracker.spawn(accept_for_ever(shared, receiver, outlets, cancel.clone()));
            }
        }
        let reception = Arc::new(Reception::new(&config, hello, expected, Arc::clone(&refused)));
        tracker.spawn(listen(listener, reception, tracker.clone(), cancel.clone()));
        (Self(Arc::new(Inner { peers, refused, cancel, tracker })), inbounds)
    }

    fn peer(&self, peer: AuthorityIndex) -> Result<&Arc<Shared>, SendError> {
        self.0.peers.get(peer.usize()).and_then(Option::as_ref).ok_or(SendError::UnknownPeer)
    }

    /// Queues a frame on the live link. Best effort: it is lost if the link breaks before it left.
    ///
    /// # Errors
    /// [`SendError`]; the frame was not queued.
    pub fn send(&self, peer: AuthorityIndex, lane: Lane, frame: Frame) -> Result<(), SendError> {
        let peer = self.peer(peer)?;
        counted(peer, peer.queues.push(lane, Kind::Message, 0, frame, None, None))
    }

    /// As [`Self::send`], and tells when the frame's bytes were handed to the kernel.
    ///
    /// # Errors
    /// [`SendError`]; the frame was not queued.
    pub fn send_tracked(&self, peer: AuthorityIndex, lane: Lane, frame: Frame) -> Result<Handed, SendError> {
        let peer = self.peer(peer)?;
        counted(peer, send::send_tracked(&peer.queues, lane, frame))
    }

    /// Keeps a frame and sends it on this link and again on every new one, until the handle is dropped. The peer may get it
    /// more than once. It waits in its lane without counting against the lane's limit: see [`Reliable::refusal`].
    pub fn send_reliable(&self, peer: AuthorityIndex, lane: Lane, frame: Frame) -> Reliable {
        match self.peer(peer) {
            Ok(shared) => {
                let reliable = send::send_reliable(shared, lane, frame);
                let _ = counted(shared, reliable.refusal().map_or(Ok(()), Err));
                reliable
            }
            Err(error) => Reliable::refused(error),
        }
    }

    /// Asks and waits for the answer. Dropping the future forgets the question; an answer that comes later is discarded.
    ///
    /// # Errors
    /// [`RequestError`]; with `Deadline` and `Disconnected` the peer may have seen the request.
    pub async fn request(
        &self,
        peer: AuthorityIndex,
        lane: Lane,
        frame: Frame,
        deadline: Duration,
    ) -> Result<Bytes, RequestError> {
        if self.0.cancel.is_cancelled() {
            return Err(RequestError::Closed);
        }
        let peer = self.peer(peer)?;
        let mut question = peer.requests.register()?;
        counted(peer, peer.queues.push(lane, Kind::Request, question.id, frame, None, None))?;
        match timeout(deadline, &mut question.answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) if self.0.cancel.is_cancelled() => Err(RequestError::Closed),
            Ok(Err(_)) => Err(RequestError::Disconnected),
            Err(_) => Err(RequestError::Deadline),
        }
    }

    /// Queues the answer to a request, best effort.
    ///
    /// # Errors
    /// [`SendError`]; `Disconnected` also if the link that brought the request was replaced.
    pub fn respond(&self, to: ReplyTo, lane: Lane, frame: Frame) -> Result<(), SendError> {
        let pushed = to.peer.queues.push(lane, Kind::Response, to.id, frame, None, Some(to.link));
        counted(&to.peer, pushed)
    }

    /// Ends the present link to a peer that asks for too much. It comes back as after any failure, at the pace of the dialer.
    pub fn refuse(&self, peer: AuthorityIndex, why: &'static str) {
        let Ok(shared) = self.peer(peer) else { return };
        if let Some(link) = shared.queues.link() {
            shared.counters.excess.add(1);
            shared.refusal.send_replace(Some((link, why)));
        }
    }

    /// Whether both streams to the peer are up.
    pub fn is_connected(&self, peer: AuthorityIndex) -> bool {
        self.peer(peer).is_ok_and(|peer| peer.queues.is_up())
    }

    /// Bytes of content that the lane takes now; zero while the peer is not connected. Every frame after the first takes 128
    /// more than its content.
    pub fn room(&self, peer: AuthorityIndex, lane: Lane) -> usize {
        self.peer(peer).map_or(0, |peer| peer.queues.room(lane))
    }

    /// Smoothed round trip on the priority stream, measured by pings; none before the first answer on this link. Time that the
    /// peer's node does not read its priority stream counts.
    pub fn round_trip(&self, peer: AuthorityIndex) -> Option<Duration> {
        self.peer(peer).ok()?.round_trip.get()
    }

    /// Every peer's counters, by index.
    pub fn statistics(&self) -> Vec<PeerStatistics> {
        self.0.peers.iter().flatten().map(|peer| peer.statistics()).collect()
    }

    /// Connections that never became links, by reason.
    pub fn refused(&self) -> Refused {
        self.0.refused.read()
    }

    /// Stops listening and dialling, writes what waits for at most half a second, closes all links and ends all tasks.
    /// Afterwards nothing can be sent. Calling it again waits for the same end.
    pub async fn shutdown(&self) {
        self.0.cancel.cancel();
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }
}

fn counted<T>(peer: &Shared, result: Result<T, SendError>) -> Result<T, SendError> {
    if matches!(result, Err(SendError::Full)) {
        peer.counters.refused.add(1);
    }
    result
}

fn channels(shared: &Shared) -> (Outlets, PeerInbound) {
    let (peer, frames) = (shared.peer.index, shared.limits.inbound_frames);
    let (events_in, events) = mpsc::channel(EVENTS);
    let (priority_in, priority) = mpsc::channel(frames.max(1));
    let (bulk_in, bulk) = mpsc::channel(frames.max(1));
    let outlets = Outlets { events: events_in, inbound: [priority_in, bulk_in] };
    (outlets, PeerInbound { peer, events, round_trips: shared.round_trip.follow(), priority, bulk })
}
