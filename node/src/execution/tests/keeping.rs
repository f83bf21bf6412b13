//! Retention: what goes, what stays, and what readers are told.

use std::sync::Arc;

use bytes::Bytes;
use rorqual_config::parameters::RetentionParameters;
use rorqual_config::{AuthorityIndex, Digest};
use rorqual_protocol::types::{BlockRef, CommitIndex, Round, Sequence};
use rorqual_store::{Column, Direction, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::support::{Batch, Running, committee, plain, store, ticketed};
use crate::execution::log::{AppliedState, LogError, LogReader};
use crate::execution::recover::load;
use crate::execution::retention::{Age, Limits, Retention, RetentionSetup};
use crate::schema;

/// Commits applied.
const COMMITS: u64 = 400;
/// The committee keeps 170 rounds, which are commits here, below the last one.
const FLOOR: u64 = COMMITS - 170;

fn batch(index: u64) -> Batch {
    Batch::new(1, index, &[plain(&["a", "b"]), ticketed(index as u8, 10 * index + 5, &["c"])])
}

async fn put(store: &Store, column: Column, key: Bytes) {
    store.write(column, key, Bytes::from_static(b"?")).await.unwrap();
}

/// A node with commits 1 to 400, a block and a certificate for each, garbage, and two snapshots.
async fn filled(snapshots: &[u64]) -> Store {
    let store = store();
    let mut node = Running::start(&store).await.unwrap();
    for index in 1..=COMMITS {
        node.commit(index, 10 * index, &[batch(index)]).await;
        let block = BlockRef { round: Round(index), author: AuthorityIndex(1), digest: Digest::default() };
        put(&store, schema::BLOCKS, schema::block_key(&block)).await;
        put(&store, schema::CERTIFICATES, schema::index_key(CommitIndex(index))).await;
    }
    for round in [1, 7] {
        put(&store, schema::OWN, schema::round_key(Round(round))).await;
    }
    for sequence in [1, 100, 399] {
        put(&store, schema::PAYLOAD, schema::batch_from(AuthorityIndex(1), Sequence(sequence))).await;
    }
    for index in snapshots {
        put(&store, schema::SNAPSHOTS, schema::index_key(CommitIndex(*index))).await;
    }
    node.stop().await.unwrap();
    store
}

/// Retention over a store, and what readers see of it.
struct Keeper {
    retention: Retention,
    applied: watch::Receiver<AppliedState>,
}

impl Keeper {
    async fn new(store: &Store, parameters: RetentionParameters) -> Self {
        let found = load(store, &committee()).await.unwrap();
        let (sender, applied) = watch::channel(AppliedState::new(&found.state.record(), &found.begins));
        let setup = RetentionSetup {
            store: store.clone(),
            limits: Limits::of(&committee(), &parameters),
            begins: found.begins,
            applied: Arc::new(sender),
            shutdown: CancellationToken::new(),
        };
        Self { retention: Retention::new(setup).0, applied }
    }

    async fn run(&mut self) -> CommitIndex {
        while self.retention.step().await.unwrap() {}
        self.applied.borrow().begins_at
    }
}

fn by_bytes(bytes: u64) -> RetentionParameters {
    RetentionParameters { time: std::time::Duration::ZERO, bytes }
}

async fn first(store: &Store, column: Column) -> Bytes {
    store.iterate(column, &[], &[], 1, usize::MAX, Direction::Forward).await.unwrap()[0].0.clone()
}

#[tokio::test]
async fn everything_below_the_beginning_goes_and_readers_are_told() {
    let store = filled(&[300, 350, 399]).await;
    let mut keeper = Keeper::new(&store, by_bytes(1)).await;
    let begins = keeper.run().await;
    assert_eq!(begins, CommitIndex(FLOOR + 1), "ten times gc_depth rounds stay");
    let key = schema::index_key(begins);
    for column in [schema::COMMITS, schema::EXECUTED, schema::IDS, schema::CERTIFICATES] {
        assert_eq!(first(&store, column).await, key, "{column:?}");
    }
    assert_eq!(first(&store, schema::POSITIONS).await, schema::number_key(3 * FLOOR));
    let gc_round = FLOOR + 1 - 18;
    assert_eq!(first(&store, schema::BLOCKS).await[..8], schema::round_key(Round(gc_round + 1))[..]);
    assert_eq!(first(&store, schema::OWN).await, schema::round_key(Round(7)), "the newest own block stays");
    let payload = schema::parse_batch_key(&first(&store, schema::PAYLOAD).await).unwrap();
    assert_eq!(payload, batch(FLOOR + 1).key(), "delivered payload and what can never be delivered are gone");
    assert_eq!(first(&store, schema::SNAPSHOTS).await, schema::index_key(CommitIndex(300)));

    let (lookups, _) = tokio::sync::mpsc::channel(1);
    let log = LogReader::new(store, keeper.applied.clone(), lookups);
    let begins = 3 * FLOOR;
    assert_eq!(log.applied().begins, begins);
    let error = log.read(begins - 1).await.unwrap_err();
    assert_eq!(error.to_string(), format!("not stored here; the log begins at position {begins}"));
    assert!(matches!(log.range(0, 1, 1).await, Err(LogError::BeforeBeginning { .. })));
    assert_eq!(log.read(begins).await.unwrap().bytes, "a");
    assert_eq!(log.read(3 * COMMITS - 1).await.unwrap().bytes, "c");
}

#[tokio::test]
async fn a_restart_after_retention_finds_the_same_state() {
    let store = filled(&[300, 350]).await;
    let before = load(&store, &committee()).await.unwrap();
    let mut keeper = Keeper::new(&store, by_bytes(1)).await;
    let begins = keeper.run().await;
    let after = load(&store, &committee()).await.unwrap();
    assert_eq!(after.state.record(), before.state.record());
    assert!(after.state.ids.iter().eq(before.state.ids.iter()));
    assert_eq!(after.digests, before.digests);
    assert_eq!(after.begins.index, begins);
    let mut again = Keeper::new(&store, by_bytes(1)).await;
    assert_eq!(again.run().await, begins, "nothing is left to do");
    let mut node = Running::start(&store).await.unwrap();
    node.commit(COMMITS + 1, 10 * COMMITS + 10, &[batch(COMMITS + 1)]).await;
    assert_eq!(node.execution.log.applied().begins, 3 * FLOOR);
}

#[tokio::test]
async fn commits_from_the_older_of_the_two_newest_snapshots_on_stay() {
    let store = filled(&[10, 100, 350]).await;
    let mut keeper = Keeper::new(&store, by_bytes(1)).await;
    assert_eq!(keeper.run().await, CommitIndex(100));
    let store = filled(&[]).await;
    let mut keeper = Keeper::new(&store, by_bytes(1)).await;
    assert_eq!(keeper.run().await, CommitIndex(1), "without a snapshot a restart needs every commit");
}

#[tokio::test]
async fn limits_by_age_and_by_size_hold_and_zero_keeps_all() {
    let store = filled(&[399]).await;
    let mut keeper = Keeper::new(&store, by_bytes(0)).await;
    assert_eq!(keeper.run().await, CommitIndex(1));
    let one = batch(1).payload.len() as u64;
    let mut keeper = Keeper::new(&store, by_bytes(one * (COMMITS - 50))).await;
    assert_eq!(keeper.run().await, CommitIndex(51), "as much as the limit stays");
    let age = RetentionParameters { time: std::time::Duration::from_millis(3_000), bytes: 0 };
    let mut keeper = Keeper::new(&store, age).await;
    assert_eq!(keeper.run().await, CommitIndex(100), "a commit of just that age stays");
}

/// Both sides of every limit: what may go, and what one less or one more keeps.
#[test]
fn a_commit_goes_only_when_every_limit_lets_it() {
    let limits = Limits { time_ms: 100, bytes: 1_000, rounds: 170, lifetime_ms: 5_000, commits: 12, replay_window: 64 };
    let last = Age { time_ms: 10_000, round: Round(1_000) };
    let old = Age { time_ms: 4_999, round: Round(830) };
    assert!(limits.may_drop(old, last, 0), "by age");
    assert!(!limits.may_drop(Age { round: Round(831), ..old }, last, 9_999), "ten times gc_depth stay");
    assert!(!limits.may_drop(Age { time_ms: 5_000, ..old }, last, 9_999), "its ids may be alive");
    let by_size = Limits { time_ms: 0, ..limits };
    assert!(by_size.may_drop(old, last, 1_001) && !by_size.may_drop(old, last, 1_000));
    let by_age = Limits { bytes: 0, time_ms: 6_000, ..limits };
    assert!(by_age.may_drop(Age { time_ms: 3_999, ..old }, last, u64::MAX));
    assert!(!by_age.may_drop(Age { time_ms: 4_000, ..old }, last, u64::MAX));
    let without_ids = Limits { lifetime_ms: 0, time_ms: 100, ..limits };
    assert!(without_ids.may_drop(Age { time_ms: 9_899, ..old }, last, 0));
    assert!(!without_ids.may_drop(Age { time_ms: 9_900, ..old }, last, 0));
}

#[tokio::test]
async fn commits_whose_ids_may_be_alive_stay_though_they_are_too_many_bytes() {
    // Ids live 1 000 ms and a commit takes 100: those of the last ten stay, whatever the limits say.
    let store = store();
    let mut node = Running::start(&store).await.unwrap();
    for index in 1..=COMMITS {
        node.commit(index, 5 * index, &[batch(index)]).await;
    }
    put(&store, schema::SNAPSHOTS, schema::index_key(CommitIndex(COMMITS))).await;
    node.stop().await.unwrap();
    let mut keeper = Keeper::new(&store, by_bytes(1)).await;
    assert_eq!(keeper.run().await, CommitIndex(COMMITS - 200), "1 000 ms are 200 commits");
}

#[tokio::test]
async fn the_sweep_ends_where_the_replay_window_begins() {
    // The window holds 64 sequences; the last commit that goes delivered sequence FLOOR.
    let store = filled(&[399]).await;
    let stray = |sequence: u64| Batch::new(1, sequence, &[plain(&["never delivered"])]);
    let edge = FLOOR - 64;
    for sequence in edge - 70..=edge + 3 {
        let key = schema::batch_key(&stray(sequence).key());
        store.write(schema::PAYLOAD, key, stray(sequence).payload).await.unwrap();
    }
    let mut keeper = Keeper::new(&store, by_bytes(1)).await;
    assert_eq!(keeper.run().await, CommitIndex(FLOOR + 1));
    let left = store.iterate(schema::PAYLOAD, &[], &[], 1_000, usize::MAX, Direction::Forward).await.unwrap();
    let mut sequences = left.iter().filter_map(|(key, _)| schema::parse_batch_key(key)).map(|key| key.sequence.0);
    let first = sequences.next().unwrap();
    // It goes in strides of a sixteenth of the window.
    assert!((edge - 4..=edge).contains(&first), "{first} of {edge}");
    for sequence in edge..=edge + 3 {
        assert!(
            left.iter().any(|(key, _)| key == &schema::batch_key(&stray(sequence).key())),
            "{sequence} may be delivered"
        );
    }
}

#[tokio::test]
async fn records_too_large_for_a_page_do_not_stop_it() {
    let store = filled(&[399]).await;
    // The bytes that are read at once hold half as many commits as a step has at least.
    for index in 1..=40 {
        let key = schema::index_key(CommitIndex(index));
        let bytes = store.read(schema::COMMITS, &key).await.unwrap().unwrap();
        let mut delivery: rorqual_protocol::types::Delivery = rorqual_config::encoding::decode(&bytes).unwrap();
        let mut empty = delivery.batches[0];
        empty.batch.bytes = 0;
        delivery.batches.resize(20_000, empty);
        store.write(schema::COMMITS, key, rorqual_config::encoding::encode(&delivery)).await.unwrap();
    }
    let mut keeper = Keeper::new(&store, by_bytes(1)).await;
    assert_eq!(keeper.run().await, CommitIndex(FLOOR + 1));
}
