//! The two halves of one authenticated connection: a task that reads and a task that writes.
//!
//! Promises: frames reach their consumer in order; while the consumer does not take them the socket is not read; a writer
//! gathers what waits, writes it by reference and flushes once; a connection on which nothing arrives, which takes nothing, or which
//! brings nothing but chatter is given up. Each half
//! returns, with the reason for people, exactly when the connection is of no further use.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::chatter::Chatter;
use crate::frame::{FrameBatch, FrameError, FrameReader, LENGTH_BYTES};
use crate::handshake::MAX_HANDSHAKE_BYTES;
use crate::peer::{Shared, inbound_permits};
use crate::send::{FRAME_OVERHEAD_BYTES, Kind, MAX_BATCH_BYTES, MAX_ENVELOPE_BYTES, push_envelope};
use crate::{Inbound, ReplyTo, Stream};

/// Bytes taken from the kernel at once: TLS alone would ask for 4 KiB at a time.
const RECEIVE_BUFFER_BYTES: usize = 64 << 10;

/// Encrypted bytes that wait for the kernel, at most.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// TLS over TCP, with few system calls.
pub(crate) type Tls = TlsStream<BufReader<TcpStream>>;

/// A connection after TLS, before or after the hellos.
pub(crate) struct Connection {
    pub(crate) reader: FrameReader<ReadHalf<Tls>>,
    pub(crate) writer: WriteHalf<Tls>,
}

impl Connection {
    pub(crate) fn new(mut tls: Tls) -> Self {
        match &mut tls {
            TlsStream::Client(tls) => tls.get_mut().1.set_buffer_limit(Some(SEND_BUFFER_BYTES)),
            TlsStream::Server(tls) => tls.get_mut().1.set_buffer_limit(Some(SEND_BUFFER_BYTES)),
        }
        let (reader, writer) = tokio::io::split(tls);
        Self { reader: FrameReader::new(reader, MAX_HANDSHAKE_BYTES), writer }
    }
}

/// A TCP stream made ready for TLS.
pub(crate) fn prepare(tcp: TcpStream) -> std::io::Result<BufReader<TcpStream>> {
    tcp.set_nodelay(true)?;
    Ok(BufReader::with_capacity(RECEIVE_BUFFER_BYTES, tcp))
}

/// Why a half came to its end.
pub(crate) enum End {
    /// In order, between two frames.
    Closed,
    /// In any other way; the reason is for people.
    Broken(String),
}

/// Reads until the connection is of no use, and says why.
pub(crate) async fn read_half<R: AsyncRead + Unpin>(
    peer: Arc<Shared>,
    link: u64,
    stream: Stream,
    mut reader: FrameReader<R>,
    inbound: mpsc::Sender<Inbound>,
) -> End {
    reader.set_limit(peer.limits.frame_bytes(stream), true);
    let dead_after = peer.limits.dead_after;
    let mut heard = Instant::now();
    let mut received = reader.received();
    let mut chatter = Chatter::new(heard);
    let mut silence = std::pin::pin!(sleep_until(heard + dead_after));
    loop {
        let next = tokio::select! {
            biased;
            next = reader.next() => next,
            () = &mut silence => {
                if reader.received() != received {
                    (heard, received) = (Instant::now(), reader.received());
                } else if heard.elapsed() >= dead_after {
                    return End::Broken(format!("nothing heard on the {stream:?} stream for {dead_after:?}"));
                }
                silence.as_mut().reset(heard + dead_after);
                continue;
            }
        };
        let frame = match next {
            Ok(frame) => frame,
            Err(FrameError::Closed) => return End::Closed,
            // What TLS says about it is for programmers.
            Err(FrameError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                return End::Broken(format!("{stream:?} stream: cut off without a close, as when a process is killed"));
            }
            Err(error) => {
                if matches!(error, FrameError::Oversized { .. }) {
                    peer.counters.oversized.add(1);
                }
                return End::Broken(format!("{stream:?} stream: {error}"));
            }
        };
        let counters = &peer.counters.streams[stream.usize()];
        counters.frames_in.add(1);
        counters.bytes_in.add((LENGTH_BYTES + frame.len()) as u64);
        let Some(delivery) = dispatch(&peer, link, stream, frame) else {
            peer.counters.malformed.add(1);
            return End::Broken(format!("{stream:?} stream: a frame that is none"));
        };
        if let Some(mut frame) = delivery {
            frame.share = share(&peer, stream, frame.frame.len()).await;
            // An error says that the node wants no more of these: they are discarded.
            let _ = inbound.send(frame).await;
        } else if !chatter.take(Instant::now()) {
            peer.counters.excess.add(1);
            return End::Broken(format!(
                "{stream:?} stream: more pings and answers to no question than any node sends"
            ));
        }
        // Time spent waiting for the consumer is not the peer's silence.
        (heard, received) = (Instant::now(), reader.received());
    }
}

