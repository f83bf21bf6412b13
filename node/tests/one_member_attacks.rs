//! One member with a valid key floods the others with frames that are all well formed, or nearly. The bars are those of a client
//! that behaves: its receipts, the pace of commits, the memory of a node, and how soon all is as before.
#![allow(clippy::unwrap_used, missing_docs)]

mod cluster;
mod member;

use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::{Cluster, Member};
use member::{Liar, Polite};
use rorqual_network::{Frame, Lane};
use rorqual_node::peers::Message;
use rorqual_protocol::types::{CommitIndex, Round};

/// Of each attack.
const LASTS: Duration = Duration::from_secs(4);
/// After which all is as before.
const RECOVERS: Duration = Duration::from_secs(5);
/// Of honest clients' receipts.
const P99: Duration = Duration::from_secs(1);
/// Resident memory of a node.
const MEMORY: u64 = 300 << 20;

/// Large batches that are there from the start.
const LARGE_BATCHES: usize = 40;

/// A name, where it is sent, how many a second at each node, and what.
type Attack = (&'static str, Lane, u64, fn(&Liar, u64) -> Frame);

const ATTACKS: [Attack; 13] = [
    ("tiny batches", Lane::Own, 60_000, |liar, n| {
        liar.batch(1 + n % 8_000, Bytes::copy_from_slice(&(n as u32).to_le_bytes()))
    }),
    ("batches that never end", Lane::Own, 5_000, |liar, n| {
        Message::BatchChunk { key: liar.absent_batch(n), total: 500_000, offset: 0 }.with_tail(vec![7; 512].into())
    }),
    ("subscriptions", Lane::Priority, 3_000, |_, n| Message::Subscribe { from_round: Round(n % 2) }.frame()),
    ("questions for tips", Lane::Priority, 60_000, |_, _| Message::TipQuery.frame()),
    ("questions for blocks", Lane::Priority, 10_000, |liar, n| {
        Message::FetchBlocks { refs: (0..32).map(|i| liar.absent_block(n * 32 + i)).collect() }.frame()
    }),
    ("questions for ranges of blocks", Lane::CatchUp, 1_000, |liar, n| {
        Message::FetchBlocks { refs: (0..512).map(|i| liar.absent_block(n * 512 + i)).collect() }.frame()
    }),
    ("questions for more blocks than a question may have", Lane::CatchUp, 20, |liar, _| {
        Message::FetchBlocks { refs: (0..24_000).map(|i| liar.absent_block(i)).collect() }.frame()
    }),
    ("questions for batches", Lane::Own, 10_000, |liar, n| {
        Message::FetchBatches { keys: (0..16).map(|i| liar.absent_batch(n * 16 + i)).collect() }.frame()
    }),
    ("questions for large batches that are there", Lane::Own, 1_900, |liar, n| {
        let large = liar.large_batches();
        let keys = (0..16).map(|i| large[(n as usize * 16 + i) % large.len()]).collect();
        Message::FetchBatches { keys }.frame()
    }),
    ("questions for commits", Lane::Own, 10_000, |_, _| {
        Message::FetchCommits { from: CommitIndex(1), to: CommitIndex(500), offset: 0 }.frame()
    }),
    ("answers that nobody asked for", Lane::Own, 20_000, |_, _| {
        Message::NoCommits { first_index: CommitIndex(1) }.frame()
    }),
    ("blocks that are none", Lane::Priority, 20_000, |_, n| {
        Message::OwnBlock.with_tail(Bytes::copy_from_slice(&n.to_le_bytes()))
    }),
    ("histories of nothing", Lane::Priority, 20_000, |_, _| Message::History { lengths: vec![0; 8] }.frame()),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_one_member_sends_clients_are_served() {
    let mut cluster = Cluster::prepare(4);
    cluster.members[..3].iter_mut().for_each(Member::start);
    cluster.wait_ready();
    let liar = Liar::start(&cluster.members[3]).await;
    let honest = &cluster.members[..3];
    let polite = Polite::start(&honest[0], Duration::from_millis(10)).await;
    polite.submit_large(LARGE_BATCHES).await;
    let (control, p99) = measure(&honest[0], &polite, LASTS).await;
    println!("a silent member: {control:.0} commits a second, p99 {p99:?}");
    assert!(control > 5.0 && p99 < P99, "no fair control: {control:.0} commits a second, p99 {p99:?}");
    for (name, lane, per_second, frame) in ATTACKS {
        let heard = liar.heard_bytes();
        let (sent, (commits, p99)) =
            tokio::join!(liar.flood(lane, per_second, LASTS, frame), measure(&honest[0], &polite, LASTS));
        let memory = honest.iter().map(resident).max().unwrap();
        let heard = (liar.heard_bytes() - heard) >> 20;
        println!(
            "{name}: {sent} sent, {heard} MiB heard, {commits:.0} commits a second, p99 {p99:?}, {} MiB",
            memory >> 20
        );
        assert!(sent > 0, "{name}: nothing was sent");
        assert!(p99 < P99, "{name}: p99 {p99:?}");
        assert!(commits >= control / 2.0, "{name}: {commits:.0} of {control:.0} commits a second");
        assert!(memory < MEMORY, "{name}: {} MiB", memory >> 20);
        as_before(&honest[0], &polite, control, name).await;
    }
}

/// Commits a second and the 99th percentile of receipts over a while.
async fn measure(node: &Member, polite: &Polite, lasts: Duration) -> (f64, Duration) {
    let (since, before) = (Instant::now(), node.last_commit());
    tokio::time::sleep(lasts).await;
    let commits = node.last_commit().saturating_sub(before) as f64 / since.elapsed().as_secs_f64();
    // The last ones may still be on their way.
    let p99 = polite.p99_since(since);
    (commits, p99)
}

/// Waits until a second passes as without an attack.
async fn as_before(node: &Member, polite: &Polite, control: f64, name: &str) {
    let ended = Instant::now();
    loop {
        let (commits, p99) = measure(node, polite, Duration::from_secs(1)).await;
        if commits >= control / 2.0 && p99 < P99 / 2 {
            return;
        }
        let now = format!("{commits:.0} of {control:.0} commits a second, p99 {p99:?}");
        assert!(ended.elapsed() < RECOVERS, "{name}: not as before after {RECOVERS:?}: {now}");
    }
}

fn resident(member: &Member) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", member.process_id())).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
