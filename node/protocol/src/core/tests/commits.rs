//! Payload, garbage, votes, forks and evidence at one core.

use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters};

use super::single::Single;
use crate::effect::{Effect, Halt};
use crate::input::Input;
use crate::types::range::LIMIT;
use crate::types::{BatchRef, BlockRef, CommitIndex, CommitRef, Round, Sequence, VerifiedBlock};

fn batch(sequence: u64) -> BatchRef {
    BatchRef { sequence: Sequence(sequence), digest: Digest::of("theirs", &[&sequence.to_le_bytes()]), bytes: 10 }
}

fn small() -> ProtocolParameters {
    ProtocolParameters { gc_depth: 20, ..ProtocolParameters::default() }
}

#[test]
fn a_block_without_its_payload_votes_but_is_not_referenced_until_the_payload_comes() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.withhold_payload = true;
    single.connect_all();
    single.seal();
    let (one, two) = (single.block(1, 1, &[]), single.block(2, 1, &[]));
    let heavy = single.with_batches(3, 1, vec![batch(1)]);
    single.take(&[one, two, heavy.clone()]);
    single.advance(Duration::from_millis(200));
    let parents = single.own(2).parents().to_vec();
    assert!(!parents.contains(&heavy.reference()));
    assert_eq!(single.waits, [batch(1).key(AuthorityIndex(3))]);
    // A block that references it is linked and counts for the clock, and its author is asked at once.
    let next = single.block(1, 2, &[]);
    assert!(next.parents().contains(&heavy.reference()));
    single.take(std::slice::from_ref(&next));
    let asked = single.effects.iter().any(
        |effect| matches!(effect, Effect::WaitBatch { holders, urgent: true, .. } if holders == &[AuthorityIndex(1)]),
    );
    assert!(asked && single.core.graph.get(&next.reference()).is_some_and(|vertex| !vertex.usable()));
    single.input(Input::BatchStored { key: batch(1).key(AuthorityIndex(3)), bytes: 10 });
    assert!(single.core.graph.get(&next.reference()).is_some_and(|vertex| vertex.usable()));
    assert_eq!(single.core.status().footprint.payload_waits, 0);
}

#[test]
fn a_block_that_names_a_wrong_length_for_its_payload_is_never_referenced() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.withhold_payload = true;
    single.connect_all();
    let wrong = single.with_batches(3, 1, vec![BatchRef { bytes: 9, ..batch(1) }]);
    let twin = single.with_batches(3, 1, vec![batch(1)]);
    single.take(&[wrong.clone(), twin.clone()]);
    single.input(Input::BatchStored { key: batch(1).key(AuthorityIndex(3)), bytes: 10 });
    let usable = |block: &VerifiedBlock| single.core.graph.get(&block.reference()).is_some_and(|v| v.usable());
    assert_eq!((usable(&wrong), usable(&twin)), (false, true));
}

#[test]
fn payload_of_a_block_that_is_garbage_collected_is_not_waited_for_any_more() {
    let mut single = Single::new(0, small());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 3);
    single.withhold_payload = true;
    let heavy = single.with_batches(3, 4, vec![batch(1)]);
    single.take(std::slice::from_ref(&heavy));
    assert_eq!(single.core.status().footprint.payload_waits, 1);
    // Nobody builds on it.
    single.blocks.remove(&heavy.reference());
    single.run_rounds(&[1, 2], 40);
    assert_eq!(single.cancelled, [batch(1).key(AuthorityIndex(3))]);
    assert_eq!(single.core.status().footprint.payload_waits, 0);
}

