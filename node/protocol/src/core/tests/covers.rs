//! Payload that is deleted while an own block that covers it is on its way to the disk.

use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters};

use super::single::Single;
use crate::core::records::Pending;
use crate::effect::{Effect, OwnWrite, Write};
use crate::input::{Input, Token};
use crate::types::commit::DeliveredBatch;
use crate::types::{BatchKey, BatchRef, Sequence};

const AUTHOR: AuthorityIndex = AuthorityIndex(3);

fn batch(sequence: u64, content: u8) -> BatchRef {
    BatchRef { sequence: Sequence(sequence), digest: Digest([content; 32]), bytes: 10 }
}

fn dropped(single: &Single) -> Vec<BatchKey> {
    let keys = single.effects.iter().filter_map(|effect| match effect {
        Effect::DropPayload(keys) => Some(keys.clone()),
        _ => None,
    });
    keys.flatten().collect()
}

fn writes(effect: &Effect) -> &[Write] {
    match effect {
        Effect::Persist { writes, .. } => writes,
        _ => &[],
    }
}

/// What the newest own block covers.
fn covered(single: &Single) -> Vec<BatchKey> {
    let mut own = single.effects.iter().flat_map(writes).filter_map(|write| match write {
        Write::Own(OwnWrite { cover, .. }) => cover.clone(),
        _ => None,
    });
    own.next_back().expect("an own block with a cover").payload
}

/// A core whose block is being written; it covers two contents for sequence 5. The first of them will be delivered.
fn writing() -> Single {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 2);
    // And this, which only a commit that we do not decide ourselves delivers.
    single.input(Input::BatchStored { key: batch(6, 0).key(AUTHOR), bytes: 10 });
    let round = single.own_round().0;
    let other = single.with_batches(3, round, vec![batch(5, 1)]);
    single.hold_writes = true;
    single.take(std::slice::from_ref(&other));
    single.blocks.remove(&other.reference());
    let delivered = single.with_batches(3, round, vec![batch(5, 0)]);
    let others = [delivered, single.block(1, round, &[]), single.block(2, round, &[])];
    single.take(&others);
    let cover = covered(&single);
    assert!([0, 1].into_iter().all(|content| cover.contains(&batch(5, content).key(AUTHOR))), "{cover:?}");
    single
}

/// The others go on without us until they have delivered sequence 5.
fn deliver_five(single: &mut Single) {
    let first = single.own_round().0 + 1;
    for round in first..first + 8 {
        let blocks = [1, 2, 3].map(|author| single.block(author, round, &[0]));
        single.take(&blocks);
    }
    let all = single.delivered.iter().flat_map(|delivery| &delivery.batches);
    assert_eq!(all.filter(|delivered| delivered.author == AUTHOR).map(|b| b.batch).collect::<Vec<_>>(), [batch(5, 0)]);
}

#[test]
fn what_the_block_being_written_covers_is_deleted_when_it_is_durable_and_after_its_cover() {
    let mut single = writing();
    deliver_five(&mut single);
    assert_eq!(dropped(&single), [], "its absence would say that the block had never left");
    // With nobody to write for nothing else is written with what follows.
    [1, 2].into_iter().for_each(|peer| single.input(Input::PeerDown(AuthorityIndex(peer))));
    single.effects.clear();
    single.release_writes();
    assert_eq!(dropped(&single), [batch(5, 1).key(AUTHOR)]);
    let place = |wanted: &dyn Fn(&Effect) -> bool| single.effects.iter().position(wanted);
    let uncovered = place(&|effect| writes(effect).iter().any(|write| matches!(write, Write::Uncover)));
    let gone = place(&|effect| matches!(effect, Effect::DropPayload(_)));
    assert!(uncovered.is_some() && uncovered < gone, "{:?}", single.effects);
}

