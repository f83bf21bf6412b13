//! The rule on drawn DAGs. The leader of round r is member r mod n: with four members B leads round 1, C round 2, D round 3,
//! A round 4.

use std::time::Duration;

use rorqual_config::ProtocolParameters;

use super::*;
use crate::commit::schedule::Schedule;
use crate::dag::graph::Vertex;
use crate::testing::Drawing;

struct Watcher {
    drawing: Drawing,
    graph: Graph,
    index: VoteIndex,
    tally: Tally,
    linked: usize,
}

impl Watcher {
    fn new(n: usize, text: &str) -> Self {
        let drawing = Drawing::new(n, ProtocolParameters::default(), text);
        let index = VoteIndex::new(Schedule::new(&drawing.committee));
        let mut watcher = Self { drawing, graph: Graph::new(n), index, tally: Tally::default(), linked: 0 };
        watcher.decide().unwrap();
        watcher
    }

    /// Links what was drawn since, and decides after each block, as the core does.
    fn decide(&mut self) -> Result<(), Halt> {
        for block in &self.drawing.blocks[self.linked..] {
            let mut vertex = Vertex::new(block.clone(), Duration::ZERO);
            vertex.reach = self.index.link(block, &self.graph, &self.drawing.committee)?;
            self.graph.insert(vertex);
            decide(&mut self.index, &self.graph, &self.drawing.committee, &mut self.tally)?;
        }
        self.linked = self.drawing.blocks.len();
        Ok(())
    }

    fn draw(&mut self, lines: &str) -> &mut Self {
        lines.lines().map(str::trim).filter(|l| !l.is_empty()).for_each(|line| self.drawing.line(line));
        self.decide().unwrap();
        self
    }

    fn full(&mut self, first: u64, last: u64) -> &mut Self {
        self.drawing.full_rounds(first, last);
        self.decide().unwrap();
        self
    }

    fn decision(&self, round: u64) -> Option<Decision> {
        self.index.slots(Round(round)).first().and_then(|slot| slot.decision)
    }

    fn commits(&self, name: &str) -> Option<Decision> {
        Some(Decision::Commit(self.drawing.at(name).digest))
    }
}

#[test]
fn a_leader_commits_with_the_third_certificate_and_not_before() {
    let mut watcher = Watcher::new(4, "");
    watcher.full(1, 2).draw("A3: *\nB3: *");
    assert_eq!(watcher.decision(1), None);
    watcher.draw("C3: *");
    assert_eq!(watcher.decision(1), watcher.commits("B1"));
    assert_eq!(watcher.tally, Tally { direct_commits: 1, ..Tally::default() });
    let decided = emit(&mut watcher.index).unwrap();
    assert_eq!(decided, DecidedRound { round: Round(1), leaders: vec![watcher.drawing.at("B1")] });
    assert_eq!(emit(&mut watcher.index), None);
}

#[test]
fn seven_members_need_five_certificates() {
    let mut watcher = Watcher::new(7, "");
    watcher.full(1, 2).draw("A3: *\nB3: *\nC3: *\nD3: *");
    assert_eq!(watcher.decision(1), None);
    watcher.draw("G3: *");
    assert_eq!(watcher.decision(1), watcher.commits("B1"));
}

#[test]
fn a_silent_leader_is_skipped_by_the_third_blame_and_the_cursor_moves_over_it() {
    let mut watcher = Watcher::new(4, "A1: *\nC1: *\nD1: *\nA2: *\nC2: *");
    assert_eq!(watcher.decision(1), None);
    watcher.draw("D2: *");
    assert_eq!(watcher.decision(1), Some(Decision::Skip));
    assert_eq!((emit(&mut watcher.index), watcher.index.cursor()), (None, Round(2)));
    watcher.draw("A3: *\nC3: *\nD3: *\nA4: *\nC4: *\nD4: *");
    assert_eq!(emit(&mut watcher.index).map(|d| d.leaders), Some(vec![watcher.drawing.at("C2")]));
    assert_eq!(watcher.index.cursor(), Round(3));
}

/// B1 gets one vote and two blames from those with a quorum elsewhere: neither certificate nor skip.
const SPLIT: &str = "
    A1: *
    B1: *
    C1: *
    D1: *
    A2: [A1 C1 D1]
    B2: [B1 A1 C1 D1]
    C2: [C1 B1 A1 D1]
    D2: [D1 A1 C1]";

#[test]
fn a_split_vote_waits_for_the_anchor_and_is_skipped_through_it() {
    let mut watcher = Watcher::new(4, SPLIT);
    watcher.full(3, 5);
    assert_eq!(watcher.decision(1), None);
    assert_eq!(emit(&mut watcher.index), None, "later rounds wait for this one");
    watcher.full(6, 6);
    assert_eq!(watcher.decision(4), watcher.commits("A4"));
    assert_eq!(watcher.decision(1), Some(Decision::Skip));
    assert_eq!(watcher.tally.indirect_skips, 1);
    assert_eq!(emit(&mut watcher.index).map(|d| d.round), Some(Round(2)));
}

/// All vote for B1, but only one block of round 3 shows a certificate; the others see two votes.
const ONE_CERTIFICATE: &str = "
    A1: *
    B1: *
    C1: *
    D1: *
    A2: *
    B2: *
    C2: [C1 B1 A1 D1]
    D2: [D1 A1 C1]
    A3: [A2 B2 C2]
    B3: [B2 A2 D2]
    C3: [C2 A2 D2]
    D3: [D2 B2 C2]";

