//! What a round waits for, and for how long: leaders, votes, a filled round, listeners. Member 0 is the core; the leader of
//! round r is member r mod 4. The delay bound is 25 ms, the leader timeout 50 ms.

use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters};

use super::single::Single;
use crate::input::Input;
use crate::testing::committee_of;
use crate::types::{BatchRef, CommitIndex, CommitRef, Round, Sequence, VerifiedBlock};

const MS: Duration = Duration::from_millis(1);

fn batch(sequence: u64) -> BatchRef {
    BatchRef { sequence: Sequence(sequence), digest: Digest::of("theirs", &[&sequence.to_le_bytes()]), bytes: 10 }
}

/// A core that is busy and has proposed for round 1.
fn busy() -> Single {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single
}

/// The same in round 2, after full rounds.
fn in_round_two() -> Single {
    let mut single = busy();
    let blocks: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, 1, &[])).collect();
    single.take(&blocks);
    assert_eq!(single.own_round(), Round(2));
    single
}

/// Asserts that the next round is entered when `time` has passed from now, and not earlier.
fn proceeds_after(single: &mut Single, time: Duration) {
    let round = single.own_round();
    single.advance(time - MS);
    assert_eq!(single.own_round(), round, "{:?}", single.core.status());
    single.advance(MS);
    assert_eq!(single.own_round(), round.next(), "{:?}", single.core.status());
}

fn timeouts(single: &Single) -> u64 {
    single.core.status().events.timeouts
}

#[test]
fn a_round_waits_for_a_quorum_of_votes_for_the_leader_before() {
    let mut single = in_round_two();
    // We and member 1 vote for the leader of round 1; two blame it: neither certificate nor skip can be made of that.
    let blocks = [single.block(1, 2, &[]), single.block(2, 2, &[1]), single.block(3, 2, &[1])];
    single.take(&blocks);
    proceeds_after(&mut single, 50 * MS);
    assert_eq!(timeouts(&single), 1);
}

#[test]
fn a_round_with_a_quorum_of_votes_does_not_wait_for_the_others() {
    let mut single = in_round_two();
    let blocks = [single.block(2, 2, &[1]), single.block(1, 2, &[])];
    single.take(&blocks);
    assert_eq!(single.own_round(), Round(2), "the leader of round 2 is here, and two votes");
    let third = single.block(3, 2, &[]);
    single.take(&[third]);
    assert_eq!((single.own_round(), timeouts(&single)), (Round(3), 0));
}

#[test]
fn a_vote_counts_once_its_block_may_be_referenced() {
    let mut single = in_round_two();
    single.withhold_payload = true;
    let heavy = single.with_batches(3, 2, vec![batch(1)]);
    single.blocks.remove(&heavy.reference());
    let blocks = [single.block(2, 2, &[1]), single.block(1, 2, &[]), heavy];
    single.take(&blocks);
    single.advance(40 * MS);
    assert_eq!(single.own_round(), Round(2));
    single.input(Input::BatchStored { key: batch(1).key(AuthorityIndex(3)), bytes: 10 });
    assert_eq!((single.own_round(), timeouts(&single)), (Round(3), 0));
}

#[test]
fn a_leader_slot_that_is_skipped_is_not_waited_for_again() {
    let mut single = busy();
    let blocks = [single.block(2, 1, &[]), single.block(3, 1, &[])];
    single.take(&blocks);
    proceeds_after(&mut single, 50 * MS);
    let blocks = [single.block(2, 2, &[]), single.block(3, 2, &[])];
    single.take(&blocks);
    assert_eq!((single.own_round(), timeouts(&single)), (Round(3), 1), "three blames skip the slot");
}

