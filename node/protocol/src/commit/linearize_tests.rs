//! Order, time and delivery on drawn DAGs.

use std::time::Duration;

use rorqual_config::ProtocolParameters;

use super::*;
use crate::dag::graph::Vertex;
use crate::testing::Drawing;

fn graph(drawing: &Drawing) -> Graph {
    let mut graph = Graph::new(drawing.committee.size());
    for block in &drawing.blocks {
        graph.insert(Vertex::new(block.clone(), Duration::ZERO));
    }
    graph
}

fn names(drawing: &Drawing, blocks: &[&str]) -> Vec<BlockRef> {
    blocks.iter().map(|name| drawing.at(name)).collect()
}

#[test]
fn blocks_come_by_round_then_rotated_author_and_never_twice() {
    let mut drawing = Drawing::new(4, ProtocolParameters::default(), "");
    drawing.full_rounds(1, 2);
    drawing.line("A3: *");
    drawing.line("C3: *");
    let mut graph = graph(&drawing);
    let first = order(&mut graph, Round(2), &[drawing.at("C2")], 4);
    assert_eq!(first, names(&drawing, &["C1", "D1", "A1", "B1", "C2"]));
    let second = order(&mut graph, Round(3), &[drawing.at("A3")], 4);
    assert_eq!(second, names(&drawing, &["D2", "A2", "B2", "A3"]));
    assert_eq!(order(&mut graph, Round(3), &[drawing.at("A3")], 4), []);
}

#[test]
fn nothing_at_or_below_the_garbage_collection_round_is_ordered() {
    let mut drawing = Drawing::new(4, ProtocolParameters::default(), "");
    drawing.full_rounds(1, 4);
    let mut graph = graph(&drawing);
    assert_eq!(graph.collect(Round(2)).len(), 8);
    let ordered = order(&mut graph, Round(4), &[drawing.at("A4")], 4);
    assert_eq!(ordered, names(&drawing, &["A3", "B3", "C3", "D3", "A4"]));
}

#[test]
fn the_median_is_that_of_the_leaders_parents_and_needs_all_of_them() {
    let mut drawing = Drawing::new(4, ProtocolParameters::default(), "");
    drawing.full_rounds(1, 2);
    let mut graph = graph(&drawing);
    let leader = [drawing.at("C2")];
    // Parents have 1000, 1010, 1020, 1030: more than half of the stake is at or below 1020.
    assert_eq!(median(&graph, Round(2), &leader, &drawing.committee), Some(1_020));
    assert_eq!(median(&graph, Round(1), &[drawing.at("B1")], &drawing.committee), Some(0), "genesis has no time");
    graph.collect(Round(1));
    assert_eq!(median(&graph, Round(2), &leader, &drawing.committee), None, "never a guess");
}

#[test]
fn of_equal_halves_the_greater_is_the_median() {
    let of = |entries: &[(u64, u64)]| weighted_median(entries.iter().map(|(value, stake)| (*value, Stake(*stake))));
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[(7, 1)]), Some(7));
    assert_eq!(of(&[(1, 1), (3, 1), (2, 1), (4, 1)]), Some(3));
    assert_eq!(of(&[(1, 2), (9, 1)]), Some(1));
    assert_eq!(of(&[(1, 2), (9, 2)]), Some(9));
    assert_eq!(of(&[(1, 3), (2, 1), (9, 3)]), Some(2));
}

#[test]
fn the_first_twin_of_a_slot_delivers_and_a_sequence_only_once() {
    let text =
        "A1: *\nB1: *\nB1': *\nC1: *\nD1: *\nA2: [A1 B1 C1 D1]\nC2: [C1 A1 B1' D1]\nD2: [D1 A1 C1]\nD3: [D2 A2 C2]";
    let drawing = Drawing::new(4, ProtocolParameters::default(), text);
    let mut graph = graph(&drawing);
    let mut ledger = Ledger::new(&drawing.committee);
    let ordered = order(&mut graph, Round(3), &[drawing.at("D3")], 4);
    let twins: Vec<BlockRef> = ordered.iter().filter(|r| r.author == AuthorityIndex(1)).copied().collect();
    assert_eq!(twins.len(), 2);
    let delivered = deliver(&mut graph, &mut ledger, &ordered);
    let of_b: Vec<_> = delivered.iter().filter(|d| d.author == AuthorityIndex(1)).collect();
    assert_eq!(of_b.len(), 1);
    let winner = graph.get(&twins[0]).unwrap().block.batches()[0];
    assert_eq!(of_b[0].batch, winner, "the lower digest comes first and wins");
    assert_eq!(deliver(&mut graph, &mut ledger, &ordered), []);
    // A slot that is gone delivers nothing, and a sequence stays delivered.
    assert!(!ledger.windows[1].is_fresh(winner.sequence));
}
