//! An honest node: a core, and a shell that carries out its effects as the real daemon does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, KeyPair};
use rorqual_protocol::core::{Core, Setup};
use rorqual_protocol::types::{BatchKey, BatchRef, BlockRef, CommitIndex, Delivery, Round, Sequence, VerifiedBlock};
use rorqual_protocol::{Admission, Effect, Halt, Input, Now, Token, Write};

use super::admission::Inlet;
use super::disk::{Disk, Record};
use super::event::Event;
use super::executor::Executor;
use super::message::Message;
use super::outside::Outside;
use super::payload::Waits;
use super::requests::{Request, Requests};
use super::server::Server;
use super::stock::Stock;
use super::{MILLISECOND, SECOND, Time};
use crate::{members, reference};

/// Wall clock at the start of the simulation.
pub const EPOCH_MS: u64 = 1_700_000_000_000;

pub struct Daemon {
    pub me: AuthorityIndex,
    pub life: u64,
    core: Core,
    pub(super) started: Time,
    /// What each member has sent, and how much more it may.
    pub(super) inlets: Vec<Inlet>,
    /// How wrong its wall clock is.
    pub(super) clock_offset_ms: i64,
    parameters: ConsensusParameters,
    timer: u64,
    pub(super) requests: Requests,
    pub(super) waits: Waits,
    pub(super) stock: Stock,
    executor: Executor,
    /// When the core hears of the last execution: it hears of them in order.
    executed_at: Time,
    own: BTreeMap<Sequence, BatchRef>,
    next_sequence: Sequence,
    seal_below: Sequence,
    oldest_undelivered: Sequence,
    /// Why the core stopped.
    pub halted: Option<Halt>,
    /// How it answers requests.
    pub server: Server,
}

impl Daemon {
    /// Starts a process from what is on its disk.
    pub fn start(
        me: AuthorityIndex,
        life: u64,
        clock_offset_ms: i64,
        parameters: &ConsensusParameters,
        disk: &mut Disk,
        out: &mut Outside,
    ) -> Result<Self, Halt> {
        let key: KeyPair = members::key(me);
        let setup = Setup { committee: out.committee.clone(), me, key, parameters: parameters.clone() };
        disk.open();
        let protocol = out.committee.protocol();
        let recovered = disk.recover(me, protocol.gc_depth, protocol.checkpoint_interval);
        let executed = recovered.executed;
        let last = disk.last_commit();
        out.oracle.restart(me, last, executed.map_or(CommitIndex(0), |(index, _)| index), out.now);
        let now = now(out.now, out.now, clock_offset_ms);
        let (core, effects) = Core::recover(setup, recovered, now)?;
        let inlet = |_| Inlet::new(Admission::new(core.known(), parameters));
        let inlets = out.committee.authorities().map(inlet).collect();
        let own = disk.own_batches(me);
        let next_sequence = own.last_key_value().map_or(Sequence(1), |(last, _)| last.next());
        let mut stock = Stock::new(me, &core, parameters, &out.committee);
        let stale = stock.restore(&core.kept_at_start(&effects), disk);
        disk.append(out.now, Record::Drop(stale), &mut out.random);
        let mut daemon = Self {
            me,
            life,
            core,
            started: out.now,
            inlets,
            clock_offset_ms,
            parameters: parameters.clone(),
            timer: 0,
            requests: Requests::default(),
            waits: Waits::new(parameters.payload_grace),
            stock,
            executor: Executor::new(executed),
            executed_at: 0,
            own,
            next_sequence,
            seal_below: Sequence(u64::MAX),
            oldest_undelivered: Sequence(0),
            halted: None,
            server: Server::Honest,
        };
        daemon.carry_out(effects, disk, out);
        Ok(daemon)
    }

    pub fn step(&mut self, input: Input, disk: &mut Disk, out: &mut Outside) {
        if self.halted.is_some() {
            return;
        }
        let now = now(out.now, self.started, self.clock_offset_ms);
        out.say(self.me, || format!("<- {}", abbreviated(&input)));
        let effects = self.core.step(now, input);
        out.note((self.me, effects.len()));
        self.carry_out(effects, disk, out);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, disk: &mut Disk, out: &mut Outside) {
        for effect in effects {
            out.say(self.me, || format!("   -> {}", abbreviated(&effect)));
            self.effect(effect, disk, out);
        }
    }

