//! What two honest nodes may rely on.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use rorqual_network::{Frame, Lane, Limits, Links, Listener, NetworkError, RequestError, SendError, Stream};
use support::*;

#[tokio::test]
async fn frames_travel_both_ways_on_both_streams_in_order() {
    let (mut zero, mut one) = pair().await;
    for (lane, stream) in [(Lane::Priority, Stream::Priority), (Lane::Own, Stream::Bulk)] {
        for number in 0..100u8 {
            zero.links.send(ONE, lane, Frame::new(vec![number; 10])).unwrap();
            one.links.send(ZERO, lane, Frame::new(vec![number + 100; 10])).unwrap();
        }
        for number in 0..100u8 {
            assert_eq!(one.frame(stream).await, vec![number; 10]);
            assert_eq!(zero.frame(stream).await, vec![number + 100; 10]);
        }
    }
    let statistics = &zero.links.statistics()[0];
    assert!(statistics.connected && statistics.links == 1);
    assert!(statistics.bulk.frames_in >= 100 && statistics.priority.bytes_in >= 1_000);
}

#[tokio::test]
async fn a_large_tail_arrives_intact_behind_its_header() {
    let (zero, mut one) = pair().await;
    let tail: Vec<u8> = (0..1_900_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let tail = Bytes::from(tail);
    for _ in 0..5 {
        zero.links.send(ONE, Lane::Own, Frame::with_tail(&b"header"[..], tail.clone())).unwrap();
    }
    for _ in 0..5 {
        let frame = one.frame(Stream::Bulk).await;
        assert_eq!(&frame[..6], b"header");
        assert!(frame[6..] == tail);
    }
}

#[tokio::test]
async fn an_empty_frame_is_a_frame() {
    let (zero, mut one) = pair().await;
    zero.links.send(ONE, Lane::Priority, Frame::default()).unwrap();
    assert!(one.frame(Stream::Priority).await.is_empty());
}

#[tokio::test]
async fn requests_are_matched_to_their_answers() {
    let (zero, mut one) = pair().await;
    let ask = |question: &'static [u8]| zero.links.request(ONE, Lane::Priority, Frame::new(question), GENEROUS);
    let answering = async {
        let first = one.take(Stream::Priority).await;
        let second = one.take(Stream::Priority).await;
        for asked in [second, first] {
            let to = asked.reply.unwrap();
            assert_eq!(to.peer(), ZERO);
            let tail = asked.frame.slice(..);
            one.links.respond(to, Lane::Urgent, Frame::with_tail(&b"re: "[..], tail)).unwrap();
        }
    };
    let (a, b, ()) = tokio::join!(ask(b"a"), ask(b"b"), answering);
    assert_eq!((&a.unwrap()[..], &b.unwrap()[..]), (&b"re: a"[..], &b"re: b"[..]));
}

#[tokio::test]
async fn a_request_nobody_answers_ends_at_its_deadline_and_makes_room() {
    let (zero, mut one) = pair_with(Limits { max_requests: 1, ..limits() }).await;
    let ask = |deadline| zero.links.request(ONE, Lane::Priority, Frame::new(&b"?"[..]), deadline);
    assert_eq!(ask(Duration::from_millis(20)).await, Err(RequestError::Deadline));
    let late = one.take(Stream::Priority).await.reply.unwrap();
    one.links.respond(late, Lane::Priority, Frame::new(&b"late"[..])).unwrap();
    until(|| zero.links.statistics()[0].stray_answers == 1).await;
    let (answer, full, ()) = tokio::join!(ask(GENEROUS), ask(GENEROUS), async {
        let to = one.take(Stream::Priority).await.reply.unwrap();
        one.links.respond(to, Lane::Priority, Frame::new(&b"!"[..])).unwrap();
    });
    assert_eq!((answer, full), (Ok(Bytes::from_static(b"!")), Err(RequestError::Full)));
}

#[tokio::test]
async fn open_requests_fail_when_the_link_breaks() {
    let (zero, mut one) = pair().await;
    let (answer, ()) = tokio::join!(zero.links.request(ONE, Lane::Priority, Frame::default(), GENEROUS), async {
        let to = one.take(Stream::Priority).await.reply.unwrap();
        one.links.shutdown().await;
        assert_eq!(one.links.respond(to, Lane::Priority, Frame::default()), Err(SendError::Disconnected));
    });
    assert_eq!(answer, Err(RequestError::Disconnected));
}

#[tokio::test]
async fn a_restarted_peer_gets_reliable_frames_again_and_cancelled_ones_never() {
    let (zero, one) = (listener().await, listener().await);
    let addresses = [zero.local_addr(), one.local_addr()];
    drop(one);
    let mut zero = Node::start(zero, config(0, &addresses, limits()));
    assert_eq!(zero.links.send(ONE, Lane::Own, Frame::default()), Err(SendError::Disconnected));
    let kept = zero.links.send_reliable(ONE, Lane::Own, Frame::new(&b"kept"[..]));
    let cancelled = zero.links.send_reliable(ONE, Lane::Own, Frame::new(&b"cancelled"[..]));
    let late = zero.links.send_reliable(ONE, Lane::Own, Frame::new(&b"late"[..]));
    assert_eq!(kept.refusal(), None);
    drop(cancelled);
    for _ in 0..2 {
        let mut one = Node::start(rebind(addresses[1]).await, config(1, &addresses, limits()));
        zero.up().await;
        one.up().await;
        assert_eq!(&one.frame(Stream::Bulk).await[..], b"kept");
        assert_eq!(&one.frame(Stream::Bulk).await[..], b"late");
        one.links.shutdown().await;
        one.down().await;
        zero.down().await;
    }
    kept.done();
    let mut one = Node::start(rebind(addresses[1]).await, config(1, &addresses, limits()));
    zero.up().await;
    assert_eq!(&one.frame(Stream::Bulk).await[..], b"late");
    assert_eq!(zero.links.statistics()[0].links, 3);
    drop(late);
}

#[tokio::test]
async fn a_restarted_dialer_is_accepted_again() {
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let (listener_zero, listener_one) = (listener().await, listener().await);
    let addresses = [nobody, listener_one.local_addr()];
    let mut one = Node::start(listener_one, config(1, &addresses, limits()));
    let mut zero = Node::start(listener_zero, config(0, &addresses, limits()));
    zero.up().await;
    one.up().await;
    zero.links.shutdown().await;
    one.down().await;
    assert!(!one.links.is_connected(ZERO));
    let mut zero = Node::start(listener().await, config(0, &addresses, limits()));
    zero.up().await;
    one.up().await;
    one.links.send(ZERO, Lane::Priority, Frame::new(&b"again"[..])).unwrap();
    assert_eq!(&zero.frame(Stream::Priority).await[..], b"again");
}

#[tokio::test]
async fn a_slow_reader_is_answered_with_full_and_loses_nothing() {
    let lane_bytes = 1 << 20;
    let limits = Limits { own_queue_bytes: lane_bytes, inbound_frames: 2, ..limits() };
    let (zero, mut one) = pair_with(limits).await;
    let tail = Bytes::from(vec![7; 60_000]);
    let send =
        |number: u32| zero.links.send(ONE, Lane::Own, Frame::with_tail(number.to_le_bytes().to_vec(), tail.clone()));
    // Kernel buffers take some megabytes; then the lane fills and stays full.
    let mut sent = 0u32;
    let mut full_since = tokio::time::Instant::now();
    within(async {
        while full_since.elapsed() < Duration::from_millis(300) {
            match send(sent) {
                Ok(()) => {
                    sent += 1;
                    full_since = tokio::time::Instant::now();
                }
                Err(SendError::Full) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(error) => panic!("{error}"),
            }
            assert!(zero.links.statistics()[0].queued_bytes[1] <= lane_bytes);
        }
    })
    .await;
    assert_eq!(send(sent), Err(SendError::Full));
    assert!(zero.links.room(ONE, Lane::Own) < 60_004);
    assert!(zero.links.statistics()[0].refused > 0);
    // Headers do not wait behind payload.
    zero.links.send(ONE, Lane::Priority, Frame::new(&b"quick"[..])).unwrap();
    assert_eq!(&one.frame(Stream::Priority).await[..], b"quick");
    for number in 0..sent {
        assert_eq!(one.frame(Stream::Bulk).await[..4], number.to_le_bytes());
    }
}

#[tokio::test]
async fn what_a_consumer_holds_is_bounded_in_bytes() {
    let (zero, mut one) = pair_with(Limits { inbound_bytes: 200_000, ..limits() }).await;
    let frame = Frame::with_tail(&b"x"[..], Bytes::from(vec![0; 60_000]));
    while zero.links.send(ONE, Lane::Own, frame.clone()).is_ok() {}
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(one.take(Stream::Bulk).await);
    }
    // The priority stream has bytes of its own and comes after all that bulk could have delivered.
    for _ in 0..20 {
        zero.links.send(ONE, Lane::Priority, Frame::default()).unwrap();
        one.frame(Stream::Priority).await;
    }
    assert!(one.inbound.bulk.is_empty());
    held.pop();
    held.push(one.take(Stream::Bulk).await);
    // A frame larger than all of it passes alone.
    drop(held);
    zero.links.send(ONE, Lane::Urgent, Frame::new(vec![1; 1 << 20])).unwrap();
    while one.frame(Stream::Bulk).await.len() != 1 << 20 {}
}

