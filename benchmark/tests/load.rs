//! The load generator against a stand-in for a node, which answers every submission after a while and keeps nothing.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use rorqual_benchmark::options::Options;
use rorqual_benchmark::report::{Line, Outcome};
use rorqual_benchmark::run::run;
use rorqual_client::frames::{ClientHello, Greeting, Hello, Placed, Receipts, Refusal, Request, Response};
use rorqual_client::{BatchId, Outcome as Answer};
use rorqual_config::{AuthorityIndex, ChainId, Digest};
use rorqual_network::frame::{FrameReader, write_frame};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// How the stand-in behaves.
#[derive(Clone, Copy)]
struct Habits {
    /// Between a submission and its receipt.
    delay: Duration,
    /// Credit in bytes, given again with every receipt.
    credit: u64,
    /// Submissions until it closes the connection.
    lifetime: usize,
    /// Whether every other submission is refused.
    refuses: bool,
}

const CALM: Habits =
    Habits { delay: Duration::from_millis(20), credit: 64 << 20, lifetime: usize::MAX, refuses: false };

fn hello(credit_bytes: u64) -> Hello {
    Hello {
        chain_id: ChainId(Digest([1; 32])),
        author: AuthorityIndex(0),
        commit_time_ms: 1_000_000,
        max_transaction_bytes: 128 << 10,
        max_submission_bytes: 256 << 10,
        max_weight_bytes: 512 << 10,
        max_lifetime_ms: 60_000,
        credit_bytes,
    }
}

async fn serve(stream: TcpStream, habits: Habits) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = FrameReader::new(reader, 1 << 20);
    ClientHello::check(&reader.next().await.unwrap()).unwrap();
    write_frame(&mut writer, Greeting::Welcome(hello(habits.credit)).frame()).await.unwrap();
    let (queue, mut answers) = mpsc::unbounded_channel::<(Instant, u64, u64)>();
    let answering = tokio::spawn(async move {
        let (mut granted, mut number) = (habits.credit, 0u64);
        while let Some((at, tag, weight)) = answers.recv().await {
            sleep_until(at).await;
            granted += weight;
            number += 1;
            let batch = BatchId { author: AuthorityIndex(0), sequence: number, digest: Digest([0; 32]) };
            let placed = Placed { commit: number, first_position: number, batch };
            let mut receipts = Receipts { commit_time_ms: 1_000_000, credit_bytes: granted, ..Receipts::default() };
            receipts.push(
                tag,
                match habits.refuses && number % 2 == 0 {
                    true => Answer::Refused(Refusal::Overloaded { retry_after_ms: 1 }),
                    false => Answer::Committed(placed),
                },
            );
            let [header, _] = Response::Receipts(receipts).frame(Bytes::new());
            write_frame(&mut writer, header).await.unwrap();
        }
        let _ = writer.shutdown().await;
    });
    for _ in 0..habits.lifetime {
        let Ok(frame) = reader.next().await else { break };
        if let (Request::Submit { tag, ticket, ends }, tail) = Request::parse(&frame).unwrap() {
            assert!(ticket.is_some(), "ids unless told not to");
            assert_eq!(*ends.last().unwrap() as usize, tail.len());
            let weight = 28 + 4 * ends.len() + tail.len();
            queue.send((Instant::now() + habits.delay, tag, weight as u64)).unwrap();
        }
    }
    answering.abort();
}

async fn node(habits: Habits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, habits));
        }
    });
    address
}

async fn load(habits: &[Habits], more: &[&str]) -> (Outcome, usize) {
    let mut words = vec!["rorqual-load".to_owned()];
    for habits in habits {
        words.extend(["--node".to_owned(), node(*habits).await.to_string()]);
    }
    words.extend(more.iter().map(|word| (*word).to_owned()));
    let mut seconds = 0;
    let outcome = run(Options::parse_from(words), |line| seconds += usize::from(matches!(line, Line::Second(_)))).await;
    (outcome.unwrap(), seconds)
}

#[tokio::test]
async fn the_rate_is_kept_and_every_transaction_is_accounted_for() {
    let (outcome, seconds) = load(&[CALM; 4], &["--rate", "2000", "--duration", "3s", "--warm-up", "1s"]).await;
    assert_eq!((outcome.offered, outcome.submitted, outcome.committed), (6_000, 6_000, 6_000));
    assert_eq!((outcome.rejected, outcome.unknown, outcome.broken.len()), (0, 0, 0));
    assert!((1_500.0..2_500.0).contains(&outcome.committed_tps), "{}", outcome.committed_tps);
    assert!(outcome.latency_ms.p50 >= 20.0, "{:?}", outcome.latency_ms);
    assert!(seconds >= 3 && outcome.series.len() == seconds);
}

#[tokio::test]
async fn without_credit_the_wait_counts_as_latency() {
    // 8 KiB in 20 ms carry about 700 transactions a second, a third of what is asked for.
    let narrow = Habits { credit: 8 << 10, ..CALM };
    let (outcome, _) =
        load(&[narrow], &["--rate", "2000", "--duration", "2s", "--warm-up", "0s", "--submission", "4"]).await;
    assert!(outcome.submitted < outcome.offered, "{outcome:?}");
    assert_eq!((outcome.committed, outcome.unknown), (outcome.submitted, 0));
    assert!(outcome.latency_ms.p99 > 300.0, "{:?}", outcome.latency_ms);
}

#[tokio::test]
async fn refusals_and_broken_connections_are_told_apart() {
    let sick = Habits { lifetime: 100, ..CALM };
    let rude = Habits { refuses: true, ..CALM };
    let (outcome, _) =
        load(&[sick, rude], &["--rate", "1000", "--duration", "2s", "--warm-up", "0s", "--drain", "3s"]).await;
    assert!(outcome.rejected > 0 && outcome.rejected_by_reason.len() == 1, "{outcome:?}");
    assert_eq!(outcome.broken.len(), 1, "{:?}", outcome.broken);
    assert!(outcome.unknown > 0);
    assert_eq!(outcome.submitted, outcome.committed + outcome.rejected + outcome.unknown);
}

#[tokio::test]
async fn a_node_that_is_not_there_is_named() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let options = Options::parse_from(["rorqual-load", "--node", &address.to_string()]);
    assert!(run(options, |_| ()).await.unwrap_err().contains(&address.to_string()));
}

/// What this program costs by itself: `cargo test --release -p rorqual-benchmark --test load -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn the_highest_rate() {
    let fast = Habits { delay: Duration::from_millis(5), ..CALM };
    let (outcome, _) = load(&[fast; 4], &["--rate", "250000", "--duration", "5s", "--warm-up", "1s"]).await;
    println!("{:.0} tx/s, latency {:?}", outcome.committed_tps, outcome.latency_ms);
    assert_eq!(outcome.unknown, 0);
}
