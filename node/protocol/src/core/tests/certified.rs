//! Certified ranges at one core: what is believed, applied and voted for. Member 1 decides, member 0 is told.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use rorqual_config::{AuthorityIndex, ProtocolParameters};

use super::single::Single;
use crate::certificate::check::VerifiedRange;
use crate::certificate::tally::Tally;
use crate::effect::Halt;
use crate::input::Input;
use crate::testing::{block_core, key};
use crate::types::{BlockRef, Commit, CommitIndex, Delivery, Round, VerifiedBlock};

/// A member that has decided a few commits together with 2 and 3, and one that has seen nothing of it.
fn donor_and_stranger() -> (Single, Single) {
    let mut donor = Single::new(1, ProtocolParameters::default());
    donor.connect_all();
    donor.seal();
    donor.run_rounds(&[2, 3], 16);
    assert!(donor.delivered.len() > 5);
    let mut stranger = Single::new(0, ProtocolParameters::default());
    stranger.hold_writes = true;
    stranger.connect_all();
    (donor, stranger)
}

/// These commits with a certificate of the last by these members, checked as the daemon does.
fn range(donor: &Single, commits: Vec<Commit>, signers: &[u16]) -> VerifiedRange {
    let (committee, last) = (&donor.committee, commits.last().unwrap());
    let mut tally = Tally::new(4, CommitIndex(0));
    for author in signers {
        let core = block_core(committee, *author, 1);
        let block = VerifiedBlock::sign(core, vec![last.reference()], committee, &key(usize::from(*author)));
        tally.observe(&block, last.index);
    }
    let certificate = tally.certificate(&last.header(), committee.validity(), committee).unwrap();
    let named = commits.iter().flat_map(|commit| &commit.blocks);
    let blocks: Vec<Bytes> = named.map(|reference| donor.blocks[reference].bytes().clone()).collect();
    VerifiedRange::verify(commits, certificate, blocks, committee).unwrap()
}

fn commits(donor: &Single, indices: std::ops::RangeInclusive<usize>) -> Vec<Commit> {
    donor.delivered[indices.start() - 1..*indices.end()].iter().map(|d| d.commit.clone()).collect()
}

fn show(single: &mut Single, range: VerifiedRange) {
    single.input(Input::CertifiedCommits { sender: AuthorityIndex(1), range });
}

#[test]
fn a_range_is_applied_and_only_its_last_commit_is_voted_for() {
    let (donor, mut stranger) = donor_and_stranger();
    show(&mut stranger, range(&donor, commits(&donor, 1..=3), &[2, 3]));
    let status = stranger.core.status();
    assert_eq!(
        (status.last_commit, status.last_record, status.solid),
        (CommitIndex(3), CommitIndex(3), CommitIndex(3))
    );
    assert_eq!(stranger.delivered, donor.delivered[..3].to_vec());
    let leader = donor.delivered[2].commit.leader_round;
    assert_eq!(stranger.core.index.cursor(), leader.next(), "the rule never runs over what is applied");
    let owed = stranger.core.records.take_votes(99);
    assert_eq!(owed, [donor.delivered[2].commit.reference()]);
    // What follows is applied where it begins lower, too, and in parts that are known nothing is done again.
    show(&mut stranger, range(&donor, commits(&donor, 2..=5), &[1, 2]));
    assert_eq!(stranger.delivered, donor.delivered[..5].to_vec());
    assert_eq!(stranger.core.records.take_votes(99), [donor.delivered[4].commit.reference()]);
    assert_eq!(stranger.halted, None);
}

#[test]
fn a_block_that_waits_for_what_a_range_brings_is_linked_with_it() {
    let (donor, mut stranger) = donor_and_stranger();
    let of_range: BTreeSet<BlockRef> =
        donor.delivered[..3].iter().flat_map(|delivery| delivery.commit.blocks.iter().copied()).collect();
    let follows = |block: &&VerifiedBlock| {
        let brought = |parent: &BlockRef| parent.round == Round(0) || of_range.contains(parent);
        block.round() > Round(1) && !of_range.contains(&block.reference()) && block.parents().iter().all(brought)
    };
    let child = donor.blocks.values().find(follows).expect("other blocks of the leader's round").clone();
    stranger.take(std::slice::from_ref(&child));
    assert_eq!(stranger.core.status().footprint.suspended, 1);
    show(&mut stranger, range(&donor, commits(&donor, 1..=3), &[2, 3]));
    assert!(stranger.core.graph.get(&child.reference()).is_some());
    assert_eq!(stranger.core.status().footprint.suspended, 0);
}

