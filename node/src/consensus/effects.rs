//! Carries out what the core says, in order. The only place where own words leave the node.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rorqual_config::encoding::encode;
use rorqual_config::parameters;
use rorqual_config::{AuthorityIndex, Committee};
use rorqual_network::{Lane, Links, SendError};
use rorqual_protocol::input::{Tip, Token};
use rorqual_protocol::types::{CommitIndex, Delivery, Round, Sequence, VerifiedBlock};
use rorqual_protocol::{Effect, Halt, Input, OwnWrite, Rule, Write};
use rorqual_store::{Durability, Store, StoreError, WriteBatch};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tracing::warn;

use super::durable;
use super::recovery::boot_id;
use super::safety::SafetyRecord;
use crate::batch::intake::Intake;
use crate::metrics::{Metrics, Stages};
use crate::peers::message::{Message, join};
use crate::schema::{self, Meta};
use crate::sync::fetch::Fetcher;
use crate::sync::payload::PayloadSync;
use crate::sync::server::Server;

/// The rooms that effects reach.
pub struct Rooms {
    /// The committee.
    pub committee: Arc<Committee>,
    /// Ourselves.
    pub me: AuthorityIndex,
    /// Writes.
    pub store: Store,
    /// What `sync` means.
    pub durability: parameters::Durability,
    /// Remembers, outside the store, how far own blocks were durable.
    pub safety: Arc<SafetyRecord>,
    /// Sends.
    pub links: Links,
    /// Fetches blocks and commits.
    pub fetcher: Fetcher,
    /// Waits for payload.
    pub payload: PayloadSync,
    /// Knows which tip query is whose.
    pub server: Server,
    /// Forgets delivered payload.
    pub intake: Intake,
    /// Gets deliveries; what does not fit waits in the driver.
    pub execution: mpsc::Sender<Arc<Delivery>>,
    /// How far the batch maker may seal.
    pub seal_below: watch::Sender<Sequence>,
    /// Times the stages of own batches.
    pub stages: Stages,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

type Persisted = std::pin::Pin<Box<dyn Future<Output = (Token, Result<(), Stop>)> + Send>>;

/// Carries out effects.
pub struct Effects {
    rooms: Rooms,
    /// Writes that the core wants to hear of.
    pub persists: FuturesUnordered<Persisted>,
    /// Deliveries that execution's queue has no room for. Bounded by the core, which takes no live blocks in while payload
    /// lags behind commits.
    backlog: VecDeque<Arc<Delivery>>,
    /// What links refused in this step, for the core to hear at once.
    pub refused: VecDeque<Input>,
    /// Fetches of ranges under way; the core bounds them.
    ranges: BTreeMap<(AuthorityIndex, CommitIndex), AbortHandle>,
    /// When the core wants to be woken.
    pub timer: Option<Duration>,
    boot_id: String,
    /// The oldest own batch with a record on disk.
    sealed_from: Sequence,
    /// The newest own block written since the last durable point began.
    own_round: Option<Round>,
}

impl Effects {
    /// Nothing to do yet. `sealed_from` is the oldest own batch with a record on disk.
    pub fn new(rooms: Rooms, sealed_from: Sequence) -> Self {
        Self {
            rooms,
            persists: FuturesUnordered::new(),
            backlog: VecDeque::new(),
            refused: VecDeque::new(),
            ranges: BTreeMap::new(),
            timer: None,
            boot_id: boot_id(),
            sealed_from,
            own_round: None,
        }
    }

    /// Carries out all effects of one step. Waits only while the store's queue is full.
    ///
    /// # Errors
    /// The core's reason to stop, or the store's.
    pub async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), Stop> {
        for effect in effects {
            self.one(effect).await?;
        }
        self.flush_backlog()
    }

    async fn one(&mut self, effect: Effect) -> Result<(), Stop> {
        let rooms = &self.rooms;
        match effect {
            Effect::Persist { writes, sync, token } => self.persist(writes, sync, token).await?,
            Effect::SendOwn { peer, block } => {
                let sent = self.best_effort(peer, &Message::OwnBlock, block.bytes().clone());
                self.note_refused(sent, peer, std::slice::from_ref(&block));
            }
            Effect::SendHistory { peer, blocks } => {
                let (lengths, tail) = join(blocks.iter().map(VerifiedBlock::bytes));
                let sent = self.best_effort(peer, &Message::History { lengths }, tail);
                self.note_refused(sent, peer, &blocks);
            }
            Effect::FetchBlocks { peer, refs } => rooms.fetcher.blocks(peer, refs),
            Effect::FetchCommits { peer, from, to } => {
                let task = rooms.fetcher.commits(peer, from, to);
                self.ranges.retain(|_, task| !task.is_finished());
                self.ranges.insert((peer, from), task);
            }
            Effect::CancelCommits { peer, from } => {
                if let Some(task) = self.ranges.remove(&(peer, from)) {
                    task.abort();
                }
            }
            Effect::Subscribe { peer, from_round } => {
                // Said again if nothing comes.
                let _ = self.best_effort(peer, &Message::Subscribe { from_round }, Bytes::new());
            }
            Effect::TipQuery { peer } => self.query_tip(peer),
            Effect::SendTip { peer: _, request, tip } => self.send_tip(request, &tip),
            Effect::WaitBatch { key, bytes, holders, urgent } => rooms.payload.wait(key, bytes, holders, urgent),
            Effect::CancelWait(key) => rooms.payload.cancel(key),
            Effect::DropPayload(keys) => rooms.payload.delete(keys),
            Effect::Deliver(delivery) => self.deliver(delivery),
            Effect::SealBelow(limit) => {
                rooms.seal_below.send_replace(limit);
            }
            Effect::OwnDelivered { oldest_undelivered } => self.forget_sealed(oldest_undelivered).await?,
            Effect::Penalise { peer, rule } => rooms.fetcher.verdicts.blame(peer, rule, &"seen by the core"),
            Effect::Evidence { author, blocks } => {
                rooms.metrics.equivocation(author);
                warn!(author = %rooms.committee.member(author).name, ?blocks, "equivocation: two signed blocks of one round");
            }
            Effect::SetTimer(at) => self.timer = Some(at),
            Effect::Halt(halt) => return Err(Stop::Halt(halt)),
        }
        Ok(())
    }

