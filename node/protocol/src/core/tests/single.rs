//! One core and a puppeteer who writes the blocks of all others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Committee, Digest, ProtocolParameters};

use crate::core::{Core, Setup};
use crate::effect::{Effect, Halt, OwnWrite, Write};
use crate::input::{Input, Now, Recovered, Tip};
use crate::testing::{committee_with, key};
use crate::types::range::LIMIT;
use crate::types::{
    BatchKey, BatchRef, BlockCore, BlockRef, CommitIndex, CommitRef, Delivery, Round, Sequence, VerifiedBlock,
};

pub struct Single {
    pub core: Core,
    pub committee: Arc<Committee>,
    pub me: usize,
    pub now: Duration,
    pub effects: Vec<Effect>,
    pub blocks: BTreeMap<BlockRef, VerifiedBlock>,
    pub delivered: Vec<Arc<Delivery>>,
    pub hold_writes: bool,
    pub withhold_payload: bool,
    /// Execution does not report what it has applied.
    pub hold_execution: bool,
    pub waits: Vec<BatchKey>,
    pub cancelled: Vec<BatchKey>,
    pub halted: Option<Halt>,
    held: Vec<Input>,
    timer: Option<Duration>,
    sealed: u64,
}

impl Single {
    pub fn new(me: usize, rules: ProtocolParameters) -> Self {
        Self::with(me, 4, rules, ConsensusParameters::default())
    }

    pub fn with(me: usize, n: usize, rules: ProtocolParameters, parameters: ConsensusParameters) -> Self {
        Self::among(me, committee_with(n, rules), parameters)
    }

    pub fn among(me: usize, committee: Arc<Committee>, parameters: ConsensusParameters) -> Self {
        let author = AuthorityIndex(me as u16);
        let setup = Setup { committee: committee.clone(), me: author, key: key(me), parameters };
        let recovered = Recovered { never_signed: true, ..Recovered::default() };
        let now = Now { monotonic: Duration::from_secs(1), wall_ms: 1_000 };
        let (core, effects) = Core::recover(setup, recovered, now).unwrap();
        let mut single = Self {
            core,
            committee,
            me,
            now: now.monotonic,
            effects: Vec::new(),
            blocks: BTreeMap::new(),
            delivered: Vec::new(),
            hold_writes: false,
            withhold_payload: false,
            hold_execution: false,
            waits: Vec::new(),
            cancelled: Vec::new(),
            halted: None,
            held: Vec::new(),
            timer: None,
            sealed: 0,
        };
        single.carry_out(effects);
        single
    }

    pub fn input(&mut self, input: Input) {
        self.input_at(Now { monotonic: self.now, wall_ms: self.now.as_millis() as u64 }, input);
    }

    pub fn input_at(&mut self, now: Now, input: Input) {
        if matches!(input, Input::Timer) {
            self.timer = None;
        }
        let effects = self.core.step(now, input);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut answers = Vec::new();
        for effect in effects {
            self.effects.push(effect.clone());
            match effect {
                Effect::Persist { writes, token, .. } => {
                    for write in writes {
                        if let Write::Block(block) | Write::Own(OwnWrite { block, .. }) = write {
                            self.blocks.insert(block.reference(), block);
                        }
                    }
                    match self.hold_writes {
                        true => self.held.extend(token.map(Input::Persisted)),
                        false => answers.extend(token.map(Input::Persisted)),
                    }
                }
                Effect::WaitBatch { key, bytes, .. } if !self.withhold_payload => {
                    answers.push(Input::BatchStored { key, bytes });
                }
                Effect::WaitBatch { key, .. } => self.waits.push(key),
                Effect::CancelWait(key) => self.cancelled.push(key),
                Effect::Deliver(delivery) => {
                    let (index, state) = (delivery.commit.index, Digest::default());
                    self.delivered.push(delivery);
                    if !self.hold_execution {
                        answers.push(Input::Executed { index, state });
                    }
                }
                Effect::SetTimer(at) => self.timer = Some(at),
                Effect::Halt(reason) => self.halted = Some(reason),
                _ => (),
            }
        }
        answers.into_iter().for_each(|answer| self.input(answer));
    }