#[test]
fn own_payload_that_was_garbage_collected_is_named_again() {
    let mut single = Single::new(0, small());
    single.connect_all();
    single.run_rounds(&[1, 2, 3], 4);
    let before = single.own_round().0;
    let sealed = single.seal();
    single.advance(Duration::from_millis(300));
    // The others never link our blocks from here on, so that few of ours carry payload after a while.
    single.run_rounds_ignoring_us(&[1, 2, 3], 40);
    let named: Vec<Round> = single.own_blocks_naming(&sealed);
    assert!(named[0].0 <= before + 2, "{named:?}");
    let status = single.core.status();
    assert!(status.gc_round > named[0] && status.events.requeued > 0);
    // Once its block is gone it is named again under the same name; as soon as they link us it is delivered, once.
    assert!(named.iter().filter(|round| **round > status.gc_round).count() <= 1, "{named:?}");
    single.run_rounds(&[1, 2, 3], 12);
    assert!(single.own_blocks_naming(&sealed).len() >= 2);
    let count = single.delivered.iter().flat_map(|d| &d.batches).filter(|d| d.batch == sealed).count();
    assert_eq!(count, 1);
}

#[test]
fn garbage_collection_releases_blocks_that_wait_for_what_is_too_old() {
    let mut single = Single::new(0, small());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2], 2);
    // Member 3 shows a block of round 3 whose own parent of round 2 nobody has.
    let hidden = single.block(3, 1, &[]);
    let hidden2 = single.block_on(3, 2, &[hidden.reference()], 0);
    for reference in [hidden.reference(), hidden2.reference()] {
        single.blocks.remove(&reference);
    }
    single.run_rounds(&[1, 2], 14);
    let late = single.block_on(3, 15, &[hidden2.reference()], 14);
    single.blocks.remove(&late.reference());
    single.take(std::slice::from_ref(&late));
    assert_eq!(single.core.status().footprint.suspended, 1);
    let asked = |effect: &Effect| matches!(effect, Effect::FetchBlocks { refs, .. } if refs == &[hidden2.reference()]);
    assert!(single.effects.iter().any(asked));
    single.run_rounds(&[1, 2], 12);
    let status = single.core.status();
    assert!(status.gc_round >= Round(2), "{status:?}");
    assert_eq!((status.footprint.suspended, status.footprint.fetching), (0, 0));
    assert!(single.core.graph.get(&late.reference()).is_some());
}

#[test]
fn blocks_dropped_for_lack_of_payload_are_asked_for_again_once_it_is_here() {
    let parameters = ConsensusParameters { solid_lag: 3, ..ConsensusParameters::default() };
    let mut single = Single::with(0, 4, ProtocolParameters::default(), parameters);
    // Without blocks of our own the frontier is that of the others.
    (single.withhold_payload, single.hold_writes) = (true, true);
    single.connect_all();
    let heavy = single.with_batches(1, 1, vec![batch(1)]);
    let all = single.rounds_on_top(&[1, 2, 3], 14);
    single.take(&all);
    let status = single.core.status();
    assert!(status.events.dropped > 0 && status.last_commit.0 > status.solid.0 + 3, "{status:?}");
    single.advance(Duration::from_secs(3));
    let asked = |single: &Single| single.effects.iter().filter(|e| matches!(e, Effect::Subscribe { .. })).count();
    let before = asked(&single);
    single.input(Input::BatchStored { key: heavy.batches()[0].key(AuthorityIndex(1)), bytes: 10 });
    single.advance(Duration::from_secs(3));
    assert_eq!(asked(&single), before + 3, "each of the three whose blocks were dropped");
    single.take(&all);
    assert!(single.core.status().frontier >= Round(14));
}

#[test]
fn fresh_blocks_of_authors_in_good_standing_are_all_referenced_whatever_they_carry() {
    let parameters = ConsensusParameters { max_unsettled_bytes: 5, ..ConsensusParameters::default() };
    let mut single = Single::with(0, 4, ProtocolParameters::default(), parameters);
    single.connect_all();
    let blocks: Vec<VerifiedBlock> =
        [3, 2, 1].into_iter().map(|author| single.with_batches(author, 1, vec![batch(author as u64)])).collect();
    single.take(&blocks);
    let parents = single.own(2).parents().to_vec();
    assert!(blocks.iter().all(|block| parents.contains(&block.reference())), "{parents:?}");
}

