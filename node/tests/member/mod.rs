//! A member with a valid key that says what it likes: it holds the links of one member of a cluster of real processes.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rorqual_client::{Client, Options};
use rorqual_config::{AuthorityIndex, Digest};
use rorqual_network::{Frame, Lane, Links, Listener, PeerInbound};
use rorqual_node::peers::Message;
use rorqual_node::peers::links::link_config;
use rorqual_protocol::types::{BatchKey, BlockRef, Round, Sequence};
use tokio::task::JoinHandle;

use crate::cluster::Member;

/// Keys of large batches that it remembers.
const REMEMBERED: usize = 64;
/// Bytes of a batch that is large.
const LARGE: u32 = 100_000;

/// The links of a member whose process does not run. Whatever it is sent it reads, and remembers which large batches there are.
pub struct Liar {
    pub me: AuthorityIndex,
    pub peers: Vec<AuthorityIndex>,
    links: Links,
    epoch: u64,
    heard: Arc<Heard>,
}

/// What it was sent.
#[derive(Default)]
struct Heard {
    large: Mutex<Vec<BatchKey>>,
    bytes: AtomicU64,
}

impl Liar {
    /// Takes the place of a member: its key, its address, its links.
    pub async fn start(member: &Member) -> Self {
        let config = rorqual_config::load_node(&member.config(), &[], &[]).expect("testnet writes valid files");
        let committee = &config.committee;
        let peers: Vec<AuthorityIndex> = committee.authorities().filter(|index| *index != config.me).collect();
        let listener = Listener::bind(config.parameters.listen.peer).await.expect("its process does not run");
        let (links, inbound) = Links::start(listener, link_config(&config));
        let heard: Arc<Heard> = Arc::default();
        inbound.into_iter().for_each(|inbound| drop(tokio::spawn(listen(inbound, heard.clone()))));
        let liar = Self { me: config.me, peers, links, epoch: committee.epoch(), heard };
        liar.connected().await;
        liar
    }

    /// Waits until every peer has a link to it.
    async fn connected(&self) {
        let deadline = Instant::now() + crate::cluster::PATIENCE;
        while !self.peers.iter().all(|peer| self.links.is_connected(*peer)) {
            assert!(Instant::now() < deadline, "the nodes take no link of the member");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends to everybody what `frame` makes, up to so many a second at each, for so long. Tells how many were sent.
    pub async fn flood(
        &self,
        lane: Lane,
        per_second: u64,
        lasts: Duration,
        frame: impl Fn(&Self, u64) -> Frame,
    ) -> u64 {
        let (started, mut made, mut sent) = (Instant::now(), 0, 0);
        while started.elapsed() < lasts {
            let due = started.elapsed().as_micros() as u64 * per_second / 1_000_000;
            while made < due {
                let frame = frame(self, made);
                made += 1;
                for peer in &self.peers {
                    sent += u64::from(self.links.send(*peer, lane, frame.clone()).is_ok());
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        sent
    }

    /// The whole of a small batch of its own.
    pub fn batch(&self, sequence: u64, content: Bytes) -> Frame {
        let sequence = Sequence(sequence);
        let digest = BatchKey::digest_of(self.epoch, self.me, sequence, &content);
        let key = BatchKey { author: self.me, sequence, digest };
        Message::BatchChunk { key, total: content.len() as u32, offset: 0 }.with_tail(content)
    }

    /// A reference to a block of its own that nobody has.
    pub fn absent_block(&self, number: u64) -> BlockRef {
        BlockRef {
            round: Round(1 + number),
            author: self.me,
            digest: Digest::of("test/absent", &[&number.to_le_bytes()]),
        }
    }

    /// Keys of large batches that everybody has.
    pub fn large_batches(&self) -> Vec<BatchKey> {
        self.heard.large.lock().unwrap().clone()
    }

    /// Bytes that it was sent so far.
    pub fn heard_bytes(&self) -> u64 {
        self.heard.bytes.load(Ordering::Relaxed)
    }

    /// The key of a batch of its own that nobody has.
    pub fn absent_batch(&self, number: u64) -> BatchKey {
        let digest = Digest::of("test/absent", &[&number.to_le_bytes()]);
        BatchKey { author: self.me, sequence: Sequence(1 + number), digest }
    }
}

async fn listen(mut inbound: PeerInbound, heard: Arc<Heard>) {
    loop {
        let frame = tokio::select! {
            frame = inbound.priority.recv() => frame,
            frame = inbound.bulk.recv() => frame,
            event = inbound.events.recv() => match event {
                Some(_) => continue,
                None => return,
            },
        };
        let Some(frame) = frame else { return };
        heard.bytes.fetch_add(frame.frame.len() as u64, Ordering::Relaxed);
        if let Ok((Message::BatchChunk { key, total, offset: 0 }, _)) = Message::read(&frame.frame) {
            let mut large = heard.large.lock().unwrap();
            if total >= LARGE && large.len() < REMEMBERED && !large.contains(&key) {
                large.push(key);
            }
        }
    }
}

/// An honest client that submits at a steady pace, whatever became of what it submitted before.
pub struct Polite {
    client: Client,
    told: Arc<Mutex<Vec<Submitted>>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct Submitted {
    at: Instant,
    /// None while nothing came back.
    took: Option<Duration>,
}

impl Polite {
    /// Starts one at a node, with a submission every so often.
    pub async fn start(node: &Member, every: Duration) -> Self {
        let client = Client::connect(&node.client, Options::default()).await.expect("the node serves");
        let told: Arc<Mutex<Vec<Submitted>>> = Arc::default();
        let task = tokio::spawn(submit_for_ever(client.clone(), every, told.clone()));
        Self { client, told, task }
    }

    /// Submits so many transactions that make a large batch each, and waits for the receipts.
    pub async fn submit_large(&self, count: usize) {
        for number in 0..count {
            let transaction = vec![number as u8; 120_000];
            self.client.submit(&self.client.submission([&transaction[..]])).await.expect("it is taken");
        }
    }

    /// How long 99 of 100 receipts of the submissions since then took at most, what still waits included.
    pub fn p99_since(&self, since: Instant) -> Duration {
        let told = self.told.lock().unwrap();
        let asked = told.iter().filter(|one| one.at >= since);
        let mut took: Vec<Duration> = asked.map(|one| one.took.unwrap_or_else(|| one.at.elapsed())).collect();
        assert!(!took.is_empty(), "nothing was submitted");
        took.sort();
        took[(took.len() * 99 / 100).min(took.len() - 1)]
    }
}

impl Drop for Polite {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn submit_for_ever(client: Client, every: Duration, told: Arc<Mutex<Vec<Submitted>>>) {
    let mut pace = tokio::time::interval(every);
    for number in 0_u64.. {
        pace.tick().await;
        let at = Instant::now();
        let place = {
            let mut told = told.lock().unwrap();
            told.push(Submitted { at, took: None });
            told.len() - 1
        };
        let (client, told) = (client.clone(), told.clone());
        tokio::spawn(async move {
            let submission = client.submission([&number.to_le_bytes()[..]]);
            // A refusal is no receipt: it goes on counting as one that waits.
            if client.submit(&submission).await.is_ok() {
                told.lock().unwrap()[place].took = Some(at.elapsed());
            }
        });
    }
}
