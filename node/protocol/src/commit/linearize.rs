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

/// The median of a commit's clocks: the smallest time that parents of the leaders with more than half of the stake do not
/// exceed, one parent an author, the leader of lower offset first. In milliseconds since the Unix epoch; genesis has time 0.
///
/// `None` if a leader or such a parent is not in the graph. That is impossible before garbage is collected for this commit: the
/// parents lie one round below the leaders, so not below the leaders of the commit before and above `gc_round`, and whatever is in
/// the history of a leader is committed with it at the latest. So a node that applies a certified range, or replays its records,
/// finds the same median as one that decided.
pub fn median(graph: &Graph, round: Round, leaders: &[BlockRef], committee: &Committee) -> Option<u64> {
    let below = round.previous();
    let mut times: BTreeMap<AuthorityIndex, u64> = BTreeMap::new();
    for leader in leaders {
        for parent in graph.get(leader)?.block.parents().iter().filter(|parent| parent.round == below) {
            let time = match below {
                Round(0) => 0,
                _ => graph.get(parent)?.block.block().core.timestamp_ms,
            };
            times.entry(parent.author).or_insert(time);
        }
    }
    weighted_median(times.into_iter().map(|(author, time)| (time, committee.stake(author))))
}

/// The smallest value that entries with more than half of the stake do not exceed. `None` of nothing.
pub fn weighted_median<T: Ord + Copy>(entries: impl IntoIterator<Item = (T, Stake)>) -> Option<T> {
    let mut sorted: Vec<(T, Stake)> = entries.into_iter().collect();
    sorted.sort_unstable_by_key(|(value, _)| *value);
    let total: Stake = sorted.iter().map(|(_, stake)| *stake).sum();
    let mut reached = Stake(0);
    sorted.into_iter().find_map(|(value, stake)| {
        reached += stake;
        (reached.0 > total.0 / 2).then_some(value)
    })
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
