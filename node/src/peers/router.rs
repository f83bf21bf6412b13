//! From bytes to a verified message in the right mailbox.
//!
//! For every peer one task reads its priority stream and one its bulk stream. Frames are judged by kind and length before they are
//! decoded, blocks by name before their signatures are checked; all of it here, in the task of the peer that sent them: a liar slows
//! down its own stream only. Round trips that the link measures go to the core. A full mailbox, or a peer that brings more than its
//! budget, stops the task and thereby the socket. While the disk is all but full blocks are dropped; after it the core is told that
//! the link is new, so that it asks for what it missed. Whatever breaks a rule is dropped, counted and charged to the sender; many of
//! them end the link; nothing here ends the node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_network::{Inbound, LinkEvent, Links, PeerInbound, ReplyTo, Stream};
use rorqual_protocol::types::{BlockError, Round, UnverifiedBlock};
use rorqual_protocol::{Admission, Input, Known, Rule, Verdict};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Verdicts;
use super::allowance::Allowance;
use super::kind::Kind;
use super::message::{CHUNK_BYTES, MAX_FETCH_BATCHES, MAX_FETCH_BLOCKS, MAX_HISTORY, MAX_RANGE_BLOCKS, Message, split};
use crate::batch::chunks::Chunks;
use crate::batch::intake::Intake;
use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::sync::payload::PayloadSync;
use crate::sync::server::{Request, Server};

/// Tokens of a small unasked batch beyond those of any chunk: 4 000 of them a second, 9 000 at once.
const SMALL_BATCH: u32 = 7;

