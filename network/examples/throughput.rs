//! How many payload bytes a second one link carries over loopback, both ends in this process.
//!
//! `cargo run --release -p rorqual-network --example throughput -- [MIB] [FRAME_KIB] [both]`

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use rorqual_config::Digest;
use rorqual_network::{
    AuthorityIndex, ChainId, Frame, KeyPair, Lane, Limits, LinkConfig, LinkEvent, Links, Listener, Peer, PeerInbound,
    SendError,
};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let mebibytes: usize = arguments.next().map_or(Ok(4_096), |text| text.parse())?;
    let frame_kib: usize = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let both = arguments.next().is_some();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(mebibytes << 20, frame_kib << 10, both))
}

fn key(index: u16) -> KeyPair {
    KeyPair::from_seed([index as u8 + 1; 32])
}

fn start(me: u16, listener: Listener, other: SocketAddr) -> Result<(Links, PeerInbound), AnyError> {
    let index = AuthorityIndex(1 - me);
    let peer = Peer { index, name: "other".to_owned(), public_key: key(1 - me).public(), address: other.to_string() };
    let config = LinkConfig {
        key: key(me),
        me: AuthorityIndex(me),
        peers: vec![peer],
        chain_id: ChainId(Digest::default()),
        epoch: 0,
        limits: Limits::default(),
    };
    let (links, mut inbounds) = Links::start(listener, config);
    let inbound = inbounds.pop().ok_or("no peer")?;
    Ok((links, inbound))
}

async fn measure(total: usize, frame_bytes: usize, both: bool) -> Result<(), AnyError> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (zero, one) = (Listener::bind(any).await?, Listener::bind(any).await?);
    let (at_zero, at_one) = (zero.local_addr(), one.local_addr());
    let (zero, mut zero_in) = start(0, zero, at_one)?;
    let (one, mut one_in) = start(1, one, at_zero)?;
    for inbound in [&mut zero_in, &mut one_in] {
        match inbound.events.recv().await {
            Some(LinkEvent::Up) => {}
            other => return Err(format!("no link: {other:?}").into()),
        }
    }
    let started = Instant::now();
    let mut tasks = vec![
        tokio::spawn(pour(zero.clone(), AuthorityIndex(1), total, frame_bytes)),
        tokio::spawn(drain(one_in, total)),
    ];
    if both {
        tasks.push(tokio::spawn(pour(one.clone(), AuthorityIndex(0), total, frame_bytes)));
        tasks.push(tokio::spawn(drain(zero_in, total)));
    }
    for task in tasks {
        task.await??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let directions = if both { 2 } else { 1 };
    let rate = (directions * total) as f64 / seconds / 1e6;
    println!("{directions} direction(s), frames of {frame_bytes} bytes: {rate:.0} MB/s payload");
    zero.shutdown().await;
    one.shutdown().await;
    Ok(())
}

async fn pour(links: Links, to: AuthorityIndex, total: usize, frame_bytes: usize) -> Result<(), AnyError> {
    let tail = Bytes::from(vec![0x5a; frame_bytes]);
    let mut sent = 0;
    while sent < total {
        match links.send(to, Lane::Own, Frame::with_tail(&b"header"[..], tail.clone())) {
            Ok(()) => sent += frame_bytes,
            Err(SendError::Full) => {
                // Learn when there is room from a frame that leaves, not from a clock.
                if let Ok(handed) = links.send_tracked(to, Lane::Urgent, Frame::default()) {
                    handed.await?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn drain(mut inbound: PeerInbound, total: usize) -> Result<(), AnyError> {
    let mut received = 0;
    while received < total {
        let frame = inbound.bulk.recv().await.ok_or("the link ended")?.frame;
        received += frame.len().saturating_sub(6);
    }
    Ok(())
}
