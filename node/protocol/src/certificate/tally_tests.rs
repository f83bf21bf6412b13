//! Counting against liars, and certificates that no changed byte survives.

use bytes::Bytes;
use rorqual_config::encoding::{decode, encode};

use super::*;
use crate::certificate::check::{VerifiedRange, verify_certificate};
use crate::testing::{block_core, committee, key};
use crate::types::{Commit, CommitRef, Round, merkle};

fn commit(index: u64, previous: Digest, blocks: &[&VerifiedBlock]) -> Commit {
    let blocks: Vec<_> = blocks.iter().map(|block| block.reference()).collect();
    Commit {
        epoch: 0,
        index: CommitIndex(index),
        previous,
        leader_round: Round(index),
        leaders: blocks.clone(),
        timestamp_ms: index,
        gc_round: Round(0),
        blocks_root: merkle::root(&blocks),
        blocks,
        batches_root: merkle::root::<u64>(&[]),
        aux: None,
    }
}

fn voting(author: u16, votes: Vec<CommitRef>) -> VerifiedBlock {
    let committee = committee(4);
    VerifiedBlock::sign(block_core(&committee, author, 1), votes, &committee, &key(usize::from(author)))
}

fn vote(index: u64, digest: u8) -> CommitRef {
    CommitRef { index: CommitIndex(index), digest: Digest([digest; 32]) }
}

#[test]
fn a_full_certificate_verifies_and_no_changed_byte_does() {
    let committee = committee(4);
    let commit = commit(3, Digest::default(), &[]);
    let mut tally = Tally::new(4, CommitIndex(0));
    for author in [2, 0] {
        tally.observe(&voting(author, vec![vote(2, 9), commit.reference()]), CommitIndex(3));
        tally.observe(&voting(author, vec![vote(3, 9)]), CommitIndex(3));
    }
    assert_eq!(tally.certificate(&commit.header(), committee.quorum(), &committee), None);
    let weak = tally.certificate(&commit.header(), committee.validity(), &committee).unwrap();
    assert!(verify_certificate(&weak, &committee, committee.quorum()).is_err());
    assert_eq!(verify_certificate(&weak, &committee, committee.validity()), Ok(Stake(2)));
    tally.observe(&voting(3, vec![commit.reference()]), CommitIndex(3));
    let full = tally.certificate(&commit.header(), committee.quorum(), &committee).unwrap();
    assert_eq!(verify_certificate(&full, &committee, committee.quorum()), Ok(Stake(3)));
    let bytes = encode(&full);
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        if let Ok(certificate) = decode::<Certificate>(&changed) {
            assert!(verify_certificate(&certificate, &committee, committee.quorum()).is_err(), "byte {place}");
        }
    }
    let mut twice = full.clone();
    twice.signers[1] = twice.signers[0].clone();
    assert!(verify_certificate(&twice, &committee, committee.quorum()).is_err());
}

#[test]
fn liars_move_the_order_statistic_only_between_honest_values() {
    let committee = committee(4);
    let mut tally = Tally::new(4, CommitIndex(0));
    tally.observe(&voting(0, vec![vote(10, 1)]), CommitIndex(0));
    tally.observe(&voting(1, vec![vote(12, 1)]), CommitIndex(0));
    tally.observe(&voting(2, vec![vote(11, 1)]), CommitIndex(0));
    tally.observe(&voting(3, vec![vote(u64::MAX, 1)]), CommitIndex(0));
    assert_eq!(tally.reached_by(committee.quorum(), &committee), CommitIndex(11));
    assert_eq!(tally.reached_by(committee.validity(), &committee), CommitIndex(12));
    let mut silent = Tally::new(4, CommitIndex(0));
    for author in 0..3 {
        silent.observe(&voting(author, vec![vote(10, 1)]), CommitIndex(0));
    }
    assert_eq!(silent.reached_by(committee.quorum(), &committee), CommitIndex(10));
    assert_eq!(tally.len(), 3, "an index beyond the window takes no memory");
}

#[test]
fn the_first_digest_of_an_author_counts_and_splits_are_seen() {
    let committee = committee(4);
    let ours = Digest([1; 32]);
    let mut tally = Tally::new(4, CommitIndex(0));
    tally.observe(&voting(0, vec![vote(5, 1)]), CommitIndex(5));
    tally.observe(&voting(0, vec![vote(5, 2)]), CommitIndex(5));
    assert_eq!(tally.against(CommitIndex(5), &ours, &committee), None);
    tally.observe(&voting(1, vec![vote(5, 2)]), CommitIndex(5));
    tally.observe(&voting(2, vec![vote(5, 3)]), CommitIndex(5));
    let (stake, _) = tally.against(CommitIndex(5), &ours, &committee).unwrap();
    assert_eq!(stake, Stake(2));
    tally.prune(CommitIndex(5 + BELOW));
    assert!(tally.is_empty());
}

#[test]
fn a_range_is_believed_only_as_a_whole() {
    let committee = committee(4);
    let blocks: Vec<VerifiedBlock> = (0..3).map(|author| voting(author, Vec::new())).collect();
    let first = commit(1, CommitRef::genesis(committee.chain_id()).digest, &[&blocks[0], &blocks[1]]);
    let second = commit(2, first.digest(), &[&blocks[2]]);
    let mut tally = Tally::new(4, CommitIndex(0));
    for author in 0..2 {
        tally.observe(&voting(author, vec![second.reference()]), CommitIndex(2));
    }
    let certificate = tally.certificate(&second.header(), committee.validity(), &committee).unwrap();
    let bytes = |blocks: &[VerifiedBlock]| blocks.iter().map(|b| b.bytes().clone()).collect::<Vec<Bytes>>();
    let verify = |commits: Vec<Commit>, blocks: Vec<Bytes>| {
        VerifiedRange::verify(commits, certificate.clone(), blocks, &committee)
    };
    let range = verify(vec![first.clone(), second.clone()], bytes(&blocks)).unwrap();
    assert_eq!((range.commits().len(), range.blocks().len()), (2, 3));
    assert!(verify(vec![second.clone()], bytes(&blocks[2..])).is_ok(), "a range may begin anywhere");
    assert!(verify(vec![], vec![]).is_err());
    assert!(verify(vec![first.clone()], bytes(&blocks[..2])).is_err(), "the certificate is of another commit");
    assert!(verify(vec![second.clone(), first.clone()], bytes(&blocks)).is_err());
    assert!(verify(vec![first.clone(), second.clone()], bytes(&blocks[..2])).is_err());
    let mut swapped = bytes(&blocks);
    swapped.swap(0, 1);
    assert!(verify(vec![first.clone(), second.clone()], swapped).is_err());
    let mut unsigned = bytes(&blocks);
    let mut last = unsigned[2].to_vec();
    *last.last_mut().unwrap() ^= 1;
    unsigned[2] = Bytes::from(last);
    assert!(verify(vec![first.clone(), second.clone()], unsigned).is_err(), "the digest does not cover the signature");
    for place in 0..2 {
        let mut commits = vec![first.clone(), second.clone()];
        commits[place].timestamp_ms += 1;
        assert!(verify(commits, bytes(&blocks)).is_err());
        let mut commits = vec![first.clone(), second.clone()];
        commits[place].blocks.pop();
        assert!(verify(commits, bytes(&blocks)).is_err(), "the root binds the list");
    }
}
