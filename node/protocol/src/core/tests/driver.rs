//! Cores on one simulated wire: constant delay, a disk each, execution that follows. Deterministic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Committee, Digest, ProtocolParameters};

use crate::certificate::check::VerifiedRange;
use crate::core::{Core, Setup};
use crate::effect::{Cover, Effect, Halt, Write};
use crate::input::{Input, Now, Recovered};
use crate::testing::{committee_with, key};
use crate::types::{BatchKey, BatchRef, BlockRef, Certificate, CommitIndex, Delivery, Round, Sequence, VerifiedBlock};

/// What one node has written.
#[derive(Clone, Default)]
pub struct Disk {
    pub never_signed: bool,
    pub blocks: BTreeMap<BlockRef, VerifiedBlock>,
    pub cover: Option<Cover>,
    /// What the safety record says.
    pub completed: Round,
    pub commits: BTreeMap<CommitIndex, Arc<Delivery>>,
    pub certificates: BTreeMap<CommitIndex, Arc<Certificate>>,
    pub snapshots: BTreeMap<CommitIndex, Arc<Vec<u8>>>,
    pub batches: BTreeSet<BatchKey>,
    pub own_batches: BTreeMap<Sequence, BatchRef>,
    pub executed: BTreeMap<CommitIndex, Digest>,
}

pub struct Node {
    pub core: Option<Core>,
    pub disk: Disk,
    pub timer: Option<Duration>,
    pub halted: Option<Halt>,
    pub delivered: Vec<Arc<Delivery>>,
    pub effects: Vec<Effect>,
    pub waits: BTreeMap<BatchKey, u32>,
}

/// A second core from the disk of a node, which nobody hears.
pub struct Twin {
    pub core: Core,
    pub waits: Vec<(BatchKey, u32)>,
    clock: Now,
}

impl Twin {
    pub fn input(&mut self, input: Input) {
        self.core.step(self.clock, input);
    }
}

pub struct Cluster {
    pub committee: Arc<Committee>,
    pub parameters: ConsensusParameters,
    pub nodes: Vec<Node>,
    pub now: Duration,
    pub delay: Duration,
    queue: BTreeMap<(Duration, u64), (usize, Input)>,
    count: u64,
    /// How far the wall clock of each node is ahead, in milliseconds.
    pub ahead_ms: Vec<i64>,
    /// Pairs whose link is down.
    pub cut: BTreeSet<(usize, usize)>,
    /// Whether payload of this key reaches this node when it waits.
    pub withhold: fn(usize, &BatchKey) -> bool,
}

const START_MS: u64 = 1_700_000_000_000;

impl Cluster {
    pub fn new(n: usize, rules: ProtocolParameters) -> Self {
        Self::with(n, rules, ConsensusParameters { min_round_delay: Duration::from_millis(5), ..Default::default() })
    }

    pub fn with(n: usize, rules: ProtocolParameters, parameters: ConsensusParameters) -> Self {
        let node = || Node {
            core: None,
            disk: Disk { never_signed: true, ..Disk::default() },
            timer: None,
            halted: None,
            delivered: Vec::new(),
            effects: Vec::new(),
            waits: BTreeMap::new(),
        };
        Self {
            committee: committee_with(n, rules),
            parameters,
            nodes: (0..n).map(|_| node()).collect(),
            now: Duration::ZERO,
            delay: Duration::from_millis(1),
            queue: BTreeMap::new(),
            count: 0,
            ahead_ms: vec![0; n],
            cut: BTreeSet::new(),
            withhold: |_, _| false,
        }
    }