    fn effect(&mut self, effect: Effect, disk: &mut Disk, out: &mut Outside) {
        match effect {
            Effect::Persist { writes, sync, token } => self.persist(writes, sync, token, disk, out),
            Effect::SendOwn { peer, block } => {
                assert_eq!(block.author(), self.me, "sends a foreign block as its own");
                let is_settled = |disk: &Disk, reference: &BlockRef| is_settled(disk, reference, out);
                let missing = disk.not_durable(&block, is_settled, |disk, key| is_stale(disk, key, out));
                assert_eq!(missing, None, "{block:?} leaves {:?} before this is durable", self.me);
                out.note(block.reference());
                self.send_blocks(peer, vec![block.reference()], Message::Own(block), out);
            }
            Effect::SendHistory { peer, blocks } => {
                assert!(blocks.len() <= 150 && blocks.is_sorted_by_key(|b| b.round()), "history out of bounds");
                let refs = blocks.iter().map(VerifiedBlock::reference).collect();
                self.send_blocks(peer, refs, Message::History(blocks), out);
            }
            Effect::FetchBlocks { peer, refs } => self.fetch_blocks(peer, refs, out),
            Effect::FetchCommits { peer, from, to } => self.fetch_commits(peer, from, to, out),
            Effect::CancelCommits { peer, from } => self.requests.cancel_range(peer, from),
            Effect::Subscribe { peer, from_round } => {
                out.send(self.me, peer, Message::Subscribe(from_round));
            }
            Effect::TipQuery { peer } => {
                out.send(self.me, peer, Message::TipQuery { id: out.now });
            }
            Effect::SendTip { peer, tip, .. } => {
                out.send(self.me, peer, Message::Tip(tip));
            }
            Effect::WaitBatch { key, bytes, holders, urgent } => self.wait(key, bytes, holders, urgent, disk, out),
            Effect::CancelWait(key) => self.waits.cancel(&key),
            Effect::DropPayload(keys) => {
                self.stock.forget(&keys);
                disk.append(out.now, Record::Drop(keys), &mut out.random);
            }
            Effect::Deliver(delivery) => {
                self.executor.take(delivery);
                self.execute(disk, out);
            }
            Effect::SealBelow(sequence) => self.seal_below = sequence,
            Effect::OwnDelivered { oldest_undelivered } => self.oldest_undelivered = oldest_undelivered,
            Effect::Penalise { peer, rule } => {
                assert!(out.oracle.is_byzantine(peer), "{:?} blames honest {peer:?}: it {rule}", self.me);
                out.oracle.blame(rule);
            }
            Effect::Evidence { author, blocks: [one, two] } => {
                assert!(out.oracle.is_byzantine(author), "{:?} accuses honest {author:?}", self.me);
                assert!(one.round() == two.round() && one.author() == author && two.author() == author && one != two);
            }
            Effect::SetTimer(at) => self.set_timer(at, out),
            Effect::Halt(reason) => self.halted = Some(reason),
        }
    }

    fn send_blocks(&mut self, peer: AuthorityIndex, refs: Vec<BlockRef>, message: Message, out: &mut Outside) {
        if !out.send(self.me, peer, message) {
            out.tell(self.me, self.life, Input::SendRefused { peer, refs });
        }
    }

    fn persist(&mut self, writes: Vec<Write>, sync: bool, token: Option<Token>, disk: &mut Disk, out: &mut Outside) {
        let mut gone = Vec::new();
        for write in &writes {
            if let Write::Commit(delivery) = write {
                gone.extend(self.stock.delivered(delivery));
                out.note(delivery.commit.digest());
                out.oracle.record(self.me, delivery, out.now);
            }
        }
        let named = writes.iter().find_map(|write| match write {
            Write::Own(own) => Some(own.block.round()),
            _ => None,
        });
        let mut at = disk.append(out.now, Record::Writes(writes), &mut out.random);
        if !gone.is_empty() {
            at = disk.append(out.now, Record::Drop(gone), &mut out.random);
        }
        let mut mark = None;
        if sync {
            let (done, covers) = disk.sync(at, &mut out.random);
            (at, mark) = (done, Some(covers));
        }
        if token.is_some() || mark.is_some() {
            out.schedule(at, Event::Durable { node: self.me, life: self.life, token, mark, named });
        }
    }

    fn set_timer(&mut self, at: Duration, out: &mut Outside) {
        self.timer += 1;
        let at = self.started + at.as_micros() as Time;
        // Never earlier than asked for, since rounding down would wake the core in vain.
        out.schedule(at + 1, Event::Wake { node: self.me, life: self.life, version: self.timer });
    }

    pub fn wake(&mut self, version: u64, disk: &mut Disk, out: &mut Outside) {
        if version == self.timer {
            self.step(Input::Timer, disk, out);
        }
    }

