//! From bytes to a verified message in the right mailbox.
//!
//! For every peer one task reads its priority stream and one its bulk stream. Blocks are decoded and their signatures checked
//! here, in the task of the peer that sent them: a liar slows down its own stream only. Round trips that the link measures go
//! to the core. A full mailbox stops the task and thereby the socket. While the disk is all but full blocks are dropped; after it
//! the core is told that the link is new, so that it asks for what it missed. Whatever breaks a rule is dropped, counted and
//! charged to the sender; nothing here ends the node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_network::{Inbound, LinkEvent, PeerInbound, ReplyTo};
use rorqual_protocol::Input;
use rorqual_protocol::types::{Round, VerifiedBlock};
use tokio::sync::{mpsc, watch};
use tracing::debug;

use super::message::{MAX_HISTORY, Message, split};
use crate::batch::intake::Intake;
use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::sync::payload::PayloadSync;
use crate::sync::server::{Request, Server};

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
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Why a frame was dropped.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Message(#[from] super::message::Unreadable),
    #[error("{0}")]
    Block(#[from] rorqual_protocol::types::BlockError),
    #[error("a block by {0} on the own-block stream")]
    NotOwn(AuthorityIndex),
    #[error("lengths that do not fit the frame")]
    Lengths,
    #[error("an answer that belongs to no request")]
    Unexpected,
    #[error("a request without an id, or an id on a message that is no request")]
    Correlation,
    #[error("payload: {0}")]
    Payload(&'static str),
    #[error("shutting down")]
    Closed,
}

impl Router {
    /// Spawns the tasks of one peer; they end when the links are shut down.
    pub fn spawn(&self, inbound: PeerInbound) {
        let PeerInbound { peer, events, round_trips, priority, bulk } = inbound;
        tokio::spawn(self.clone().priority(peer, events, round_trips, priority));
        tokio::spawn(self.clone().bulk(peer, bulk));
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
        loop {
            let done = tokio::select! {
                biased;
                event = events.recv() => {
                    // The links are shut down.
                    let Some(event) = event else { return };
                    is_up = matches!(event, LinkEvent::Up);
                    follows_from = None;
                    self.on_event(peer, event).await
                }
                () = disk.resumed(), if is_up => self.renew(peer, follows_from).await,
                Ok(()) = round_trips.changed() => {
                    let measured = *round_trips.borrow_and_update();
                    self.on_round_trip(peer, measured).await
                }
                Some(inbound) = frames.recv() => self.on_priority(peer, inbound, &mut follows_from).await,
            };
            if let Err(refused) = done {
                self.refuse(peer, &refused);
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
        let mut partial = crate::batch::chunks::Chunks::new(self.committee.protocol().max_batch_bytes as usize);
        while let Some(inbound) = frames.recv().await {
            if let Err(refused) = self.on_bulk(peer, inbound, &mut partial).await {
                self.refuse(peer, &refused);
            }
        }
    }

    fn refuse(&self, peer: AuthorityIndex, refused: &Refused) {
        if matches!(refused, Refused::Closed) {
            return;
        }
        self.metrics.peer_refused(peer);
        debug!(peer = %self.committee.member(peer).name, %refused, "dropped a frame");
    }

    /// `follows_from` becomes the round from which the peer has asked for our blocks.
    async fn on_priority(
        &self,
        peer: AuthorityIndex,
        inbound: Inbound,
        follows_from: &mut Option<Round>,
    ) -> Result<(), Refused> {
        let (message, tail) = Message::read(&inbound.frame)?;
        match (message, inbound.reply) {
            (Message::OwnBlock | Message::History { .. }, None) if !self.disk.takes_from_peers() => Ok(()),
            (Message::OwnBlock, None) => {
                let block = VerifiedBlock::verify(tail, &self.committee)?;
                if block.author() != peer {
                    return Err(Refused::NotOwn(block.author()));
                }
                self.tell(Input::Block { sender: peer, block }).await
            }
            (Message::History { lengths }, None) => self.on_history(peer, &lengths, tail).await,
            (Message::Subscribe { from_round }, None) => {
                *follows_from = Some(from_round);
                self.tell(Input::Subscribed { peer, from_round }).await
            }
            (Message::FetchBlocks { refs }, Some(reply)) => self.serve(peer, Request::Blocks { refs, reply }),
            (Message::TipQuery, Some(reply)) => {
                let request = self.server.remember_tip_query(peer, reply);
                self.tell(Input::TipQueried { peer, request }).await
            }
            (Message::FetchBlocks { .. } | Message::TipQuery, None) | (_, Some(_)) => Err(Refused::Correlation),
            _ => Err(Refused::Unexpected),
        }
    }

    async fn on_history(&self, peer: AuthorityIndex, lengths: &[u32], tail: Bytes) -> Result<(), Refused> {
        if lengths.len() > MAX_HISTORY {
            return Err(Refused::Lengths);
        }
        for bytes in split(lengths, tail).ok_or(Refused::Lengths)? {
            // A block is a copy of its part of the frame: one small block must not keep a large frame alive.
            let block = VerifiedBlock::verify(Bytes::copy_from_slice(&bytes), &self.committee)?;
            self.tell(Input::Block { sender: peer, block }).await?;
        }
        Ok(())
    }

    async fn on_bulk(
        &self,
        peer: AuthorityIndex,
        inbound: Inbound,
        partial: &mut crate::batch::chunks::Chunks,
    ) -> Result<(), Refused> {
        let (message, tail) = Message::read(&inbound.frame)?;
        match (message, inbound.reply) {
            (Message::BatchChunk { key, total, offset }, None) => {
                if !self.committee.contains(key.author) {
                    return Err(Refused::Payload("an author outside the committee"));
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
            (Message::FetchBatches { keys }, None) => self.serve(peer, Request::Batches { keys }),
            (Message::MissingBatches { keys }, None) => {
                self.payload.missing(peer, keys);
                Ok(())
            }
            (Message::FetchBlocks { refs }, Some(reply)) => self.serve(peer, Request::RangeBlocks { refs, reply }),
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