#[test]
fn a_leader_whose_payload_is_missing_is_waited_for_like_a_silent_one() {
    for comes in [true, false] {
        let mut single = busy();
        single.withhold_payload = true;
        let heavy = single.with_batches(1, 1, vec![batch(1)]);
        let blocks = [heavy, single.block(2, 1, &[]), single.block(3, 1, &[])];
        single.take(&blocks);
        if comes {
            single.advance(30 * MS);
            assert_eq!(single.own_round(), Round(1));
            single.input(Input::BatchStored { key: batch(1).key(AuthorityIndex(1)), bytes: 10 });
            assert_eq!((single.own_round(), timeouts(&single)), (Round(2), 0));
        } else {
            proceeds_after(&mut single, 50 * MS);
        }
    }
}

#[test]
fn a_node_behind_a_quorum_waits_the_delay_bound_for_a_leader_that_can_still_be_had() {
    for ahead in [2, 3] {
        let mut single = busy();
        single.withhold_payload = true;
        let heavy = single.with_batches(1, 1, vec![batch(1)]);
        let first = [heavy, single.block(2, 1, &[]), single.block(3, 1, &[])];
        let second: Vec<VerifiedBlock> = (1..=ahead).map(|author| single.block(author, 2, &[0])).collect();
        single.take(&first);
        single.take(&second);
        // Three of four at round 2 are a quorum, two are none.
        proceeds_after(&mut single, if ahead == 3 { 25 * MS } else { 50 * MS });
        assert_eq!(timeouts(&single), if ahead == 3 { 0 } else { 1 });
    }
}

#[test]
fn a_node_behind_a_quorum_waits_the_delay_bound_for_votes_that_can_still_be_had() {
    for linked_votes in [3, 2] {
        let mut single = in_round_two();
        single.withhold_payload = true;
        let without: &[usize] = if linked_votes == 3 { &[] } else { &[1] };
        let parents = single.block(3, 2, without).parents().to_vec();
        single.blocks.retain(|r, _| r.author.0 != 3 || r.round != Round(2));
        let heavy = single.signed(3, 2, parents, vec![batch(1)], Vec::new(), 0);
        let second = [single.block(1, 2, &[]), single.block(2, 2, &[1]), heavy];
        single.take(&second);
        assert_eq!(single.own_round(), Round(2));
        // A quorum goes on without that block, so that the slot is not decided.
        let third = [single.block(1, 3, &[3]), single.block(2, 3, &[3]), single.block(3, 3, &[])];
        single.take(&third);
        match linked_votes {
            // The third vote is linked, and its payload may come any moment.
            3 => proceeds_after(&mut single, 25 * MS),
            // There is no quorum of votes to wait for.
            _ => assert_eq!(single.own_round(), Round(3)),
        }
        assert_eq!(timeouts(&single), 0);
    }
}

#[test]
fn a_round_is_filled_by_a_quorum_of_stake_with_our_own_block_of_it() {
    // Stakes are 1, 2, 3, 4: Q = 7.
    let committee = committee_of(&[1, 2, 3, 4], ProtocolParameters::default());
    let mut single = Single::among(0, committee, ConsensusParameters::default());
    single.connect_all();
    single.seal();
    let blocks: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, 1, &[])).collect();
    single.take(&blocks[..2]);
    single.advance(200 * MS);
    assert_eq!((single.own_round(), timeouts(&single)), (Round(1), 0), "three members with 6");
    single.take(&blocks[2..]);
    assert_eq!(single.own_round(), Round(2));
    // 4 + 2 of others and our 1 are just enough.
    let second = [single.block(1, 2, &[]), single.block(3, 2, &[])];
    single.take(&second);
    proceeds_after(&mut single, 50 * MS);
}

#[test]
fn the_wait_for_a_leader_begins_when_the_round_is_filled() {
    for heavy in [false, true] {
        let mut single = busy();
        single.withhold_payload = true;
        // Member 1 leads and is silent. The second of the others, or its payload, comes late.
        let three = if heavy { single.with_batches(3, 1, vec![batch(1)]) } else { single.block(3, 1, &[]) };
        let two = single.block(2, 1, &[]);
        single.take(&[two]);
        if heavy {
            single.take(std::slice::from_ref(&three));
        }
        single.advance(40 * MS);
        if heavy {
            single.input(Input::BatchStored { key: batch(1).key(AuthorityIndex(3)), bytes: 10 });
        } else {
            single.take(std::slice::from_ref(&three));
        }
        proceeds_after(&mut single, 50 * MS);
    }
}