#[test]
fn one_certificate_that_the_anchor_reaches_commits_the_leader() {
    let mut watcher = Watcher::new(4, ONE_CERTIFICATE);
    assert_eq!(watcher.decision(1), None);
    watcher.full(4, 6);
    assert_eq!(watcher.decision(1), watcher.commits("B1"));
    assert_eq!(watcher.tally.indirect_commits, 1);
}

#[test]
fn a_certificate_that_the_anchor_does_not_reach_counts_for_nothing() {
    let mut watcher = Watcher::new(4, ONE_CERTIFICATE);
    // Nobody links A3, the only certificate, before the anchor A4 would: it is drawn on the others alone.
    watcher.draw("B4: [B3 C3 D3]\nC4: [C3 B3 D3]\nD4: [D3 B3 C3]");
    // A4 does not exist: its slot is skipped, the anchor is B5.
    watcher.draw("B5: [B4 C4 D4]\nC5: [C4 B4 D4]\nD5: [D4 B4 C4]");
    watcher.draw("B6: *\nC6: *\nD6: *\nB7: *\nC7: *\nD7: *");
    assert_eq!(watcher.decision(4), Some(Decision::Skip));
    assert_eq!(watcher.decision(5), watcher.commits("B5"));
    assert_eq!(watcher.decision(1), Some(Decision::Skip));
}

#[test]
fn the_anchor_is_looked_for_behind_skipped_slots_only() {
    let mut watcher = Watcher::new(4, SPLIT);
    watcher.full(3, 3);
    // The slot of A4 is undecided too, so B5 must not decide the slot of B1.
    watcher.full(4, 4).draw("A5: [A4 B4 C4 D4]\nB5: [B4 C4 D4]\nC5: [C4 A4 B4 D4]\nD5: [D4 B4 C4]");
    watcher.full(6, 7);
    assert_eq!(watcher.decision(5), watcher.commits("B5"));
    assert_eq!((watcher.decision(4), watcher.decision(1)), (None, None));
    watcher.full(8, 9);
    assert_eq!(watcher.decision(7), watcher.commits("D7"));
    assert_eq!((watcher.decision(4), watcher.decision(1)), (Some(Decision::Skip), Some(Decision::Skip)));
}

/// B writes twins: A and C vote for B1, D for B1'.
const TWINS: &str = "
    A1: *
    B1: *
    B1': *
    C1: *
    D1: *
    A2: [A1 B1 C1 D1]
    C2: [C1 A1 B1 D1]
    D2: [D1 A1 B1' C1]";

#[test]
fn of_two_twins_the_one_with_a_quorum_of_votes_commits() {
    let mut watcher = Watcher::new(4, TWINS);
    watcher.draw("B2: [B1 A1 C1 D1]").full(3, 3);
    assert_eq!(watcher.decision(1), watcher.commits("B1"));
}

#[test]
fn twins_without_a_certificate_stay_undecided_until_the_anchor() {
    let mut watcher = Watcher::new(4, TWINS);
    watcher.draw("A3: *\nC3: *\nD3: *");
    // Two of three do not vote for B1', but only one does not vote for B1: no skip.
    assert_eq!(watcher.decision(1), None);
    watcher.draw("A4: *\nC4: *\nD4: *\nA5: *\nC5: *\nD5: *\nA6: *\nC6: *\nD6: *");
    assert_eq!(watcher.decision(4), watcher.commits("A4"));
    assert_eq!(watcher.decision(1), Some(Decision::Skip));
}

#[test]
fn an_equivocating_voter_counts_once_on_each_side() {
    let mut watcher = Watcher::new(4, SPLIT);
    // A2' votes for B1: with B2 and C2 that makes three votes, but no block sees all three with one parent an author.
    watcher.draw("A2': [A1 B1 C1 D1]");
    let slot = &watcher.index.slots(Round(1))[0];
    assert_eq!(slot.voters.len(), 4);
    assert_eq!(slot.votes[&Some(watcher.drawing.at("B1").digest)].len(), 3);
    assert_eq!(slot.non_voters(&watcher.drawing.at("B1").digest).len(), 2);
    watcher.draw("B3: [B2 A2' C2 D2]");
    let slot = &watcher.index.slots(Round(1))[0];
    assert_eq!(slot.certified(), Some(watcher.drawing.at("B1").digest));
    assert_eq!(watcher.decision(1), None);
}

#[test]
fn two_certified_twins_stop_the_node() {
    // Everybody equivocates: more than F faulty.
    let mut text = String::from("A1: *\nB1: *\nB1': *\nC1: *\nD1: *\n");
    for author in ["A", "C", "D"] {
        let others: Vec<String> = ["A", "C", "D"].iter().filter(|o| **o != author).map(|o| format!("{o}1")).collect();
        text += &format!(
            "{author}2: [{author}1 B1 {}]\n{author}2': [{author}1 B1' {}]\n",
            others.join(" "),
            others.join(" ")
        );
    }
    let mut watcher = Watcher::new(4, &text);
    watcher.draw("A3: [A2 C2 D2]");
    watcher.drawing.line("C3: [C2' A2' D2']");
    assert!(matches!(watcher.decide(), Err(Halt::Invariant(_))));
}

#[test]
fn with_two_leaders_a_round_waits_for_both_slots_and_commits_once() {
    let rules = ProtocolParameters { leaders_per_round: 2, ..ProtocolParameters::default() };
    let mut watcher = Watcher::new(4, "");
    watcher.drawing = Drawing::new(4, rules, "");
    watcher.index = VoteIndex::new(Schedule::new(&watcher.drawing.committee));
    watcher.full(1, 3);
    let leaders = vec![watcher.drawing.at("B1"), watcher.drawing.at("C1")];
    assert_eq!(emit(&mut watcher.index), Some(DecidedRound { round: Round(1), leaders }));
    assert_eq!(emit(&mut watcher.index), None);
}
