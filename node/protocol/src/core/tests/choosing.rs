//! Which blocks an own block references, and what it carries. Member 0 is the core; the leader of round r is member r mod 4.

use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{Digest, ProtocolParameters};

use super::single::Single;
use crate::types::{BatchRef, BlockRef, CommitIndex, Round, Sequence, VerifiedBlock};

const MS: Duration = Duration::from_millis(1);

fn batch(sequence: u64, bytes: u32) -> BatchRef {
    BatchRef { sequence: Sequence(sequence), digest: Digest::of("theirs", &[&sequence.to_le_bytes()]), bytes }
}

fn references(single: &Single, round: u64, block: &VerifiedBlock) -> bool {
    single.own(round).parents().contains(&block.reference())
}

/// A core in round 2 that has not seen the block of member 3 in round 1, which is returned.
fn without_three(parameters: ConsensusParameters, batches: Vec<BatchRef>) -> (Single, VerifiedBlock) {
    let mut single = Single::with(0, 4, ProtocolParameters::default(), parameters);
    single.connect_all();
    single.seal();
    let late = single.with_batches(3, 1, batches);
    let blocks = [single.block(1, 1, &[]), single.block(2, 1, &[])];
    single.take(&blocks);
    assert_eq!(single.own_round(), Round(2));
    assert!(!references(&single, 2, &late));
    (single, late)
}

#[test]
fn a_late_block_is_referenced_once_it_is_settled_and_only_once() {
    // It has been here for 20 ms, or V of stake references it.
    for (age, referenced_by, expected) in [(19, 0, false), (20, 0, true), (0, 1, false), (0, 2, true)] {
        let (mut single, late) = without_three(ConsensusParameters::default(), Vec::new());
        single.take(std::slice::from_ref(&late));
        single.advance(age * MS);
        let second: Vec<VerifiedBlock> = [1, 2]
            .into_iter()
            .map(|author| single.block(author, 2, if author <= referenced_by { &[] } else { &[3] }))
            .collect();
        single.take(&second);
        assert_eq!(single.own_round(), Round(3));
        assert_eq!(references(&single, 3, &late), expected, "{age} ms, {referenced_by} references");
        single.advance(20 * MS);
        single.blocks.remove(&late.reference());
        let third = [single.block(1, 3, &[]), single.block(2, 3, &[])];
        single.take(&third);
        single.advance(50 * MS);
        assert_eq!(references(&single, 4, &late), !expected && referenced_by == 0, "never twice");
    }
}

/// Our block of `round` when the only block that member 3 ever wrote, one of round 5, has settled just before.
fn references_five_at(round: u64) -> bool {
    let mut single = Single::new(0, ProtocolParameters { gc_depth: 20, ..ProtocolParameters::default() });
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2], round - 2);
    let late = single.block(3, 5, &[]);
    single.blocks.remove(&late.reference());
    single.take(std::slice::from_ref(&late));
    single.advance(20 * MS);
    single.run_rounds(&[1, 2], 1);
    assert!(single.core.graph.get(&late.reference()).is_some(), "{:?}", single.core.status());
    assert_eq!(single.own_round(), Round(round));
    references(&single, round, &late)
}

#[test]
fn a_late_block_is_referenced_up_to_gc_depth_below_and_not_one_lower() {
    assert!(references_five_at(25));
    assert!(!references_five_at(26));
}

#[test]
fn payload_that_unsettled_blocks_pull_in_is_bounded() {
    for (limit, expected) in [(10, true), (9, false)] {
        let parameters = ConsensusParameters { max_unsettled_bytes: limit, ..ConsensusParameters::default() };
        let (mut single, late) = without_three(parameters, vec![batch(1, 10)]);
        single.take(std::slice::from_ref(&late));
        // A fresh block in good standing, on one that nobody else has referenced.
        let on_late = single.block(3, 2, &[]);
        let second = [on_late.clone(), single.block(1, 2, &[3]), single.block(2, 2, &[3])];
        single.take(&second);
        assert_eq!(single.own_round(), Round(3));
        assert_eq!(references(&single, 3, &on_late), expected, "at most {limit} bytes");
    }
}

#[test]
fn what_is_needed_for_a_quorum_is_referenced_whatever_it_pulls_in() {
    let parameters = ConsensusParameters { max_unsettled_bytes: 9, ..ConsensusParameters::default() };
    let (mut single, late) = without_three(parameters, vec![batch(1, 10)]);
    single.take(std::slice::from_ref(&late));
    let on_late = single.block(3, 2, &[]);
    let second = [on_late.clone(), single.block(2, 2, &[3])];
    single.take(&second);
    single.advance(60 * MS);
    assert!(references(&single, 3, &on_late), "ours, the leader's and this one");
}

#[test]
fn of_twins_the_one_that_votes_with_a_quorum_is_referenced() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    let first: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, 1, &[])).collect();
    single.take(&first);
    let blames = single.block(3, 2, &[1]);
    single.blocks.remove(&blames.reference());
    let votes = single.block(3, 2, &[]);
    single.blocks.insert(blames.reference(), blames.clone());
    let second = [blames.clone(), votes.clone(), single.block(1, 2, &[]), single.block(2, 2, &[1])];
    single.take(&second);
    assert_eq!(single.own_round(), Round(3));
    assert!(references(&single, 3, &votes) && !references(&single, 3, &blames), "{:?}", single.own(3).parents());
}

