//! From committed leaders to an order of blocks and payload.

use std::collections::{BTreeMap, BTreeSet};

use rorqual_config::AuthorityIndex;
use rorqual_protocol::types::commit::DeliveredBatch;
use rorqual_protocol::types::{BlockRef, CommitIndex, Round, Sequence};

use super::{NaiveCommit, View};

/// Everything that one commit hands to the next.
pub struct Linear<'a> {
    view: &'a View<'a>,
    last_index: CommitIndex,
    last_timestamp: u64,
    /// Every median since commit time was last not ahead of them, and commit time at the first of these.
    ahead: Option<(u64, Vec<u64>)>,
    gc_round: Round,
    committed: BTreeSet<BlockRef>,
    delivered_slots: BTreeSet<(Round, AuthorityIndex)>,
    delivered: BTreeMap<AuthorityIndex, BTreeSet<Sequence>>,
}

impl<'a> Linear<'a> {
    pub fn new(view: &'a View<'a>) -> Self {
        Self {
            view,
            last_index: CommitIndex(0),
            last_timestamp: 0,
            ahead: None,
            gc_round: Round(0),
            committed: BTreeSet::new(),
            delivered_slots: BTreeSet::new(),
            delivered: BTreeMap::new(),
        }
    }

    pub fn commit(&mut self, round: Round, leaders: Vec<BlockRef>) -> NaiveCommit {
        let mut blocks = BTreeSet::new();
        for leader in &leaders {
            self.collect(leader, &mut blocks);
        }
        self.committed.extend(&blocks);
        let size = self.view.committee.size() as u64;
        let rotated = |author: AuthorityIndex| (u64::from(author.0) + size - round.0 % size) % size;
        let mut blocks: Vec<BlockRef> = blocks.into_iter().collect();
        blocks.sort_by_key(|b| (b.round, rotated(b.author), b.digest));
        let batches = self.payload(&blocks);
        let timestamp_ms = self.time(self.median(round, &leaders));
        let gc_round = self.gc_round;
        self.last_index = self.last_index.next();
        self.last_timestamp = timestamp_ms;
        self.gc_round = round.minus(self.view.committee.protocol().gc_depth);
        let kept = self.gc_round;
        self.delivered_slots.retain(|(round, _)| *round > kept);
        NaiveCommit { index: self.last_index, leader_round: round, leaders, timestamp_ms, gc_round, blocks, batches }
    }

    fn collect(&self, block: &BlockRef, into: &mut BTreeSet<BlockRef>) {
        if block.round <= self.gc_round || self.committed.contains(block) || !into.insert(*block) {
            return;
        }
        for parent in self.view.blocks[block].parents() {
            self.collect(parent, into);
        }
    }

    fn payload(&mut self, blocks: &[BlockRef]) -> Vec<DeliveredBatch> {
        let window = self.view.committee.protocol().replay_window;
        let mut batches = Vec::new();
        for block in blocks {
            if !self.delivered_slots.insert((block.round, block.author)) {
                continue;
            }
            let delivered = self.delivered.entry(block.author).or_default();
            for batch in self.view.blocks[block].batches() {
                let highest = delivered.last().copied().unwrap_or_default();
                let stale = batch.sequence.0 + window <= highest.0;
                if !stale && batch.sequence > Sequence(0) && delivered.insert(batch.sequence) {
                    batches.push(DeliveredBatch { author: block.author, batch: *batch });
                }
            }
        }
        batches
    }

    /// The median, or one more than before, or where nine tenths of what has passed since the lowest median lead from where
    /// commit time was when it went ahead of them.
    fn time(&mut self, median: u64) -> u64 {
        let slow = self.ahead.as_mut().map_or(0, |(time, medians)| {
            medians.push(median);
            let lowest = medians.iter().min().copied().unwrap_or(median);
            *time + (u128::from(median - lowest) * 9 / 10) as u64
        });
        let time = *[median, self.last_timestamp + 1, slow].iter().max().unwrap_or(&median);
        self.ahead = match self.ahead.take() {
            _ if time == median => None,
            None => Some((time, vec![median])),
            ahead => ahead,
        };
        time
    }

    /// The smallest time at which more than half of the stake of the leaders' strong parents had come.
    fn median(&self, round: Round, leaders: &[BlockRef]) -> u64 {
        let mut times: BTreeMap<AuthorityIndex, u64> = BTreeMap::new();
        for leader in leaders {
            for parent in self.view.blocks[leader].parents().iter().filter(|p| p.round == round.previous()) {
                let time = self.view.blocks.get(parent).map_or(0, |b| b.block().core.timestamp_ms);
                times.entry(parent.author).or_insert(time);
            }
        }
        let stake = |author: &AuthorityIndex| self.view.committee.stake(*author).0;
        let total: u64 = times.keys().map(stake).sum();
        let reached = |t: u64| times.iter().filter(|(_, time)| **time <= t).map(|(a, _)| stake(a)).sum::<u64>();
        times.values().copied().filter(|t| 2 * reached(*t) > total).min().unwrap_or_default()
    }
}
