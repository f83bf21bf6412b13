//! Both sides of every threshold and window of the tally, and who is believed. Members have the stakes 4, 3, 2, 1: F = 3,
//! V = 4, Q = 7.

use std::sync::Arc;

use rorqual_config::{AuthorityIndex, Committee, Digest, ProtocolParameters, Stake};

use super::check::{VerifiedRange, verify_certificate};
use super::tally::Tally;
use crate::testing::{block_core, committee_of, committee_with, key};
use crate::types::{Certificate, Commit, CommitIndex, CommitRef, Round, VerifiedBlock, merkle};

/// Where our last commit is.
const LAST: CommitIndex = CommitIndex(5_000);

fn committee() -> Arc<Committee> {
    committee_of(&[4, 3, 2, 1], ProtocolParameters::default())
}

fn commit(index: u64, previous: Digest) -> Commit {
    Commit {
        epoch: 0,
        index: CommitIndex(index),
        previous,
        leader_round: Round(index),
        leaders: Vec::new(),
        timestamp_ms: index,
        gc_round: Round(0),
        blocks_root: merkle::root::<u64>(&[]),
        blocks: Vec::new(),
        batches_root: merkle::root::<u64>(&[]),
        aux: None,
    }
}

fn voting(committee: &Committee, author: u16, votes: Vec<CommitRef>) -> VerifiedBlock {
    VerifiedBlock::sign(block_core(committee, author, 1), votes, committee, &key(usize::from(author)))
}

fn vote(index: u64) -> CommitRef {
    CommitRef { index: CommitIndex(index), digest: Digest([1; 32]) }
}

/// A tally in which these members signed this commit.
fn signed(committee: &Committee, commit: &Commit, authors: &[u16]) -> Tally {
    let mut tally = Tally::new(committee.size(), CommitIndex(0));
    for author in authors {
        tally.observe(&voting(committee, *author, vec![commit.reference()]), commit.index);
    }
    tally
}

/// What these members signed, however little that is.
fn certificate(committee: &Committee, commit: &Commit, authors: &[u16]) -> Certificate {
    signed(committee, commit, authors).certificate(&commit.header(), Stake(1), committee).unwrap()
}

#[test]
fn a_certificate_needs_stake_of_the_threshold_and_one_less_is_none() {
    let (committee, commit) = (committee(), commit(3, Digest::default()));
    let made = |authors: &[u16], threshold: Stake| {
        let made = signed(&committee, &commit, authors).certificate(&commit.header(), threshold, &committee);
        let believed = verify_certificate(&certificate(&committee, &commit, authors), &committee, threshold);
        assert_eq!(made.is_some(), believed.is_ok(), "who makes it and who checks it agree");
        made.is_some()
    };
    assert!(made(&[0, 1], committee.quorum()), "two members hold Q");
    assert!(!made(&[1, 2, 3], committee.quorum()), "three hold one less");
    assert!(made(&[0], committee.validity()), "one holds V");
    assert!(!made(&[1], committee.validity()));
    assert!(!made(&[2, 3], committee.validity()), "two hold one less");
}

#[test]
fn a_range_is_believed_with_v_signers_and_not_with_fewer() {
    let range = |committee: &Committee, authors: &[u16]| {
        let first = commit(1, Digest::default());
        let second = commit(2, first.digest());
        let certificate = certificate(committee, &second, authors);
        let (commits, blocks) = (vec![first, second], Vec::new());
        let early = VerifiedRange::verify_commits(&commits, &certificate, committee).is_ok();
        assert_eq!(early, VerifiedRange::verify(commits, certificate, blocks, committee).is_ok());
        early
    };
    let equal = committee_with(4, ProtocolParameters::default());
    assert!(!range(&equal, &[2]), "one liar makes up any history");
    assert!(range(&equal, &[2, 3]), "one of two is honest");
    let unequal = committee();
    assert!(!range(&unequal, &[2, 3]) && !range(&unequal, &[1]));
    assert!(range(&unequal, &[0]) && range(&unequal, &[1, 3]));
    let seven = committee_with(7, ProtocolParameters::default());
    assert!(!range(&seven, &[0, 1]) && range(&seven, &[0, 1, 6]));
}

#[test]
fn the_blocks_of_a_range_are_those_under_its_roots() {
    let committee = committee();
    let named: Vec<_> = (0..3).map(|author| voting(&committee, author, Vec::new()).reference()).collect();
    let mut last = commit(2, Digest::default());
    (last.blocks_root, last.blocks) = (merkle::root(&named), named);
    let certificate = certificate(&committee, &last, &[0]);
    let verify =
        |commit: &Commit| VerifiedRange::verify_commits(std::slice::from_ref(commit), &certificate, &committee);
    assert!(verify(&last).is_ok());
    // The digest binds the root and not the list.
    let mut swapped = last.clone();
    swapped.blocks.swap(0, 1);
    assert_eq!(swapped.digest(), last.digest());
    assert!(verify(&swapped).is_err());
    let mut fewer = last.clone();
    fewer.blocks.pop();
    assert!(verify(&fewer).is_err());
}