#[test]
fn parents_are_the_own_block_and_all_usable_ones_of_the_round_before_in_order() {
    let mut single = Single::new(2, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    let first: Vec<VerifiedBlock> = [3, 0, 1].into_iter().map(|author| single.block(author, 1, &[])).collect();
    single.take(&first[..1]);
    assert_eq!(single.own_round(), Round(1));
    single.take(&first[1..]);
    let own = single.own(1).reference();
    let expected = [own, first[1].reference(), first[2].reference(), first[0].reference()];
    assert_eq!(single.own(2).parents(), expected);
}

#[test]
fn votes_go_out_oldest_first_and_no_more_than_a_block_may_carry() {
    let rules = ProtocolParameters { max_votes_per_block: 2, ..ProtocolParameters::default() };
    let mut single = Single::new(0, rules);
    single.connect_all();
    single.hold_writes = true;
    let ahead = single.rounds_without_us(&[1, 2, 3], 12);
    single.take(&ahead);
    let owed = single.core.status().solid;
    assert!(owed > CommitIndex(6), "{:?}", single.core.status());
    single.release_writes();
    let own: Vec<VerifiedBlock> = single.own_rounds().into_iter().map(|round| single.own(round.0)).collect();
    let votes: Vec<CommitIndex> = own.iter().flat_map(|block| block.votes()).map(|vote| vote.index).collect();
    assert!(own.iter().all(|block| block.votes().len() <= 2) && own.iter().any(|block| block.votes().len() == 2));
    assert!(votes.len() as u64 >= owed.0);
    assert_eq!(votes, (1..=votes.len() as u64).map(CommitIndex).collect::<Vec<_>>());
}

#[test]
fn after_too_many_rounds_without_a_commit_blocks_are_empty() {
    let rules = ProtocolParameters { max_batches_per_block: 1, ..ProtocolParameters::default() };
    let parameters = ConsensusParameters { uncommitted_cap: 7, ..ConsensusParameters::default() };
    let mut single = Single::with(0, 4, rules, parameters);
    for _ in 0..30 {
        single.seal();
    }
    single.connect_all();
    single.run_split_rounds(12);
    assert_eq!(single.core.status().last_commit, CommitIndex(0));
    let carrying: Vec<Round> =
        single.own_rounds().into_iter().filter(|round| !single.own(round.0).batches().is_empty()).collect();
    assert_eq!(carrying, (1..=7).map(Round).collect::<Vec<_>>());
}

#[test]
fn a_node_that_is_late_names_payload_in_one_block_of_four() {
    let rules = ProtocolParameters { max_batches_per_block: 1, ..ProtocolParameters::default() };
    // Nobody references its blocks yet, which is another rule.
    let parameters = ConsensusParameters { propagation_limit: 100, ..ConsensusParameters::default() };
    let mut single = Single::with(0, 4, rules, parameters);
    single.hold_writes = true;
    single.connect_all();
    let ahead = single.rounds_without_us(&[1, 2, 3], 12);
    single.take(&ahead);
    for _ in 0..30 {
        single.seal();
    }
    single.release_writes();
    let carrying: Vec<u64> = single.own_rounds().iter().map(|round| round.0).collect();
    let carrying: Vec<u64> = carrying.into_iter().filter(|round| !single.own(*round).batches().is_empty()).collect();
    // A quorum is above every round up to 11, and at 12 it is not. Every fourth own block, whatever its round: who skips rounds
    // could miss all that are multiples of four.
    assert_eq!(carrying[..4], [6, 10, 12, 13], "{carrying:?}");
}

#[test]
fn a_block_carries_the_wall_clock_and_not_the_time_of_the_block_before() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 3);
    let stamps: Vec<u64> =
        single.own_rounds().iter().map(|round| single.own(round.0).block().core.timestamp_ms).collect();
    assert!(stamps.iter().all(|stamp| *stamp <= single.now.as_millis() as u64 && *stamp >= 1_000), "{stamps:?}");
    // The clock was an hour ahead once.
    let far = crate::input::Now { monotonic: single.now, wall_ms: 3_600_000 };
    let round = single.own_round().0;
    let blocks: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, round, &[])).collect();
    for block in &blocks {
        single.input_at(far, crate::input::Input::Block { sender: block.author(), block: block.clone() });
    }
    assert_eq!(single.own(round + 1).block().core.timestamp_ms, 3_600_000);
    single.run_rounds(&[1, 2, 3], 1);
    assert!(single.own(round + 2).block().core.timestamp_ms < 10_000);
}

#[test]
fn a_block_that_our_history_contains_is_not_referenced_again_even_if_its_author_fell_silent() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 3);
    single.run_rounds(&[1, 2], 6);
    let from_three = |block: &VerifiedBlock| block.parents().iter().filter(|p| p.author.0 == 3).copied().collect();
    let seen: Vec<BlockRef> = single
        .own_rounds()
        .iter()
        .skip(1)
        .flat_map(|round| -> Vec<BlockRef> { from_three(&single.own(round.0)) })
        .collect();
    let once: std::collections::BTreeSet<BlockRef> = seen.iter().copied().collect();
    assert!(seen.len() >= 2 && seen.len() == once.len(), "{seen:?}");
    assert_eq!(seen.last().map(|last| last.round), Some(Round(3)));
}