    pub(super) fn open(&mut self, request: Request, out: &mut Outside) -> u64 {
        let id = self.requests.open(request);
        out.after(2 * SECOND, Event::Expire { node: self.me, life: self.life, request: id });
        id
    }

    pub(super) fn request(&mut self, peer: AuthorityIndex, id: u64, message: Message, out: &mut Outside) {
        if !out.send(self.me, peer, message)
            && let Some(request) = self.requests.close(id)
        {
            out.tell(self.me, self.life, request.failure());
        }
    }

    fn fetch_blocks(&mut self, peer: AuthorityIndex, refs: Vec<BlockRef>, out: &mut Outside) {
        assert!(refs.len() <= 32 && !refs.is_empty() && peer != self.me, "a fetch out of bounds");
        let id = self.open(Request::Blocks { peer, refs: refs.clone() }, out);
        self.request(peer, id, Message::FetchBlocks { id, refs }, out);
    }

    pub fn expire(&mut self, id: u64, disk: &mut Disk, out: &mut Outside) {
        if let Some(request) = self.requests.close(id) {
            self.step(request.failure(), disk, out);
        }
    }

    fn wait(
        &mut self,
        key: BatchKey,
        bytes: u32,
        holders: Vec<AuthorityIndex>,
        urgent: bool,
        disk: &Disk,
        out: &mut Outside,
    ) {
        let (new, learnt) = self.waits.add(key, holders);
        self.stock.ask(&key);
        if disk.has_payload(&key) {
            if new {
                out.schedule(disk.readable_at(&key), Event::Stored { node: self.me, life: self.life, key });
            }
            return;
        }
        assert!(
            out.oracle.batch(&key).is_none_or(|batch| batch.bytes == bytes),
            "{key} is asked for with a wrong length"
        );
        if new {
            let grace = if urgent { 0 } else { self.parameters.payload_grace.as_micros() as Time };
            out.after(grace, Event::Ask { node: self.me, life: self.life, key });
        } else if learnt {
            self.ask(key, disk, out);
        }
    }

    /// The time has come to look again: by now nobody waits for what no commit can deliver any more. (Within one step a wait may
    /// begin and end.)
    pub fn look_again(&mut self, key: BatchKey, disk: &Disk, out: &mut Outside) {
        let vain = self.waits.is_waiting(&key) && !disk.has_payload(&key) && disk.is_superseded(&key);
        assert!(!vain, "{:?} asks for {key}, which no commit can deliver any more", self.me);
        self.ask(key, disk, out);
    }

    /// Asks the next holder for payload that is still wanted and still missing.
    pub fn ask(&mut self, key: BatchKey, disk: &Disk, out: &mut Outside) {
        if !self.waits.is_waiting(&key) || disk.has_payload(&key) {
            return;
        }
        let connected = out.connected(self.me);
        let Some((holder, until)) = self.waits.next(&key, out.now, |h| connected.contains(&h)) else { return };
        if let Some(holder) = holder {
            out.send(self.me, holder, Message::FetchBatch(key));
        }
        out.schedule(until.max(out.now + 1), Event::Ask { node: self.me, life: self.life, key });
    }

    /// Payload is readable: the core may have waited for it, and execution too.
    pub fn stored(&mut self, key: BatchKey, disk: &mut Disk, out: &mut Outside) {
        if key.author == self.me && self.own.get(&key.sequence).is_none_or(|b| b.digest != key.digest) {
            self.sealed(key, disk, out);
        }
        // What was written may have been deleted since.
        if disk.has_payload(&key) && self.waits.arrived(&key, out.now) {
            let bytes = disk.payload_bytes(&key);
            self.step(Input::BatchStored { key, bytes }, disk, out);
        }
        self.execute(disk, out);
    }

    /// Begins with the next commit whose payload is all here, if execution has nothing else to do.
    fn execute(&mut self, disk: &Disk, out: &mut Outside) {
        if self.executor.begin(disk) {
            let takes = out.pace.draw(&mut out.random);
            out.after(takes, Event::Apply { node: self.me, life: self.life });
        }
    }

    pub fn apply(&mut self, disk: &mut Disk, out: &mut Outside) {
        if let Some((delivery, state)) = self.executor.finish() {
            self.executed(&delivery, state, disk, out);
        }
        self.execute(disk, out);
    }

