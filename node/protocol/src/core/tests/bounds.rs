//! What comes in and what is dropped, at both sides of every bound. Member 0 is the core.

use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters};

use super::single::Single;
use crate::effect::Effect;
use crate::input::Input;
use crate::types::{BatchRef, BlockRef, CommitIndex, CommitRef, Round, Sequence, VerifiedBlock};

const ONE: AuthorityIndex = AuthorityIndex(1);

/// A block of `author` on parents that nobody has.
fn on_nothing(single: &mut Single, author: u16, round: u64, votes: Vec<CommitRef>) -> VerifiedBlock {
    let absent = |a| BlockRef { round: Round(round - 1), author: AuthorityIndex(a), digest: Digest([9; 32]) };
    let others = (0..4).filter(|other| *other != author);
    let parents = std::iter::once(author).chain(others).map(absent).collect();
    let block = single.signed(usize::from(author), round, parents, Vec::new(), votes, 0);
    single.blocks.remove(&block.reference());
    block
}

fn vote(index: u64) -> Vec<CommitRef> {
    vec![CommitRef { index: CommitIndex(index), digest: Digest([3; 32]) }]
}

/// A core that proposes nothing.
fn mute(parameters: ConsensusParameters) -> Single {
    let mut single =
        Single::with(0, 4, ProtocolParameters { gc_depth: 20, ..ProtocolParameters::default() }, parameters);
    single.hold_writes = true;
    single.connect_all();
    single
}

#[test]
fn blocks_up_to_max_ahead_above_the_frontier_are_taken_in_and_none_above() {
    let mut single = mute(ConsensusParameters { max_ahead: 10, ..ConsensusParameters::default() });
    let first: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, 1, &[0])).collect();
    single.take(&first);
    assert_eq!(single.core.status().frontier, Round(1));
    let (near, far) = (on_nothing(&mut single, 1, 11, Vec::new()), on_nothing(&mut single, 1, 12, Vec::new()));
    single.take(&[far.clone(), near.clone()]);
    let waits = |single: &Single, block: &VerifiedBlock| single.core.suspended.contains(&block.reference());
    assert!(waits(&single, &near) && !waits(&single, &far));
    assert_eq!(single.core.status().events.dropped, 1);
    // Dropped is not seen: it may come again.
    let second: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, 2, &[0])).collect();
    single.take(&second);
    single.take(std::slice::from_ref(&far));
    assert!(waits(&single, &far));
}

#[test]
fn blocks_at_the_garbage_collection_round_are_dropped_and_those_above_are_linked() {
    let mut single = mute(ConsensusParameters::default());
    let all = single.rounds_without_us(&[1, 2, 3], 40);
    single.take(&all);
    let collected = single.core.status().gc_round.0;
    assert!(collected > 10);
    let (at, above) =
        (on_nothing(&mut single, 3, collected, vote(7)), on_nothing(&mut single, 3, collected + 1, Vec::new()));
    single.take(&[at.clone(), above.clone()]);
    let linked = |block: &VerifiedBlock| single.core.graph.get(&block.reference()).is_some();
    assert!(!linked(&at) && linked(&above), "what it stands on is too old to matter");
    assert_eq!(single.core.status().footprint.suspended, 0);
    let higher = on_nothing(&mut single, 3, collected + 2, Vec::new());
    single.take(std::slice::from_ref(&higher));
    assert_eq!(single.core.status().footprint.suspended, 1, "its parents matter");
}

#[test]
fn commit_votes_are_observed_before_a_block_is_dropped() {
    let mut single = mute(ConsensusParameters::default());
    let all = single.rounds_without_us(&[1, 2, 3], 40);
    single.take(&all);
    let collected = single.core.status().gc_round.0;
    let old = on_nothing(&mut single, 1, collected, vote(100));
    let far = on_nothing(&mut single, 2, 9_000, vote(90));
    let dropped = single.core.status().events.dropped;
    single.take(&[old, far]);
    assert_eq!(single.core.status().events.dropped, dropped + 1);
    let reached = [1, 2].map(|author| single.core.tally.highest_of(AuthorityIndex(author)).0);
    assert_eq!(reached, [100, 90]);
}

#[test]
fn lag_is_what_v_of_stake_has_reached() {
    let mut single = mute(ConsensusParameters::default());
    let lag = |single: &mut Single, author: usize, round: u64, index: u64| {
        let block = single.voting(author, round, vote(index));
        single.take(&[block]);
        single.core.status().lag
    };
    assert_eq!(lag(&mut single, 1, 1, 1_000), 0, "one liar alone");
    assert_eq!(lag(&mut single, 2, 1, 40), 40, "one of two is honest: no need of a quorum");
    assert_eq!(lag(&mut single, 3, 1, 30), 40);
    assert_eq!(lag(&mut single, 3, 2, 50), 50);
}

#[test]
fn live_blocks_are_dropped_at_more_than_five_batches_of_lag() {
    for (reached, taken) in [(50, true), (51, false)] {
        let mut single = mute(ConsensusParameters { catch_up_batch: 10, ..ConsensusParameters::default() });
        let votes = [single.voting(1, 1, vote(1_000)), single.voting(2, 1, vote(reached))];
        single.take(&votes);
        assert_eq!(single.core.status().lag, reached);
        let live = single.block(3, 1, &[]);
        single.take(std::slice::from_ref(&live));
        assert_eq!(single.core.graph.get(&live.reference()).is_some(), taken, "{reached} behind");
    }
}

