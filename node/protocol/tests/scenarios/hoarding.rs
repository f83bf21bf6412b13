//! Payload that no commit delivers: disks stay bounded (the oracle looks at each at every write), the honest go on, and rest.

use super::byzantine::corrupt;
use super::sweep;
use crate::simulation::flooder::Flooder;
use crate::simulation::hoarder::Hoarder;
use crate::simulation::plan::Plan;
use crate::simulation::rumours::Rumours;
use crate::simulation::world::Outcome;
use crate::simulation::{MILLISECOND, SECOND};

/// What one block may name in the simulation.
const BLOCK: u64 = 1_024;

/// More rounds than the garbage-collection depth, with payload of the honest in all of them.
fn hoard(plan: &mut Plan, hoarder: Hoarder) {
    corrupt(plan, |_| hoarder);
    plan.load_every = 30 * MILLISECOND;
    plan.load_until = 1_200 * MILLISECOND;
    plan.least_commits = 60;
}

fn bites(outcome: &Outcome, blocks: u64) {
    let fullest = outcome.oracle.fullest();
    println!("at most {fullest} undelivered bytes of one author on one disk");
    assert!(fullest >= blocks * BLOCK, "the liar has no effect: at most {fullest} undelivered bytes anywhere");
}

#[test]
fn other_content_for_the_same_sequence_in_every_block() {
    sweep(&[(4, 6), (7, 1)], |plan| hoard(plan, Hoarder::OneSequence), |outcome| bites(outcome, 2));
}

#[test]
fn stale_sequences_are_named_for_ever() {
    sweep(&[(4, 6), (7, 1)], |plan| hoard(plan, Hoarder::Stale), |outcome| bites(outcome, 1));
}

#[test]
fn a_chain_of_twins_that_nobody_references() {
    sweep(&[(4, 8), (7, 2)], |plan| hoard(plan, Hoarder::Chain), |outcome| bites(outcome, 8));
}

#[test]
fn a_crowd_of_twins_of_which_everybody_references_others() {
    sweep(&[(4, 8), (7, 2)], |plan| hoard(plan, Hoarder::Crowd), |outcome| bites(outcome, 2));
}

#[test]
fn payload_that_no_block_names() {
    let plan = |plan: &mut Plan| {
        corrupt(plan, |_| Flooder);
        plan.load_until = SECOND;
    };
    sweep(&[(4, 6), (7, 1)], plan, |outcome| bites(outcome, 8));
}

#[test]
fn hoarders_among_nodes_that_die_and_return() {
    let plan = |plan: &mut Plan| {
        super::crashes::kill_and_restart(plan);
        let (faults, load_until) = (std::mem::take(&mut plan.faults), plan.load_until);
        hoard(plan, Hoarder::Chain);
        let liars: Vec<_> = plan.faulty.iter().map(|(liar, _)| *liar).collect();
        use crate::simulation::faults::Fault::{Kill, Start};
        plan.faults = faults;
        plan.faults.retain(|(_, fault)| !matches!(fault, Kill(node) | Start(node) if liars.contains(node)));
        plan.load_until = plan.load_until.max(load_until);
    };
    sweep(&[(4, 8), (7, 2)], plan, |outcome| bites(outcome, 4));
}

#[test]
fn payload_that_nobody_has_keeps_nobody_awake() {
    let plan = |plan: &mut Plan| {
        corrupt(plan, |_| Rumours);
        plan.load_every = 20 * MILLISECOND;
        plan.load_until = 400 * MILLISECOND;
        plan.least_commits = 60;
        plan.bound = 30 * SECOND;
    };
    sweep(&[(4, 6), (7, 2)], plan, |outcome| {
        // Awake, all commits would be there a second later; at rest there are two to four rounds a second.
        assert!(outcome.ended > 4 * SECOND, "{} commits after {} us", outcome.oracle.commits(), outcome.ended);
    });
}
