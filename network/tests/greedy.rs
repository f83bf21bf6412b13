//! A member with a valid key that takes more than its share of a link.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rorqual_network::{Frame, Lane, Limits, Links, SendError, Stream};
use support::*;

fn ping(nonce: u64) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(2);
    frame.put_u64_le(nonce);
    frame.freeze()
}

fn fill(links: &Links, lane: Lane) {
    let frame = Frame::with_tail(&b""[..], Bytes::from(vec![7; 1 << 20]));
    while links.send(ZERO, lane, frame.clone()) != Err(SendError::Full) {}
}

#[tokio::test]
async fn a_peer_that_pings_and_never_reads_loses_its_link() {
    for lane in [Lane::Priority, Lane::Own] {
        let limits = Limits { write_timeout: Duration::from_millis(100), ..limits() };
        let (mut node, address) = waiting_node(limits).await;
        let [mut priority, mut bulk] = raw_pair(address, 1).await;
        node.up().await;
        fill(&node.links, lane);
        // Alive to all appearances.
        let alive = tokio::spawn(async move {
            loop {
                priority.say(ping(1)).await;
                bulk.say(&b"\x07"[..]).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let reason = node.down().await;
        assert!(reason.contains("did not take"), "{reason}");
        assert_eq!(node.links.statistics()[0].unread, 1);
        assert_eq!(node.links.statistics()[0].queued_bytes, [0; 4], "nothing waits for it any more");
        alive.abort();
    }
}

#[tokio::test]
async fn a_flood_of_frames_that_reach_nobody_ends_the_link() {
    let answer_to_nothing = || Bytes::from_static(b"\x06\0\0\0\0\0\0\0\0answer");
    for (stream, frame) in [(0, ping(1)), (0, answer_to_nothing()), (1, Bytes::from_static(b"\x07"))] {
        let (mut node, address) = waiting_node(limits()).await;
        let mut pair = raw_pair(address, 1).await;
        node.up().await;
        let flood = tokio::spawn(async move {
            loop {
                let sent = rorqual_network::frame::write_frame(&mut pair[stream].writer, frame.clone()).await;
                if sent.is_err() {
                    return;
                }
            }
        });
        let reason = node.down().await;
        assert!(reason.contains("more pings"), "{reason}");
        assert_eq!(node.links.statistics()[0].excess, 1);
        flood.abort();
    }
}

#[tokio::test]
async fn a_refused_link_ends_and_comes_back_at_the_pace_of_the_dialer() {
    let (mut zero, mut one) = pair().await;
    one.links.refuse(ZERO, "too many questions");
    assert_eq!(one.down().await, "refused: too many questions");
    zero.down().await;
    zero.up().await;
    one.up().await;
    // What was refused was that link, not the peer.
    zero.links.send(ONE, Lane::Priority, Frame::new(&b"hello"[..])).unwrap();
    assert_eq!(one.frame(Stream::Priority).await, &b"hello"[..]);
    assert_eq!(one.links.statistics()[0].excess, 1);
}