    fn best_effort(&self, peer: AuthorityIndex, message: &Message, tail: Bytes) -> Result<(), SendError> {
        let sent = self.rooms.links.send(peer, Lane::Priority, message.with_tail(tail));
        if sent.is_err() {
            self.rooms.metrics.send_dropped(peer);
        }
        sent
    }

    /// Blocks that a full queue refused: the core believes them under way and is told that they are not. Those lost with a link
    /// it forgets with the link.
    fn note_refused(&mut self, sent: Result<(), SendError>, peer: AuthorityIndex, blocks: &[VerifiedBlock]) {
        if sent == Err(SendError::Full) {
            let refs = blocks.iter().map(VerifiedBlock::reference).collect();
            self.refused.push_back(Input::SendRefused { peer, refs });
        }
    }

    /// Writes, and waits only while the store's queue is full. With an own block the safety record of the one before it is
    /// synced too, side by side; once both are done it names the block, and only then the core hears of it.
    async fn persist(&mut self, writes: Vec<Write>, sync: bool, token: Option<Token>) -> Result<(), Stop> {
        let synced = sync && self.rooms.durability == parameters::Durability::Synced;
        let durability = if synced { Durability::Synced } else { Durability::Buffered };
        // A step with many writes comes in several parts, of which the last one is synced.
        self.own_round = writes.iter().filter_map(own_round).max().max(self.own_round);
        let own_round = if sync { self.own_round.take() } else { None };
        let recorded = own_round.filter(|_| synced).map(|_| self.rooms.safety.sync());
        let mut batch = WriteBatch::new();
        for write in writes {
            self.put(&mut batch, write);
        }
        let completion = match self.rooms.store.try_write_batch(batch, durability) {
            Ok(completion) => Some(completion),
            Err(refused) => {
                self.rooms.store.write_batch(refused.batch, durability).await.map_err(Stop::Store)?;
                None
            }
        };
        let Some(token) = token else { return Ok(()) };
        let point = durable::point(completion, recorded, own_round, self.rooms.safety.clone());
        self.persists.push(Box::pin(async move { (token, point.await) }));
        Ok(())
    }

    fn put(&self, batch: &mut WriteBatch, write: Write) {
        match write {
            Write::Block(block) => {
                batch.put(schema::BLOCKS, schema::block_key(&block.reference()), block.bytes().clone());
            }
            Write::Own(own) => self.put_own(batch, own),
            Write::Uncover => batch.delete(schema::META, Meta::COVER),
            Write::Commit(delivery) => {
                // Before this write has its place: payload that comes from now on gets no row.
                self.rooms.intake.delivered(&delivery);
                for delivered in &delivery.batches {
                    batch.delete(schema::UNDELIVERED, schema::batch_key(&delivered.key()));
                }
                batch.put(schema::COMMITS, schema::index_key(delivery.commit.index), encode(&*delivery));
            }
            Write::Certificate(certificate) => {
                batch.put(schema::CERTIFICATES, schema::index_key(certificate.index()), encode(&*certificate));
            }
            Write::Snapshot { index, bytes } => {
                batch.put(schema::SNAPSHOTS, schema::index_key(index), Bytes::copy_from_slice(&bytes));
                // The two newest stay.
                let interval = self.rooms.committee.protocol().checkpoint_interval;
                batch.delete(schema::SNAPSHOTS, schema::index_key(index.minus(2 * interval)));
            }
        }
    }

