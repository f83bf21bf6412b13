//! Payload of one author: what is fetched, what is needed, what goes.

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters};

use super::single::Single;
use crate::core::{Core, Setup};
use crate::effect::{Effect, OwnWrite, Write};
use crate::input::{Input, Now, Recovered};
use crate::testing::key;
use crate::types::{BatchKey, BatchRef, Round, Sequence, VerifiedBlock};

const AUTHOR: AuthorityIndex = AuthorityIndex(3);

fn batch(sequence: u64, content: u8) -> BatchRef {
    BatchRef { sequence: Sequence(sequence), digest: Digest([content; 32]), bytes: 10 }
}

fn is_asked(single: &Single, batch: &BatchRef) -> bool {
    let key = batch.key(AUTHOR);
    single.effects.iter().any(|effect| matches!(effect, Effect::WaitBatch { key: asked, .. } if *asked == key))
}

fn dropped(single: &Single) -> Vec<BatchKey> {
    let keys = single.effects.iter().filter_map(|effect| match effect {
        Effect::DropPayload(keys) => Some(keys.clone()),
        _ => None,
    });
    keys.flatten().collect()
}

fn is_usable(single: &Single, block: &VerifiedBlock) -> bool {
    single.core.graph.get(&block.reference()).is_some_and(|vertex| vertex.usable())
}

/// A core that has gone three rounds with all others.
fn running(parameters: ConsensusParameters) -> Single {
    let mut single = Single::with(0, 4, ProtocolParameters::default(), parameters);
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 2);
    single
}

/// The others' blocks of the present round, that of [`AUTHOR`] with this payload.
fn name(single: &mut Single, batches: &[BatchRef]) -> VerifiedBlock {
    let round = single.own_round().0;
    let block = single.with_batches(3, round, batches.to_vec());
    single.take(std::slice::from_ref(&block));
    block
}

#[test]
fn payload_of_a_stale_sequence_is_neither_fetched_nor_needed() {
    let mut single = running(ConsensusParameters::default());
    name(&mut single, &[batch(5, 0)]);
    single.run_rounds(&[1, 2], 1);
    single.run_rounds(&[1, 2, 3], 8);
    assert!(single.delivered.iter().any(|delivery| delivery.batches.iter().any(|b| b.batch == batch(5, 0))));
    single.withhold_payload = true;
    let stale = name(&mut single, &[batch(5, 1)]);
    assert!(is_usable(&single, &stale) && !is_asked(&single, &batch(5, 1)));
    let others = [1, 2].map(|author| single.block(author, stale.round().0, &[]));
    single.take(&others);
    let fresh = single.with_batches(3, stale.round().0 + 1, vec![batch(5, 2), batch(6, 0)]);
    single.take(std::slice::from_ref(&fresh));
    assert!(!is_usable(&single, &fresh) && is_asked(&single, &batch(6, 0)) && !is_asked(&single, &batch(5, 2)));
}

#[test]
fn other_content_for_a_delivered_sequence_is_waited_for_no_more_and_goes() {
    let mut single = running(ConsensusParameters::default());
    let block = name(&mut single, &[batch(5, 0)]);
    let stored = name(&mut single, &[batch(5, 1)]);
    single.withhold_payload = true;
    single.blocks.remove(&stored.reference());
    single.blocks.insert(block.reference(), block.clone());
    // A third content, in a block of the next round that nobody builds on.
    let others = [1, 2].map(|author| single.block(author, block.round().0, &[]));
    single.take(&others);
    let next = single.with_batches(3, block.round().0 + 1, vec![batch(5, 2)]);
    single.take(std::slice::from_ref(&next));
    single.blocks.remove(&next.reference());
    assert!(is_asked(&single, &batch(5, 1)) && is_asked(&single, &batch(5, 2)));
    assert!(!is_usable(&single, &next) && dropped(&single).is_empty());
    single.run_rounds(&[1, 2], 8);
    assert_eq!(single.cancelled, [batch(5, 2).key(AUTHOR)]);
    let mut gone = dropped(&single);
    gone.sort();
    assert_eq!(gone, [batch(5, 1).key(AUTHOR), batch(5, 2).key(AUTHOR)], "and never what is delivered");
    assert!(is_usable(&single, &next), "nothing of it can be delivered, so nothing of it is needed");
}

