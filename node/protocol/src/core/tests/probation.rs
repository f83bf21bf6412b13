//! Who is on probation: below V of stake that references an author in time, on average.

use std::time::Duration;

use rorqual_config::{AuthorityIndex, ProtocolParameters};

use crate::core::probation::Probation;
use crate::dag::graph::{Graph, Vertex};
use crate::testing::{Drawing, committee_of};
use crate::types::Round;

/// D's blocks are referenced in the next round by these members, for many rounds. Stakes are 1, 2, 3, 4 (V = 4).
fn scored(referenced_by: &[u16]) -> Probation {
    let committee = committee_of(&[1, 2, 3, 4], ProtocolParameters::default());
    let mut drawing = Drawing::among(committee.clone(), "");
    drawing.full_rounds(1, 60);
    let (mut graph, mut probation) = (Graph::new(4), Probation::new(&committee));
    for block in &drawing.blocks {
        let mut vertex = Vertex::new(block.clone(), Duration::ZERO);
        let all = block.author() != AuthorityIndex(3);
        let by = committee.authorities().filter(|author| all || referenced_by.contains(&author.0));
        vertex.strongly_referenced_by = by.collect();
        graph.insert(vertex);
    }
    (1..=60).for_each(|round| probation.enter(Round(round), &graph, &committee));
    probation
}

#[test]
fn an_author_that_v_of_stake_references_in_time_is_in_good_standing_and_one_below_is_not() {
    let applies =
        |referenced_by: &[u16], author, round| scored(referenced_by).applies(AuthorityIndex(author), Round(round));
    assert!(applies(&[2], 3, 61), "one honest member may be fooled");
    assert!(applies(&[1, 0], 3, 61), "two members with 3");
    assert!(!applies(&[3], 3, 61) && !applies(&[2, 0], 3, 61), "4");
    assert!(!applies(&[], 0, 61) && !applies(&[], 2, 61), "others do not pay");
}

#[test]
fn one_round_of_eight_is_a_chance_for_everybody() {
    let probation = scored(&[]);
    let applied: Vec<u64> = (61..=77).filter(|round| !probation.applies(AuthorityIndex(3), Round(*round))).collect();
    assert_eq!(applied, [64, 72]);
}

#[test]
fn twins_of_a_lower_round_end_no_conviction() {
    let mut probation = Probation::new(&committee_of(&[1; 4], ProtocolParameters::default()));
    let author = AuthorityIndex(3);
    probation.convict(author, Round(9));
    probation.convict(author, Round(5));
    assert!(probation.is_convicted(author, Round(8)) && !probation.is_convicted(author, Round(9)));
    assert!(!probation.is_convicted(AuthorityIndex(2), Round(0)));
}
