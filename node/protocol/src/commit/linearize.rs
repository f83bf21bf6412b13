//! From committed leaders to an order of blocks, a time, and the payload that is delivered.
//!
//! Promises: a function of the commit prefix and the leaders' history, hence equal everywhere; no block twice, no slot twice
//! (the first twin wins), no sequence twice. A block is committed by its own flag, not by a watermark of its author, which
//! would lose older blocks.

use std::collections::BTreeMap;

use rorqual_config::{AuthorityIndex, Committee, Stake};

use super::ledger::Ledger;
use crate::dag::graph::Graph;
use crate::types::commit::DeliveredBatch;
use crate::types::{BlockRef, Round};

/// Collects the uncommitted history of `leaders` above the garbage-collection round, marks it committed, and puts it in
/// order: by round, then by author rotated with the leader round (no standing bias to low indices), then by digest.
pub fn order(graph: &mut Graph, round: Round, leaders: &[BlockRef], members: usize) -> Vec<BlockRef> {
    let (mut found, mut stack) = (Vec::new(), leaders.to_vec());
    while let Some(reference) = stack.pop() {
        if !graph.commit(&reference) {
            continue;
        }
        found.push(reference);
        if let Some(vertex) = graph.get(&reference) {
            let parents = vertex.block.parents().iter();
            stack.extend(parents.filter(|p| graph.get(p).is_some_and(|parent| !parent.committed)));
        }
    }
    let members = members as u64;
    let shift = members.saturating_sub(round.0.checked_rem(members).unwrap_or(0));
    let rotated = |author: AuthorityIndex| u64::from(author.0).saturating_add(shift).checked_rem(members);
    found.sort_unstable_by_key(|r| (r.round, rotated(r.author), r.digest));
    found
}

/// The time of a commit: the smallest that parents of the leaders with more than half of the stake do not exceed, one parent
/// an author, the leader of lower offset first; and later than the commit before.
pub fn timestamp(graph: &Graph, round: Round, leaders: &[BlockRef], previous: u64, committee: &Committee) -> u64 {
    let mut times: BTreeMap<AuthorityIndex, u64> = BTreeMap::new();
    for leader in leaders.iter().filter_map(|leader| graph.get(leader)) {
        for parent in leader.block.parents().iter().filter(|p| p.round == round.previous()) {
            let time = graph.get(parent).map_or(0, |vertex| vertex.block.block().core.timestamp_ms);
            times.entry(parent.author).or_insert(time);
        }
    }
    let total: Stake = times.keys().map(|author| committee.stake(*author)).sum();
    let mut sorted: Vec<(u64, Stake)> = times.iter().map(|(author, t)| (*t, committee.stake(*author))).collect();
    sorted.sort_unstable_by_key(|(time, _)| *time);
    let mut reached = Stake(0);
    let median = sorted.into_iter().find_map(|(time, stake)| {
        reached += stake;
        (reached.0.saturating_mul(2) > total.0).then_some(time)
    });
    previous.saturating_add(1).max(median.unwrap_or(0))
}

/// Walks ordered blocks and delivers what is new: the first block of a slot, and of it each batch with a fresh sequence.
pub fn deliver(graph: &mut Graph, ledger: &mut Ledger, blocks: &[BlockRef]) -> Vec<DeliveredBatch> {
    let mut delivered = Vec::new();
    for reference in blocks {
        if !graph.claim_delivery(reference) {
            continue;
        }
        let Some(vertex) = graph.get(reference) else { continue };
        let window = &mut ledger.windows[reference.author.usize()];
        let fresh = vertex.block.batches().iter().filter(|batch| window.deliver(batch.sequence));
        delivered.extend(fresh.map(|batch| DeliveredBatch { author: reference.author, batch: *batch }));
    }
    delivered
}

#[cfg(test)]
#[path = "linearize_tests.rs"]
mod tests;
