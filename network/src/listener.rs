//! From a TCP connection of anybody to an authenticated connection of a peer with a lower index.
//!
//! Promises: a stranger costs a bounded amount of memory for a bounded time and is counted by reason; all strangers
//! together cost a bounded share of a core. When too many connections are half open, the oldest of the address with most of
//! them goes: one flooding address does not keep the others out. Nothing a stranger sends is logged above debug.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rorqual_config::PublicKey;
use rorqual_config::committee::AuthorityIndex;
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::connection::{Connection, prepare};
use crate::frame::{FrameError, write_frame};
use crate::half_open::HalfOpen;
use crate::handshake::{Hello, Refusal, check_hello, hello_frame, refusal_frame};
use crate::pace::Pace;
use crate::peer::{Arrival, Shared};
use crate::statistics::RefusedCounters;
use crate::{LinkConfig, NetworkError, PEER_ALPN, tls};

/// Connections the kernel holds for us to accept.
const BACKLOG: u32 = 1_024;

/// Pause after the system could not accept, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound address. Peers that connect wait until [`crate::Links::start`] takes it.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds. Port 0 chooses a free one, see [`Self::local_addr`].
    ///
    /// # Errors
    /// [`NetworkError`] naming the address and, where it is in use, the remedy.
    pub async fn bind(address: SocketAddr) -> Result<Self, NetworkError> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => NetworkError::AddressInUse { address },
            _ => NetworkError::Bind { address, source },
        };
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
        socket.set_reuseaddr(true).map_err(failed)?;
        socket.bind(address).map_err(failed)?;
        let inner = socket.listen(BACKLOG).map_err(failed)?;
        let address = inner.local_addr().map_err(failed)?;
        Ok(Self { inner, address })
    }

    /// The address peers connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// What every handshake needs.
pub(crate) struct Reception {
    acceptor: TlsAcceptor,
    hello: Hello,
    timeout: Duration,
    members: HashMap<PublicKey, (Arc<Shared>, mpsc::Sender<Arrival>)>,
    half_open: HalfOpen,
    pace: Pace,
    refused: Arc<RefusedCounters>,
}

impl Reception {
    /// `expected` are the peers with a lower index, each with where its connections go.
    pub(crate) fn new(
        config: &LinkConfig,
        hello: Hello,
        expected: Vec<(Arc<Shared>, mpsc::Sender<Arrival>)>,
        refused: Arc<RefusedCounters>,
    ) -> Self {
        let members = expected.into_iter().map(|(peer, sender)| (peer.peer.public_key, (peer, sender)));
        Self {
            acceptor: TlsAcceptor::from(server_config(config, &refused)),
            hello,
            timeout: config.limits.handshake_timeout,
            members: members.collect(),
            half_open: HalfOpen::new(config.limits.max_half_open),
            pace: Pace::new(config.limits.handshakes_per_second, config.limits.handshake_burst, &config.peers),
            refused,
        }
    }

    async fn handshake(&self, tcp: TcpStream, from: SocketAddr) -> Result<(), Rejection> {
        // Whoever says nothing takes no turn.
        tcp.readable().await.map_err(Rejection::Tls)?;
        self.pace.turn(from.ip()).await;
        self.refused.handshakes.add(1);
        let tcp = prepare(tcp).map_err(Rejection::Tls)?;
        let tls = self.acceptor.accept(tcp).await.map_err(Rejection::Tls)?;
        let key = tls::peer_key(tls.get_ref().1).ok_or(Rejection::Alpn)?;
        if !tls::has_alpn(tls.get_ref().1, PEER_ALPN) {
            return Err(Rejection::Alpn);
        }
        let (peer, arrivals) = self.members.get(&key).ok_or(Rejection::Alpn)?;
        let mut connection = Connection::new(TlsStream::Server(tls));
        let frame = connection.reader.next().await.map_err(Rejection::Frame)?;
        let hello = match check_hello(&frame, &self.hello, peer.peer.index) {
            Ok(hello) => hello,
            Err(refusal) => {
                // Best effort: the dialer is told why if it listens.
                let _ = write_frame(&mut connection.writer, refusal_frame(&refusal)).await;
                let _ = connection.writer.shutdown().await;
                peer.failed("peer refused", format!("we refused the peer: {refusal}"));
                return Err(Rejection::Refused(peer.peer.index, refusal));
            }
        };
        self.pace.remember(peer.peer.index, from.ip());
        let answer = Hello { stream: hello.stream, session: hello.session, ..self.hello };
        write_frame(&mut connection.writer, hello_frame(&answer)).await.map_err(Rejection::Tls)?;
        let arrival = Arrival { stream: hello.stream, session: hello.session, connection };
        // A peer that connects faster than its links can be replaced loses the connection and dials again.
        let _ = arrivals.try_send(arrival);
        Ok(())
    }

