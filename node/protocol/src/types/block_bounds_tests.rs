//! Both sides of every bound among the rules of form. Members have the stakes 4, 3, 2, 1: F = 3, V = 4, Q = 7, so that a
//! count of members never passes for stake.

use std::sync::Arc;

use rorqual_config::ProtocolParameters;

use super::*;
use crate::testing::{committee_of, key};
use crate::types::{CommitIndex, Sequence};

const GC_DEPTH: u64 = 20;

fn committee() -> Arc<Committee> {
    let rules = ProtocolParameters {
        gc_depth: GC_DEPTH,
        max_batches_per_block: 4,
        max_batch_bytes: 100,
        max_block_payload_bytes: 250,
        max_votes_per_block: 3,
        ..ProtocolParameters::default()
    };
    committee_of(&[4, 3, 2, 1], rules)
}

/// A block of round 100 by member 3 on all blocks of round 99, own first.
fn core() -> BlockCore {
    let parent = |author| BlockRef { round: Round(99), author: AuthorityIndex(author), digest: Digest([7; 32]) };
    let (author, round) = (AuthorityIndex(3), Round(100));
    let parents = [3, 0, 1, 2].map(parent).to_vec();
    BlockCore { epoch: 0, round, author, timestamp_ms: 1, parents, batches: Vec::new(), end_epoch: false }
}

/// The rule that refuses the block, or nothing.
fn refusal(core: BlockCore, votes: Vec<CommitRef>) -> Option<&'static str> {
    let committee = committee();
    let block = VerifiedBlock::sign(core, votes, &committee, &key(3));
    match VerifiedBlock::verify(block.bytes().clone(), &committee) {
        Ok(_) => None,
        Err(BlockError::Malformed(rule)) => Some(rule),
        Err(other) => panic!("{other}"),
    }
}

fn changed(change: impl FnOnce(&mut BlockCore)) -> Option<&'static str> {
    let mut core = core();
    change(&mut core);
    refusal(core, Vec::new())
}

fn batch(sequence: u64, bytes: u32) -> BatchRef {
    BatchRef { sequence: Sequence(sequence), digest: Digest::default(), bytes }
}

/// Keeps the parents of these authors at round 99 and moves the others one round down.
fn strong(core: &mut BlockCore, authors: &[u16]) {
    for parent in &mut core.parents {
        if !authors.contains(&parent.author.0) {
            parent.round = Round(98);
        }
    }
}

#[test]
fn a_quorum_of_parents_of_the_round_before_is_counted_in_stake() {
    let lacking = Some("no quorum of parents of the round before");
    assert_eq!(changed(|_| ()), None);
    // Two members hold Q = 7; three others hold one less.
    assert_eq!(changed(|core| strong(core, &[0, 1])), None);
    assert_eq!(changed(|core| strong(core, &[1, 2, 3])), lacking);
    assert_eq!(changed(|core| strong(core, &[0, 2, 3])), None, "own stake counts: 4 + 2 + 1");
    assert_eq!(changed(|core| strong(core, &[0, 2])), lacking);
    // Parents that are not there count no more than old ones.
    let only = |core: &mut BlockCore, authors: &[u16]| core.parents.retain(|parent| authors.contains(&parent.author.0));
    assert_eq!(changed(|core| only(core, &[3, 0, 2])), None);
    assert_eq!(changed(|core| only(core, &[3, 1, 2])), lacking);
}

#[test]
fn a_parent_of_another_is_at_most_gc_depth_old_and_the_own_one_is_as_old_as_it_likes() {
    let aged = |place: usize, age: u64| changed(|core| core.parents[place].round = Round(100 - age));
    assert_eq!(aged(3, GC_DEPTH), None);
    assert_eq!(aged(3, GC_DEPTH + 1), Some("a parent is too old"));
    assert_eq!(aged(0, GC_DEPTH + 1), None);
    assert_eq!(aged(0, 99), None);
    assert_eq!(aged(3, 1), None);
    assert_eq!(aged(3, 0), Some("a parent is not of an earlier round"));
    assert_eq!(aged(0, 0), Some("a parent is not of an earlier round"));
    assert_eq!(changed(|core| core.parents[3].round = Round(101)), Some("a parent is not of an earlier round"));
}

#[test]
fn parents_are_one_for_each_member_and_begin_with_the_own_one() {
    let repeated = Some("two parents by one author");
    assert_eq!(changed(|core| core.parents[3] = core.parents[2]), repeated);
    assert_eq!(changed(|core| core.parents[3].author = AuthorityIndex(3)), repeated);
    let twin = |core: &mut BlockCore| core.parents[3] = BlockRef { round: Round(98), ..core.parents[1] };
    assert_eq!(changed(twin), repeated, "not even of two rounds");
    assert_eq!(changed(|core| core.parents.push(core.parents[1])), Some("more parents than members"));
    assert_eq!(changed(|core| core.parents.swap(0, 1)), Some("the first parent is not the own block before"));
    assert_eq!(
        changed(|core| core.parents.retain(|p| p.author != core.author)),
        Some("the first parent is not the own block before")
    );
    assert_eq!(changed(|core| core.parents.swap(1, 3)), None, "the order of the others is free");
    assert_eq!(changed(|core| core.parents[1].author = AuthorityIndex(4)), Some("a parent's author is not a member"));
}

