//! Serves what peers miss, within limits.
//!
//! One task a peer, one request at a time, at most `QUEUE` waiting: a peer that asks faster than it is served loses requests,
//! and nobody else notices. Everything comes from the store; an answer is bounded in bytes, and what is not here is named.
//! A short question has a long answer: so the bytes that a peer is served in a second are bounded as well, and who wants more waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_network::{Lane, Links, ReplyTo};
use rorqual_protocol::limiter::Limiter;
use rorqual_protocol::types::{BatchKey, BlockRef, CommitIndex};
use rorqual_store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::history::History;
use crate::batch::spread::chunks;
use crate::peers::message::{ANSWER_BYTES, MAX_FETCH_BATCHES, MAX_FETCH_BLOCKS, MAX_RANGE_BLOCKS, Message, join};
use crate::schema;

/// Requests of one peer that wait.
const QUEUE: usize = 256;
/// Served to one peer in a second, in KiB: as much as a cluster at its fastest orders (250 000 transactions of 512 bytes).
const SERVED_KIB: u32 = 128 << 10;
/// Served at once, in KiB: what a peer lacks after a short absence.
const BURST_KIB: u32 = 64 << 10;
/// Tip queries that wait for the core's answer, over all peers.
const TIP_QUERIES: usize = 1_024;

/// A request, and where its answer goes.
pub enum Request<R> {
    /// Blocks, on the priority stream.
    Blocks {
        /// Which.
        refs: Vec<BlockRef>,
        /// The request.
        reply: R,
    },
    /// Blocks of a commit range, on the bulk stream.
    RangeBlocks {
        /// Which.
        refs: Vec<BlockRef>,
        /// The request.
        reply: R,
    },
    /// Batches.
    Batches {
        /// Which.
        keys: Vec<BatchKey>,
    },
    /// Certified commits.
    Commits {
        /// First index.
        from: CommitIndex,
        /// Last index wanted.
        to: CommitIndex,
        /// Bytes of the first record that the asker has.
        offset: u32,
        /// The request.
        reply: R,
    },
}

/// Hands requests to the task of the peer that asked.
#[derive(Clone)]
pub struct Server {
    queues: Arc<Vec<mpsc::Sender<Request<ReplyTo>>>>,
    tips: Arc<Mutex<TipQueries>>,
}

#[derive(Default)]
struct TipQueries {
    next: u64,
    open: VecDeque<(u64, ReplyTo)>,
}

impl Server {
    /// Spawns a task for every member; they end when the server is dropped.
    pub fn spawn(links: &Links, store: &Store, committee: &Arc<Committee>) -> Self {
        let serve = |peer| {
            let (sender, requests) = mpsc::channel(QUEUE);
            tokio::spawn(Desk::new(peer, links.clone(), store.clone()).run(requests));
            sender
        };
        Self { queues: Arc::new(committee.authorities().map(serve).collect()), tips: Arc::default() }
    }

    /// Queues a request; false if this peer has too many waiting.
    pub fn take(&self, peer: AuthorityIndex, request: Request<ReplyTo>) -> bool {
        self.queues[peer.usize()].try_send(request).is_ok()
    }

    /// Keeps where the answer to a tip query goes; the oldest is forgotten when there are too many.
    pub fn remember_tip_query(&self, _peer: AuthorityIndex, reply: ReplyTo) -> u64 {
        let mut tips = self.tips.lock().unwrap_or_else(PoisonError::into_inner);
        let request = tips.next;
        tips.next = tips.next.wrapping_add(1);
        if tips.open.len() == TIP_QUERIES {
            tips.open.pop_front();
        }
        tips.open.push_back((request, reply));
        request
    }

    /// Where the answer to this tip query goes.
    pub fn recall_tip_query(&self, request: u64) -> Option<ReplyTo> {
        let mut tips = self.tips.lock().unwrap_or_else(PoisonError::into_inner);
        let at = tips.open.iter().position(|(open, _)| *open == request)?;
        tips.open.remove(at).map(|(_, reply)| reply)
    }
}

/// Serves one peer.
struct Desk {
    peer: AuthorityIndex,
    links: Links,
    store: Store,
    pace: Pace,
}

/// How fast one peer is served.
struct Pace {
    kib: Limiter,
    started: Instant,
}

