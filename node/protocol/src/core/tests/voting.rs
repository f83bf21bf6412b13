//! Which commits a node votes for, and what the votes of others come to. Member 0 is the core.

use std::sync::Arc;
use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters, Stake};

use super::single::Single;
use crate::certificate::check::verify_certificate;
use crate::effect::{Effect, Halt, Write};
use crate::input::Input;
use crate::testing::committee_of;
use crate::types::{BatchRef, Certificate, CommitIndex, CommitRef, Sequence, VerifiedBlock};

fn own_votes(single: &Single) -> Vec<CommitIndex> {
    let own: Vec<VerifiedBlock> = single.own_rounds().into_iter().map(|round| single.own(round.0)).collect();
    own.iter().flat_map(|block| block.votes()).map(|vote| vote.index).collect()
}

fn certificates(single: &Single) -> Vec<Arc<Certificate>> {
    let persisted = single.effects.iter().filter_map(|effect| match effect {
        Effect::Persist { writes, .. } => Some(writes),
        _ => None,
    });
    let written = persisted.flatten().filter_map(|write| match write {
        Write::Certificate(certificate) => Some(certificate.clone()),
        _ => None,
    });
    written.collect()
}

#[test]
fn a_vote_waits_for_the_payload_of_its_commit_and_of_all_before_it() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.withhold_payload = true;
    single.connect_all();
    let batch = BatchRef { sequence: Sequence(1), digest: Digest([1; 32]), bytes: 10 };
    single.with_batches(1, 1, vec![batch]);
    let all = single.rounds_on_top(&[1, 2, 3], 14);
    single.take(&all);
    let status = single.core.status();
    assert!(status.last_record > CommitIndex(5) && status.solid == CommitIndex(0), "{status:?}");
    single.advance(Duration::from_millis(300));
    assert_eq!(own_votes(&single), []);
    single.input(Input::BatchStored { key: batch.key(AuthorityIndex(1)), bytes: 10 });
    assert_eq!(single.core.status().solid, single.core.status().last_record);
    single.withhold_payload = false;
    let ahead = single.rounds_on_top(&[1, 2, 3], 24);
    single.take(&ahead);
    single.advance(Duration::from_millis(300));
    let votes = own_votes(&single);
    assert!(votes.len() > 5, "{votes:?} {:?}", single.core.status());
    assert_eq!(votes, (1..=votes.len() as u64).map(CommitIndex).collect::<Vec<_>>(), "each once, in order");
}

/// A core among members of stake 1, 2, 3, 4 (V = 4, Q = 7) that has committed and voted.
fn committed() -> (Single, CommitRef) {
    let committee = committee_of(&[1, 2, 3, 4], ProtocolParameters::default());
    let mut single = Single::among(0, committee, ConsensusParameters::default());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 8);
    let first = single.delivered[0].commit.reference();
    assert!(own_votes(&single).contains(&first.index));
    (single, first)
}

fn says(single: &mut Single, author: usize, vote: CommitRef) {
    let round = single.own_round().0;
    let block = single.voting(author, round, vec![vote]);
    single.take(&[block]);
}

#[test]
fn a_weak_certificate_is_written_with_v_of_stake_and_a_full_one_with_q() {
    let stakes = |single: &Single| -> Vec<Stake> {
        let stake = |certificate: Arc<Certificate>| {
            assert!(verify_certificate(&certificate, &single.committee, Stake(1)).is_ok());
            let signers = certificate.signers.iter().map(|signer| signer.author).collect();
            single.committee.stake_of(&signers)
        };
        certificates(single).into_iter().map(stake).collect()
    };
    let (mut single, first) = committed();
    says(&mut single, 1, first);
    assert_eq!(stakes(&single), [], "3 with our own");
    says(&mut single, 2, first);
    assert_eq!(stakes(&single), [Stake(6)], "above V and one below Q");
    assert_eq!(single.core.status().highest_certified, CommitIndex(0));
    says(&mut single, 3, first);
    assert_eq!(stakes(&single), [Stake(6), Stake(10)]);
    assert_eq!(single.core.status().highest_certified, first.index);
    let (mut single, first) = committed();
    says(&mut single, 2, first);
    assert_eq!(stakes(&single), [Stake(4)], "V exactly");
    let (mut single, first) = committed();
    says(&mut single, 1, first);
    says(&mut single, 3, first);
    assert_eq!(stakes(&single), [Stake(7)], "Q exactly");
}

#[test]
fn v_of_stake_against_us_stops_the_node_and_one_less_does_not() {
    let other = |index: CommitIndex, digest: u8| CommitRef { index, digest: Digest([digest; 32]) };
    let halted = |liars: &[(usize, u8)]| {
        let (mut single, first) = committed();
        for (author, digest) in liars {
            says(&mut single, *author, other(first.index, *digest));
        }
        match single.halted {
            Some(Halt::Fork { index, stake, .. }) => {
                assert_eq!(index, first.index);
                Some(stake)
            }
            None => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(halted(&[(2, 1)]), None, "3");
    assert_eq!(halted(&[(1, 1), (2, 1)]), Some(5));
    assert_eq!(halted(&[(3, 1)]), Some(4), "V exactly");
    assert_eq!(halted(&[(1, 1), (2, 2)]), Some(5), "whatever they say instead");
}

#[test]
fn nobody_stops_for_votes_on_what_is_not_decided_here() {
    let (mut single, _) = committed();
    for author in 1..4 {
        says(&mut single, author, CommitRef { index: CommitIndex(60), digest: Digest([1; 32]) });
    }
    assert_eq!(single.halted, None);
}