#[test]
fn parents_of_round_zero_are_the_genesis_blocks_of_this_chain() {
    let committee = committee();
    let genesis = |author| BlockRef::genesis(committee.chain_id(), AuthorityIndex(author));
    let first = |core: &mut BlockCore| {
        core.round = Round(1);
        core.parents = [3, 0, 1, 2].map(genesis).to_vec();
    };
    assert_eq!(changed(first), None);
    for place in 0..4 {
        let with = |digest| {
            changed(|core| {
                first(core);
                core.parents[place].digest = digest;
            })
        };
        let refused = Some("a parent of round 0 is not the genesis block");
        assert_eq!(with(Digest::default()), refused);
        assert_eq!(with(genesis((place as u16 + 1) % 4).digest), refused, "of another member");
        let elsewhere = BlockRef::genesis(ChainId(Digest([1; 32])), AuthorityIndex([3, 0, 1, 2][place]));
        assert_eq!(with(elsewhere.digest), refused, "of another chain");
    }
    assert_eq!(changed(|core| (core.round, core.parents) = (Round(0), Vec::new())), Some("round 0 is genesis"));
}

#[test]
fn epoch_and_author_are_those_of_the_committee() {
    assert_eq!(changed(|core| core.epoch = 1), Some("wrong epoch"));
    assert_eq!(changed(|core| core.author = AuthorityIndex(4)), Some("the author is not a member"));
}

#[test]
fn batches_are_few_small_and_ascend() {
    let with = |batches: Vec<BatchRef>| changed(|core| core.batches = batches);
    assert_eq!(with((1..=4).map(|sequence| batch(sequence, 1)).collect()), None);
    assert_eq!(with((1..=5).map(|sequence| batch(sequence, 1)).collect()), Some("too many batches"));
    assert_eq!(with(vec![batch(1, 100)]), None);
    assert_eq!(with(vec![batch(1, 101)]), Some("a batch is too large"));
    assert_eq!(with(vec![batch(1, 100), batch(2, 100), batch(3, 50)]), None);
    assert_eq!(with(vec![batch(1, 100), batch(2, 100), batch(3, 51)]), Some("too much payload"));
    assert_eq!(with(vec![batch(1, 1), batch(9, 1), batch(10, 1)]), None, "gaps are allowed");
    let order = Some("batch sequences do not ascend");
    assert_eq!(with(vec![batch(0, 1)]), order);
    assert_eq!(with(vec![batch(2, 1), batch(2, 1)]), order);
    assert_eq!(with(vec![batch(1, 1), batch(3, 1), batch(2, 1)]), order);
}

#[test]
fn commit_votes_are_few_begin_with_one_and_ascend() {
    let with = |indices: &[u64]| {
        let vote = |index: &u64| CommitRef { index: CommitIndex(*index), digest: Digest::default() };
        refusal(core(), indices.iter().map(vote).collect())
    };
    assert_eq!(with(&[1, 2, 3]), None);
    assert_eq!(with(&[1, 2, 3, 4]), Some("too many commit votes"));
    assert_eq!(with(&[7, 9]), None, "gaps are allowed");
    let order = Some("commit votes do not ascend");
    assert_eq!(with(&[0]), order);
    assert_eq!(with(&[2, 2]), order);
    assert_eq!(with(&[1, 3, 2]), order);
}

#[test]
fn the_largest_valid_block_fits_and_nothing_longer_is_decoded() {
    let committee = committee();
    let limit = committee.protocol().max_block_bytes(4);
    let mut largest = core();
    largest.timestamp_ms = (1 << 62) - 1;
    largest.batches = (1..=4).map(|place| batch((1 << 61) + place, 60)).collect();
    let vote = |place: u64| CommitRef { index: CommitIndex((1 << 61) + place), digest: Digest::default() };
    assert_eq!(refusal(largest, (1..=3).map(vote).collect()), None);
    let verify = |length: usize| VerifiedBlock::verify(Bytes::from(vec![0xff; length]), &committee);
    assert!(matches!(verify(limit), Err(BlockError::Codec(_))), "looked at");
    assert_eq!(verify(limit + 1), Err(BlockError::TooLarge { size: limit + 1, limit }));
}

#[test]
fn the_signature_is_the_authors_over_chain_epoch_core_and_votes() {
    let committee = committee();
    let refused = |block: &VerifiedBlock| {
        let verified = VerifiedBlock::verify(block.bytes().clone(), &committee);
        assert_eq!(verified, Err(BlockError::Signature(AuthorityIndex(3))));
    };
    refused(&VerifiedBlock::sign(core(), Vec::new(), &committee, &key(0)));
    let other_rules = committee_of(&[4, 3, 2, 1], ProtocolParameters::default());
    assert_ne!(other_rules.chain_id(), committee.chain_id());
    refused(&VerifiedBlock::sign(core(), Vec::new(), &other_rules, &key(3)));
    let (network, members) = (committee.network_id(), committee.members().to_vec());
    let next = Committee::new(1, network, members, committee.protocol().clone()).unwrap();
    refused(&VerifiedBlock::sign(core(), Vec::new(), &next, &key(3)));
    // A signature of the same block with another vote.
    let vote = |index| vec![CommitRef { index: CommitIndex(index), digest: Digest::default() }];
    let signature = VerifiedBlock::sign(core(), vote(1), &committee, &key(3)).block().signature;
    let moved = SignedBlock { core: core(), votes: vote(2), signature };
    let verified = VerifiedBlock::verify(Bytes::from(encode(&moved)), &committee);
    assert_eq!(verified, Err(BlockError::Signature(AuthorityIndex(3))));
}