#[test]
fn payload_beyond_the_quota_is_fetched_only_when_another_member_builds_on_it() {
    let mut single = running(ConsensusParameters { author_quota_bytes: 25, ..ConsensusParameters::default() });
    let round = name(&mut single, &[batch(1, 0), batch(2, 0)]).round().0;
    let others = [1, 2].map(|author| single.block(author, round, &[]));
    single.take(&others);
    let beyond = single.with_batches(3, round + 1, vec![batch(3, 0)]);
    single.take(std::slice::from_ref(&beyond));
    assert!(!is_usable(&single, &beyond) && !is_asked(&single, &batch(3, 0)));
    assert_eq!(single.core.status().footprint.over_quota, 1);
    let next = [1, 2].map(|author| single.block(author, round + 1, &[]));
    single.take(&next);
    assert!(!is_asked(&single, &batch(3, 0)));
    let builds_on_it = single.block(1, round + 2, &[]);
    assert!(builds_on_it.parents().contains(&beyond.reference()));
    single.take(std::slice::from_ref(&builds_on_it));
    assert!(is_asked(&single, &batch(3, 0)) && is_usable(&single, &beyond) && is_usable(&single, &builds_on_it));
    let vertex = single.core.graph.get(&beyond.reference()).unwrap();
    assert!(vertex.committed || !vertex.may_be_parent(), "we do not build on it ourselves");
}

#[test]
fn payload_beyond_the_quota_is_fetched_also_below_a_block_without_payload() {
    let mut single = running(ConsensusParameters { author_quota_bytes: 25, ..ConsensusParameters::default() });
    let round = name(&mut single, &[batch(1, 0), batch(2, 0)]).round().0;
    let take_others = |single: &mut Single, round| {
        let others = [1, 2].map(|author| single.block(author, round, &[3]));
        single.take(&others);
    };
    take_others(&mut single, round);
    let beyond = single.with_batches(3, round + 1, vec![batch(3, 0)]);
    single.take(std::slice::from_ref(&beyond));
    take_others(&mut single, round + 1);
    let empty = single.with_batches(3, round + 2, Vec::new());
    assert_eq!(empty.parents()[0], beyond.reference());
    single.take(std::slice::from_ref(&empty));
    take_others(&mut single, round + 2);
    assert!(!is_asked(&single, &batch(3, 0)));
    let builds_on_it = single.block(1, round + 3, &[]);
    assert!(builds_on_it.parents().contains(&empty.reference()));
    single.take(std::slice::from_ref(&builds_on_it));
    assert!(is_asked(&single, &batch(3, 0)) && is_usable(&single, &builds_on_it));
}

#[test]
fn a_round_that_stands_still_for_want_of_room_makes_room() {
    let parameters = ConsensusParameters { author_quota_bytes: 25, ..ConsensusParameters::default() };
    let mut single = running(parameters.clone());
    // No account holds it, ours or another's.
    let large = BatchRef { bytes: 26, ..batch(1, 0) };
    let round = name(&mut single, &[large]).round().0;
    let others = [1, 2].map(|author| single.block(author, round, &[3]));
    single.take(&others);
    single.advance(parameters.leader_timeout);
    assert_eq!(single.own_round().0, round + 1, "its block was waited for as a leader's");
    let next = [single.block(1, round + 1, &[]), single.block(2, round + 1, &[3])];
    single.take(&next);
    assert!(!is_asked(&single, &large) && !is_usable(&single, &next[0]));
    single.advance(parameters.leader_timeout / 2);
    assert!(!is_asked(&single, &large), "it may be that a commit makes room");
    single.advance(parameters.leader_timeout);
    assert!(is_asked(&single, &large) && is_usable(&single, &next[0]));
    assert_eq!(single.core.status().events.eased, 1);
    single.advance(parameters.leader_timeout * 2);
    assert_eq!(single.own_round().0, round + 2);
}