    fn count(&self, rejection: &Rejection) {
        let refused = &self.refused;
        let counter = match rejection {
            Rejection::Tls(error) if is_counted_by_the_verifier(error) => return,
            Rejection::Tls(error) if is_without_key(error) => &refused.no_committee_key,
            Rejection::Tls(_) | Rejection::Alpn => &refused.tls,
            Rejection::Frame(FrameError::Oversized { .. }) => &refused.oversized_frame,
            Rejection::Frame(_) | Rejection::Refused(_, Refusal::Malformed) => &refused.malformed,
            Rejection::Refused(_, Refusal::WrongVersion { .. }) => &refused.wrong_version,
            Rejection::Refused(_, Refusal::WrongChain { .. } | Refusal::WrongEpoch { .. }) => &refused.wrong_chain,
            Rejection::Refused(_, Refusal::WrongAuthor { .. }) => &refused.wrong_author,
            Rejection::Timeout => &refused.handshake_timeout,
            Rejection::Evicted => &refused.too_many_half_open,
        };
        counter.add(1);
    }
}

/// Why a connection did not become an [`Arrival`].
#[derive(Debug, thiserror::Error)]
enum Rejection {
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("TLS without our application protocol")]
    Alpn,
    #[error("no hello: {0}")]
    Frame(FrameError),
    #[error("member {0}: {1}")]
    Refused(AuthorityIndex, Refusal),
    #[error("no hello in time")]
    Timeout,
    #[error("closed for a newer connection")]
    Evicted,
}

fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn is_counted_by_the_verifier(error: &std::io::Error) -> bool {
    let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure);
    tls_error(error) == Some(&refused)
}

fn is_without_key(error: &std::io::Error) -> bool {
    matches!(tls_error(error), Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)))
}

/// Accepts keys of members with a lower index; counts the others by what they are.
fn server_config(config: &LinkConfig, refused: &Arc<RefusedCounters>) -> Arc<ServerConfig> {
    let (me, own) = (config.me, config.key.public());
    let members: HashMap<PublicKey, AuthorityIndex> =
        config.peers.iter().map(|peer| (peer.public_key, peer.index)).collect();
    let refused = Arc::clone(refused);
    let allowed = move |key: &PublicKey| {
        let counter = match members.get(key) {
            _ if *key == own => &refused.own_key,
            Some(index) if *index < me => return true,
            Some(_) => &refused.wrong_direction,
            None => &refused.no_committee_key,
        };
        counter.add(1);
        false
    };
    tls::server_config(&config.key, Arc::new(allowed), PEER_ALPN)
}

/// Accepts until cancelled; then nothing listens any more.
pub(crate) async fn listen(
    listener: Listener,
    reception: Arc<Reception>,
    tracker: TaskTracker,
    cancel: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.inner.accept() => accepted,
            () = cancel.cancelled() => return,
        };
        match accepted {
            Ok((tcp, from)) => {
                tracker.spawn(receive(Arc::clone(&reception), tcp, from, cancel.clone()));
            }
            Err(error) => {
                reception.refused.accept_failed.add(1);
                debug!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn receive(reception: Arc<Reception>, tcp: TcpStream, from: SocketAddr, cancel: CancellationToken) {
    let (_seat, evicted) = reception.half_open.enter(from.ip(), reception.pace.is_members(from.ip()));
    let result = tokio::select! {
        result = timeout(reception.timeout, reception.handshake(tcp, from)) => result.unwrap_or(Err(Rejection::Timeout)),
        () = evicted.cancelled() => Err(Rejection::Evicted),
        () = cancel.cancelled() => return,
    };
    if let Err(rejection) = result {
        reception.count(&rejection);
        debug!(%from, %rejection, "connection refused");
    }
}
