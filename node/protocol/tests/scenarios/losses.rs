//! Frames vanish while the links stay up: whoever waits for one of them goes on all the same.

use super::{nodes, sweep};
use crate::simulation::faults::Fault;
use crate::simulation::loss::{ALL, Kind, Loss};
use crate::simulation::plan::{Plan, Role};
use crate::simulation::{MILLISECOND, SECOND};
use rorqual_config::ProtocolParameters;

/// Default rules for one half of the seeds, small ones for the other.
fn rules(plan: &mut Plan) {
    if plan.seed % 2 == 1 {
        plan.protocol = ProtocolParameters::default();
    }
}

/// With one member dead everybody needs everybody else, so that no block may stay lost.
fn one_dead(plan: &mut Plan) {
    let dead = *plan.random().pick(&nodes(0..plan.size));
    if plan.size == 4 {
        plan.faulty = vec![(dead, Role::Silent)];
    } else {
        plan.at(10 * MILLISECOND, Fault::Kill(dead));
        let second = nodes(0..plan.size).into_iter().find(|node| *node != dead).expect("there are more");
        plan.at(10 * MILLISECOND, Fault::Kill(second));
    }
}

fn own_blocks_swallowed(plan: &mut Plan, percent: u64, told: bool) {
    rules(plan);
    one_dead(plan);
    let loss = Loss::new(&[Kind::Own], percent, 900 * MILLISECOND);
    plan.losses.push(Loss { during: 100 * MILLISECOND..900 * MILLISECOND, told, ..loss });
    plan.load_until = 1_200 * MILLISECOND;
    plan.load_every = 40 * MILLISECOND;
    plan.bound = 5 * SECOND;
    plan.least_commits = 20;
}

#[test]
fn a_tenth_of_own_blocks_swallowed_with_a_third_dead() {
    sweep(&[(4, 12), (7, 4)], |plan| own_blocks_swallowed(plan, 10, false), |_| ());
}

#[test]
fn a_third_of_own_blocks_swallowed_with_a_third_dead() {
    sweep(&[(4, 12), (7, 4)], |plan| own_blocks_swallowed(plan, 30, false), |_| ());
}

#[test]
fn own_blocks_refused_by_full_queues() {
    sweep(&[(4, 6), (7, 2)], |plan| own_blocks_swallowed(plan, 50, true), |_| ());
}

#[test]
fn lost_subscriptions_are_repeated() {
    let plan = |plan: &mut Plan| {
        rules(plan);
        one_dead(plan);
        plan.losses.push(Loss::new(&[Kind::Subscribe], 60, 500 * MILLISECOND));
        plan.load_until = 900 * MILLISECOND;
        plan.load_every = 40 * MILLISECOND;
        plan.bound = 5 * SECOND;
        plan.least_commits = 10;
    };
    sweep(&[(4, 12), (7, 4)], plan, |_| ());
}

#[test]
fn any_frame_may_be_lost_for_the_whole_load() {
    let plan = |plan: &mut Plan| {
        rules(plan);
        plan.load_until = 1_200 * MILLISECOND;
        plan.load_every = 40 * MILLISECOND;
        plan.losses.push(Loss::new(ALL, 5, plan.load_until));
        plan.bound = 5 * SECOND;
        plan.least_commits = 20;
    };
    sweep(&[(4, 10), (7, 4)], plan, |_| ());
}

#[test]
fn questions_and_answers_may_be_lost_while_nodes_come_and_go() {
    const ASKED: &[Kind] = &[Kind::Fetch, Kind::Blocks, Kind::TipQuery, Kind::Tip, Kind::Subscribe, Kind::History];
    let plan = |plan: &mut Plan| {
        rules(plan);
        let mut random = plan.random();
        let victim = *random.pick(&nodes(0..plan.size));
        let at = random.between(100, 300) * MILLISECOND;
        plan.at(at, Fault::Kill(victim));
        plan.at(at + random.between(20, 400) * MILLISECOND, Fault::Start(victim));
        plan.load_until = 1_500 * MILLISECOND;
        plan.load_every = 40 * MILLISECOND;
        plan.losses.push(Loss::new(ASKED, 30, 1_200 * MILLISECOND));
        plan.bound = 6 * SECOND;
        plan.least_commits = 20;
    };
    sweep(&[(4, 8), (7, 3)], plan, |_| ());
}