#[test]
fn a_round_that_stands_still_is_eased_once_a_leader_timeout_however_much_happens() {
    let parameters = ConsensusParameters { author_quota_bytes: 25, ..ConsensusParameters::default() };
    let mut single = running(parameters.clone());
    // Twice as much does not hold it, four times as much does.
    let large = BatchRef { bytes: 60, ..batch(1, 0) };
    let round = name(&mut single, &[large]).round().0;
    let others = [1, 2].map(|author| single.block(author, round, &[3]));
    single.take(&others);
    single.advance(parameters.leader_timeout);
    let next = [single.block(1, round + 1, &[]), single.block(2, round + 1, &[3])];
    single.take(&next);
    single.advance(parameters.leader_timeout * 3 / 2);
    for _ in 0..5 {
        single.input(Input::KnownBlocks { sender: AuthorityIndex(1), refs: Vec::new() });
    }
    assert_eq!(single.core.status().events.eased, 1);
    assert!(!is_asked(&single, &large));
    single.advance(parameters.leader_timeout);
    assert_eq!(single.core.status().events.eased, 2);
    assert!(is_asked(&single, &large));
}

#[test]
fn what_the_block_being_written_at_the_stop_references_comes_first_after_the_restart() {
    let mut disk = Single::new(0, ProtocolParameters::default());
    let [before, one, two, three] = [0, 1, 2, 3].map(|author| disk.block(author, 1, &[]));
    // Twins, of which there is room for one: our last block stands on the one that comes second.
    let mut twins = [1, 2].map(|content| {
        let payload = vec![BatchRef { bytes: 20, ..batch(1, content) }];
        disk.signed(3, 1, three.parents().to_vec(), payload, Vec::new(), content.into())
    });
    twins.sort_by_key(VerifiedBlock::reference);
    let parents = [&before, &one, &two, &twins[1]].map(VerifiedBlock::reference).to_vec();
    let last = disk.signed(0, 2, parents, Vec::new(), Vec::new(), 0);
    let [first, second] = twins.clone();
    let recovered = Recovered {
        blocks: vec![before.clone(), one, two, first, second],
        own_before: Some(before),
        own_last: Some(last.clone()),
        completed: Round(1),
        ..Recovered::default()
    };
    let parameters = ConsensusParameters { author_quota_bytes: 25, ..ConsensusParameters::default() };
    let setup = Setup { committee: disk.committee.clone(), me: AuthorityIndex(0), key: key(0), parameters };
    let now = Now { monotonic: std::time::Duration::from_secs(1), wall_ms: 1_000 };
    let (mut core, effects) = Core::recover(setup, recovered, now).unwrap();
    let asked = effects.iter().filter_map(|effect| match effect {
        Effect::WaitBatch { key, .. } => Some(*key),
        _ => None,
    });
    let needed = twins[1].batches()[0].key(AUTHOR);
    assert_eq!(asked.collect::<std::collections::BTreeSet<_>>(), [needed].into());
    let written =
        core.step(now, Input::BatchStored { key: needed, bytes: 20 }).into_iter().any(|effect| match effect {
            Effect::Persist { writes, .. } => {
                writes.iter().any(|write| matches!(write, Write::Own(OwnWrite { block, .. }) if *block == last))
            }
            _ => false,
        });
    assert!(written, "it is whole again");
}

#[test]
fn delivered_payload_that_found_no_room_is_asked_of_everybody() {
    let mut single = running(ConsensusParameters { author_quota_bytes: 25, ..ConsensusParameters::default() });
    single.withhold_payload = true;
    let large = BatchRef { bytes: 26, ..batch(1, 0) };
    let round = name(&mut single, &[large]).round().0;
    let others = [1, 2].map(|author| single.block(author, round, &[]));
    single.take(&others);
    assert!(!is_asked(&single, &large));
    for round in round + 1..round + 8 {
        let blocks = [1, 2, 3].map(|author| single.block(author, round, &[0]));
        single.take(&blocks);
    }
    assert!(single.delivered.iter().any(|delivery| delivery.batches.iter().any(|b| b.batch == large)));
    let holders = single.effects.iter().filter_map(|effect| match effect {
        Effect::WaitBatch { key, holders, .. } if *key == large.key(AUTHOR) => Some(holders),
        _ => None,
    });
    let holders: std::collections::BTreeSet<AuthorityIndex> = holders.flatten().copied().collect();
    assert_eq!(holders, [1, 2, 3].map(AuthorityIndex).into(), "its author may be gone for good");
}