#[tokio::test]
async fn a_consumer_that_pauses_longer_than_dead_after_keeps_its_link() {
    let dead_after = Duration::from_secs(1);
    let limits = Limits { inbound_frames: 1, dead_after, ..limits() };
    let (zero, mut one) = pair_with(limits).await;
    for _ in 0..10 {
        zero.links.send(ONE, Lane::Priority, Frame::default()).unwrap();
    }
    tokio::time::sleep(2 * dead_after).await;
    for _ in 0..10 {
        one.frame(Stream::Priority).await;
    }
    assert_eq!((zero.links.statistics()[0].links, one.links.statistics()[0].links), (1, 1));
    assert!(one.links.is_connected(ZERO));
}

#[tokio::test]
async fn lanes_share_a_full_bulk_stream_four_four_one() {
    let limits = Limits { inbound_frames: 1, ..limits() };
    let (zero, mut one) = pair_with(limits).await;
    let lanes = [Lane::CatchUp, Lane::Urgent, Lane::Own];
    let frame = |lane: usize| Frame::with_tail(vec![lane as u8], Bytes::from(vec![0; 60_000]));
    // More than the kernel takes, so that most of it is queued at once while the reader is stopped.
    let mut queued = [0; 3];
    for (at, lane) in lanes.into_iter().enumerate() {
        while zero.links.send(ONE, lane, frame(at)).is_ok() {
            queued[at] += 1;
        }
    }
    // What the kernel and the first batches took came from the lane that was filled first.
    let total: usize = queued.iter().sum();
    let mut seen = Vec::with_capacity(total);
    for _ in 0..total {
        seen.push(one.frame(Stream::Bulk).await[0] as usize);
    }
    let contested = seen.iter().position(|lane| *lane == 2).unwrap() + 9;
    let counts = |lane: usize| seen[contested..contested + 180].iter().filter(|seen| **seen == lane).count();
    assert_eq!([counts(0), counts(1), counts(2)], [20, 80, 80]);
}