#[test]
fn listeners_and_witnesses_of_our_past_are_counted_in_stake() {
    let committee = committee_of(&[1, 2, 3, 4], ProtocolParameters::default());
    let new = || Single::among(0, committee.clone(), ConsensusParameters::default());
    let listen = |single: &mut Single, peers: &[u16]| {
        for peer in peers {
            single.input(Input::Subscribed { peer: AuthorityIndex(*peer), from_round: Round(1) });
        }
    };
    let tell = |single: &mut Single, peers: &[u16]| peers.iter().for_each(|peer| single.show_tip(*peer));
    for (peers, enough) in [(&[1, 2][..], false), (&[2, 3], true), (&[1, 3], true), (&[3], false)] {
        let mut single = new();
        (1..4).for_each(|peer| single.input(Input::PeerUp(AuthorityIndex(peer))));
        listen(&mut single, peers);
        tell(&mut single, &[1, 2, 3]);
        assert_eq!(single.written_own() == 1, enough, "{peers:?} listen");
        let mut single = new();
        (1..4).for_each(|peer| single.input(Input::PeerUp(AuthorityIndex(peer))));
        listen(&mut single, &[1, 2, 3]);
        tell(&mut single, peers);
        assert_eq!(single.written_own() == 1, enough, "{peers:?} have shown their tips");
    }
}

#[test]
fn rounds_up_to_what_a_quorum_has_committed_are_passed_over_and_none_above() {
    let mut single = busy();
    let vote = |index| vec![CommitRef { index: CommitIndex(index), digest: Digest::default() }];
    for (author, index) in [(1, 60), (2, 50), (3, 20)] {
        let block = single.voting(author, 1, vote(index));
        single.take(&[block]);
    }
    assert_eq!(single.core.status().quorum_commit_index, CommitIndex(20), "what V has reached is 50");
    assert_eq!(single.core.next_round(), Round(21));
    let block = single.voting(3, 2, vote(90));
    single.take(&[block]);
    assert_eq!(single.core.next_round(), Round(51), "one liar moves it to what the honest said");
}

#[test]
fn votes_that_lag_our_own_commits_move_nothing() {
    let mut single = busy();
    single.run_rounds(&[1, 2, 3], 12);
    let status = single.core.status();
    assert!(status.quorum_commit_index < status.last_commit, "{status:?}");
    assert_eq!(single.core.next_round(), single.own_round().next());
    assert_eq!(single.own_rounds(), (1..=single.own_round().0).map(Round).collect::<Vec<_>>());
}

#[test]
fn a_node_far_behind_begins_two_rounds_above_what_is_collected() {
    let mut single = Single::new(0, ProtocolParameters { gc_depth: 20, ..ProtocolParameters::default() });
    single.connect_all();
    single.hold_writes = true;
    let all = single.rounds_without_us(&[1, 2, 3], 60);
    single.take(&all);
    let collected = single.core.status().gc_round;
    assert!(collected > Round(10), "{:?}", single.core.status());
    assert_eq!(single.core.next_round(), collected.plus(2));
    single.release_writes();
    let rounds = single.own_rounds();
    let rest: Vec<Round> = rounds.iter().copied().filter(|round| *round > collected).collect();
    assert_eq!(rest[0], collected.plus(2), "{rounds:?}");
    assert!(rest.windows(2).all(|pair| pair[1] == pair[0].next()) && rest.len() > 20, "none is skipped: {rest:?}");
}