#[test]
fn a_range_that_begins_above_the_next_commit_and_was_not_asked_for_changes_nothing() {
    let (donor, mut stranger) = donor_and_stranger();
    show(&mut stranger, range(&donor, commits(&donor, 2..=4), &[2, 3]));
    assert_eq!((stranger.core.status().last_commit, stranger.delivered.len()), (CommitIndex(0), 0));
    assert_eq!(stranger.halted, None);
}

#[test]
fn a_certified_commit_that_differs_from_ours_stops_the_node() {
    let (donor, mut stranger) = donor_and_stranger();
    show(&mut stranger, range(&donor, commits(&donor, 1..=3), &[2, 3]));
    let mut other = commits(&donor, 1..=1);
    other[0].timestamp_ms += 1;
    show(&mut stranger, range(&donor, other, &[2, 3]));
    let Some(Halt::Fork { index, .. }) = stranger.halted else { panic!("{:?}", stranger.halted) };
    assert_eq!(index, CommitIndex(1));
}

#[test]
fn a_certified_range_that_does_not_follow_from_ours_stops_the_node() {
    let (donor, mut stranger) = donor_and_stranger();
    show(&mut stranger, range(&donor, commits(&donor, 1..=2), &[2, 3]));
    let mut other = commits(&donor, 3..=3);
    other[0].previous = rorqual_config::Digest([1; 32]);
    show(&mut stranger, range(&donor, other, &[2, 3]));
    let Some(Halt::Fork { index, .. }) = stranger.halted else { panic!("{:?}", stranger.halted) };
    assert_eq!(index, CommitIndex(2));
}

#[test]
fn a_certified_range_whose_payload_or_collection_does_not_follow_stops_the_node() {
    for change in
        [|commit: &mut Commit| commit.batches_root.0[0] ^= 1, |commit: &mut Commit| commit.gc_round = Round(1)]
    {
        let (donor, mut stranger) = donor_and_stranger();
        let mut first = commits(&donor, 1..=1);
        change(&mut first[0]);
        show(&mut stranger, range(&donor, first, &[2, 3]));
        assert!(matches!(stranger.halted, Some(Halt::StateDiverged { .. })), "{:?}", stranger.halted);
    }
}

#[test]
fn the_payload_of_a_range_is_awaited_before_its_end_is_voted_for() {
    let (donor, mut stranger) = donor_and_stranger();
    stranger.withhold_payload = true;
    let with_payload = |delivery: &&Arc<Delivery>| !delivery.batches.is_empty();
    let payload = donor.delivered.iter().find(with_payload).unwrap();
    let end = payload.commit.index.0 as usize + 1;
    show(&mut stranger, range(&donor, commits(&donor, 1..=end), &[2, 3]));
    assert_eq!(stranger.core.status().last_record, CommitIndex(end as u64));
    assert_eq!(stranger.core.status().solid, payload.commit.index.previous());
    assert_eq!(stranger.core.records.take_votes(99), []);
    for key in std::mem::take(&mut stranger.waits) {
        let all = donor.delivered.iter().flat_map(|delivery| &delivery.batches);
        let bytes = all.clone().find(|batch| batch.key() == key).map_or(100, |batch| batch.batch.bytes);
        stranger.input(Input::BatchStored { key, bytes });
    }
    assert_eq!(stranger.core.status().solid, CommitIndex(end as u64));
    assert_eq!(stranger.core.records.take_votes(99).len(), 1);
}

#[test]
fn an_answer_that_nobody_was_asked_for_does_not_wait_here() {
    let (donor, mut stranger) = donor_and_stranger();
    show(&mut stranger, range(&donor, commits(&donor, 3..=4), &[2, 3]));
    assert_eq!((stranger.core.catch_up.waiting(), stranger.core.status().last_commit), (0, CommitIndex(0)));
}