    fn executed(
        &mut self,
        delivery: &Arc<Delivery>,
        state: rorqual_config::Digest,
        disk: &mut Disk,
        out: &mut Outside,
    ) {
        let index = delivery.commit.index;
        out.oracle.execute(self.me, delivery, state, out.now);
        let applied = disk.append(out.now, Record::Executed(index, state), &mut out.random);
        self.executed_at = applied.max(self.executed_at + 1);
        let input = Input::Executed { index, state };
        out.schedule(self.executed_at, Event::Local { node: self.me, life: self.life, input: Box::new(input) });
    }

    /// A client submits something: seal a batch, unless the core wants no more.
    pub fn submit(&mut self, content: &[u8], disk: &mut Disk, out: &mut Outside) {
        if self.next_sequence >= self.seal_below || self.halted.is_some() {
            return;
        }
        let sequence = self.next_sequence;
        self.next_sequence = sequence.next();
        let digest = BatchKey::digest_of(out.committee.epoch(), self.me, sequence, content);
        let batch = BatchRef { sequence, digest, bytes: content.len() as u32 };
        let key = batch.key(self.me);
        out.oracle.seal(key, batch, out.now);
        if let Some(at) = disk.store(out.now, key, batch, &mut out.random) {
            out.schedule(at, Event::Stored { node: self.me, life: self.life, key });
        }
    }

    fn sealed(&mut self, key: BatchKey, disk: &mut Disk, out: &mut Outside) {
        let Some(batch) = out.oracle.batch(&key) else { return };
        // Old content of a sequence that was sealed anew is payload like any other.
        if self.own.contains_key(&key.sequence) {
            return;
        }
        self.own.insert(key.sequence, batch);
        self.step(Input::BatchSealed(batch), disk, out);
        for peer in out.connected(self.me) {
            self.spread(batch, peer, out);
        }
    }

    fn spread(&mut self, batch: BatchRef, peer: AuthorityIndex, out: &mut Outside) {
        if out.send(self.me, peer, Message::Batch(batch.key(self.me))) {
            out.tell(self.me, self.life, Input::BatchHandedToKernel { sequence: batch.sequence, peer });
        }
    }

    pub fn connected(&mut self, peer: AuthorityIndex, disk: &mut Disk, out: &mut Outside) {
        self.step(Input::PeerUp(peer), disk, out);
        let duration = Duration::from_micros(out.network.round_trip(self.me, peer));
        self.step(Input::RoundTrip { peer, duration }, disk, out);
        let undelivered: Vec<BatchRef> = self.own.range(self.oldest_undelivered..).map(|(_, b)| *b).collect();
        for batch in undelivered {
            self.spread(batch, peer, out);
        }
    }

    pub fn disconnected(&mut self, peer: AuthorityIndex, disk: &mut Disk, out: &mut Outside) {
        self.step(Input::PeerDown(peer), disk, out);
        for request in self.requests.close_all(peer) {
            self.step(request.failure(), disk, out);
        }
    }
}

/// Whether the payload of a block may be gone: a commit has it, or it fell below the garbage-collection round, by what is on record
/// or what the durable blocks of this disk say.
fn is_settled(disk: &Disk, block: &BlockRef, out: &Outside) -> bool {
    let commits = reference::commits(&out.committee, disk.durable_blocks());
    let decided = commits.iter().map(|commit| commit.leader_round).chain(disk.last_leader_round()).max();
    let collected = decided.map_or(Round(0), |leader| leader.minus(out.committee.protocol().gc_depth));
    block.round <= collected
        || out.oracle.is_committed(block)
        || commits.iter().any(|commit| commit.blocks.contains(block))
}

/// Whether no commit after those that somebody has recorded, or that the durable blocks of this disk say, can deliver it.
fn is_stale(disk: &Disk, key: &BatchKey, out: &Outside) -> bool {
    let window = out.committee.protocol().replay_window;
    let decided = reference::commits(&out.committee, disk.durable_blocks());
    let delivered = decided.iter().flat_map(|commit| &commit.batches).filter(|batch| batch.author == key.author);
    let settles = |sequence: Sequence| sequence == key.sequence || key.sequence.0 + window <= sequence.0;
    out.oracle.is_stale(key) || delivered.map(|batch| batch.batch.sequence).any(settles)
}

fn now(at: Time, started: Time, offset_ms: i64) -> Now {
    let wall_ms = (EPOCH_MS + at / MILLISECOND).saturating_add_signed(offset_ms);
    Now { monotonic: Duration::from_micros(at - started), wall_ms }
}

fn abbreviated(what: &impl std::fmt::Debug) -> String {
    let text = format!("{what:?}");
    text.chars().take(220).collect()
}