#[test]
fn twins_are_shown_as_evidence_and_a_third_is_not_taken_unasked() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    let twins: Vec<VerifiedBlock> = (0..3).map(|salt| single.twin(1, 1, salt)).collect();
    single.take(&twins);
    let evidence = single.effects.iter().filter(|effect| matches!(effect, Effect::Evidence { .. })).count();
    let held = |single: &Single| single.core.graph.variants(Round(1), AuthorityIndex(1)).len();
    assert_eq!((evidence, held(&single)), (1, 2));
    // A block that needs the third brings it in.
    let (two, three) = (single.block(2, 1, &[]), single.block(3, 1, &[]));
    single.take(&[two.clone(), three.clone()]);
    let parents = vec![two.reference(), twins[2].reference(), three.reference()];
    let child = single.signed(2, 2, parents, Vec::new(), Vec::new(), 0);
    single.take(&[child.clone(), twins[2].clone()]);
    assert!(single.core.graph.get(&child.reference()).is_some());
    assert_eq!(held(&single), 3);
}

#[test]
fn blocks_of_the_far_future_and_of_the_past_are_dropped() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    let parents = |round| {
        let digest = Digest::default();
        (1..4).map(|a| crate::types::BlockRef { round: Round(round - 1), author: AuthorityIndex(a), digest }).collect()
    };
    for round in [1_200, LIMIT - 1] {
        let block = single.signed(1, round, parents(round), Vec::new(), Vec::new(), 0);
        single.blocks.remove(&block.reference());
        single.take(&[block]);
    }
    let near = single.signed(1, 1_100, parents(1_100), Vec::new(), Vec::new(), 0);
    single.blocks.remove(&near.reference());
    single.take(&[near]);
    let status = single.core.status();
    assert_eq!((status.events.dropped, status.footprint.suspended), (2, 1));
}

#[test]
fn stake_of_v_behind_another_digest_stops_the_node_and_less_does_not() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 6);
    assert!(single.core.status().last_commit >= CommitIndex(1));
    let other = |digest: u8| vec![CommitRef { index: CommitIndex(1), digest: Digest([digest; 32]) }];
    let round = single.own_round().0;
    let lie = single.voting(1, round, other(1));
    single.take(&[lie]);
    assert_eq!(single.halted, None, "one liar stops nobody");
    let second = single.voting(2, round, other(2));
    single.take(&[second]);
    let Some(Halt::Fork { index, stake, .. }) = single.halted.clone() else { panic!("{:?}", single.halted) };
    assert_eq!((index, stake), (CommitIndex(1), 2));
    let effects = single.effects.len();
    single.seal();
    assert_eq!(single.effects.len(), effects, "after a halt there is silence");
}

#[test]
fn a_node_whose_blocks_reach_nobody_goes_on_with_empty_ones() {
    let mut single = Single::new(0, ProtocolParameters { gc_depth: 200, ..ProtocolParameters::default() });
    single.connect_all();
    single.run_rounds(&[1, 2, 3], 4);
    let from = single.own_round().0;
    for _ in 0..4 {
        single.seal();
        single.run_rounds_ignoring_us(&[1, 2, 3], 4);
    }
    let full: Vec<u64> =
        single.own_rounds().iter().map(|r| r.0).filter(|r| *r > from && !single.own(*r).batches().is_empty()).collect();
    // Six blocks may be on their way; then one of four carries payload, since who is only far must not be starved.
    assert!(full.iter().filter(|round| **round > from + 8).count() <= 2, "{full:?}");
    assert!(single.own_round().0 >= from + 16, "silence would stop the clock");
}

