//! What those who are not honest, or not members, get: refused, counted, and nothing else.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use rorqual_network::frame::FrameError;
use rorqual_network::handshake::{Answer, Hello, Refusal, check_answer, hello_frame};
use rorqual_network::{AuthorityIndex, Frame, KeyPair, Lane, Limits, PEER_ALPN, Stream};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Offers a key and a hello, and expects to be cut off without a single frame.
async fn assert_cut_off(address: std::net::SocketAddr, key: &KeyPair, alpn: &[u8]) {
    // In TLS 1.3 the client is done before the server has seen its key: the refusal may come at the first read.
    let expected = support::key(1).public();
    if let Ok(mut raw) = within(Raw::connect(address, key, expected, alpn)).await {
        let _ = rorqual_network::frame::write_frame(&mut raw.writer, hello_frame(&hello(Stream::Bulk, 1))).await;
        assert!(raw.next().await.is_err(), "not a byte past the handshake");
    }
}

#[tokio::test]
async fn a_stranger_with_a_key_of_its_own_gets_no_byte_past_the_handshake() {
    let (one, address) = waiting_node(limits()).await;
    assert_cut_off(address, &KeyPair::from_seed([99; 32]), PEER_ALPN).await;
    until(|| one.links.refused().no_committee_key == 1).await;
    assert!(!one.links.is_connected(ZERO));
}

#[tokio::test]
async fn the_own_key_is_refused() {
    let (one, address) = waiting_node(limits()).await;
    assert_cut_off(address, &key(1), PEER_ALPN).await;
    until(|| one.links.refused().own_key == 1).await;
}

#[tokio::test]
async fn a_member_that_should_be_dialled_is_refused() {
    let zero = listener().await;
    let address = zero.local_addr();
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let three = listener().await;
    let mut config = config(1, &[nobody, three.local_addr(), nobody], limits());
    config.peers.retain(|peer| peer.index == AuthorityIndex(2));
    let one = Node::start(zero, config);
    assert_cut_off(address, &key(2), PEER_ALPN).await;
    until(|| one.links.refused().wrong_direction == 1).await;
}

#[tokio::test]
async fn another_application_protocol_is_refused() {
    let (one, address) = waiting_node(limits()).await;
    assert_cut_off(address, &key(0), b"rorqual-client/1").await;
    until(|| one.links.refused().tls == 1).await;
}

#[tokio::test]
async fn a_server_with_another_key_is_not_talked_to() {
    let (zero, impostor) = (listener().await, listener().await);
    let addresses = [zero.local_addr(), impostor.local_addr()];
    // The impostor has a committee of its own in which it is node 1.
    let mut config_of_impostor = config(1, &addresses, limits());
    config_of_impostor.key = KeyPair::from_seed([99; 32]);
    let _impostor = Node::start(impostor, config_of_impostor);
    let zero = Node::start(zero, config(0, &addresses, limits()));
    until(|| zero.links.statistics()[0].failed_dials > 1).await;
    assert!(zero.links.statistics()[0].last_failure.contains("certificate"));
    assert_eq!(zero.links.statistics()[0].links, 0);
}

#[tokio::test]
async fn garbage_is_refused_and_counted() {
    let (one, address) = waiting_node(limits()).await;
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(&[0xa5; 4_000]).await.unwrap();
    let mut answer = Vec::new();
    let _ = within(tcp.read_to_end(&mut answer)).await;
    assert!(answer.len() < 100, "at most an alert");
    until(|| one.links.refused().tls == 1).await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_at_the_handshake_deadline() {
    let (one, address) = waiting_node(Limits { handshake_timeout: Duration::from_millis(300), ..limits() }).await;
    let mut tcp = TcpStream::connect(address).await.unwrap();
    assert_eq!(within(tcp.read(&mut [0; 1])).await.unwrap_or(0), 0);
    until(|| one.links.refused().handshake_timeout == 1).await;
    // A member that says no hello is no better.
    Raw::member(address).await.closed().await;
    until(|| one.links.refused().handshake_timeout == 2).await;
}

#[tokio::test]
async fn a_member_with_one_stream_only_is_not_kept_waiting_for() {
    let (one, address) = waiting_node(Limits { handshake_timeout: Duration::from_millis(300), ..limits() }).await;
    let mut raw = Raw::member(address).await;
    raw.say(hello_frame(&hello(Stream::Priority, 1))).await;
    raw.closed().await;
    assert!(!one.links.is_connected(ZERO));
}

#[tokio::test]
async fn half_open_connections_are_bounded_and_do_not_keep_members_out() {
    let (mut one, address) = waiting_node(Limits { max_half_open: 4, ..limits() }).await;
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(TcpStream::connect(address).await.unwrap());
    }
    until(|| one.links.refused().too_many_half_open == 16).await;
    let _pair = raw_pair(address, 1).await;
    one.up().await;
}