    pub fn start_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.start(node).unwrap();
        }
    }

    pub fn clock(&self) -> Now {
        Now { monotonic: self.now, wall_ms: START_MS + self.now.as_millis() as u64 }
    }

    pub fn clock_of(&self, node: usize) -> Now {
        let Now { monotonic, wall_ms } = self.clock();
        Now { monotonic, wall_ms: wall_ms.saturating_add_signed(self.ahead_ms[node]) }
    }

    pub fn setup(&self, node: usize) -> Setup {
        Setup {
            committee: self.committee.clone(),
            me: AuthorityIndex(node as u16),
            key: key(node),
            parameters: self.parameters.clone(),
        }
    }

    pub fn recovered(&self, node: usize) -> Recovered {
        let disk = &self.nodes[node].disk;
        let executed = disk.executed.last_key_value().map(|(index, state)| (*index, *state));
        let snapshot = disk.snapshots.last_key_value().map(|(index, bytes)| (*index, bytes.to_vec()));
        let from = snapshot.as_ref().map_or(CommitIndex(0), |(index, _)| *index);
        let from = from.min(executed.map_or(CommitIndex(0), |(index, _)| index));
        let delivered: BTreeSet<BatchKey> =
            disk.commits.values().flat_map(|d| d.batches.iter().map(|batch| batch.key())).collect();
        let me = AuthorityIndex(node as u16);
        let own = |block: &&VerifiedBlock| block.author() == me;
        Recovered {
            never_signed: disk.never_signed,
            snapshot,
            commits: disk.commits.range(from.next()..).map(|(_, delivery)| (**delivery).clone()).collect(),
            blocks: disk.blocks.values().cloned().collect(),
            own_last: disk.blocks.values().rfind(own).cloned(),
            own_before: disk.blocks.values().filter(own).rev().nth(1).cloned(),
            own_batches: disk.own_batches.values().filter(|b| !delivered.contains(&b.key(me))).copied().collect(),
            completed: disk.completed,
            cover: disk.cover.clone(),
            absent: Vec::new(),
            certificate: disk.certificates.last_key_value().map(|(_, certificate)| (**certificate).clone()),
            executed,
            state_digests: disk.executed.iter().map(|(index, state)| (*index, *state)).collect(),
        }
    }

    pub fn start(&mut self, node: usize) -> Result<(), Halt> {
        self.start_from(node, self.recovered(node))
    }

    /// Starts a node with what a test makes of its disk.
    pub fn start_from(&mut self, node: usize, recovered: Recovered) -> Result<(), Halt> {
        let (core, effects) = Core::recover(self.setup(node), recovered, self.clock_of(node))?;
        self.nodes[node].core = Some(core);
        self.nodes[node].halted = None;
        self.nodes[node].timer = None;
        self.nodes[node].delivered.clear();
        self.carry_out(node, effects);
        for peer in 0..self.nodes.len() {
            if peer != node && self.nodes[peer].core.is_some() && !self.is_cut(node, peer) {
                self.connect(node, peer);
            }
        }
        Ok(())
    }

    /// What the node would be if it restarted now.
    pub fn twin(&self, node: usize) -> Twin {
        let (core, effects) = Core::recover(self.setup(node), self.recovered(node), self.clock_of(node)).unwrap();
        let wait = |effect: Effect| match effect {
            Effect::WaitBatch { key, bytes, .. } => Some((key, bytes)),
            _ => None,
        };
        Twin { core, waits: effects.into_iter().filter_map(wait).collect(), clock: self.clock() }
    }

    /// Payload that was withheld from the node is there.
    pub fn release_payload(&mut self, node: usize) {
        self.withhold = |_, _| false;
        for (key, bytes) in std::mem::take(&mut self.nodes[node].waits) {
            self.nodes[node].disk.batches.insert(key);
            self.input(node, Input::BatchStored { key, bytes });
        }
    }

    pub fn stop(&mut self, node: usize) {
        self.nodes[node].core = None;
        self.nodes[node].timer = None;
        self.nodes[node].waits.clear();
        self.queue.retain(|_, (to, _)| *to != node);
        for peer in 0..self.nodes.len() {
            self.input(peer, Input::PeerDown(AuthorityIndex(node as u16)));
        }
    }

    pub fn is_cut(&self, one: usize, two: usize) -> bool {
        self.cut.contains(&(one.min(two), one.max(two)))
    }

    pub fn connect(&mut self, one: usize, two: usize) {
        self.cut.remove(&(one.min(two), one.max(two)));
        self.input(one, Input::PeerUp(AuthorityIndex(two as u16)));
        self.input(two, Input::PeerUp(AuthorityIndex(one as u16)));
    }

    pub fn disconnect(&mut self, one: usize, two: usize) {
        self.cut.insert((one.min(two), one.max(two)));
        self.input(one, Input::PeerDown(AuthorityIndex(two as u16)));
        self.input(two, Input::PeerDown(AuthorityIndex(one as u16)));
    }

    fn send(&mut self, from: usize, to: AuthorityIndex, input: Input) {
        if !self.is_cut(from, to.usize()) && self.nodes[to.usize()].core.is_some() {
            self.later(self.delay, to.usize(), input);
        }
    }

    pub fn later(&mut self, delay: Duration, node: usize, input: Input) {
        self.count += 1;
        self.queue.insert((self.now + delay, self.count), (node, input));
    }

    /// Feeds one input at once.
    pub fn input(&mut self, node: usize, input: Input) {
        let clock = self.clock_of(node);
        if matches!(input, Input::Timer) {
            self.nodes[node].timer = None;
        }
        let Node { core, disk, .. } = &mut self.nodes[node];
        let Some(core) = core.as_mut() else { return };
        if let Input::Persisted(token) = &input
            && let Some((_, block)) = core.own.in_flight.as_ref().filter(|(waiting, _)| waiting == token)
        {
            // The safety record names the block before the core hears that it is durable.
            disk.completed = block.round();
        }
        let effects = core.step(clock, input);
        self.carry_out(node, effects);
    }

    /// Seals a batch at a node; it is handed to everybody at once.
    pub fn seal(&mut self, node: usize, bytes: u32) -> BatchRef {
        let me = AuthorityIndex(node as u16);
        let sequence = self.nodes[node].disk.own_batches.last_key_value().map_or(Sequence(1), |(s, _)| s.next());
        let digest = BatchKey::digest_of(0, me, sequence, &sequence.0.to_le_bytes());
        let batch = BatchRef { sequence, digest, bytes };
        self.nodes[node].disk.own_batches.insert(sequence, batch);
        self.nodes[node].disk.batches.insert(batch.key(me));
        self.input(node, Input::BatchSealed(batch));
        for peer in 0..self.nodes.len() {
            if peer != node {
                self.input(node, Input::BatchHandedToKernel { sequence, peer: AuthorityIndex(peer as u16) });
            }
        }
        batch
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let message = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timer = self.nodes.iter().enumerate().filter_map(|(i, node)| node.timer.map(|at| (at, i))).min();
            let next = message.into_iter().chain(timer.map(|(at, _)| at)).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if message == Some(at)
                && let Some((_, (node, input))) = self.queue.pop_first()
            {
                self.input(node, input);
            } else if let Some((_, node)) = timer {
                self.input(node, Input::Timer);
            }
        }
        self.now = end;
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        let me = AuthorityIndex(node as u16);
        for effect in effects {
            self.nodes[node].effects.push(effect.clone());
            match effect {
                Effect::Persist { writes, token, .. } => {
                    writes.into_iter().for_each(|write| self.write(node, write));
                    if let Some(token) = token {
                        self.later(Duration::from_micros(100), node, Input::Persisted(token));
                    }
                }
                Effect::SendOwn { peer, block } => self.send(node, peer, Input::Block { sender: me, block }),
                Effect::SendHistory { peer, blocks } => {
                    assert!(blocks.len() <= 150 && blocks.is_sorted_by_key(|b| b.round()));
                    for block in blocks {
                        self.send(node, peer, Input::Block { sender: me, block });
                    }
                }
                Effect::FetchBlocks { peer, refs } => self.serve_blocks(node, peer, refs),
                Effect::FetchCommits { peer, from, to } => self.serve_commits(node, peer, from, to),
                Effect::CancelCommits { .. } => {}
                Effect::Subscribe { peer, from_round } => {
                    self.send(node, peer, Input::Subscribed { peer: me, from_round });
                }
                Effect::TipQuery { peer } => self.send(node, peer, Input::TipQueried { peer: me, request: 1 }),
                Effect::SendTip { peer, tip, .. } => self.send(node, peer, Input::PeerTip { peer: me, tip }),
                Effect::WaitBatch { key, bytes, .. } => {
                    if !(self.withhold)(node, &key) {
                        self.nodes[node].disk.batches.insert(key);
                        self.later(Duration::from_micros(200), node, Input::BatchStored { key, bytes });
                    } else {
                        self.nodes[node].waits.insert(key, bytes);
                    }
                }
                Effect::CancelWait(key) => drop(self.nodes[node].waits.remove(&key)),
                Effect::Deliver(delivery) => self.execute(node, delivery),
                Effect::SetTimer(at) => self.nodes[node].timer = Some(at),
                Effect::Halt(reason) => self.nodes[node].halted = Some(reason),
                Effect::SealBelow(_)
                | Effect::OwnDelivered { .. }
                | Effect::DropPayload(_)
                | Effect::Penalise { .. }
                | Effect::Evidence { .. } => (),
            }
        }
    }

    fn write(&mut self, node: usize, write: Write) {
        let disk = &mut self.nodes[node].disk;
        match write {
            Write::Block(block) => drop(disk.blocks.insert(block.reference(), block)),
            Write::Own(own) => {
                own.replaces.into_iter().for_each(|reference| drop(disk.blocks.remove(&reference)));
                disk.never_signed &= !own.first;
                disk.cover = own.cover;
                disk.blocks.insert(own.block.reference(), own.block);
            }
            Write::Uncover => disk.cover = None,
            Write::Commit(delivery) => drop(disk.commits.insert(delivery.commit.index, delivery)),
            Write::Certificate(certificate) => drop(disk.certificates.insert(certificate.index(), certificate)),
            Write::Snapshot { index, bytes } => drop(disk.snapshots.insert(index, bytes)),
        }
    }

    fn execute(&mut self, node: usize, delivery: Arc<Delivery>) {
        let index = delivery.commit.index;
        let before = self.nodes[node].disk.executed.get(&index.previous()).copied().unwrap_or_default();
        let state = Digest::of("state", &[&before.0, &delivery.commit.batches_root.0]);
        self.nodes[node].disk.executed.insert(index, state);
        self.nodes[node].delivered.push(delivery);
        self.later(Duration::from_micros(300), node, Input::Executed { index, state });
    }

    fn serve_blocks(&mut self, node: usize, peer: AuthorityIndex, refs: Vec<BlockRef>) {
        assert!(refs.len() <= 32);
        let mut unknown = Vec::new();
        for reference in refs {
            match self.nodes[peer.usize()].disk.blocks.get(&reference).cloned() {
                Some(block) if self.nodes[peer.usize()].core.is_some() && !self.is_cut(node, peer.usize()) => {
                    self.later(self.delay * 2, node, Input::Block { sender: peer, block });
                }
                _ => unknown.push(reference),
            }
        }
        if !unknown.is_empty() {
            self.later(self.delay * 2, node, Input::BlocksUnavailable { peer, refs: unknown });
        }
    }

    fn serve_commits(&mut self, node: usize, peer: AuthorityIndex, from: CommitIndex, to: CommitIndex) {
        let disk = &self.nodes[peer.usize()].disk;
        let first_index = disk.commits.first_key_value().map(|(index, _)| *index).filter(|first| *first > from);
        let below = disk.certificates.range(from..=to).next_back();
        let end = below.or_else(|| disk.certificates.range(to..).next()).map(|(_, certificate)| certificate.clone());
        let answer = end.filter(|_| first_index.is_none()).map(|certificate| {
            let records: Vec<_> =
                disk.commits.range(from..=certificate.index()).map(|(_, d)| d.commit.clone()).collect();
            let refs = records.iter().flat_map(|commit| commit.blocks.iter());
            let blocks = refs.map(|reference| disk.blocks[reference].bytes().clone()).collect();
            VerifiedRange::verify(records, (*certificate).clone(), blocks, &self.committee).unwrap()
        });
        let input = match answer {
            Some(range) => Input::CertifiedCommits { sender: peer, range },
            None => Input::CommitsUnavailable { peer, from, first_index },
        };
        self.later(self.delay * 2, node, input);
    }

    pub fn core(&self, node: usize) -> &Core {
        self.nodes[node].core.as_ref().unwrap()
    }

    pub fn last_commit(&self, node: usize) -> u64 {
        self.core(node).status().last_commit.0
    }

    /// All nodes wrote the same records as far as both have them, and none stopped.
    pub fn check(&self) {
        for node in &self.nodes {
            assert_eq!(node.halted, None);
            for other in &self.nodes {
                for (index, delivery) in &node.disk.commits {
                    if let Some(theirs) = other.disk.commits.get(index) {
                        assert_eq!(delivery, theirs);
                    }
                }
            }
        }
    }

    /// Own blocks of a node: one a round, ascending.
    pub fn own_rounds(&self, node: usize) -> Vec<Round> {
        let me = AuthorityIndex(node as u16);
        let blocks = self.nodes[node].disk.blocks.values();
        let rounds: Vec<Round> = blocks.filter(|block| block.author() == me).map(VerifiedBlock::round).collect();
        assert!(rounds.is_sorted_by(|one, two| one < two), "two own blocks in one round");
        rounds
    }
}