impl Pace {
    /// When the next answer may be read, after one of so many bytes.
    fn after(&mut self, bytes: usize) -> Instant {
        self.kib.spend(self.started.elapsed(), u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX));
        self.started + self.kib.ready_at()
    }
}

impl Desk {
    fn new(peer: AuthorityIndex, links: Links, store: Store) -> Self {
        let kib = Limiter::per_second(SERVED_KIB, BURST_KIB, BURST_KIB);
        Self { peer, links, store, pace: Pace { kib, started: Instant::now() } }
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request<ReplyTo>>) {
        while let Some(request) = requests.recv().await {
            match self.serve(request).await {
                Ok(bytes) => tokio::time::sleep_until(self.pace.after(bytes)).await,
                // A store that fails ends the node by itself; this only says what was going on.
                Err(error) => warn!(%error, "cannot serve a peer"),
            }
        }
    }

    /// Answers, and tells how many bytes were read for it.
    async fn serve(&self, request: Request<ReplyTo>) -> Result<usize, StoreError> {
        let (reply, lane, (message, tail)) = match request {
            Request::Blocks { refs, reply } if refs.len() <= MAX_FETCH_BLOCKS => {
                (reply, Lane::Priority, self.blocks(refs).await?)
            }
            Request::RangeBlocks { refs, reply } if refs.len() <= MAX_RANGE_BLOCKS => {
                (reply, Lane::CatchUp, self.blocks(refs).await?)
            }
            Request::Commits { from, to, offset, reply } => {
                (reply, Lane::CatchUp, History(self.store.clone()).commits(from, to, offset).await?)
            }
            Request::Batches { keys } if keys.len() <= MAX_FETCH_BATCHES => return self.batches(keys).await,
            // More than the rules allow: no answer.
            Request::Blocks { .. } | Request::RangeBlocks { .. } | Request::Batches { .. } => return Ok(0),
        };
        let bytes = tail.len();
        let _ = self.links.respond(reply, lane, message.with_tail(tail));
        Ok(bytes)
    }

    async fn blocks(&self, refs: Vec<BlockRef>) -> Result<(Message, Bytes), StoreError> {
        let (mut found, mut missing, mut bytes) = (Vec::new(), Vec::new(), 0usize);
        for reference in refs {
            if bytes >= ANSWER_BYTES {
                missing.push(reference);
                continue;
            }
            match self.store.read(schema::BLOCKS, &schema::block_key(&reference)).await? {
                Some(block) => {
                    bytes = bytes.saturating_add(block.len());
                    found.push(block);
                }
                None => missing.push(reference),
            }
        }
        let (lengths, tail) = join(found.iter());
        Ok((Message::Blocks { lengths, missing }, tail))
    }

    async fn batches(&self, keys: Vec<BatchKey>) -> Result<usize, StoreError> {
        let (mut missing, mut bytes) = (Vec::new(), 0_usize);
        for key in keys {
            let Some(content) = self.store.read(schema::PAYLOAD, &schema::batch_key(&key)).await? else {
                missing.push(key);
                continue;
            };
            bytes = bytes.saturating_add(content.len());
            // A queue that is full drops the rest: the peer asks again, here or elsewhere.
            if chunks(key, &content).any(|frame| self.links.send(self.peer, Lane::Urgent, frame).is_err()) {
                return Ok(bytes);
            }
        }
        if !missing.is_empty() {
            let _ = self.links.send(self.peer, Lane::Urgent, Message::MissingBatches { keys: missing }.frame());
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_served_so_many_bytes_a_second_beyond_a_burst() {
        let kib = Limiter::per_second(SERVED_KIB, BURST_KIB, BURST_KIB);
        let mut pace = Pace { kib, started: Instant::now() };
        let (started, answer, mut bytes) = (Instant::now(), 1_usize << 20, 0_usize);
        while started.elapsed() < Duration::from_secs(10) {
            let next = pace.after(answer);
            bytes += answer;
            tokio::time::sleep_until(next).await;
        }
        let (least, most) = ((10 * SERVED_KIB as usize) << 10, ((10 * SERVED_KIB + BURST_KIB) as usize) << 10);
        assert!((least..=most + 2 * answer).contains(&bytes), "{bytes} of {least} to {most}");
    }
}