#[test]
fn a_lag_of_a_batch_is_caught_up_through_ranges_at_once_and_a_smaller_one_after_a_while() {
    for lag in [9, 10] {
        let mut single = mute(ConsensusParameters { catch_up_batch: 10, ..ConsensusParameters::default() });
        let votes = [single.voting(1, 1, vote(1_000)), single.voting(2, 1, vote(lag))];
        single.take(&votes);
        let asked = |single: &Single| {
            single.effects.iter().any(|effect| {
                matches!(effect, Effect::FetchCommits { peer: AuthorityIndex(1 | 2), from: CommitIndex(1), to } if to.0 == lag)
            })
        };
        assert_eq!(asked(&single), lag == 10);
        single.advance(Duration::from_millis(1_900));
        assert_eq!(asked(&single), lag == 10);
        single.advance(Duration::from_millis(200));
        assert!(asked(&single), "the live rule has brought nothing");
    }
}

#[test]
fn two_variants_of_a_slot_are_taken_unasked_whether_they_are_linked_or_wait() {
    let mut single = mute(ConsensusParameters::default());
    let waiting = on_nothing(&mut single, 1, 2, Vec::new());
    let first: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, 1, &[0])).collect();
    single.take(&first);
    let linked = single.block(1, 2, &[0]);
    let third = on_nothing(&mut single, 1, 2, vote(5));
    single.take(&[waiting.clone(), linked.clone()]);
    let evidence =
        |single: &Single| single.effects.iter().filter(|e| matches!(e, Effect::Evidence { author: ONE, .. })).count();
    assert_eq!(evidence(&single), 1);
    single.take(std::slice::from_ref(&third));
    assert!(
        !single.core.suspended.contains(&third.reference()) && single.core.graph.get(&linked.reference()).is_some()
    );
    assert_eq!((evidence(&single), single.core.status().events.dropped), (1, 1), "shown once");
    assert_eq!(single.core.tally.highest_of(ONE), CommitIndex(5));
}

#[test]
fn a_block_that_is_evicted_though_another_waits_for_it_is_asked_for_again() {
    let mut single = mute(ConsensusParameters { max_suspended_blocks: 2, ..ConsensusParameters::default() });
    let first: Vec<VerifiedBlock> = single.rounds_without_us(&[1, 2, 3], 4);
    let of = |round: u64, author: u16| {
        let found =
            first.iter().find(|block| block.round() == Round(round) && block.author() == AuthorityIndex(author));
        found.cloned().unwrap()
    };
    // All from one sender, with parents missing: the third is one too many, and the highest of them goes.
    for block in [of(3, 1), of(4, 1), of(2, 1)] {
        single.input(Input::Block { sender: ONE, block });
    }
    let waits = |single: &Single, block: &VerifiedBlock| single.core.suspended.contains(&block.reference());
    assert!(!waits(&single, &of(4, 1)) && waits(&single, &of(3, 1)) && waits(&single, &of(2, 1)));
    single.input(Input::Block { sender: AuthorityIndex(2), block: of(4, 2) });
    single.advance(Duration::from_secs(1));
    let status = single.core.status();
    assert_eq!((status.footprint.suspended, status.events.evicted), (3, 1));
    // With the missing ones everything is linked, however late.
    single.take(&first);
    assert_eq!((single.core.status().frontier, single.core.status().footprint.suspended), (Round(4), 0));
}

#[test]
fn a_child_becomes_usable_when_its_incomplete_parent_is_committed_or_collected() {
    let mut single = mute(ConsensusParameters::default());
    single.withhold_payload = true;
    let batch = |sequence| BatchRef { sequence: Sequence(sequence), digest: Digest([sequence as u8; 32]), bytes: 10 };
    // Round 1 is led by member 1, whose payload nobody brings: its commit proves that it can be had.
    let heavy = single.with_batches(1, 1, vec![batch(1)]);
    let rest: Vec<VerifiedBlock> = (2..4).map(|author| single.block(author, 1, &[0])).collect();
    let twin_parents = rest[1].parents().to_vec();
    let lost = single.signed(3, 1, twin_parents, vec![batch(2)], Vec::new(), 1);
    single.blocks.remove(&lost.reference());
    single.take(&rest);
    single.take(&[heavy.clone(), lost.clone()]);
    single.blocks.remove(&lost.reference());
    // A twin of member 3 in round 2 stands on the block that nobody else builds on.
    let on_lost = {
        let mut parents: Vec<BlockRef> = vec![lost.reference()];
        parents.extend([heavy.reference(), rest[0].reference()]);
        single.signed(3, 2, parents, Vec::new(), Vec::new(), 1)
    };
    let second: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, 2, &[0])).collect();
    single.take(&second);
    single.take(std::slice::from_ref(&on_lost));
    // Nobody builds on these, whatever was written of them.
    single.blocks.remove(&on_lost.reference());
    let usable = |single: &Single, block: &VerifiedBlock| {
        single.core.graph.get(&block.reference()).map(|vertex| vertex.usable())
    };
    assert_eq!((usable(&single, &second[0]), usable(&single, &on_lost)), (Some(false), Some(false)));
    let mut round = 3;
    while single.core.status().last_commit == CommitIndex(0) {
        let blocks: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, round, &[0])).collect();
        single.take(&blocks);
        round += 1;
        assert!(round < 10);
    }
    assert_eq!(usable(&single, &second[0]), Some(true), "its parent is committed");
    assert_eq!(usable(&single, &on_lost), Some(false), "the other one is not");
    while single.core.status().gc_round == Round(0) {
        assert_eq!(usable(&single, &on_lost), Some(false));
        let blocks: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, round, &[0])).collect();
        single.take(&blocks);
        round += 1;
        assert!(round < 40);
    }
    assert_eq!(single.core.status().gc_round, Round(1));
    assert_eq!(usable(&single, &on_lost), Some(true), "it will never be delivered");
}