#[test]
fn a_validly_signed_block_of_ours_that_we_do_not_know_stops_the_node() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 2);
    let last = single.own(single.own_round().0).reference();
    let forgotten = single.block_on(0, 9, &[last], 0);
    single.input(Input::Block { sender: AuthorityIndex(2), block: forgotten });
    assert!(matches!(single.halted, Some(Halt::Amnesia { theirs: Round(9), .. })), "{:?}", single.halted);
}

#[test]
fn the_same_inputs_have_the_same_effects() {
    let run = || {
        let mut single = Single::new(0, ProtocolParameters::default());
        single.connect_all();
        single.run_rounds(&[1, 2, 3], 12);
        single.effects.iter().map(|effect| format!("{effect:?}")).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_node_waits_visibly_while_a_member_that_has_not_answered_could_serve_it() {
    let mut single = Single::new(0, ProtocolParameters::default());
    // One member is away. Of the others one has really dropped the beginning, and one lies: together they prove nothing.
    [1, 2].iter().for_each(|peer| single.input(Input::PeerUp(AuthorityIndex(*peer))));
    let far = || vec![CommitRef { index: CommitIndex(300), digest: Digest::of("far", &[]) }];
    let votes: Vec<VerifiedBlock> = (1..4).map(|author| single.voting(author, 1, far())).collect();
    single.take(&votes);
    let mut asked = 0;
    for _ in 0..600 {
        let open: Vec<(AuthorityIndex, CommitIndex)> = single.effects[asked..].iter().filter_map(fetched).collect();
        asked = single.effects.len();
        for (peer, from) in open {
            let first_index = Some(CommitIndex(u64::from(peer.0) * 1_000));
            single.input(Input::CommitsUnavailable { peer, from, first_index });
        }
        single.advance(Duration::from_millis(100));
    }
    assert_eq!(single.halted, None);
    assert_eq!(single.core.status().dropped_by, [AuthorityIndex(1), AuthorityIndex(2)]);
    // It comes, and is asked at once.
    single.input(Input::PeerUp(AuthorityIndex(3)));
    assert!(single.effects[asked..].iter().filter_map(fetched).any(|(peer, _)| peer == AuthorityIndex(3)));
    single.input(Input::CommitsUnavailable {
        peer: AuthorityIndex(3),
        from: CommitIndex(1),
        first_index: Some(CommitIndex(70)),
    });
    assert!(matches!(single.halted, Some(Halt::BehindRetention { .. })), "now all have said so: {:?}", single.halted);
}

fn fetched(effect: &Effect) -> Option<(AuthorityIndex, CommitIndex)> {
    match effect {
        Effect::FetchCommits { peer, from, .. } => Some((*peer, *from)),
        _ => None,
    }
}

#[test]
fn a_node_behind_what_all_its_peers_keep_stops_and_names_both_indexes() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    let far = || vec![CommitRef { index: CommitIndex(300), digest: Digest::of("far", &[]) }];
    let votes: Vec<VerifiedBlock> = (1..4).map(|author| single.voting(author, 1, far())).collect();
    single.take(&votes);
    let mut told = Vec::new();
    while single.halted.is_none() {
        let asked = single.effects.iter().rev().find_map(|effect| match effect {
            Effect::FetchCommits { peer, from: CommitIndex(1), .. } if !told.contains(peer) => Some(*peer),
            _ => None,
        });
        let Some(peer) = asked else {
            assert!(single.now < Duration::from_secs(60), "asked {told:?}, and nobody else is asked");
            single.advance(Duration::from_millis(100));
            continue;
        };
        told.push(peer);
        let first_index = Some(CommitIndex(50 + peer.0 as u64));
        single.input(Input::CommitsUnavailable { peer, from: CommitIndex(1), first_index });
    }
    assert_eq!(told.len(), 3, "whoever has not answered may have it: {told:?}");
    let Some(Halt::BehindRetention { ours, first }) = single.halted.clone() else { panic!("{:?}", single.halted) };
    assert_eq!((ours, first), (CommitIndex(0), CommitIndex(51)));
    let words = single.halted.expect("it halted").to_string();
    assert!(words.contains("commit 0") && words.contains("commit 51"), "{words}");
}

#[test]
fn a_twin_of_the_block_that_is_being_written_stops_the_node() {
    for ours in [true, false] {
        let mut single = Single::new(0, small());
        single.connect_all();
        single.seal();
        single.run_rounds(&[1, 2, 3], 2);
        single.hold_writes = true;
        let round = single.own_round().0;
        let blocks: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, round, &[])).collect();
        single.take(&blocks);
        let block = if ours { single.own(round + 1) } else { single.twin(0, round + 1, 77) };
        single.input(Input::Block { sender: AuthorityIndex(1), block });
        assert_eq!(matches!(single.halted, Some(Halt::Amnesia { .. })), !ours, "{:?}", single.halted);
    }
}

