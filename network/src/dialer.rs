//! From a peer's address to an authenticated pair of connections, again whenever the pair breaks.
//!
//! Promises: names are resolved at every dial; a pair is two connections made together; pauses between failed dials
//! grow exponentially up to a limit, with jitter, so that nodes that come back together do not stay in step.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsConnector, TlsStream};
use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, prepare};
use crate::frame::{FrameError, write_frame};
use crate::handshake::{Answer, Hello, Refusal, check_answer, hello_frame};
use crate::peer::{Outlets, Pair, Shared, random, run_link};
use crate::{PEER_ALPN, Stream, tls};

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("cannot resolve: {0}")]
    Resolve(std::io::Error),
    #[error("cannot connect to {0}: {1}")]
    Connect(std::net::SocketAddr, std::io::Error),
    #[error("the name has no address")]
    NoAddress,
    #[error("the connection to {0} reached itself: nobody listens there")]
    Itself(std::net::SocketAddr),
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("the other side does not speak rorqual-peer/1")]
    Alpn,
    #[error("no answer to our hello: {0}")]
    Answer(FrameError),
    #[error("the peer refused us: {0}")]
    RefusedUs(Refusal),
    #[error("we refused the peer: {0}")]
    RefusedPeer(Refusal),
    #[error("no handshake within {0:?}")]
    Timeout(Duration),
}

/// Pauses between dials.
struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    fn reset(&mut self) {
        self.next = self.min;
    }

    /// Between half of and the whole current pause, by `random`; the current pause doubles.
    fn pause(&mut self, random: u64) -> Duration {
        let half = self.next / 2;
        let jitter = half.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64);
        self.next = self.next.saturating_mul(2).min(self.max).max(self.min);
        half + jitter
    }
}

/// Keeps the link to a peer that we dial, until cancelled.
pub(crate) async fn dial_for_ever(
    peer: Arc<Shared>,
    config: Arc<ClientConfig>,
    hello: Hello,
    outlets: Outlets,
    cancel: CancellationToken,
) {
    let mut backoff = Backoff::new(peer.limits.reconnect_min, peer.limits.reconnect_max);
    while !cancel.is_cancelled() {
        let dialled = tokio::select! {
            dialled = dial_pair(&peer, &config, hello) => dialled,
            () = cancel.cancelled() => return,
        };
        match dialled {
            Ok(pair) => {
                let up = Instant::now();
                run_link(&peer, pair, &outlets, &cancel, std::future::pending()).await;
                if up.elapsed() >= peer.limits.dead_after {
                    backoff.reset();
                }
            }
            Err(error) => {
                peer.counters.failed_dials.add(1);
                peer.failed("dial failed", error.to_string());
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause(random())) => {}
            () = cancel.cancelled() => {}
        }
    }
}

async fn dial_pair(peer: &Shared, config: &Arc<ClientConfig>, hello: Hello) -> Result<Pair, DialError> {
    let limit = peer.limits.handshake_timeout;
    let session = random();
    let dial = |stream| dial_one(peer, config, Hello { stream, session, ..hello });
    let both = async { tokio::try_join!(dial(Stream::Priority), dial(Stream::Bulk)) };
    let (priority, bulk) = timeout(limit, both).await.map_err(|_| DialError::Timeout(limit))??;
    Ok(Pair { priority, bulk })
}

async fn dial_one(peer: &Shared, config: &Arc<ClientConfig>, hello: Hello) -> Result<Connection, DialError> {
    let tcp = connect(&peer.peer.address, peer.limits.handshake_timeout).await?;
    let tcp = prepare(tcp).map_err(DialError::Tls)?;
    let connector = TlsConnector::from(Arc::clone(config));
    let tls = connector.connect(tls::server_name(), tcp).await.map_err(DialError::Tls)?;
    if !tls::has_alpn(tls.get_ref().1, PEER_ALPN) {
        return Err(DialError::Alpn);
    }
    let mut connection = Connection::new(TlsStream::Client(tls));
    write_frame(&mut connection.writer, hello_frame(&hello)).await.map_err(DialError::Tls)?;
    let answer = connection.reader.next().await.map_err(DialError::Answer)?;
    match check_answer(&answer, &hello, peer.peer.index) {
        Ok(Answer::Hello(_)) => Ok(connection),
        Ok(Answer::Refused(refusal)) => Err(DialError::RefusedUs(refusal)),
        Err(refusal) => Err(DialError::RefusedPeer(refusal)),
    }
}

async fn connect(address: &str, patience: Duration) -> Result<TcpStream, DialError> {
    let addresses: Vec<_> = lookup_host(address).await.map_err(DialError::Resolve)?.take(MAX_ADDRESSES).collect();
    // One address that swallows packets must not keep us from the next.
    let share = patience / (addresses.len().max(1) as u32 + 1);
    let mut last = DialError::NoAddress;
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) if tcp.local_addr().is_ok_and(|local| local == address) => last = DialError::Itself(address),
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = DialError::Connect(address, error),
            Err(_) => last = DialError::Connect(address, std::io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_with_jitter_and_start_over() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(450));
        for (random, expected) in [(0, 50), (u64::MAX, 100), (0, 200), (0, 225), (0, 225)] {
            let (pause, base) = (backoff.pause(random), ms(expected));
            let slack = if random == 0 { Duration::ZERO } else { base };
            assert!(pause >= base && pause <= base + slack, "{pause:?}");
        }
        backoff.reset();
        assert_eq!(backoff.pause(0), ms(50));
    }
}
