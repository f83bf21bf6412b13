//! Every rule of form refuses, and only what breaks it.

use rorqual_config::encoding::encode;

use super::*;
use crate::testing::{block_core, committee, key};
use crate::types::range::LIMIT;
use crate::types::{CommitIndex, Sequence};

fn verify(core: BlockCore, votes: Vec<CommitRef>) -> Result<VerifiedBlock, BlockError> {
    let committee = committee(4);
    let signer = key(usize::from(core.author.0).min(3));
    let block = VerifiedBlock::sign(core, votes, &committee, &signer);
    VerifiedBlock::verify(block.bytes().clone(), &committee)
}

fn refused(change: impl FnOnce(&mut BlockCore)) -> &'static str {
    let mut core = block_core(&committee(4), 0, 1);
    change(&mut core);
    match verify(core, Vec::new()) {
        Err(BlockError::Malformed(rule)) => rule,
        other => panic!("expected a broken rule of form, got {other:?}"),
    }
}

#[test]
fn a_well_formed_block_passes_and_keeps_its_name() {
    let committee = committee(4);
    let core = block_core(&committee, 2, 1);
    let block = VerifiedBlock::sign(core, Vec::new(), &committee, &key(2));
    let again = VerifiedBlock::verify(block.bytes().clone(), &committee).unwrap();
    assert_eq!(again, block);
    assert_eq!(again.reference(), VerifiedBlock::from_store(block.bytes().clone()).unwrap().reference());
}

#[test]
fn each_rule_of_form_refuses() {
    let batch = |sequence, bytes| BatchRef { sequence: Sequence(sequence), digest: Digest::default(), bytes };
    assert_eq!(refused(|b| b.epoch = 1), "wrong epoch");
    assert_eq!(refused(|b| b.author = AuthorityIndex(4)), "the author is not a member");
    assert_eq!(refused(|b| b.round = Round(0)), "round 0 is genesis");
    assert_eq!(refused(|b| b.parents.push(b.parents[0])), "more parents than members");
    assert_eq!(refused(|b| b.parents.swap(0, 1)), "the first parent is not the own block before");
    assert_eq!(refused(|b| b.parents.clear()), "the first parent is not the own block before");
    assert_eq!(refused(|b| b.parents[1] = b.parents[2]), "two parents by one author");
    assert_eq!(refused(|b| b.parents[1].author = AuthorityIndex(9)), "a parent's author is not a member");
    assert_eq!(refused(|b| b.parents[1].round = Round(1)), "a parent is not of an earlier round");
    assert_eq!(refused(|b| b.parents[1].digest = Digest::default()), "a parent of round 0 is not the genesis block");
    assert_eq!(refused(|b| b.parents.truncate(2)), "no quorum of parents of the round before");
    assert_eq!(refused(|b| b.round = Round(700)), "a parent is too old");
    assert_eq!(refused(|b| b.round = Round(2)), "no quorum of parents of the round before");
    assert_eq!(refused(|b| b.batches = (1..=33).map(|s| batch(s, 1)).collect()), "too many batches");
    assert_eq!(refused(|b| b.batches = vec![batch(0, 1)]), "batch sequences do not ascend");
    assert_eq!(refused(|b| b.batches = vec![batch(2, 1), batch(2, 1)]), "batch sequences do not ascend");
    assert_eq!(refused(|b| b.batches = vec![batch(1, (1 << 20) + 1)]), "a batch is too large");
    assert_eq!(refused(|b| b.batches = (1..=3).map(|s| batch(s, 1 << 20)).collect()), "too much payload");
}

#[test]
fn an_old_own_parent_is_allowed() {
    let committee = committee(4);
    let mut core = block_core(&committee, 0, 1);
    core.round = Round(10_000);
    for parent in &mut core.parents[1..] {
        parent.round = Round(9_999);
    }
    assert!(verify(core, Vec::new()).is_ok());
}

#[test]
fn votes_ascend_and_are_few() {
    let core = || block_core(&committee(4), 0, 1);
    let vote = |index| CommitRef { index: CommitIndex(index), digest: Digest::default() };
    assert!(verify(core(), (1..=16).map(vote).collect()).is_ok());
    assert!(matches!(verify(core(), (1..=17).map(vote).collect()), Err(BlockError::Malformed(_))));
    assert!(matches!(verify(core(), vec![vote(2), vote(2)]), Err(BlockError::Malformed(_))));
    assert!(matches!(verify(core(), vec![vote(0)]), Err(BlockError::Malformed(_))));
}

/// A block with this number in this place.
fn with_number(place: usize, number: u64) -> Result<VerifiedBlock, BlockError> {
    let mut core = block_core(&committee(4), 0, 1);
    let mut votes = Vec::new();
    match place {
        0 => {
            core.round = Round(number);
            core.parents.iter_mut().for_each(|parent| parent.round = Round(number - 1));
        }
        1 => core.timestamp_ms = number,
        2 => {
            let batch = |sequence| BatchRef { sequence: Sequence(sequence), digest: Digest::default(), bytes: 1 };
            core.batches = vec![batch(1), batch(number)];
        }
        _ => votes = [1, number].map(|index| CommitRef { index: CommitIndex(index), digest: Digest::default() }).into(),
    }
    verify(core, votes)
}

#[test]
fn numbers_up_to_the_limit_pass_and_from_it_on_are_refused() {
    for place in 0..4 {
        assert!(with_number(place, LIMIT - 1).is_ok(), "place {place}");
        for number in [LIMIT, LIMIT + 1, 1 << 63, u64::MAX - 1, u64::MAX] {
            let refused = with_number(place, number);
            let Err(BlockError::Malformed(rule)) = &refused else { panic!("place {place}, {number}: {refused:?}") };
            assert!(rule.ends_with("out of range"), "{rule}");
        }
    }
}

#[test]
fn every_changed_byte_is_refused() {
    let committee = committee(4);
    let votes = vec![CommitRef { index: CommitIndex(3), digest: Digest::default() }];
    let block = VerifiedBlock::sign(block_core(&committee, 1, 1), votes, &committee, &key(1));
    for place in 0..block.bytes().len() {
        let mut bytes = block.bytes().to_vec();
        bytes[place] ^= 1;
        assert!(VerifiedBlock::verify(Bytes::from(bytes), &committee).is_err(), "byte {place}");
    }
    let mut longer = block.bytes().to_vec();
    longer.push(0);
    assert!(matches!(VerifiedBlock::verify(Bytes::from(longer), &committee), Err(BlockError::Codec(_))));
    let huge = vec![0; committee.protocol().max_block_bytes(4) + 1];
    assert!(matches!(VerifiedBlock::verify(Bytes::from(huge), &committee), Err(BlockError::TooLarge { .. })));
    let _ = encode(&block.block().core);
}