#[test]
fn a_log_is_not_believed_to_begin_above_what_an_honest_member_has_reached() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    let far = || vec![CommitRef { index: CommitIndex(300), digest: Digest::of("far", &[]) }];
    let votes: Vec<VerifiedBlock> = (1..4).map(|author| single.voting(author, 1, far())).collect();
    single.take(&votes);
    let (peer, from) = single.effects.iter().find_map(fetched).expect("it is behind");
    single.input(Input::CommitsUnavailable { peer, from, first_index: Some(CommitIndex(1_000_000)) });
    let dropped = |index| single.core.catch_up.servers.has_dropped(peer, CommitIndex(index));
    assert_eq!((dropped(1), dropped(300)), (Some(CommitIndex(301)), Some(CommitIndex(301))));
    assert_eq!(dropped(301), None, "what nobody has reached cannot have been dropped");
}

#[test]
fn own_payload_goes_again_where_its_block_was_collected_before_it_was_durable() {
    for beyond in [0, 1, 4] {
        let mut single = Single::new(0, small());
        single.hold_writes = true;
        let sealed = single.seal();
        single.connect_all();
        let [own] = single.own_blocks_naming(&sealed)[..] else { panic!("the first block names it") };
        let mut round = 1;
        while single.core.status().gc_round < own.plus(beyond) {
            let blocks = [1, 2, 3].map(|author| single.block(author, round, &[0]));
            single.take(&blocks);
            round += 1;
        }
        assert_eq!(single.core.status().gc_round, own.plus(beyond));
        single.release_writes();
        assert_eq!(single.core.status().events.requeued, 1, "{beyond} above");
    }
}

#[test]
fn what_a_waiting_block_needs_is_taken_however_much_payload_is_missing() {
    let parameters = ConsensusParameters { solid_lag: 3, ..ConsensusParameters::default() };
    let mut single = Single::with(0, 4, ProtocolParameters::default(), parameters);
    (single.withhold_payload, single.hold_writes) = (true, true);
    single.connect_all();
    let nobody =
        |author| BlockRef { round: Round(28), author: AuthorityIndex(author), digest: Digest::of("test", &[]) };
    let [unasked, wanted] = [2, 1].map(|author| single.block_on(usize::from(author), 29, &[nobody(author)], 0));
    single.blocks.remove(&unasked.reference());
    let waits = single.block_on(3, 30, &[nobody(3)], 0);
    assert!(waits.parents().contains(&wanted.reference()) && !waits.parents().contains(&unasked.reference()));
    single.take(&[waits]);
    single.with_batches(1, 1, vec![batch(1)]);
    let all = single.rounds_on_top(&[1, 2, 3], 14);
    single.take(&all);
    assert!(single.core.too_far_from_solid() && single.core.status().frontier < Round(29));
    assert_eq!(single.core.status().footprint.suspended, 1);
    single.take(&[unasked]);
    assert_eq!(single.core.status().footprint.suspended, 1, "nobody needs it");
    single.take(&[wanted]);
    assert_eq!(single.core.status().footprint.suspended, 2);
}
