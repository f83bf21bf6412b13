//! One peer: the pair of connections to it, as long as it lasts, again and again.
//!
//! Promises: `Up` is told before the first frame of a link is read and `Down` after the last; both streams live and die
//! together; a newer authenticated pair replaces the older; when a link is gone nothing that waited for it is left waiting.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::connection::{Connection, End, read_half, write_half};
use crate::journal::Journal;
use crate::request::Requests;
use crate::send::Queues;
use crate::statistics::{PeerCounters, PeerStatistics};
use crate::{Inbound, Lane, Limits, LinkEvent, Peer, Stream};

/// How long an orderly shutdown waits for the last frames to leave and for the peer to close.
const LINGER: Duration = Duration::from_millis(500);

/// What a semaphore and its `u32` counts can hold on any machine.
const MAX_INBOUND_BYTES: usize = 256 << 20;

/// Pings whose answers may still come.
const MAX_PINGS: usize = 8;

/// What everything about one peer shares.
pub(crate) struct Shared {
    pub(crate) peer: Peer,
    pub(crate) limits: Limits,
    pub(crate) queues: Queues,
    pub(crate) requests: Requests,
    /// Bytes that the node may still hold, by stream.
    pub(crate) inbound: [Arc<Semaphore>; 2],
    pub(crate) counters: PeerCounters,
    pub(crate) round_trip: RoundTrip,
    /// Why the node wants the present link to end.
    pub(crate) refusal: watch::Sender<Option<(u64, &'static str)>>,
    journal: Mutex<Journal>,
}

impl Shared {
    pub(crate) fn new(peer: Peer, limits: Limits) -> Self {
        Self {
            peer,
            queues: Queues::new(limits.clone()),
            requests: Requests::new(limits.max_requests),
            inbound: [(); 2].map(|()| Arc::new(Semaphore::new(inbound_permits(&limits)))),
            counters: PeerCounters::default(),
            round_trip: RoundTrip::default(),
            refusal: watch::Sender::new(None),
            journal: Mutex::default(),
            limits,
        }
    }

    /// Remembers why there is no link. A warning when it is news.
    pub(crate) fn failed(&self, what: &'static str, reason: String) {
        let mut journal = self.journal();
        let said = journal.is_news(&reason).then(|| journal.speak(Instant::now())).flatten();
        match said {
            Some(unlogged) => {
                let unlogged = (unlogged > 0).then_some(unlogged);
                warn!(peer = %self.peer.name, address = %self.peer.address, reason, unlogged, "{what}");
            }
            None => debug!(peer = %self.peer.name, address = %self.peer.address, reason, "{what}"),
        }
        journal.failed(reason);
    }

