//! The rule counts stake and not members: A, B, C, D have 4, 3, 2, 1, so Q = 7. The leader of round 1 is B.

use std::time::Duration;

use rorqual_config::ProtocolParameters;

use super::index::VoteIndex;
use super::rule::{Decision, Tally, decide};
use super::schedule::Schedule;
use crate::dag::graph::{Graph, Vertex};
use crate::testing::{Drawing, committee_of, committee_with};
use crate::types::Round;

/// What becomes of the leader slot of round 1 with these blocks.
fn decision(text: &str) -> (Drawing, Option<Decision>, usize) {
    let drawing = Drawing::among(committee_of(&[4, 3, 2, 1], ProtocolParameters::default()), text);
    let (mut graph, mut tally) = (Graph::new(4), Tally::default());
    let mut index = VoteIndex::new(Schedule::new(&drawing.committee));
    for block in &drawing.blocks {
        let mut vertex = Vertex::new(block.clone(), Duration::ZERO);
        vertex.reach = index.link(block, &graph, &drawing.committee).unwrap();
        graph.insert(vertex);
        decide(&mut index, &graph, &drawing.committee, &mut tally).unwrap();
    }
    let slot = index.slots(Round(1)).first();
    let decided = slot.and_then(|slot| slot.decision);
    let certificates = slot.map_or(0, |slot| slot.certificates.values().map(|authors| authors.len()).sum());
    (drawing, decided, certificates)
}

const FULL: &str = "A1: *\nB1: *\nC1: *\nD1: *\nA2: *\nB2: *\nC2: *\nD2: *\n";

fn on_full(third: &str) -> Option<Decision> {
    let (drawing, decided, _) = decision(&format!("{FULL}{third}"));
    let commit = Some(Decision::Commit(drawing.at("B1").digest));
    assert!(decided.is_none() || decided == commit);
    decided
}

#[test]
fn a_direct_commit_needs_certificates_of_a_quorum_of_stake() {
    assert_eq!(on_full("B3: *\nC3: *\nD3: *"), None, "three members with 6");
    assert!(on_full("A3: *\nB3: *").is_some(), "two members with 7");
    assert_eq!(on_full("A3: *\nC3: *"), None, "6 again");
    assert!(on_full("A3: *\nC3: *\nD3: *").is_some());
}

#[test]
fn a_direct_skip_needs_blames_of_a_quorum_of_stake() {
    let silent = "A1: *\nC1: *\nD1: *\n";
    let decided = |second: &str| decision(&format!("{silent}{second}")).1;
    assert_eq!(decided("A2: *\nC2: *"), None, "6");
    assert_eq!(decided("A2: *\nC2: *\nD2: *"), Some(Decision::Skip));
    // B votes for itself: the others blame with 7 of 10.
    let lonely = "A1: *\nB1: *\nC1: *\nD1: *\nB2: *\n";
    let decided = |second: &str| decision(&format!("{lonely}{second}")).1;
    assert_eq!(decided("A2: [A1 C1 D1]\nC2: [C1 A1 D1]"), None);
    assert_eq!(decided("A2: [A1 C1 D1]\nC2: [C1 A1 D1]\nD2: [D1 A1 C1]"), Some(Decision::Skip));
}

#[test]
fn a_certificate_needs_votes_of_a_quorum_of_stake() {
    let certificates = |second: &str| decision(&format!("A1: *\nB1: *\nC1: *\nD1: *\n{second}\nA3: *")).2;
    assert_eq!(certificates("A2: [A1 C1 D1]\nB2: *\nC2: *\nD2: *"), 0, "three votes with 6");
    assert_eq!(certificates("A2: *\nB2: *\nC2: [C1 A1 D1]\nD2: [D1 A1 C1]"), 1, "two votes with 7");
}

#[test]
fn leaders_go_round_and_genesis_has_none() {
    let schedule = |leaders_per_round| {
        Schedule::new(&committee_with(4, ProtocolParameters { leaders_per_round, ..ProtocolParameters::default() }))
    };
    let leaders = |schedule: &Schedule, round| schedule.leaders(Round(round)).map(|a| a.0).collect::<Vec<_>>();
    let (one, two) = (schedule(1), schedule(2));
    assert_eq!([0, 1, 3, 4, 5].map(|round| leaders(&one, round)), [vec![], vec![1], vec![3], vec![0], vec![1]]);
    assert_eq!([0, 1, 3].map(|round| leaders(&two, round)), [vec![], vec![1, 2], vec![3, 0]]);
    assert_eq!(schedule(9).per_round(), 4);
}
