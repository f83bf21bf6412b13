//! What is delivered once and what counts as collected, at the edges.

use std::time::Duration;

use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters};

use super::index::vote_of;
use super::ledger::Ledger;
use super::linearize::deliver;
use crate::dag::graph::{Graph, Vertex};
use crate::testing::{Drawing, block_core, committee, committee_with, key};
use crate::types::{BatchRef, BlockRef, Round, Sequence, VerifiedBlock};

/// A block of member 0 that names these sequences.
fn naming(round: u64, salt: u64, sequences: &[u64]) -> VerifiedBlock {
    let committee = committee(4);
    let mut core = block_core(&committee, 0, round);
    core.timestamp_ms = salt;
    let batch = |sequence: &u64| BatchRef { sequence: Sequence(*sequence), digest: Digest::default(), bytes: 1 };
    core.batches = sequences.iter().map(batch).collect();
    VerifiedBlock::sign(core, Vec::new(), &committee, &key(0))
}

/// The sequences that these blocks deliver, in this order.
fn delivered(blocks: &[VerifiedBlock]) -> Vec<u64> {
    let (mut graph, mut ledger) = (Graph::new(4), Ledger::new(&committee(4)));
    blocks.iter().for_each(|block| graph.insert(Vertex::new(block.clone(), Duration::ZERO)));
    let names: Vec<BlockRef> = blocks.iter().map(VerifiedBlock::reference).collect();
    deliver(&mut graph, &mut ledger, &names).iter().map(|delivered| delivered.batch.sequence.0).collect()
}

#[test]
fn a_sequence_is_delivered_by_the_first_block_that_names_it() {
    assert_eq!(delivered(&[naming(1, 0, &[1, 2]), naming(2, 0, &[2, 3]), naming(3, 0, &[1, 4])]), [1, 2, 3, 4]);
}

#[test]
fn of_twins_only_the_first_delivers_whatever_the_second_names() {
    assert_eq!(delivered(&[naming(1, 0, &[1]), naming(1, 1, &[2]), naming(2, 0, &[3])]), [1, 3]);
}

#[test]
fn the_garbage_collection_round_is_gc_depth_below_the_last_leader() {
    let committee = committee_with(4, ProtocolParameters { gc_depth: 20, ..ProtocolParameters::default() });
    let collected =
        |leader_round| Ledger { leader_round: Round(leader_round), ..Ledger::new(&committee) }.gc_round(&committee);
    assert_eq!([0, 19, 20, 21, 100].map(collected), [0, 0, 0, 1, 80].map(Round));
}

#[test]
fn a_vote_is_a_reference_to_the_leaders_block_of_that_very_round() {
    let drawing =
        Drawing::new(4, ProtocolParameters::default(), "A1: *\nB1: *\nC1: *\nD1: *\nA2: [A1 C1 D1 B0]\nC2: *");
    let of = |name: &str| drawing.blocks.iter().find(|block| block.reference() == drawing.at(name)).unwrap();
    let vote = |name: &str| vote_of(of(name), Round(1), AuthorityIndex(1));
    assert_eq!((vote("A2"), vote("C2")), (None, Some(drawing.at("B1").digest)), "an older block is no vote");
}