    /// The link is up: whatever happens next is news.
    fn came_up(&self) {
        let mut journal = self.journal();
        journal.came_up();
        match journal.speak(Instant::now()) {
            Some(unlogged) => {
                let unlogged = (unlogged > 0).then_some(unlogged);
                info!(peer = %self.peer.name, unlogged, "link up");
            }
            None => debug!(peer = %self.peer.name, "link up"),
        }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn statistics(&self) -> PeerStatistics {
        PeerStatistics {
            peer: self.peer.index,
            name: self.peer.name.clone(),
            connected: self.queues.is_up(),
            round_trip: self.round_trip.get(),
            priority: self.counters.streams[Stream::Priority.usize()].read(),
            bulk: self.counters.streams[Stream::Bulk.usize()].read(),
            queued_bytes: Lane::ALL.map(|lane| self.queues.bytes(lane)),
            links: self.counters.links.get(),
            failed_dials: self.counters.failed_dials.get(),
            refused: self.counters.refused.get(),
            lost: self.counters.lost.get(),
            oversized: self.counters.oversized.get(),
            malformed: self.counters.malformed.get(),
            unread: self.counters.unread.get(),
            excess: self.counters.excess.get(),
            stray_answers: self.counters.stray_answers.get(),
            last_failure: self.journal().last_failure().to_owned(),
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({:?})", self.peer.index)
    }
}

/// One permit a byte.
pub(crate) fn inbound_permits(limits: &Limits) -> usize {
    limits.inbound_bytes.clamp(1, MAX_INBOUND_BYTES)
}

/// Round trip of pings, smoothed (new = 7/8 old + 1/8 sample). A peer can make it longer than it is but not shorter:
/// nonces are random.
#[derive(Default)]
pub(crate) struct RoundTrip {
    open: Mutex<VecDeque<(u64, Instant)>>,
    nanos: AtomicU64,
    /// The newest sample as it was measured, for whoever waits for news.
    newest: watch::Sender<Option<Duration>>,
}

impl RoundTrip {
    /// A ping leaves; returns its nonce.
    pub(crate) fn asked(&self) -> u64 {
        let nonce = random();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() == MAX_PINGS {
            open.pop_front();
        }
        open.push_back((nonce, Instant::now()));
        nonce
    }

    /// A pong came; one that was not asked for is ignored.
    pub(crate) fn answered(&self, nonce: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = open.iter().position(|(asked, _)| *asked == nonce) else { return };
        let sample = open[at].1.elapsed().as_nanos().clamp(1, u128::from(u64::MAX / 8)) as u64;
        open.drain(..=at);
        let old = self.nanos.load(Relaxed);
        self.nanos.store(if old == 0 { sample } else { old - old / 8 + sample / 8 }, Relaxed);
        self.newest.send_replace(Some(Duration::from_nanos(sample)));
    }

    /// Tells of every new sample; who is slow sees the newest only.
    pub(crate) fn follow(&self) -> watch::Receiver<Option<Duration>> {
        self.newest.subscribe()
    }

    pub(crate) fn get(&self) -> Option<Duration> {
        Some(self.nanos.load(Relaxed)).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }

    fn clear(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.nanos.store(0, Relaxed);
    }
}

/// Unpredictable where the system gives randomness; safety depends on it nowhere.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

/// Where one peer's events and frames go.
pub(crate) struct Outlets {
    pub(crate) events: mpsc::Sender<LinkEvent>,
    pub(crate) inbound: [mpsc::Sender<Inbound>; 2],
}

impl Outlets {
    /// Waits for room, but not beyond shutdown.
    async fn tell(&self, event: LinkEvent, cancel: &CancellationToken) {
        let sent = tokio::select! {
            biased;
            sent = self.events.send(event.clone()) => sent.is_ok(),
            () = cancel.cancelled() => self.events.try_send(event).is_ok(),
        };
        if !sent {
            debug!("nobody takes link events");
        }
    }
}

/// Both connections of one link.
pub(crate) struct Pair {
    pub(crate) priority: Connection,
    pub(crate) bulk: Connection,
}

/// One authenticated connection on its way to its peer.
pub(crate) struct Arrival {
    pub(crate) stream: Stream,
    pub(crate) session: u64,
    pub(crate) connection: Connection,
}

/// Finds the two connections that one dialer made together. Keeps at most one unfinished pair: the newest.
struct Pairing {
    session: u64,
    waiting: Option<(Stream, Connection)>,
}

impl Pairing {
    fn offer(&mut self, arrival: Arrival) -> Option<Pair> {
        let older =
            self.waiting.take().filter(|(stream, _)| self.session == arrival.session && *stream != arrival.stream);
        self.session = arrival.session;
        match (older, arrival.stream) {
            (Some((_, priority)), Stream::Bulk) => Some(Pair { priority, bulk: arrival.connection }),
            (Some((_, bulk)), Stream::Priority) => Some(Pair { priority: arrival.connection, bulk }),
            (None, stream) => {
                self.waiting = Some((stream, arrival.connection));
                None
            }
        }
    }

    /// The next complete pair. Dropping the future loses nothing. Never resolves once the listener is gone.
    async fn next(&mut self, arrivals: &mut mpsc::Receiver<Arrival>, patience: Duration) -> Pair {
        loop {
            let arrival = if self.waiting.is_some() {
                match timeout(patience, arrivals.recv()).await {
                    Ok(arrival) => arrival,
                    Err(_) => {
                        self.waiting = None;
                        continue;
                    }
                }
            } else {
                arrivals.recv().await
            };
            let Some(arrival) = arrival else { return std::future::pending().await };
            if let Some(pair) = self.offer(arrival) {
                return pair;
            }
        }
    }
}

/// Serves a peer that dials us, until cancelled.
pub(crate) async fn accept_for_ever(
    peer: Arc<Shared>,
    mut arrivals: mpsc::Receiver<Arrival>,
    outlets: Outlets,
    cancel: CancellationToken,
) {
    let patience = peer.limits.handshake_timeout;
    let mut pairing = Pairing { session: 0, waiting: None };
    let mut pair = None;
    while !cancel.is_cancelled() {
        let current = match pair.take() {
            Some(pair) => pair,
            None => tokio::select! {
                pair = pairing.next(&mut arrivals, patience) => pair,
                () = cancel.cancelled() => return,
            },
        };
        pair = run_link(&peer, current, &outlets, &cancel, pairing.next(&mut arrivals, patience)).await;
    }
}

/// Waits until the node refuses this link; why it does.
async fn refused(refusals: &mut watch::Receiver<Option<(u64, &'static str)>>, link: u64) -> &'static str {
    let refused = refusals.wait_for(|refused| refused.is_some_and(|(refused, _)| refused == link)).await;
    match refused.ok().and_then(|refused| *refused) {
        Some((_, why)) => why,
        // The peer is gone, and this link with it.
        None => std::future::pending().await,
    }
}

/// One link from up to down. Returns the newer pair if that is what ended it.
pub(crate) async fn run_link(
    peer: &Arc<Shared>,
    pair: Pair,
    outlets: &Outlets,
    cancel: &CancellationToken,
    newer: impl Future<Output = Pair>,
) -> Option<Pair> {
    let link = peer.queues.open();
    peer.counters.links.add(1);
    peer.came_up();
    outlets.tell(LinkEvent::Up, cancel).await;
    let mut refusals = peer.refusal.subscribe();
    let closing = CancellationToken::new();
    let mut halves = JoinSet::new();
    for (stream, connection) in [(Stream::Priority, pair.priority), (Stream::Bulk, pair.bulk)] {
        let inbound = outlets.inbound[stream.usize()].clone();
        halves.spawn(read_half(Arc::clone(peer), link, stream, connection.reader, inbound));
        halves.spawn(write_half(Arc::clone(peer), link, stream, connection.writer, closing.clone()));
    }
    let (reason, newer) = tokio::select! {
        ended = halves.join_next() => match ended {
            Some(Ok(End::Closed)) => {
                linger(&mut halves, &closing).await;
                ("closed by the peer".to_owned(), None)
            }
            Some(Ok(End::Broken(reason))) => (reason, None),
            Some(Err(error)) => (format!("internal error: {error}"), None),
            None => ("internal error: no task".to_owned(), None),
        },
        why = refused(&mut refusals, link) => (format!("refused: {why}"), None),
        newer = newer => ("replaced by a newer connection".to_owned(), Some(newer)),
        () = cancel.cancelled() => {
            linger(&mut halves, &closing).await;
            ("this node shuts down".to_owned(), None)
        }
    };
    halves.shutdown().await;
    peer.counters.lost.add(peer.queues.close());
    peer.requests.clear();
    peer.round_trip.clear();
    if cancel.is_cancelled() {
        info!(peer = %peer.peer.name, "link closed");
    } else {
        peer.failed("link down", reason.clone());
    }
    outlets.tell(LinkEvent::Down { reason }, cancel).await;
    newer
}

/// An orderly end: our last frames leave, the peer's last frames on both streams are read, for a limited time.
async fn linger(halves: &mut JoinSet<End>, closing: &CancellationToken) {
    closing.cancel();
    // Out of time or not, the rest is cut off.
    let _ = timeout(LINGER, async { while halves.join_next().await.is_some() {} }).await;
}