/// Waits until the consumer may have so many bytes more.
async fn share(peer: &Shared, stream: Stream, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let share = (bytes + FRAME_OVERHEAD_BYTES).min(inbound_permits(&peer.limits));
    let permits = u32::try_from(share).unwrap_or(u32::MAX);
    // The semaphore is never closed.
    Arc::clone(&peer.inbound[stream.usize()]).acquire_many_owned(permits).await.ok()
}

/// Handles what the network itself understands. `Some(Some(…))` is for the node, `None` is not a frame.
fn dispatch(peer: &Arc<Shared>, link: u64, stream: Stream, mut frame: Bytes) -> Option<Option<Inbound>> {
    let kind = Kind::from_byte(*frame.first()?)?;
    let mut id = 0;
    if kind.has_id() {
        id = u64::from_le_bytes(frame.get(1..MAX_ENVELOPE_BYTES)?.try_into().ok()?);
        frame.advance(MAX_ENVELOPE_BYTES);
    } else {
        frame.advance(1);
    }
    match kind {
        Kind::Message => return Some(Some(Inbound { frame, reply: None, share: None })),
        Kind::Request => {
            let reply = Some(ReplyTo { peer: Arc::clone(peer), link, id });
            return Some(Some(Inbound { frame, reply, share: None }));
        }
        Kind::Response => {
            if !peer.requests.answer(id, frame) {
                peer.counters.stray_answers.add(1);
            }
        }
        Kind::Ping if stream == Stream::Priority => peer.queues.pong(id),
        Kind::Pong if stream == Stream::Priority => peer.round_trip.answered(id),
        Kind::Ping | Kind::Pong => return None,
        Kind::KeepAlive => {}
    }
    Some(None)
}

/// Writes until the connection is of no use, and says why. When `closing`, writes what waits and closes in order.
pub(crate) async fn write_half<W: AsyncWrite + Unpin>(
    peer: Arc<Shared>,
    link: u64,
    stream: Stream,
    mut writer: W,
    closing: CancellationToken,
) -> End {
    let mut batch = FrameBatch::default();
    let mut handed: Vec<oneshot::Sender<()>> = Vec::new();
    let mut next_ping = Instant::now();
    loop {
        if Instant::now() >= next_ping {
            next_ping = Instant::now() + peer.limits.keepalive;
            let (kind, nonce) = match stream {
                Stream::Priority => (Kind::Ping, peer.round_trip.asked()),
                Stream::Bulk => (Kind::KeepAlive, 0),
            };
            push_envelope(&mut batch, kind, nonce, [Bytes::new(), Bytes::new()]);
        }
        peer.queues.take(stream, link, &mut batch, &mut handed);
        if batch.is_empty() {
            if closing.is_cancelled() {
                let _ = writer.shutdown().await;
                return End::Closed;
            }
            tokio::select! {
                () = peer.queues.ready(stream) => {}
                () = sleep_until(next_ping) => {}
                () = closing.cancelled() => {}
            }
            continue;
        }
        let (bytes, frames) = (batch.bytes() as u64, batch.frames() as u64);
        let written = async {
            batch.write_to(&mut writer).await?;
            writer.flush().await
        };
        // Whoever pings and never reads would keep its lanes full for ever.
        let patience = peer.limits.write_timeout.saturating_mul(1 + (bytes / MAX_BATCH_BYTES as u64) as u32);
        match timeout(patience, written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return End::Broken(format!("{stream:?} stream: {error}")),
            Err(_) => {
                peer.counters.unread.add(1);
                return End::Broken(format!("{stream:?} stream: the peer did not take {bytes} bytes in {patience:?}"));
            }
        }
        let counters = &peer.counters.streams[stream.usize()];
        counters.bytes_out.add(bytes);
        counters.frames_out.add(frames);
        for sender in handed.drain(..) {
            // Nobody may be waiting any more.
            let _ = sender.send(());
        }
    }
}