    pub fn release_writes(&mut self) {
        self.hold_writes = false;
        std::mem::take(&mut self.held).into_iter().for_each(|input| self.input(input));
    }

    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.timer.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Timer);
        }
        self.now = end;
    }

    pub fn connect_all(&mut self) {
        let me = self.me as u16;
        for peer in (0..self.committee.size() as u16).filter(|peer| *peer != me) {
            let peer = AuthorityIndex(peer);
            self.input(Input::PeerUp(peer));
            self.input(Input::Subscribed { peer, from_round: Round(1) });
            self.show_tip(peer.0);
        }
    }

    pub fn show_tip(&mut self, peer: u16) {
        let tip = Tip { own: None, yours: None, gc_round: Round(0), last_commit: CommitIndex(0) };
        self.input(Input::PeerTip { peer: AuthorityIndex(peer), tip: Box::new(tip) });
    }

    pub fn seal(&mut self) -> BatchRef {
        self.sealed += 1;
        let sequence = Sequence(self.sealed);
        let digest = Digest::of("test", &[&self.sealed.to_le_bytes()]);
        let batch = BatchRef { sequence, digest, bytes: 100 };
        self.input(Input::BatchSealed(batch));
        let me = self.me;
        for peer in self.committee.authorities().filter(|peer| peer.usize() != me) {
            self.input(Input::BatchHandedToKernel { sequence, peer });
        }
        batch
    }

    /// The highest known block of an author below a round, or its genesis.
    fn tip_below(&self, author: usize, round: u64) -> BlockRef {
        let author = AuthorityIndex(author as u16);
        let known = self.blocks.keys().rev().find(|r| r.author == author && r.round < Round(round));
        known.copied().unwrap_or(BlockRef::genesis(self.committee.chain_id(), author))
    }

    /// A block of `author`, with all parents of the round before that are known, but for `without`.
    pub fn block(&mut self, author: usize, round: u64, without: &[usize]) -> VerifiedBlock {
        let mut parents = vec![self.tip_below(author, round)];
        for other in (0..self.committee.size()).filter(|other| *other != author && !without.contains(other)) {
            let tip = self.tip_below(other, round);
            if tip.round.next() == Round(round) {
                parents.push(tip);
            }
        }
        self.signed(author, round, parents, Vec::new(), Vec::new(), 0)
    }

    /// The same with payload.
    pub fn with_batches(&mut self, author: usize, round: u64, batches: Vec<BatchRef>) -> VerifiedBlock {
        let parents = self.block(author, round, &[]).parents().to_vec();
        self.replace(author, round, parents, batches, Vec::new(), 0)
    }

    /// The same with commit votes.
    pub fn voting(&mut self, author: usize, round: u64, votes: Vec<CommitRef>) -> VerifiedBlock {
        let parents = self.block(author, round, &[]).parents().to_vec();
        self.replace(author, round, parents, Vec::new(), votes, 0)
    }

    /// The same, differing by salt.
    pub fn twin(&mut self, author: usize, round: u64, salt: u64) -> VerifiedBlock {
        let all: Vec<BlockRef> = (0..4).map(|other| self.tip_below((author + other) % 4, round)).collect();
        self.signed(author, round, all, Vec::new(), Vec::new(), salt)
    }

    /// A block whose own parent is the first of `first`, on the blocks of the others of the round before (or of `below`).
    pub fn block_on(&mut self, author: usize, round: u64, first: &[BlockRef], below: u64) -> VerifiedBlock {
        let below = if below == 0 { round - 1 } else { below };
        let mut parents = first.to_vec();
        for other in (0..self.committee.size()).filter(|other| *other != author) {
            let known = self.blocks.keys().find(|r| r.author.usize() == other && r.round.0 == below).copied();
            let digest = Digest::of("nobody has this", &[&below.to_le_bytes()]);
            let absent = BlockRef { round: Round(below), author: AuthorityIndex(other as u16), digest };
            parents.push(known.unwrap_or(absent));
        }
        self.signed(author, round, parents, Vec::new(), Vec::new(), 0)
    }

    fn replace(
        &mut self,
        author: usize,
        round: u64,
        parents: Vec<BlockRef>,
        batches: Vec<BatchRef>,
        votes: Vec<CommitRef>,
        salt: u64,
    ) -> VerifiedBlock {
        self.blocks.retain(|r, _| r.author.usize() != author || r.round != Round(round));
        self.signed(author, round, parents, batches, votes, salt)
    }

    /// These authors go on for `rounds` rounds without ever linking us.
    pub fn run_rounds_ignoring_us(&mut self, authors: &[usize], rounds: u64) {
        let (me, first) = (self.me, self.own_round().0);
        for round in first..first + rounds {
            let fresh: Vec<usize> = authors
                .iter()
                .copied()
                .filter(|author| !self.blocks.keys().any(|r| r.author.usize() == *author && r.round == Round(round)))
                .collect();
            let blocks: Vec<VerifiedBlock> = fresh.iter().map(|author| self.block(*author, round, &[me])).collect();
            self.take(&blocks);
            self.advance(Duration::from_millis(300));
        }
    }

    pub fn own_blocks_naming(&self, batch: &BatchRef) -> Vec<Round> {
        let me = AuthorityIndex(self.me as u16);
        let own = self.blocks.values().filter(|block| block.author() == me);
        own.filter(|block| block.batches().contains(batch)).map(VerifiedBlock::round).collect()
    }

    pub fn signed(
        &mut self,
        author: usize,
        round: u64,
        parents: Vec<BlockRef>,
        batches: Vec<BatchRef>,
        votes: Vec<CommitRef>,
        salt: u64,
    ) -> VerifiedBlock {
        let core = BlockCore {
            epoch: 0,
            round: Round(round),
            author: AuthorityIndex(author as u16),
            timestamp_ms: (1_000 + salt).saturating_add(round).min(LIMIT - 1),
            parents,
            batches,
            end_epoch: false,
        };
        let block = VerifiedBlock::sign(core, votes, &self.committee, &key(author));
        let block = VerifiedBlock::verify(block.bytes().clone(), &self.committee).unwrap();
        self.blocks.insert(block.reference(), block.clone());
        block
    }

    pub fn take(&mut self, blocks: &[VerifiedBlock]) {
        for block in blocks {
            self.input(Input::Block { sender: block.author(), block: block.clone() });
        }
    }

    /// These authors write and show `rounds` more rounds in step with the core.
    pub fn run_rounds(&mut self, authors: &[usize], rounds: u64) {
        for _ in 0..rounds {
            let round = self.own_round().0;
            let blocks: Vec<VerifiedBlock> = authors.iter().map(|author| self.block(*author, round, &[])).collect();
            self.take(&blocks);
            for _ in 0..100 {
                if self.own_round().0 > round {
                    break;
                }
                self.seal();
                self.advance(Duration::from_millis(20));
            }
            assert_eq!(self.own_round().0, round + 1, "{:?}", self.core.status());
        }
    }

    /// Rounds in which two of four vote for the leader and two do not.
    pub fn run_split_rounds(&mut self, rounds: u64) {
        for _ in 0..rounds {
            let round = self.own_round().0;
            let leader = ((round - 1) % 4) as usize;
            let mut blocks = Vec::new();
            for author in 1..4 {
                // We vote for every leader, and a leader votes for itself: that is two.
                let blames = author != leader && (leader != 0 || author != 3);
                let without = if blames { vec![leader] } else { Vec::new() };
                blocks.push(self.block(author, round, &without));
            }
            self.take(&blocks);
            for _ in 0..1_000 {
                if self.own_round().0 > round {
                    break;
                }
                self.advance(Duration::from_millis(5));
            }
        }
    }

    /// Blocks of these authors for all rounds up to `last` that they have not written yet, together with those that they
    /// have, without ours and not shown to the core.
    pub fn rounds_on_top(&mut self, authors: &[usize], last: u64) -> Vec<VerifiedBlock> {
        let mut all = Vec::new();
        for round in 1..=last {
            let mut blocks = Vec::new();
            for author in authors {
                let of_slot = |b: &&VerifiedBlock| b.author().usize() == *author && b.round() == Round(round);
                let known = self.blocks.values().find(of_slot).cloned();
                blocks.push(known.unwrap_or_else(|| self.block(*author, round, &[self.me])));
            }
            all.extend(blocks);
        }
        all
    }

    /// Blocks of these authors for the next rounds, not shown to the core.
    pub fn rounds_without_us(&mut self, authors: &[usize], last: u64) -> Vec<VerifiedBlock> {
        let mut all = Vec::new();
        let (me, first) = (self.me, 1);
        for round in first..=last {
            let blocks: Vec<VerifiedBlock> = authors.iter().map(|author| self.block(*author, round, &[me])).collect();
            all.extend(blocks);
        }
        all
    }

    pub fn own_round(&self) -> Round {
        self.core.status().round
    }

    pub fn own_rounds(&self) -> Vec<Round> {
        let me = AuthorityIndex(self.me as u16);
        self.blocks.keys().filter(|r| r.author == me).map(|r| r.round).collect()
    }

    pub fn own(&self, round: u64) -> VerifiedBlock {
        let me = AuthorityIndex(self.me as u16);
        self.blocks.values().find(|b| b.author() == me && b.round() == Round(round)).unwrap().clone()
    }

    pub fn written_own(&self) -> usize {
        self.own_rounds().len()
    }
}
