//! Serves what peers miss, within limits.
//!
//! One task a peer, one request at a time, at most `QUEUE` waiting: a peer that asks faster than it is served loses requests,
//! and nobody else notices. Everything comes from the store; an answer is bounded in bytes, and what is not here is named.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_network::{Lane, Links, ReplyTo};
use rorqual_protocol::types::{BatchKey, BlockRef, CommitIndex};
use rorqual_store::{Store, StoreError};
use tokio::sync::mpsc;
use tracing::warn;

use super::history::History;
use crate::batch::spread::chunks;
use crate::peers::message::{ANSWER_BYTES, MAX_FETCH_BATCHES, MAX_FETCH_BLOCKS, MAX_RANGE_BLOCKS, Message, join};
use crate::schema;

/// Requests of one peer that wait.
const QUEUE: usize = 256;
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
            let desk = Desk { peer, links: links.clone(), store: store.clone() };
            tokio::spawn(desk.run(requests));
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
}

impl Desk {
    async fn run(self, mut requests: mpsc::Receiver<Request<ReplyTo>>) {
        while let Some(request) = requests.recv().await {
            if let Err(error) = self.serve(request).await {
                // A store that fails ends the node by itself; this only says what was going on.
                warn!(%error, "cannot serve a peer");
            }
        }
    }

    async fn serve(&self, request: Request<ReplyTo>) -> Result<(), StoreError> {
        match request {
            Request::Blocks { refs, reply } if refs.len() <= MAX_FETCH_BLOCKS => {
                let (message, tail) = self.blocks(refs).await?;
                let _ = self.links.respond(reply, Lane::Priority, message.with_tail(tail));
            }
            Request::RangeBlocks { refs, reply } if refs.len() <= MAX_RANGE_BLOCKS => {
                let (message, tail) = self.blocks(refs).await?;
                let _ = self.links.respond(reply, Lane::CatchUp, message.with_tail(tail));
            }
            Request::Batches { keys } if keys.len() <= MAX_FETCH_BATCHES => self.batches(keys).await?,
            Request::Commits { from, to, offset, reply } => {
                let (message, tail) = History(self.store.clone()).commits(from, to, offset).await?;
                let _ = self.links.respond(reply, Lane::CatchUp, message.with_tail(tail));
            }
            // More than the rules allow: no answer.
            Request::Blocks { .. } | Request::RangeBlocks { .. } | Request::Batches { .. } => {}
        }
        Ok(())
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

    async fn batches(&self, keys: Vec<BatchKey>) -> Result<(), StoreError> {
        let mut missing = Vec::new();
        for key in keys {
            let Some(content) = self.store.read(schema::PAYLOAD, &schema::batch_key(&key)).await? else {
                missing.push(key);
                continue;
            };
            // A queue that is full drops the rest: the peer asks again, here or elsewhere.
            if chunks(key, &content).any(|frame| self.links.send(self.peer, Lane::Urgent, frame).is_err()) {
                return Ok(());
            }
        }
        if !missing.is_empty() {
            let _ = self.links.send(self.peer, Lane::Urgent, Message::MissingBatches { keys: missing }.frame());
        }
        Ok(())
    }
}