    fn put_own(&self, batch: &mut WriteBatch, own: OwnWrite) {
        let OwnWrite { block, cover, first, replaces } = own;
        if let Some(given_up) = replaces {
            batch.delete(schema::OWN, schema::round_key(given_up.round));
            batch.delete(schema::BLOCKS, schema::block_key(&given_up));
        }
        if first {
            batch.delete(schema::META, Meta::NEVER_SIGNED);
        }
        match cover {
            Some(cover) => batch.put(schema::META, Meta::COVER, encode(&cover)),
            None => batch.delete(schema::META, Meta::COVER),
        }
        match self.rooms.durability {
            parameters::Durability::Os => batch.put(schema::META, Meta::BOOT_ID, self.boot_id.clone()),
            parameters::Durability::Synced => batch.delete(schema::META, Meta::BOOT_ID),
        }
        batch.put(schema::OWN, schema::round_key(block.round()), block.bytes().clone());
        batch.put(schema::BLOCKS, schema::block_key(&block.reference()), block.bytes().clone());
    }

    fn deliver(&mut self, delivery: Arc<Delivery>) {
        let me = self.rooms.me;
        let own = delivery.batches.iter().filter(|batch| batch.author == me).map(|batch| batch.batch.sequence);
        self.rooms.stages.committed(delivery.commit.index, own);
        self.rooms.metrics.delivered(&delivery);
        self.backlog.push_back(delivery);
    }

    /// Hands deliveries on while execution has room.
    ///
    /// # Errors
    /// [`Stop::Closed`] when execution has ended.
    pub fn flush_backlog(&mut self) -> Result<(), Stop> {
        while let Some(delivery) = self.backlog.pop_front() {
            match self.rooms.execution.try_send(delivery) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(delivery)) => {
                    self.backlog.push_front(delivery);
                    return Ok(());
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(Stop::Closed),
            }
        }
        Ok(())
    }

    /// Execution applied a commit: times its own batches.
    pub fn executed(&self, index: CommitIndex) {
        self.rooms.stages.executed(index);
    }

    /// Drops the records of delivered own batches, never the newest one, which tells a restart where to continue.
    async fn forget_sealed(&mut self, oldest_undelivered: Sequence) -> Result<(), Stop> {
        self.rooms.stages.forget_below(oldest_undelivered);
        let end = oldest_undelivered.previous();
        if end <= self.sealed_from {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        for sequence in self.sealed_from.0..end.0 {
            batch.delete(schema::SEALED, schema::number_key(sequence));
        }
        self.sealed_from = end;
        match self.rooms.store.try_write_batch(batch, Durability::Buffered) {
            Ok(_completion) => Ok(()),
            Err(refused) => {
                self.rooms.store.write_batch(refused.batch, Durability::Buffered).await.map_err(Stop::Store)
            }
        }
    }

    fn query_tip(&self, peer: AuthorityIndex) {
        let (fetcher, committee) = (self.rooms.fetcher.clone(), self.rooms.committee.clone());
        tokio::spawn(async move {
            let frame = Message::TipQuery.frame();
            let deadline = Duration::from_secs(2);
            let Ok(answer) = fetcher.links.request(peer, Lane::Priority, frame, deadline).await else { return };
            match read_tip(&answer, &committee) {
                Some(tip) => {
                    let _ = fetcher.consensus.send(Input::PeerTip { peer, tip: Box::new(tip) }).await;
                }
                None => fetcher.verdicts.blame(peer, Rule::Undecodable, &"a tip"),
            }
        });
    }

    fn send_tip(&self, request: u64, tip: &Tip) {
        let Some(reply) = self.rooms.server.recall_tip_query(request) else { return };
        let bytes = |block: &Option<VerifiedBlock>| block.as_ref().map_or(Bytes::new(), |b| b.bytes().clone());
        let (lengths, tail) = join([bytes(&tip.own), bytes(&tip.yours)].iter());
        let (gc_round, last_commit) = (tip.gc_round, tip.last_commit);
        let message = Message::Tip { own: lengths[0], yours: lengths[1], gc_round, last_commit };
        let _ = self.rooms.links.respond(reply, Lane::Priority, message.with_tail(tail));
    }
}

fn own_round(write: &Write) -> Option<Round> {
    match write {
        Write::Own(own) => Some(own.block.round()),
        _ => None,
    }
}

fn read_tip(answer: &Bytes, committee: &Committee) -> Option<Tip> {
    let (message, tail) = Message::read(answer).ok()?;
    let Message::Tip { own, yours, gc_round, last_commit } = message else { return None };
    let parts = crate::peers::message::split(&[own, yours], tail)?;
    let block = |bytes: &Bytes| match bytes.is_empty() {
        true => Some(None),
        false => VerifiedBlock::verify(Bytes::copy_from_slice(bytes), committee).ok().map(Some),
    };
    Some(Tip { own: block(&parts[0])?, yours: block(&parts[1])?, gc_round, last_commit })
}

/// Why consensus ended.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The core says so.
    #[error(transparent)]
    Halt(#[from] Halt),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The safety record cannot be written: one sentence.
    #[error("{0}")]
    Safety(String),
    /// Another part of the node has ended.
    #[error("a neighbouring task has ended")]
    Closed,
}

/// Resolves with the next finished write.
pub async fn next_persisted(persists: &mut FuturesUnordered<Persisted>) -> Option<(Token, Result<(), Stop>)> {
    persists.next().await
}