#[test]
fn every_signer_is_a_member_once_in_order_and_for_this_commit_and_epoch() {
    let (committee, commit) = (committee(), commit(3, Digest::default()));
    let whole = certificate(&committee, &commit, &[0, 1, 2]);
    let refused = |change: &dyn Fn(&mut Certificate)| {
        let mut changed = whole.clone();
        change(&mut changed);
        verify_certificate(&changed, &committee, committee.validity()).unwrap_err().to_string()
    };
    assert_eq!(verify_certificate(&whole, &committee, Stake(9)), Ok(Stake(9)));
    assert!(verify_certificate(&whole, &committee, Stake(10)).is_err());
    assert!(refused(&|c| c.signers.swap(0, 1)).contains("ascend"));
    assert!(refused(&|c| c.signers[1] = c.signers[0].clone()).contains("ascend"));
    assert!(refused(&|c| c.signers[2].author = AuthorityIndex(4)).contains("not a member"));
    assert!(refused(&|c| c.commit.epoch = 1).contains("epoch"));
    assert!(refused(&|c| c.signers[0].votes[0].index = CommitIndex(2)).contains("does not vote"));
    assert!(refused(&|c| c.signers[0].votes[0].digest = Digest([9; 32])).contains("does not vote"));
    assert!(refused(&|c| c.signers[0].core_digest = Digest([9; 32])).contains("does not verify"));
    assert!(refused(&|c| c.signers[2].author = AuthorityIndex(3)).contains("does not verify"));
    let mut other = whole.clone();
    other.commit.index = CommitIndex(4);
    assert!(verify_certificate(&other, &committee, committee.validity()).is_err());
}

#[test]
fn order_statistics_count_stake_to_the_unit() {
    let committee = committee();
    let mut tally = Tally::new(4, CommitIndex(0));
    for (author, index) in [(0, 10), (1, 20), (2, 30), (3, 40)] {
        tally.observe(&voting(&committee, author, vec![vote(index)]), CommitIndex(0));
    }
    // From the top: 1, 3, 6, 10 of stake.
    let reached = |stake| tally.reached_by(Stake(stake), &committee).0;
    assert_eq!([1, 2, 3, 4, 6, 7, 10, 11].map(reached), [40, 30, 30, 20, 20, 10, 10, 0]);
    // A lower vote later takes nothing back.
    tally.observe(&voting(&committee, 3, vec![vote(5)]), CommitIndex(0));
    assert_eq!(tally.highest_of(AuthorityIndex(3)), CommitIndex(40));
    assert_eq!(tally.reached_by(Stake(1), &committee), CommitIndex(40));
}

#[test]
fn votes_count_within_a_window_around_our_last_commit() {
    let committee = committee();
    let kept = |index: u64| {
        let mut tally = Tally::new(4, CommitIndex(0));
        let news = tally.observe(&voting(&committee, 0, vec![vote(index)]), LAST);
        assert_eq!(tally.len(), news.len());
        assert_eq!(tally.highest_of(AuthorityIndex(0)), CommitIndex(index), "the statistic takes no memory");
        news.len()
    };
    assert_eq!([LAST.0 - 1_024, LAST.0 - 1_023, LAST.0, LAST.0 + 8_192, LAST.0 + 8_193].map(kept), [0, 1, 1, 1, 0]);
    let mut tally = Tally::new(4, CommitIndex(0));
    tally.observe(&voting(&committee, 0, vec![vote(100), vote(101)]), CommitIndex(100));
    tally.prune(CommitIndex(100 + 1_023));
    assert_eq!(tally.len(), 2);
    tally.prune(CommitIndex(100 + 1_024));
    assert_eq!(tally.len(), 1, "what would not be taken any more goes");
}

#[test]
fn signatures_are_kept_above_what_is_certified_and_not_far_ahead() {
    let committee = committee();
    let certifies = |certified: u64, index: u64| {
        let commit = commit(index, Digest::default());
        let mut tally = Tally::new(4, CommitIndex(certified));
        for author in 0..4 {
            tally.observe(&voting(&committee, author, vec![commit.reference()]), LAST);
        }
        assert_eq!(tally.len(), 1);
        tally.certificate(&commit.header(), Stake(1), &committee).is_some()
    };
    assert!(certifies(0, LAST.0 + 1_024) && !certifies(0, LAST.0 + 1_025));
    assert!(certifies(LAST.0 - 1, LAST.0) && !certifies(LAST.0, LAST.0));
}

#[test]
fn once_certified_no_certificate_is_made_again_at_or_below() {
    let committee = committee();
    let commits: Vec<Commit> = (3..=5).map(|index| commit(index, Digest::default())).collect();
    let mut tally = Tally::new(4, CommitIndex(0));
    for author in 0..4 {
        let votes = commits.iter().map(Commit::reference).collect();
        tally.observe(&voting(&committee, author, votes), CommitIndex(5));
    }
    tally.set_certified(CommitIndex(4));
    tally.set_certified(CommitIndex(3));
    assert_eq!(tally.certified(), CommitIndex(4));
    let made = commits.iter().map(|c| tally.certificate(&c.header(), committee.quorum(), &committee).is_some());
    assert_eq!(made.collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn who_votes_against_us_is_counted_in_stake_over_all_other_digests() {
    let committee = committee();
    let against = |digests: &[(u16, u8)]| {
        let mut tally = Tally::new(4, CommitIndex(0));
        for (author, digest) in digests {
            let vote = CommitRef { index: CommitIndex(5), digest: Digest([*digest; 32]) };
            tally.observe(&voting(&committee, *author, vec![vote]), CommitIndex(5));
        }
        tally.against(CommitIndex(5), &Digest([1; 32]), &committee)
    };
    assert_eq!(against(&[(0, 1), (1, 1)]), None);
    assert_eq!(against(&[(0, 1), (1, 2)]), Some((Stake(3), Digest([2; 32]))));
    assert_eq!(against(&[(0, 1), (1, 2), (2, 3), (3, 3)]), Some((Stake(6), Digest([2; 32]))));
    assert_eq!(against(&[(2, 3), (3, 2), (0, 2)]), Some((Stake(7), Digest([2; 32]))), "the heaviest is named");
}
