//! The pool against stand-ins for nodes that die in the middle, stall, refuse or are not there: no submission is lost in
//! silence, none is applied twice.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use rorqual_client::frames::{ClientHello, Greeting, Hello, Request, Response};
use rorqual_client::submission::{Submission, SubmissionId, Ticket};
use rorqual_client::{BatchId, ClientError, Options, Outcome, Placed, Pool, Receipts, Refusal};
use rorqual_config::{AuthorityIndex, ChainId, Digest};
use rorqual_network::frame::{FrameReader, write_frame};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const CHAIN: ChainId = ChainId(Digest([1; 32]));

/// The log that all stand-ins share, with the rule that an id is applied once.
#[derive(Default)]
struct Log {
    applied: HashMap<SubmissionId, Placed>,
    transactions: Vec<Bytes>,
}

impl Log {
    fn apply(&mut self, submission: &Submission) -> Outcome {
        let id = submission.id(CHAIN).expect("a ticket");
        if let Some(placed) = self.applied.get(&id) {
            return Outcome::Already(*placed);
        }
        let batch = BatchId { author: AuthorityIndex(0), sequence: 1, digest: Digest::default() };
        let placed = Placed { commit: 1, first_position: self.transactions.len() as u64, batch };
        self.applied.insert(id, placed);
        self.transactions.push(submission.bytes.clone());
        Outcome::Committed(placed)
    }
}

/// How a stand-in treats submissions.
#[derive(Clone, Copy)]
enum Habit {
    /// As an honest node.
    Honest,
    /// Applies so many of a connection, answers only the first half of them, then breaks the connection and listens no more.
    DiesAfter(usize),
    /// Takes everything, applies it, and never answers.
    Mute,
    /// Refuses everything.
    Refuses(Refusal),
}

struct Node {
    address: String,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn node(log: &Arc<Mutex<Log>>, habit: Habit) -> Node {
    node_of(log, habit, CHAIN).await
}

async fn node_of(log: &Arc<Mutex<Log>>, habit: Habit, chain_id: ChainId) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let log = Arc::clone(log);
    let task = tokio::spawn(async move {
        let mut connections = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let serving = serve(stream, Arc::clone(&log), habit, chain_id);
            if matches!(habit, Habit::DiesAfter(_)) {
                drop(listener);
                return serving.await;
            }
            connections.push(tokio::spawn(serving));
        }
    });
    Node { address, task }
}

async fn serve(stream: TcpStream, log: Arc<Mutex<Log>>, habit: Habit, chain_id: ChainId) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = FrameReader::new(reader, 1 << 20);
    let Ok(frame) = reader.next().await else { return };
    ClientHello::check(&frame).unwrap();
    let hello = Hello {
        chain_id,
        author: AuthorityIndex(0),
        commit_time_ms: 1_000_000,
        max_transaction_bytes: 128 << 10,
        max_submission_bytes: 256 << 10,
        max_weight_bytes: 512 << 10,
        max_lifetime_ms: 60_000,
        credit_bytes: 64 << 20,
    };
    write_frame(&mut writer, Greeting::Welcome(hello).frame()).await.unwrap();
    let mut taken = 0;
    while let Ok(frame) = reader.next().await {
        let (Request::Submit { tag, ticket, ends }, bytes) = Request::parse(&frame).unwrap() else { continue };
        let submission = Submission { ticket, ends, bytes };
        taken += 1;
        let outcome = match habit {
            Habit::Refuses(refusal) => Outcome::Refused(refusal),
            _ => log.lock().unwrap().apply(&submission),
        };
        match habit {
            Habit::Mute => continue,
            Habit::DiesAfter(after) if taken > after => return,
            Habit::DiesAfter(after) if taken > after / 2 => continue,
            _ => {}
        }
        let mut receipts = Receipts { commit_time_ms: 1_000_000, credit_bytes: 1 << 40, ..Receipts::default() };
        receipts.push(tag, outcome);
        let [header, _] = Response::Receipts(receipts).frame(Bytes::new());
        if write_frame(&mut writer, header).await.is_err() {
            return;
        }
    }
}

fn pool(nodes: &[&Node]) -> Pool {
    let options = Options { attempt_timeout: Duration::from_millis(500), ..Options::default() };
    Pool::new(nodes.iter().map(|node| node.address.clone()), options).unwrap()
}

/// Submits `count` different transactions at once through one pool.
async fn submit_many(pool: &Pool, count: u32) -> Vec<Result<rorqual_client::Receipt, ClientError>> {
    let submit = |number: u32| async move {
        let bytes = number.to_le_bytes();
        pool.submit_with_retry([&bytes[..]], Duration::from_secs(30)).await
    };
    join_all((0..count).map(submit)).await
}