/// What a client sends first, made once: a flood costs its sender next to nothing.
fn client_hello() -> Vec<u8> {
    let config = rorqual_network::tls::client_config(&KeyPair::from_seed([99; 32]), key(1).public(), PEER_ALPN);
    let mut client = rustls::ClientConnection::new(config, rorqual_network::tls::server_name()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_client_hello_byte_by_byte_does_not_outlast_the_handshake_deadline() {
    let (one, address) = waiting_node(Limits { handshake_timeout: Duration::from_millis(300), ..limits() }).await;
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let hello = client_hello();
    let trickle = async {
        for byte in hello.iter().cycle() {
            if tcp.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(trickle).await;
    let refused = one.links.refused();
    assert_eq!(refused.handshake_timeout + refused.tls, 1, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_handshakes_is_paced_and_does_not_harm_a_link() {
    let (per_second, burst) = (50, 20);
    let limits = Limits { handshakes_per_second: per_second, handshake_burst: burst, max_half_open: 16, ..limits() };
    let listeners = [listener().await, listener().await];
    let [first, second] = [listeners[0].local_addr(), listeners[1].local_addr()];
    let began = std::time::Instant::now();
    let [zero, one] = listeners;
    let mut zero = Node::start(zero, config(0, &[first, second], limits.clone()));
    let mut one = Node::start(one, config(1, &[first, second], limits));
    zero.up().await;
    one.up().await;
    let hello = client_hello();
    let flood: Vec<_> = (0..8).map(|_| tokio::spawn(flood(second, hello.clone()))).collect();
    until(|| one.links.refused().too_many_half_open > 1_000).await;
    for number in 0..1_000u32 {
        zero.links.send(ONE, Lane::Priority, Frame::new(number.to_le_bytes().to_vec())).unwrap();
        assert_eq!(&one.frame(Stream::Priority).await[..], &number.to_le_bytes());
    }
    assert_eq!(one.links.statistics()[0].links, 1, "the link stood");
    let handshakes = one.links.refused().handshakes;
    let most = u64::from(burst) + (began.elapsed().as_secs_f64() * f64::from(per_second)).ceil() as u64;
    assert!(handshakes <= most, "{handshakes} handshakes, {most} allowed");
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Connects, says what costs the other side a signature, and goes on without waiting; for ever.
async fn flood(address: std::net::SocketAddr, hello: Vec<u8>) {
    let mut held = std::collections::VecDeque::new();
    loop {
        if let Ok(mut tcp) = TcpStream::connect(address).await {
            let _ = tcp.write_all(&hello).await;
            held.push_back(tcp);
        }
        if held.len() > 32 {
            held.pop_front();
        }
    }
}

#[tokio::test]
async fn an_oversized_hello_is_refused_by_its_length_alone() {
    let (one, address) = waiting_node(limits()).await;
    let mut raw = Raw::member(address).await;
    raw.writer.write_all(&1_000_000u32.to_le_bytes()).await.unwrap();
    raw.writer.flush().await.unwrap();
    raw.closed().await;
    until(|| one.links.refused().oversized_frame == 1).await;
}

#[tokio::test]
async fn an_oversized_frame_of_a_member_ends_the_link_and_is_counted() {
    let (mut one, address) = waiting_node(limits()).await;
    let [mut priority, mut bulk] = raw_pair(address, 1).await;
    one.up().await;
    bulk.writer.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    bulk.writer.flush().await.unwrap();
    assert!(one.down().await.contains("exceeds the limit"));
    assert_eq!(one.links.statistics()[0].oversized, 1);
    // The other stream goes with it.
    priority.closed().await;
    bulk.closed().await;
}

#[tokio::test]
async fn frames_that_are_none_end_the_link() {
    let (mut one, address) = waiting_node(limits()).await;
    for (session, nonsense) in [&b""[..], &[0], &[99, 1, 2], &[5, 1, 2], &[2, 1]].into_iter().enumerate() {
        let [_priority, mut bulk] = raw_pair(address, session as u64).await;
        one.up().await;
        bulk.say(Bytes::from_static(nonsense)).await;
        assert!(one.down().await.contains("a frame that is none"));
    }
    assert_eq!(one.links.statistics()[0].malformed, 5);
}

#[tokio::test]
async fn another_chain_is_refused_and_both_sides_know_why() {
    let (zero, one) = (listener().await, listener().await);
    let addresses = [zero.local_addr(), one.local_addr()];
    let zero = Node::start(zero, config(0, &addresses, limits()));
    let mut other = config(1, &addresses, limits());
    other.chain_id = chain(2);
    let one = Node::start(one, other);
    until(|| zero.links.statistics()[0].last_failure.contains("chains differ")).await;
    until(|| one.links.statistics()[0].last_failure.contains("chains differ")).await;
    for reason in [&zero.links.statistics()[0].last_failure, &one.links.statistics()[0].last_failure] {
        assert!(reason.contains(&chain(1).to_string()) && reason.contains(&chain(2).to_string()), "{reason}");
    }
    assert!(one.links.refused().wrong_chain > 0);
    assert!(!zero.links.is_connected(ONE));
}

#[tokio::test]
async fn another_version_or_author_is_refused_with_the_reason() {
    let (one, address) = waiting_node(limits()).await;
    let mine = hello(Stream::Bulk, 1);
    for (wrong, expected) in [
        (Hello { version: 7, ..mine }, Refusal::WrongVersion { ours: mine.version, yours: 7 }),
        (Hello { epoch: 3, ..mine }, Refusal::WrongEpoch { ours: 0, yours: 3 }),
        (Hello { author: ONE, ..mine }, Refusal::WrongAuthor { owner: ZERO, named: ONE }),
    ] {
        let mut raw = Raw::member(address).await;
        raw.say(hello_frame(&wrong)).await;
        let answer = raw.next().await.unwrap();
        assert_eq!(check_answer(&answer, &mine, ONE), Ok(Answer::Refused(expected)));
        assert!(matches!(raw.next().await, Err(FrameError::Closed)));
    }
    let refused = one.links.refused();
    assert_eq!((refused.wrong_version, refused.wrong_chain, refused.wrong_author), (1, 1, 1));
}

#[tokio::test]
async fn a_newer_pair_of_connections_replaces_the_older() {
    let (mut one, address) = waiting_node(limits()).await;
    let [mut old_priority, mut old_bulk] = raw_pair(address, 1).await;
    one.up().await;
    let [_new_priority, mut new_bulk] = raw_pair(address, 2).await;
    assert!(one.down().await.contains("replaced"));
    one.up().await;
    old_priority.closed().await;
    old_bulk.closed().await;
    new_bulk.say(&b"\x04new"[..]).await;
    assert_eq!(&one.frame(Stream::Bulk).await[..], b"new");
    one.links.send(ZERO, Lane::Own, Frame::new(&b"to the new one"[..])).unwrap();
    let frame = loop {
        let frame = new_bulk.next().await.unwrap();
        if frame[0] == 4 {
            break frame;
        }
    };
    assert_eq!(&frame[1..], b"to the new one");
}

#[tokio::test]
async fn streams_of_different_dials_are_not_paired() {
    let (one, address) = waiting_node(limits()).await;
    let mut first = Raw::member(address).await;
    first.say(hello_frame(&hello(Stream::Priority, 1))).await;
    first.next().await.unwrap();
    let mut second = Raw::member(address).await;
    second.say(hello_frame(&hello(Stream::Bulk, 2))).await;
    second.next().await.unwrap();
    // The older half is given up when the newer comes.
    first.closed().await;
    assert!(!one.links.is_connected(ZERO));
}

#[tokio::test]
async fn a_member_that_falls_silent_is_dropped() {
    let dead_after = Duration::from_millis(500);
    let (mut one, address) = waiting_node(Limits { dead_after, ..limits() }).await;
    let _pair = raw_pair(address, 1).await;
    one.up().await;
    assert!(one.down().await.contains("nothing heard"));
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_without_a_queue() {
    let (mut one, address) = waiting_node(limits()).await;
    let [mut priority, _bulk] = raw_pair(address, 1).await;
    one.up().await;
    // As many as the link bears at once.
    for nonce in 0..4_000u64 {
        let ping = [&[2][..], &nonce.to_le_bytes()].concat();
        rorqual_network::frame::write_frame(&mut priority.writer, ping.into()).await.unwrap();
    }
    let last = [&[3][..], &3_999u64.to_le_bytes()].concat();
    within(async { while priority.next().await.unwrap() != last {} }).await;
    assert_eq!(one.links.statistics()[0].queued_bytes[0], 0);
}
