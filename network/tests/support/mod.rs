//! Nodes on loopback, and a hand-made dialer that does what an honest one never would.
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rorqual_config::Digest;
use rorqual_network::frame::{FrameReader, write_frame};
use rorqual_network::handshake::{Hello, hello_frame};
use rorqual_network::{
    AuthorityIndex, ChainId, Inbound, KeyPair, Limits, LinkConfig, LinkEvent, Links, Listener, PEER_ALPN,
    PROTOCOL_VERSION, Peer, PeerInbound, PublicKey, Stream, tls,
};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than anything takes on a busy machine; only a failing test waits for it.
pub const GENEROUS: Duration = Duration::from_secs(30);

pub const ZERO: AuthorityIndex = AuthorityIndex(0);
pub const ONE: AuthorityIndex = AuthorityIndex(1);

pub fn key(index: u16) -> KeyPair {
    KeyPair::from_seed([index as u8 + 1; 32])
}

pub fn chain(byte: u8) -> ChainId {
    ChainId(Digest([byte; 32]))
}

/// Quick to reconnect; otherwise as shipped.
pub fn limits() -> Limits {
    Limits {
        reconnect_min: Duration::from_millis(5),
        reconnect_max: Duration::from_millis(50),
        keepalive: Duration::from_millis(100),
        dead_after: Duration::from_secs(10),
        ..Limits::default()
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GENEROUS, future).await.expect("this should have happened long ago")
}

/// Waits for something that nobody announces.
pub async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub async fn listener() -> Listener {
    Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}

/// A port of which we were the last owner may be taken for an instant.
pub async fn rebind(address: SocketAddr) -> Listener {
    within(async {
        loop {
            match Listener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await
}

pub fn config(me: u16, addresses: &[SocketAddr], limits: Limits) -> LinkConfig {
    let peers =
        addresses.iter().enumerate().filter(|(index, _)| *index != usize::from(me)).map(|(index, address)| Peer {
            index: AuthorityIndex(index as u16),
            name: format!("node-{index}"),
            public_key: key(index as u16).public(),
            address: address.to_string(),
        });
    LinkConfig { key: key(me), me: AuthorityIndex(me), peers: peers.collect(), chain_id: chain(1), epoch: 0, limits }
}

/// One node of two.
pub struct Node {
    pub links: Links,
    pub inbound: PeerInbound,
}

impl Node {
    pub fn start(listener: Listener, config: LinkConfig) -> Self {
        let (links, mut inbounds) = Links::start(listener, config);
        Self { links, inbound: inbounds.remove(0) }
    }

    pub async fn event(&mut self) -> LinkEvent {
        within(self.inbound.events.recv()).await.expect("links are alive")
    }

    pub async fn up(&mut self) {
        assert_eq!(self.event().await, LinkEvent::Up);
    }

    pub async fn down(&mut self) -> String {
        match self.event().await {
            LinkEvent::Down { reason } => reason,
            LinkEvent::Up => panic!("up, not down"),
        }
    }

    pub async fn take(&mut self, stream: Stream) -> Inbound {
        let receiver = match stream {
            Stream::Priority => &mut self.inbound.priority,
            Stream::Bulk => &mut self.inbound.bulk,
        };
        within(receiver.recv()).await.expect("links are alive")
    }

    pub async fn frame(&mut self, stream: Stream) -> Bytes {
        self.take(stream).await.frame
    }
}

/// Two nodes with a link between them.
pub async fn pair_with(limits: Limits) -> (Node, Node) {
    let (zero, one) = (listener().await, listener().await);
    let addresses = [zero.local_addr(), one.local_addr()];
    let mut zero = Node::start(zero, config(0, &addresses, limits.clone()));
    let mut one = Node::start(one, config(1, &addresses, limits));
    zero.up().await;
    one.up().await;
    (zero, one)
}

pub async fn pair() -> (Node, Node) {
    pair_with(limits()).await
}

/// Node 1, which waits for node 0; nobody listens at node 0's address.
pub async fn waiting_node(limits: Limits) -> (Node, SocketAddr) {
    let one = listener().await;
    let address = one.local_addr();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    (Node::start(one, config(1, &[nobody, address], limits)), address)
}

/// A connection made by hand.
pub struct Raw {
    pub reader: FrameReader<ReadHalf<TlsStream<TcpStream>>>,
    pub writer: WriteHalf<TlsStream<TcpStream>>,
}

impl Raw {
    pub async fn connect(
        address: SocketAddr,
        key: &KeyPair,
        expected: PublicKey,
        alpn: &[u8],
    ) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        let connector = TlsConnector::from(tls::client_config(key, expected, alpn));
        let tls = connector.connect(tls::server_name(), tcp).await?;
        let (reader, writer) = tokio::io::split(tls);
        Ok(Self { reader: FrameReader::new(reader, 1 << 20), writer })
    }

    /// As node 0 at node 1.
    pub async fn member(address: SocketAddr) -> Self {
        within(Self::connect(address, &key(0), key(1).public(), PEER_ALPN)).await.unwrap()
    }

    pub async fn say(&mut self, content: impl Into<Bytes>) {
        write_frame(&mut self.writer, content.into()).await.unwrap();
    }

    pub async fn next(&mut self) -> Result<Bytes, rorqual_network::frame::FrameError> {
        within(self.reader.next()).await
    }

    /// Reads until the other side closes.
    pub async fn closed(&mut self) {
        while self.next().await.is_ok() {}
    }
}

pub fn hello(stream: Stream, session: u64) -> Hello {
    Hello { version: PROTOCOL_VERSION, chain_id: chain(1), epoch: 0, author: ZERO, stream, session }
}

/// Both streams of node 0 at node 1, after the hellos.
pub async fn raw_pair(address: SocketAddr, session: u64) -> [Raw; 2] {
    let mut pair = [Raw::member(address).await, Raw::member(address).await];
    for (raw, stream) in pair.iter_mut().zip([Stream::Priority, Stream::Bulk]) {
        raw.say(hello_frame(&hello(stream, session))).await;
        assert_eq!(raw.next().await.unwrap()[0], 0, "a hello");
    }
    pair
}