/// The mailboxes that a peer's messages can land in.
#[derive(Clone)]
pub struct Router {
    /// For decoding and checking.
    pub committee: Arc<Committee>,
    /// The consensus task; full: the peer's stream waits.
    pub consensus: mpsc::Sender<Input>,
    /// Serves requests; full: the request is dropped and counted, the peer asks again or elsewhere.
    pub server: Server,
    /// Learns what a peer does not have.
    pub payload: PayloadSync,
    /// Takes in chunks of payload.
    pub intake: Intake,
    /// Whether there is room for blocks.
    pub disk: Disk,
    /// Which blocks the core holds.
    pub known: Known,
    /// How many blocks a peer may bring.
    pub parameters: ConsensusParameters,
    /// Ends the link of a peer that goes on breaking rules.
    pub links: Links,
    /// Counts and logs broken rules.
    pub verdicts: Verdicts,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Why a frame was dropped.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Message(#[from] super::message::Unreadable),
    #[error("{0}")]
    Block(#[from] BlockError),
    #[error("a block by {0} on the own-block stream")]
    NotOwn(AuthorityIndex),
    #[error("lengths that do not fit the frame")]
    Lengths,
    #[error("{kind:?} of {bytes} bytes")]
    Kind { rule: Rule, kind: Kind, bytes: usize },
    #[error("an answer that belongs to no request")]
    Unexpected,
    #[error("a request without an id, or an id on a message that is no request")]
    Correlation,
    #[error("payload: {0}")]
    Payload(&'static str),
    #[error("shutting down")]
    Closed,
}

impl Refused {
    /// The rule that was broken, if any.
    fn rule(&self) -> Option<Rule> {
        Some(match self {
            Self::Message(_) => Rule::Undecodable,
            Self::Block(BlockError::Signature(_)) => Rule::Signature,
            Self::Block(_) => Rule::InvalidBlock,
            Self::NotOwn(_) => Rule::NotOwn,
            Self::Lengths => Rule::Lengths,
            Self::Kind { rule, .. } => *rule,
            Self::Unexpected => Rule::Unexpected,
            Self::Correlation => Rule::Correlation,
            Self::Payload(_) => Rule::Payload,
            Self::Closed => return None,
        })
    }
}

/// What one stream of one peer has left.
struct Budget {
    stream: Stream,
    began: Instant,
    allowance: Allowance,
    admission: Admission,
}

impl Budget {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// When the next frame is read.
    fn ready_at(&self) -> Instant {
        self.began + self.allowance.ready_at().max(self.admission.ready_at())
    }

    /// Judges a frame before it is decoded; false if it is dropped without blame.
    fn admit(&mut self, frame: &[u8]) -> Result<bool, Refused> {
        let bytes = frame.len();
        let kind = Kind::of(self.stream, frame).ok_or(Refused::Unexpected)?;
        self.allowance.admit(self.now(), kind, bytes).map_err(|rule| Refused::Kind { rule, kind, bytes })
    }
}

impl Router {
    /// Spawns the tasks of one peer; they end when the links are shut down.
    pub fn spawn(&self, inbound: PeerInbound) {
        let PeerInbound { peer, events, round_trips, priority, bulk } = inbound;
        tokio::spawn(self.clone().priority(peer, events, round_trips, priority));
        tokio::spawn(self.clone().bulk(peer, bulk));
    }

    fn budget(&self, stream: Stream) -> Budget {
        let admission = Admission::new(self.known.clone(), &self.parameters);
        Budget { stream, began: Instant::now(), allowance: Allowance::new(&self.committee), admission }
    }

    /// Ups and downs come before the frames of the new link: otherwise the end of the old link could undo a subscription that
    /// came over the new one.
    async fn priority(
        self,
        peer: AuthorityIndex,
        mut events: mpsc::Receiver<LinkEvent>,
        mut round_trips: watch::Receiver<Option<Duration>>,
        mut frames: mpsc::Receiver<Inbound>,
    ) {
        let mut is_up = false;
        let mut follows_from = None;
        let mut disk = self.disk.clone();
        let mut budget = self.budget(Stream::Priority);
        loop {
            let ready = budget.ready_at();
            let waits = ready > Instant::now();
            let done = tokio::select! {
                biased;
                event = events.recv() => {
                    // The links are shut down.
                    let Some(event) = event else { return };
                    is_up = matches!(event, LinkEvent::Up);
                    follows_from = None;
                    budget.allowance.renew(budget.now());
                    self.on_event(peer, event).await
                }
                () = disk.resumed(), if is_up => self.renew(peer, follows_from).await,
                Ok(()) = round_trips.changed() => {
                    let measured = *round_trips.borrow_and_update();
                    self.on_round_trip(peer, measured).await
                }
                () = tokio::time::sleep_until(ready), if waits => Ok(()),
                Some(inbound) = frames.recv(), if !waits => {
                    self.on_priority(peer, inbound, &mut follows_from, &mut budget).await
                }
            };
            if let Err(refused) = done {
                self.refuse(peer, &refused, &mut budget);
            }
        }
    }

    async fn on_event(&self, peer: AuthorityIndex, event: LinkEvent) -> Result<(), Refused> {
        // The network has logged it.
        match event {
            LinkEvent::Up => self.tell(Input::PeerUp(peer)).await,
            LinkEvent::Down { .. } => self.tell(Input::PeerDown(peer)).await,
        }
    }

    async fn on_round_trip(&self, peer: AuthorityIndex, measured: Option<Duration>) -> Result<(), Refused> {
        match measured {
            Some(duration) => self.tell(Input::RoundTrip { peer, duration }).await,
            None => Ok(()),
        }
    }

    /// Has the core subscribe anew, as after a reconnect. The peer has noticed nothing: it follows our blocks as before.
    async fn renew(&self, peer: AuthorityIndex, follows_from: Option<Round>) -> Result<(), Refused> {
        self.tell(Input::PeerDown(peer)).await?;
        self.tell(Input::PeerUp(peer)).await?;
        match follows_from {
            Some(from_round) => self.tell(Input::Subscribed { peer, from_round }).await,
            None => Ok(()),
        }
    }

    async fn bulk(self, peer: AuthorityIndex, mut frames: mpsc::Receiver<Inbound>) {
        let mut partial = Chunks::new(self.committee.protocol().max_batch_bytes as usize);
        let mut budget = self.budget(Stream::Bulk);
        loop {
            tokio::time::sleep_until(budget.ready_at()).await;
            let Some(inbound) = frames.recv().await else { return };
            if let Err(refused) = self.on_bulk(peer, inbound, &mut partial, &mut budget).await {
                self.refuse(peer, &refused, &mut budget);
            }
        }
    }

    fn refuse(&self, peer: AuthorityIndex, refused: &Refused, budget: &mut Budget) {
        let Some(rule) = refused.rule() else { return };
        self.verdicts.blame(peer, rule, refused);
        if !budget.allowance.refuse(budget.now()) {
            self.links.refuse(peer, "too many refused frames");
        }
    }

    /// `follows_from` becomes the round from which the peer has asked for our blocks.
    async fn on_priority(
        &self,
        peer: AuthorityIndex,
        inbound: Inbound,
        follows_from: &mut Option<Round>,
        budget: &mut Budget,
    ) -> Result<(), Refused> {
        if !budget.admit(&inbound.frame)? {
            self.metrics.request_over_rate(peer);
            return Ok(());
        }
        let (message, tail) = Message::read(&inbound.frame)?;
        match (message, inbound.reply) {
            (Message::OwnBlock | Message::History { .. }, None) if !self.disk.takes_from_peers() => Ok(()),
            (Message::OwnBlock, None) => {
                let block = UnverifiedBlock::read(tail, &self.committee)?;
                if block.reference().author != peer {
                    return Err(Refused::NotOwn(block.reference().author));
                }
                self.on_blocks(peer, vec![block], budget).await
            }
            (Message::History { lengths }, None) => self.on_history(peer, &lengths, tail, budget).await,
            (Message::Subscribe { from_round }, None) => {
                *follows_from = Some(from_round);
                self.tell(Input::Subscribed { peer, from_round }).await
            }
            (Message::FetchBlocks { refs }, Some(reply)) => {
                within(refs.len(), MAX_FETCH_BLOCKS)?;
                self.serve(peer, Request::Blocks { refs, reply })
            }
            (Message::TipQuery, Some(reply)) => {
                let request = self.server.remember_tip_query(peer, reply);
                self.tell(Input::TipQueried { peer, request }).await
            }
            (Message::FetchBlocks { .. } | Message::TipQuery, None) | (_, Some(_)) => Err(Refused::Correlation),
            _ => Err(Refused::Unexpected),
        }
    }

    async fn on_history(
        &self,
        peer: AuthorityIndex,
        lengths: &[u32],
        tail: Bytes,
        budget: &mut Budget,
    ) -> Result<(), Refused> {
        within(lengths.len(), MAX_HISTORY)?;
        let parts = split(lengths, tail).ok_or(Refused::Lengths)?;
        // A block is a copy of its part of the frame: one small block must not keep a large frame alive.
        let read = |bytes: &Bytes| UnverifiedBlock::read(Bytes::copy_from_slice(bytes), &self.committee);
        let blocks = parts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        self.on_blocks(peer, blocks, budget).await
    }

    /// Only what is not known is verified.
    async fn on_blocks(
        &self,
        peer: AuthorityIndex,
        blocks: Vec<UnverifiedBlock>,
        budget: &mut Budget,
    ) -> Result<(), Refused> {
        let mut refs = Vec::new();
        for block in blocks {
            let verdict = budget.admission.judge(budget.now(), &block.reference());
            self.metrics.block_received(verdict);
            match verdict {
                Verdict::New => {
                    let block = block.verify(&self.committee)?;
                    self.tell(Input::Block { sender: peer, block }).await?;
                }
                Verdict::Known => refs.push(block.reference()),
                Verdict::Old => {}
            }
        }
        if refs.is_empty() {
            return Ok(());
        }
        self.tell(Input::KnownBlocks { sender: peer, refs }).await
    }

    async fn on_bulk(
        &self,
        peer: AuthorityIndex,
        inbound: Inbound,
        partial: &mut Chunks,
        budget: &mut Budget,
    ) -> Result<(), Refused> {
        if !budget.admit(&inbound.frame)? {
            self.metrics.request_over_rate(peer);
            return Ok(());
        }
        let (message, tail) = Message::read(&inbound.frame)?;
        match (message, inbound.reply) {
            (Message::BatchChunk { key, total, offset }, None) => {
                if !self.committee.contains(key.author) {
                    return Err(Refused::Payload("an author outside the committee"));
                }
                if (total as usize) < CHUNK_BYTES && !self.intake.is_wanted(&key, total) {
                    // A small batch costs as much as a large one, but for its bytes.
                    budget.allowance.charge(budget.now(), Kind::BatchChunk, SMALL_BATCH);
                }
                if !self.intake.admits(peer, &key, total) {
                    partial.forget(&key);
                    self.metrics.payload_unsolicited();
                    return Ok(());
                }
                let Some(content) = partial.add(key, total, offset, tail).map_err(Refused::Payload)? else {
                    return Ok(());
                };
                self.intake.store(peer, key, content).await.map_err(Refused::Payload)
            }
            (Message::FetchBatches { keys }, None) => {
                within(keys.len(), MAX_FETCH_BATCHES)?;
                self.serve(peer, Request::Batches { keys })
            }
            (Message::MissingBatches { keys }, None) => {
                within(keys.len(), MAX_FETCH_BATCHES)?;
                self.payload.missing(peer, keys);
                Ok(())
            }
            (Message::FetchBlocks { refs }, Some(reply)) => {
                within(refs.len(), MAX_RANGE_BLOCKS)?;
                self.serve(peer, Request::RangeBlocks { refs, reply })
            }
            (Message::FetchCommits { from, to, offset }, Some(reply)) => {
                self.serve(peer, Request::Commits { from, to, offset, reply })
            }
            (Message::FetchBlocks { .. } | Message::FetchCommits { .. }, None) | (_, Some(_)) => {
                Err(Refused::Correlation)
            }
            _ => Err(Refused::Unexpected),
        }
    }

    fn serve(&self, peer: AuthorityIndex, request: Request<ReplyTo>) -> Result<(), Refused> {
        if !self.server.take(peer, request) {
            self.metrics.request_shed(peer);
        }
        Ok(())
    }

    async fn tell(&self, input: Input) -> Result<(), Refused> {
        self.consensus.send(input).await.map_err(|_| Refused::Closed)
    }
}

/// A list in a message is judged before it is queued or looked at; the frame alone allows no much longer one.
fn within(length: usize, most: usize) -> Result<(), Refused> {
    if length > most { Err(Refused::Lengths) } else { Ok(()) }
}