#[tokio::test]
async fn a_tracked_frame_resolves_when_it_left() {
    let (zero, mut one) = pair().await;
    let handed =
        zero.links.send_tracked(ONE, Lane::Own, Frame::with_tail(&b"x"[..], Bytes::from(vec![1; 1 << 20]))).unwrap();
    assert_eq!(within(handed).await, Ok(()));
    assert_eq!(one.frame(Stream::Bulk).await.len(), 1 + (1 << 20));
}

#[tokio::test]
async fn a_tracked_frame_fails_when_the_link_breaks_before() {
    let (mut one, address) = waiting_node(limits()).await;
    let never_reads = raw_pair(address, 1).await;
    one.up().await;
    let frame = Frame::with_tail(&b"x"[..], Bytes::from(vec![1; 1 << 20]));
    let mut last = None;
    while let Ok(handed) = one.links.send_tracked(ZERO, Lane::Own, frame.clone()) {
        last = Some(handed);
    }
    drop(never_reads);
    one.down().await;
    assert_eq!(within(last.unwrap()).await, Err(SendError::Disconnected));
    assert!(one.links.statistics()[0].lost > 0);
}

#[tokio::test]
async fn shutdown_lets_queued_frames_leave_and_ends_every_task() {
    let (zero, mut one) = pair().await;
    for number in 0..20u8 {
        zero.links.send(ONE, Lane::Own, Frame::with_tail(vec![number], Bytes::from(vec![0; 100_000]))).unwrap();
    }
    let (reading, ()) = tokio::join!(
        async {
            for number in 0..20u8 {
                assert_eq!(one.frame(Stream::Bulk).await[0], number);
            }
            one.down().await
        },
        within(zero.links.shutdown())
    );
    assert!(reading.contains("closed"), "{reading}");
    assert_eq!(zero.links.send(ONE, Lane::Own, Frame::default()), Err(SendError::Disconnected));
    assert_eq!(zero.links.request(ONE, Lane::Own, Frame::default(), GENEROUS).await, Err(RequestError::Closed));
    let mut zero = zero;
    while within(zero.inbound.events.recv()).await.is_some() {}
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_links() {
    let (zero, mut one) = pair().await;
    drop(zero);
    one.down().await;
}

#[tokio::test]
async fn round_trips_are_measured_on_an_idle_link() {
    let (mut zero, one) = pair().await;
    until(|| zero.links.round_trip(ONE).is_some() && one.links.round_trip(ZERO).is_some()).await;
    assert!(zero.links.round_trip(ONE).unwrap() < GENEROUS);
    // Whoever follows them is told of each one, again and again.
    for _ in 0..3 {
        within(zero.inbound.round_trips.changed()).await.unwrap();
        let measured = zero.inbound.round_trips.borrow_and_update().unwrap();
        assert!(measured > Duration::ZERO && measured < GENEROUS);
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_at_once() {
    let (zero, _one) = pair().await;
    let nobody = rorqual_network::AuthorityIndex(9);
    assert_eq!(zero.links.send(nobody, Lane::Own, Frame::default()), Err(SendError::UnknownPeer));
    assert_eq!(zero.links.send(ZERO, Lane::Own, Frame::default()), Err(SendError::UnknownPeer));
    assert_eq!(zero.links.send_reliable(nobody, Lane::Own, Frame::default()).refusal(), Some(SendError::UnknownPeer));
    let large = Frame::new(vec![0; limits().bulk_frame_bytes]);
    assert_eq!(zero.links.send(ONE, Lane::Own, large.clone()), Err(SendError::TooLarge));
    assert_eq!(zero.links.send_reliable(ONE, Lane::Own, large).refusal(), Some(SendError::TooLarge));
    assert_eq!(zero.links.room(nobody, Lane::Own), 0);
}

#[tokio::test]
async fn four_nodes_are_all_linked_with_all() {
    let mut listeners = Vec::new();
    for _ in 0..4 {
        listeners.push(listener().await);
    }
    let addresses: Vec<_> = listeners.iter().map(Listener::local_addr).collect();
    let nodes: Vec<_> = listeners
        .into_iter()
        .enumerate()
        .map(|(me, listener)| Links::start(listener, config(me as u16, &addresses, limits())))
        .collect();
    until(|| nodes.iter().all(|(links, _)| links.statistics().iter().all(|peer| peer.connected))).await;
    for (links, _) in &nodes {
        within(links.shutdown()).await;
    }
}

#[tokio::test]
async fn an_address_in_use_is_named_with_the_remedy() {
    let first = listener().await;
    let error = Listener::bind(first.local_addr()).await.unwrap_err();
    assert!(matches!(error, NetworkError::AddressInUse { .. }));
    assert!(error.to_string().contains(&first.local_addr().to_string()));
}
