//! What a certificate may hold, at both sides of each bound. All signatures are good: only the form decides.

use rorqual_config::encoding::encode;
use rorqual_config::{AuthorityIndex, Digest};

use super::*;
use crate::testing::{block_core, committee, key};
use crate::types::range::LIMIT;
use crate::types::{BlockRef, CommitIndex, CommitRef, Round};

fn header(index: u64) -> CommitHeader {
    CommitHeader {
        epoch: 0,
        index: CommitIndex(index),
        previous: Digest::default(),
        leader_round: Round(9),
        leaders: Vec::new(),
        timestamp_ms: 7,
        gc_round: Round(0),
        blocks_root: Digest::default(),
        batches_root: Digest::default(),
        aux: None,
    }
}

fn vote(index: u64) -> CommitRef {
    CommitRef { index: CommitIndex(index), digest: Digest([7; 32]) }
}

/// A block's worth of votes of `author`, signed; no rule is looked at.
fn signer(author: u16, votes: Vec<CommitRef>) -> Signer {
    let committee = committee(4);
    let author_key = key(usize::from(author));
    let block = VerifiedBlock::sign(block_core(&committee, author, 1), votes.clone(), &committee, &author_key);
    let (core_digest, signature) = (block.core_digest(), block.block().signature);
    Signer { author: AuthorityIndex(author), core_digest, votes, signature }
}

/// Signed by members 0 to 2; the last one shows these votes and one for the commit, where it belongs.
fn certificate(header: CommitHeader, mut votes: Vec<CommitRef>) -> Certificate {
    let own = CommitRef { index: header.index, digest: header.digest() };
    let place = votes.iter().position(|vote| vote.index > own.index).unwrap_or(votes.len());
    votes.insert(place, own);
    let signers = vec![signer(0, vec![own]), signer(1, vec![own]), signer(2, votes)];
    Certificate { commit: header, signers }
}

fn verdict(certificate: &Certificate) -> Result<Stake, String> {
    let committee = committee(4);
    verify_certificate(certificate, &committee, committee.quorum()).map_err(|error| error.to_string())
}

fn refused(certificate: &Certificate) -> String {
    verdict(certificate).expect_err("refused")
}

#[test]
fn as_many_votes_as_a_block_may_carry_and_not_one_more() {
    let most = u64::from(committee(4).protocol().max_votes_per_block);
    let votes = |count: u64| (100..100 + count - 1).map(vote).collect::<Vec<_>>();
    assert_eq!(verdict(&certificate(header(3), votes(most))), Ok(Stake(3)));
    assert_eq!(refused(&certificate(header(3), votes(most + 1))), "signer 2: too many commit votes");
}

#[test]
fn a_certificate_of_two_megabytes_is_refused_and_what_passes_is_small() {
    let huge = certificate(header(3), (100..50_100).map(vote).collect());
    assert!(encode(&huge).len() > 1 << 20);
    assert_eq!(refused(&huge), "signer 2: too many commit votes");
    let own = CommitRef { index: CommitIndex(3), digest: header(3).digest() };
    let votes = || std::iter::once(own).chain((100..115).map(vote)).collect::<Vec<_>>();
    let full = Certificate { commit: header(3), signers: (0..4).map(|author| signer(author, votes())).collect() };
    assert_eq!(verdict(&full), Ok(Stake(4)));
    assert!(encode(&full).len() < 4 * (16 * 48 + 128) + 512, "{}", encode(&full).len());
}

#[test]
fn votes_ascend_from_one_on_and_stay_in_range() {
    assert_eq!(verdict(&certificate(header(3), vec![vote(1), vote(2), vote(LIMIT - 1)])), Ok(Stake(3)));
    for index in [LIMIT, 1 << 63, u64::MAX] {
        assert_eq!(refused(&certificate(header(3), vec![vote(index)])), "signer 2: a commit vote is out of range");
    }
    let rule = "signer 2: commit votes do not ascend";
    assert_eq!(refused(&certificate(header(3), vec![vote(0)])), rule);
    assert_eq!(refused(&certificate(header(3), vec![vote(9), vote(9)])), rule);
    assert_eq!(refused(&certificate(header(3), vec![vote(9), vote(8)])), rule);
}

#[test]
fn signers_ascend_are_members_and_each_is_there_once() {
    let good = certificate(header(3), Vec::new());
    assert_eq!(verdict(&good), Ok(Stake(3)));
    let changed = |change: fn(&mut Vec<Signer>)| {
        let mut certificate = good.clone();
        change(&mut certificate.signers);
        refused(&certificate)
    };
    assert_eq!(changed(|signers| signers.swap(0, 1)), "signers do not ascend");
    assert_eq!(changed(|signers| signers[1] = signers[0].clone()), "signers do not ascend");
    assert_eq!(changed(|signers| signers[2].author = AuthorityIndex(4)), "signer 4 is not a member");
    assert_eq!(changed(|signers| signers[2].author = AuthorityIndex(u16::MAX)), "signer 65535 is not a member");
    assert_eq!(changed(|signers| signers.resize(5, signers[2].clone())), "5 signers for 4 members");
}

#[test]
fn numbers_of_the_commit_are_in_range() {
    let set: [fn(&mut CommitHeader, u64); 5] = [
        |header, number| header.index = CommitIndex(number),
        |header, number| header.leader_round = Round(number),
        |header, number| header.gc_round = Round(number),
        |header, number| header.timestamp_ms = number,
        |header, number| {
            let leader = BlockRef { round: Round(number), author: AuthorityIndex(0), digest: Digest::default() };
            header.leaders = vec![leader];
        },
    ];
    for (place, set) in set.iter().enumerate() {
        let of = |number| {
            let mut header = header(3);
            set(&mut header, number);
            certificate(header, Vec::new())
        };
        assert_eq!(verdict(&of(LIMIT - 1)), Ok(Stake(3)), "place {place}");
        for number in [LIMIT, 1 << 63, u64::MAX] {
            refused(&of(number));
        }
    }
    refused(&certificate(header(0), Vec::new()));
}

#[test]
fn a_commit_names_no_more_leaders_than_there_are_members() {
    let leader = BlockRef { round: Round(9), author: AuthorityIndex(0), digest: Digest::default() };
    let with = |count| certificate(CommitHeader { leaders: vec![leader; count], ..header(3) }, Vec::new());
    assert_eq!(verdict(&with(4)), Ok(Stake(3)));
    assert_eq!(refused(&with(5)), "commit 3 has 5 leaders");
}

#[test]
fn the_indexes_of_a_range_follow_one_another() {
    let commit = |index, previous| Commit {
        epoch: 0,
        index: CommitIndex(index),
        previous,
        leader_round: Round(9),
        leaders: Vec::new(),
        timestamp_ms: 7,
        gc_round: Round(0),
        blocks: Vec::new(),
        blocks_root: merkle::root::<BlockRef>(&[]),
        batches_root: Digest::default(),
        aux: None,
    };
    for (index, rule) in
        [(4, None), (5, Some("commit 5 does not follow the one before it")), (3, Some("commit 3 does not"))]
    {
        let first = commit(3, Digest::default());
        let last = commit(index, first.digest());
        let certificate = certificate(last.header(), Vec::new());
        let verdict = VerifiedRange::verify_commits(&[first, last], &certificate, &committee(4));
        match rule {
            None => assert_eq!(verdict, Ok(())),
            Some(rule) => assert!(verdict.expect_err("refused").to_string().starts_with(rule)),
        }
    }
}