fn assert_each_once(log: &Mutex<Log>, count: u32) {
    let mut numbers: Vec<u32> = log
        .lock()
        .unwrap()
        .transactions
        .iter()
        .map(|bytes| u32::from_le_bytes(bytes[..].try_into().unwrap()))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_node_that_dies_with_submissions_in_flight_costs_nothing_but_time() {
    let log = Arc::default();
    let (dying, second, third) = (
        node(&log, Habit::DiesAfter(100)).await,
        node(&log, Habit::DiesAfter(60)).await,
        node(&log, Habit::Honest).await,
    );
    let pool = pool(&[&dying, &second, &third]);
    let receipts = submit_many(&pool, 500).await;
    let repeated = receipts.iter().filter(|receipt| receipt.as_ref().unwrap().repeated).count();
    assert!(repeated > 0, "some were applied by the node that died, and are said to be applied before");
    assert_each_once(&log, 500);
    let positions: std::collections::BTreeSet<u64> =
        receipts.iter().map(|receipt| receipt.as_ref().unwrap().placed.first_position).collect();
    assert_eq!(positions.len(), 500, "every receipt names its own place");
}

#[tokio::test]
async fn a_node_that_takes_everything_and_says_nothing_is_left_for_another() {
    let log = Arc::default();
    let (mute, honest) = (node(&log, Habit::Mute).await, node(&log, Habit::Honest).await);
    let receipts = submit_many(&pool(&[&mute, &honest]), 100).await;
    assert!(receipts.iter().all(|receipt| receipt.as_ref().unwrap().repeated));
    assert_each_once(&log, 100);
}

#[tokio::test]
async fn a_node_without_room_is_left_for_another() {
    let log = Arc::default();
    for refusal in [Refusal::Overloaded { retry_after_ms: 10_000 }, Refusal::ShuttingDown, Refusal::TooManyLiveIds] {
        let (full, honest) = (node(&log, Habit::Refuses(refusal)).await, node(&log, Habit::Honest).await);
        let began = std::time::Instant::now();
        let receipt = pool(&[&full, &honest]).submit_with_retry([&b"1234"[..]], Duration::from_secs(30)).await;
        assert!(!receipt.unwrap().repeated);
        assert!(began.elapsed() < Duration::from_secs(10), "another node has room at once");
    }
}

#[tokio::test]
async fn a_last_word_of_refusal_is_passed_on() {
    let log = Arc::default();
    let (one, two) = (node(&log, Habit::Refuses(Refusal::Expired)).await, node(&log, Habit::Honest).await);
    let error = pool(&[&one, &two]).submit_with_retry([&b"1234"[..]], Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error, ClientError::Refused(Refusal::Expired));
}

#[tokio::test]
async fn an_outcome_that_cannot_be_known_is_called_unknown_with_what_sends_it_again() {
    let log: Arc<Mutex<Log>> = Arc::default();
    let mute = node(&log, Habit::Mute).await;
    let ticket = Ticket { nonce: [7; 16], deadline_ms: 1_030_000 };
    let submission = Submission::one(Some(ticket), Bytes::from_static(b"1234"));
    let error = pool(&[&mute]).submit(&submission, Duration::from_secs(1)).await.unwrap_err();
    let ClientError::OutcomeUnknown(unknown) = error else { panic!("{error}") };
    assert_eq!((unknown.ticket, unknown.id), (Some(ticket), submission.id(CHAIN)));
    // The same again, through another node.
    let honest = node(&log, Habit::Honest).await;
    assert!(pool(&[&honest]).submit(&submission, Duration::from_secs(5)).await.unwrap().repeated);
    assert_eq!(log.lock().unwrap().transactions.len(), 1);
}

#[tokio::test]
async fn without_a_ticket_nothing_is_sent_twice() {
    let log: Arc<Mutex<Log>> = Arc::default();
    let (full, honest) =
        (node(&log, Habit::Refuses(Refusal::ShuttingDown)).await, node(&log, Habit::Refuses(Refusal::Malformed)).await);
    let submission = Submission::one(None, Bytes::from_static(b"1234"));
    // Certainly not applied by the first: goes on to the second.
    let error = pool(&[&full, &honest]).submit(&submission, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error, ClientError::Refused(Refusal::Malformed));
}

#[tokio::test]
async fn where_nobody_can_be_reached_nothing_was_sent_and_it_is_said_so() {
    let log = Arc::default();
    let gone = node(&log, Habit::Honest).await;
    let address = gone.address.clone();
    drop(gone);
    let pool = Pool::new([address.clone()], Options::default()).unwrap();
    let submission = Submission::one(Some(Ticket { nonce: [1; 16], deadline_ms: 5 }), Bytes::from_static(b"1"));
    let error = pool.submit(&submission, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable { address: named, .. } if *named == address), "{error}");
}

#[tokio::test]
async fn a_node_of_another_chain_is_never_given_a_submission() {
    let (log, other) = (Arc::default(), Arc::default());
    let dying = node(&log, Habit::DiesAfter(1)).await;
    let foreign = node_of(&other, Habit::Honest, ChainId(Digest([2; 32]))).await;
    let pool = pool(&[&dying, &foreign]);
    pool.client().await.unwrap();
    for number in 0..4u32 {
        let _ = pool.submit_with_retry([&number.to_le_bytes()[..]], Duration::from_millis(400)).await;
    }
    assert!(other.lock().unwrap().transactions.is_empty());
}