#[test]
fn what_a_commit_delivers_is_not_deleted_though_that_was_only_put_off() {
    let mut single = writing();
    let key = batch(6, 0).key(AUTHOR);
    // It was named by a block that is gone; now a certified commit delivers it through a block that we never saw.
    assert!(single.core.undurable.put_off(key));
    let commit = single.delivered[0].commit.clone();
    let batches = vec![DeliveredBatch { author: AUTHOR, batch: batch(6, 0) }];
    let pending = Pending { commit, batches, certified: None, certificate: None, votes: false, snapshot: None };
    single.core.settle_claims(&pending);
    single.release_writes();
    assert!(!dropped(&single).contains(&key));
}

/// Durable points that were asked for, with whether an own block is written there.
fn points(single: &Single) -> Vec<(Token, bool)> {
    let points = single.effects.iter().filter_map(|effect| match effect {
        Effect::Persist { writes, token, .. } => {
            token.map(|token| (token, writes.iter().any(|write| matches!(write, Write::Own(_)))))
        }
        _ => None,
    });
    points.collect()
}

fn uncovers(single: &Single) -> bool {
    single.effects.iter().flat_map(writes).any(|write| matches!(write, Write::Uncover))
}

#[test]
fn a_durable_point_that_began_before_a_block_does_not_end_its_cover() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 2);
    single.hold_writes = true;
    single.effects.clear();
    for sequence in 0..4_096 {
        single.input(Input::BatchStored { key: batch(10 + sequence, 0).key(AUTHOR), bytes: 10 });
    }
    let [(early, false)] = points(&single)[..] else { panic!("so many batches ask for a durable point") };
    let round = single.own_round().0;
    let blocks = [1, 2, 3].map(|author| single.block(author, round, &[]));
    single.take(&blocks);
    let [_, (own, true)] = points(&single)[..] else { panic!("{:?}", points(&single)) };
    assert!(covered(&single).len() >= 4_096, "nothing of it is known to be on disk yet");
    single.effects.clear();
    single.input(Input::Persisted(early));
    let next = [1, 2, 3].map(|author| single.block(author, round + 1, &[0]));
    single.take(&next);
    assert!(!uncovers(&single), "the block of the cover is still on its way");
    single.input(Input::Persisted(own));
    let last = [1, 2, 3].map(|author| single.block(author, round + 2, &[0]));
    single.take(&last);
    assert!(points(&single).iter().any(|(_, own)| *own) || uncovers(&single));
}

#[test]
fn the_cover_of_a_block_is_not_deleted_with_the_write_that_brings_it() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 2);
    single.hold_writes = true;
    let round = single.own_round().0;
    for round in round..round + 4 {
        let blocks = [1, 2, 3].map(|author| single.block(author, round, &[0]));
        single.take(&blocks);
    }
    single.effects.clear();
    // Far behind: with each block that is durable the next one is written at once.
    single.release_writes();
    let mut own = 0;
    for written in single.effects.iter().map(writes).filter(|all| all.iter().any(|w| matches!(w, Write::Own(_)))) {
        assert!(!written.iter().any(|write| matches!(write, Write::Uncover)), "{written:?}");
        own += 1;
    }
    assert!(own > 2, "{own} blocks");
}

#[test]
fn payload_of_a_commit_whose_record_is_not_written_is_kept_at_the_start() {
    let mut single = writing();
    deliver_five(&mut single);
    let commit = single.delivered[0].commit.clone();
    let batches = vec![DeliveredBatch { author: AUTHOR, batch: batch(7, 0) }];
    assert!(!single.core.kept_at_start(&[]).contains(&batch(7, 0).key(AUTHOR)));
    let pending = Pending { commit, batches, certified: None, certificate: None, votes: true, snapshot: None };
    single.core.records.waiting.push_back(pending);
    assert!(single.core.kept_at_start(&[]).contains(&batch(7, 0).key(AUTHOR)));
    let written = single.core.kept_at_start(&single.effects);
    assert!(written.contains(&batch(5, 0).key(AUTHOR)) && !written.contains(&batch(5, 1).key(AUTHOR)));
}
