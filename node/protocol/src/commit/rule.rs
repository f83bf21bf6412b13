//! Decides leader slots: directly by a quorum of certificates or of blames, else through the first later leader that commits
//! (Mysticeti-C, wave length 3).
//!
//! Promises: decisions are final and the same at every honest node; slots are emitted in order, one commit a round at most;
//! nothing a faulty minority does reaches a panic.

use rorqual_config::{Committee, Digest};

use super::index::{LeaderSlot, VoteIndex};
use crate::dag::graph::Graph;
use crate::effect::Halt;
use crate::types::{BlockRef, Round};

/// What became of a leader slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// This block of it is committed.
    Commit(Digest),
    /// It brings nothing.
    Skip,
}

/// How decisions came about, for metrics.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Commits by a quorum of certificates.
    pub direct_commits: u64,
    /// Commits through an anchor.
    pub indirect_commits: u64,
    /// Skips by a quorum of blames.
    pub direct_skips: u64,
    /// Skips through an anchor.
    pub indirect_skips: u64,
}

/// A round whose leader slots are all decided and of which at least one commits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecidedRound {
    /// The round.
    pub round: Round,
    /// Its committed leaders in offset order.
    pub leaders: Vec<BlockRef>,
}

/// The direct rule for one slot.
fn direct(slot: &LeaderSlot, committee: &Committee) -> Result<Option<Decision>, Halt> {
    let commit = slot.certificates.iter().find(|(_, authors)| committee.is_quorum(authors));
    let named = slot.votes.keys().flatten();
    let skip =
        committee.is_quorum(&slot.voters) && named.clone().all(|digest| committee.is_quorum(&slot.non_voters(digest)));
    match (commit, skip) {
        (Some(_), true) => {
            Err(Halt::Invariant(format!("quorums commit and skip the slot of {} in round {}", slot.leader, slot.round)))
        }
        (Some((digest, _)), false) => Ok(Some(Decision::Commit(*digest))),
        (None, true) => Ok(Some(Decision::Skip)),
        (None, false) => Ok(None),
    }
}

/// What the first slot at or above some round that is not skipped looks like.
#[derive(Clone, Copy)]
enum Anchor {
    Committed(BlockRef),
    Undecided,
}

/// Fills in all decisions that the linked blocks allow, from the highest round down.
///
/// # Errors
/// [`Halt`] where more members are faulty than the committee tolerates.
pub fn decide(index: &mut VoteIndex, graph: &Graph, committee: &Committee, tally: &mut Tally) -> Result<(), Halt> {
    let (cursor, rounds) = (index.cursor(), index.len() as u64);
    // Anchors of the three rounds above the one looked at; a slot's anchor stands three rounds higher or more.
    let mut window = [Anchor::Undecided; 3];
    for round in (0..rounds).rev().map(|offset| cursor.plus(offset)) {
        let anchor = window[2];
        let mut first = window[0];
        for offset in (0..index.slots(round).len()).rev() {
            let number = index.number(round, offset);
            let slot = &index.slots(round)[offset];
            let decision = match slot.decision {
                Some(decision) => Some(decision),
                None => match direct(slot, committee)? {
                    Some(decision) => Some(count(tally, decision, true)),
                    None => indirect(slot, number, anchor, graph).map(|decision| count(tally, decision, false)),
                },
            };
            match decision {
                Some(Decision::Skip) => (),
                Some(Decision::Commit(digest)) => {
                    first = Anchor::Committed(BlockRef { round, author: slot.leader, digest });
                }
                None => first = Anchor::Undecided,
            }
            index.slots_mut(round)[offset].decision = decision;
        }
        window = [first, window[0], window[1]];
    }
    Ok(())
}

fn count(tally: &mut Tally, decision: Decision, direct: bool) -> Decision {
    let counter = match (decision, direct) {
        (Decision::Commit(_), true) => &mut tally.direct_commits,
        (Decision::Commit(_), false) => &mut tally.indirect_commits,
        (Decision::Skip, true) => &mut tally.direct_skips,
        (Decision::Skip, false) => &mut tally.indirect_skips,
    };
    *counter = counter.saturating_add(1);
    decision
}

/// The indirect rule: a committed anchor decides what it can see.
fn indirect(slot: &LeaderSlot, number: u64, anchor: Anchor, graph: &Graph) -> Option<Decision> {
    let Anchor::Committed(anchor) = anchor else { return None };
    let vertex = graph.get(&anchor)?;
    match slot.certified() {
        Some(digest) if vertex.reach.contains(number) => Some(Decision::Commit(digest)),
        _ => Some(Decision::Skip),
    }
}

/// Moves the cursor over skipped rounds and, if the round after them is fully decided, over that one, which is returned.
pub fn emit(index: &mut VoteIndex) -> Option<DecidedRound> {
    loop {
        let round = index.cursor();
        let slots = index.slots(round);
        if slots.is_empty() || slots.iter().any(|slot| slot.decision.is_none()) {
            return None;
        }
        let committed = slots.iter().filter_map(|slot| match slot.decision {
            Some(Decision::Commit(digest)) => Some(BlockRef { round, author: slot.leader, digest }),
            _ => None,
        });
        let leaders: Vec<BlockRef> = committed.collect();
        index.advance(round.next());
        if !leaders.is_empty() {
            return Some(DecidedRound { round, leaders });
        }
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
