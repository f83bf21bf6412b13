//! When own payload may be named, and how much of it.

use std::sync::Arc;

use rorqual_config::{AuthorityIndex, Committee, Digest, ProtocolParameters};

use crate::core::batches::OwnBatches;
use crate::testing::committee_of;
use crate::types::{BatchRef, Sequence};

const ME: AuthorityIndex = AuthorityIndex(0);

fn batch(sequence: u64, bytes: u32) -> BatchRef {
    BatchRef { sequence: Sequence(sequence), digest: Digest::default(), bytes }
}

/// Stakes are 1, 2, 3, 4: Q = 7.
fn committee() -> Arc<Committee> {
    committee_of(&[1, 2, 3, 4], ProtocolParameters::default())
}

fn sequences(batches: &[BatchRef]) -> Vec<u64> {
    batches.iter().map(|batch| batch.sequence.0).collect()
}

/// These sequences, all 10 bytes long, may be named.
fn ready(ahead: u64, range: std::ops::RangeInclusive<u64>) -> OwnBatches {
    let mut own = OwnBatches::new(ahead);
    range.for_each(|sequence| own.restored(batch(sequence, 10)));
    own
}

#[test]
fn a_batch_is_named_once_it_is_handed_over_for_a_quorum_of_stake_and_stored_here() {
    let committee = committee();
    let named = |peers: &[u16], first: bool| {
        let mut own = OwnBatches::new(100);
        let hand = |own: &mut OwnBatches| {
            peers.iter().for_each(|peer| own.handed(Sequence(1), AuthorityIndex(*peer), ME, &committee));
        };
        if first {
            hand(&mut own);
            assert!(!own.any_ready() && own.name(9, 999).is_empty(), "it is not stored here");
        }
        own.sealed(batch(1, 10), ME, &committee);
        if !first {
            assert!(!own.any_ready());
            hand(&mut own);
        }
        let ready = own.any_ready();
        assert_eq!(own.name(9, 999).len(), usize::from(ready));
        ready
    };
    for first in [false, true] {
        assert!(!named(&[1, 2], first), "three members with 6");
        assert!(named(&[2, 3], first) && named(&[1, 3], first));
        assert!(!named(&[3], first) && !named(&[3, 3, 3], first), "5");
    }
}

#[test]
fn a_block_names_batches_in_order_within_count_and_bytes() {
    assert_eq!(sequences(&ready(100, 1..=5).name(3, 999)), [1, 2, 3]);
    assert_eq!(sequences(&ready(100, 1..=5).name(9, 30)), [1, 2, 3]);
    assert_eq!(sequences(&ready(100, 1..=5).name(9, 29)), [1, 2]);
    let mut own = ready(100, 1..=5);
    assert_eq!(sequences(&own.name(2, 999)), [1, 2]);
    assert_eq!(sequences(&own.name(2, 999)), [3, 4], "none twice");
    // Back to the front, under the same name, and only what was named.
    assert_eq!(own.requeue(&[batch(2, 10), batch(5, 10), batch(3, 11)]), 1);
    assert_eq!(sequences(&own.name(9, 999)), [2, 5]);
}

#[test]
fn nothing_is_named_too_far_above_the_oldest_undelivered_batch() {
    let mut own = ready(10, 1..=12);
    assert_eq!(sequences(&own.name(99, 999)), (1..=10).collect::<Vec<_>>());
    assert_eq!(own.news(), Some((Sequence(1), Sequence(11))), "sealing ends at the same limit");
    own.delivered(Sequence(2));
    assert_eq!((own.name(99, 999), own.news()), (vec![], None), "the oldest is still there");
    own.delivered(Sequence(1));
    assert_eq!(sequences(&own.name(99, 999)), [11, 12]);
    assert_eq!(own.news(), Some((Sequence(3), Sequence(13))));
    own.requeue(&[batch(3, 10)]);
    assert_eq!(sequences(&own.name(99, 999)), [3], "the oldest can always be named");
}

#[test]
fn after_a_restart_what_a_live_own_block_names_is_not_named_again() {
    let mut own = ready(100, 1..=3);
    own.already_named(&[batch(2, 10), batch(3, 11)]);
    assert_eq!(sequences(&own.name(99, 999)), [1, 3], "another content of 3 was named");
    assert_eq!(own.requeue(&[batch(2, 10)]), 1);
    own.delivered(Sequence(2));
    assert_eq!((own.name(99, 999), own.pending(), own.oldest()), (vec![], 2, Sequence(1)));
}

#[test]
fn what_own_blocks_name_is_counted_once_until_it_is_delivered_or_goes_back() {
    let mut own = ready(100, 1..=4);
    own.already_named(&[batch(1, 10), batch(2, 10), batch(2, 11)]);
    assert_eq!(own.named_bytes(), 20, "as after the block before the restart");
    own.already_named(&[batch(1, 10)]);
    own.name(1, 999);
    assert_eq!(own.named_bytes(), 30);
    own.requeue(&[batch(2, 10), batch(4, 10)]);
    own.delivered(Sequence(1));
    own.delivered(Sequence(4));
    assert_eq!(own.named_bytes(), 10, "what is left is the third");
}
