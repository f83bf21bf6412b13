//! The edges of what the graph keeps and of what may wait.

use std::time::Duration;

use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters};

use super::clock::Clock;
use super::graph::{Graph, Vertex};
use super::suspended::{Limits, Suspended};
use crate::testing::{Drawing, block_core, committee, key};
use crate::types::{BlockRef, Round, VerifiedBlock};

fn drawn(rounds: u64) -> Drawing {
    let mut drawing = Drawing::new(4, ProtocolParameters::default(), "");
    drawing.full_rounds(1, rounds);
    drawing
}

#[test]
fn at_the_garbage_collection_round_blocks_count_as_linked_and_above_it_they_must_be_there() {
    let drawing = drawn(6);
    let mut graph = Graph::new(4);
    let vertex = |name: &str| {
        let block = drawing.blocks.iter().find(|block| block.reference() == drawing.at(name)).unwrap();
        Vertex::new(block.clone(), Duration::ZERO)
    };
    graph.collect(Round(3));
    for name in ["A3", "A4", "B5"] {
        graph.insert(vertex(name));
    }
    assert_eq!((graph.len(), graph.uncommitted().len()), (2, 2), "nothing is kept at that round");
    let linked = |name: &str| (graph.is_linked(&drawing.at(name)), graph.is_usable(&drawing.at(name)));
    assert_eq!((linked("B3"), linked("B4"), linked("A4")), ((true, true), (false, false), (true, true)));
    let dropped = graph.collect(Round(4));
    assert_eq!(dropped.iter().map(|v| v.block.reference()).collect::<Vec<_>>(), [drawing.at("A4")]);
    assert_eq!((graph.len(), graph.top(), graph.gc_round()), (1, Round(5), Round(4)));
    assert_eq!(graph.collect(Round(2)).len(), 0);
    assert_eq!(graph.gc_round(), Round(4), "it never goes back");
}

#[test]
fn a_vertex_is_usable_when_whole_or_committed() {
    let drawing = drawn(1);
    let mut vertex = Vertex::new(drawing.blocks[0].clone(), Duration::ZERO);
    assert!(vertex.usable());
    vertex.unusable_parents = 1;
    assert!(!vertex.usable());
    vertex.unusable_parents = 0;
    vertex.missing.insert(drawing.blocks[0].batches()[0].key(AuthorityIndex(0)));
    assert!(!vertex.usable());
    vertex.committed = true;
    assert!(vertex.usable());
}

fn block(author: u16, round: u64) -> VerifiedBlock {
    let committee = committee(4);
    let mut core = block_core(&committee, author, round);
    core.timestamp_ms = round;
    VerifiedBlock::sign(core, Vec::new(), &committee, &key(usize::from(author)))
}

const PARENT: BlockRef = BlockRef { round: Round(4), author: AuthorityIndex(3), digest: Digest([7; 32]) };

#[test]
fn bytes_that_wait_are_bounded_for_one_sender_and_for_all() {
    let size = block(0, 10).bytes().len() as u64;
    let mut suspended = Suspended::new(4, Limits { blocks: 100, bytes: 2 * size });
    let (one, author) = (AuthorityIndex(1), 0);
    for round in [10, 11] {
        assert_eq!(suspended.insert(one, block(author, round), [PARENT].into()).evicted, []);
    }
    let change = suspended.insert(one, block(author, 9), [PARENT].into());
    assert_eq!(change.evicted, [block(author, 11).reference()], "the highest goes, not the newest");
    let change = suspended.insert(one, block(author, 12), [PARENT].into());
    assert_eq!(change.evicted, [block(author, 12).reference()], "perhaps the very block");
    for sender in [0, 2, 3] {
        for round in [20, 21] {
            let change = suspended.insert(AuthorityIndex(sender), block(sender, round), [PARENT].into());
            assert_eq!(change.evicted, []);
        }
    }
    assert_eq!(suspended.len(), 8, "four times what one may have");
}

#[test]
fn a_block_that_waits_frees_its_senders_account_when_it_goes() {
    let mut suspended = Suspended::new(4, Limits { blocks: 1, bytes: 1 << 20 });
    let one = AuthorityIndex(1);
    for round in 10..20 {
        assert_eq!(suspended.insert(one, block(0, round), [PARENT].into()).evicted, []);
        let freed = if round % 2 == 0 { suspended.resolve(&PARENT).len() } else { 1 };
        suspended.discard(&block(0, round).reference());
        assert_eq!((freed, suspended.len(), suspended.wanted_len()), (1, 0, 0));
    }
}

#[test]
fn the_total_of_blocks_is_four_times_what_one_sender_may_have() {
    let mut suspended = Suspended::new(7, Limits { blocks: 1, bytes: 1 << 20 });
    for sender in 0..4 {
        let change = suspended.insert(AuthorityIndex(sender), block(0, 20 + u64::from(sender)), [PARENT].into());
        assert_eq!(change.evicted, []);
    }
    let change = suspended.insert(AuthorityIndex(5), block(0, 10), [PARENT].into());
    assert_eq!((change.evicted.len(), suspended.len()), (1, 4));
}

#[test]
fn the_clock_counts_stake_at_a_round_or_above() {
    let drawing = drawn(5);
    let mut clock = Clock::new(4);
    let mut observe = |name: &str| {
        let block = drawing.blocks.iter().find(|block| block.reference() == drawing.at(name)).unwrap();
        clock.observe(block);
        [3, 4, 5].map(|round| clock.quorum_at(Round(round), &drawing.committee))
    };
    assert_eq!(observe("A4"), [false; 3]);
    assert_eq!(observe("B5"), [false; 3], "two of four");
    assert_eq!(observe("C4"), [true, true, false]);
    assert_eq!(observe("C3"), [true, true, false], "it never goes back");
    assert_eq!(observe("C5"), [true, true, false]);
    assert_eq!(observe("A5"), [true; 3]);
}