#[test]
fn a_leader_is_muted_after_more_than_sixteen_rounds_of_silence_without_a_link() {
    let mut single = busy();
    single.input(Input::PeerDown(AuthorityIndex(1)));
    for _ in 0..20 {
        single.run_rounds(&[2, 3], 1);
        let silent = single.core.status().frontier.0;
        let muted: Vec<AuthorityIndex> = if silent > 16 { vec![AuthorityIndex(1)] } else { Vec::new() };
        assert_eq!(single.core.status().muted, muted, "after {silent} rounds");
    }
    single.input(Input::PeerUp(AuthorityIndex(1)));
    assert_eq!(single.core.status().muted, [], "who is connected is waited for");
}

/// The others write their blocks of our round, with these votes, and the time passes until we write our next one.
fn time_of_round(single: &mut Single, votes: &[CommitRef]) -> Duration {
    let (round, before) = (single.own_round(), single.now);
    let blocks: Vec<VerifiedBlock> = (1..4).map(|author| single.voting(author, round.0, votes.to_vec())).collect();
    single.take(&blocks);
    while single.own_round() == round {
        assert!(single.now < before + Duration::from_secs(2), "{:?}", single.core.status());
        single.advance(MS);
    }
    single.now - before
}

#[test]
fn a_node_rests_only_when_its_payload_is_ordered_and_that_is_certified() {
    let mut single = busy();
    let mut rounds = 0;
    while single.delivered.iter().all(|delivery| delivery.batches.is_empty()) {
        assert!(time_of_round(&mut single, &[]) < 10 * MS, "there is something to order");
        rounds += 1;
        assert!(rounds < 20);
    }
    // Ordered, and nobody has voted: nobody could show it to a client.
    for _ in 0..5 {
        assert!(time_of_round(&mut single, &[]) < 10 * MS, "there is something to certify");
    }
    let with_payload = single.delivered.iter().find(|delivery| !delivery.batches.is_empty()).unwrap();
    let vote = with_payload.commit.reference();
    time_of_round(&mut single, &[vote]);
    assert!(single.core.status().highest_certified >= vote.index);
    let rest = time_of_round(&mut single, &[]);
    assert!(rest >= 240 * MS && rest <= 251 * MS, "{rest:?}");
    // Foreign payload wakes it.
    let round = single.own_round().0;
    let heavy = single.with_batches(1, round, vec![batch(7)]);
    let blocks = [heavy, single.block(2, round, &[]), single.block(3, round, &[])];
    let before = single.now;
    single.take(&blocks);
    single.advance(10 * MS);
    assert!(single.own_round() > Round(round) && single.now <= before + 10 * MS);
}

#[test]
fn blocks_are_paced_in_the_long_run() {
    let parameters =
        ConsensusParameters { min_round_delay: 5 * MS, round_burst: 20 * MS, ..ConsensusParameters::default() };
    let mut single = Single::with(0, 4, ProtocolParameters::default(), parameters);
    single.connect_all();
    single.seal();
    let times: Vec<Duration> = (0..8).map(|_| time_of_round(&mut single, &[])).collect();
    // The budget of 20 ms is spent after four blocks, the first of which left before.
    assert_eq!(times[..3], [Duration::ZERO; 3], "{times:?}");
    assert!(times[3..].iter().all(|time| *time >= 4 * MS && *time <= 6 * MS), "{times:?}");
}

#[test]
fn without_a_commit_the_timeout_grows_by_half_every_four_rounds() {
    let mut single = busy();
    let (mut before, mut grown) = (single.core.pacemaker.leader_timeout, Vec::new());
    for _ in 0..13 {
        single.run_split_rounds(1);
        let timeout = single.core.pacemaker.leader_timeout;
        if timeout != before {
            grown.push((single.own_round().0, timeout.as_micros()));
        }
        before = timeout;
    }
    assert_eq!(single.core.status().last_commit, CommitIndex(0));
    assert_eq!(grown, [(5, 75_000), (9, 112_500), (13, 168_750)]);
}
