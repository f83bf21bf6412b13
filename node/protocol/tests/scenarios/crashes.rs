//! Processes die, machines lose power, nodes stay away.

use super::{nodes, sweep};
use crate::simulation::faults::{Fault, partition};
use crate::simulation::plan::Plan;
use crate::simulation::{MILLISECOND, SECOND};

/// Single nodes die and come back, often a moment later, sometimes several at once.
pub fn kill_and_restart(plan: &mut Plan) {
    let mut random = plan.random();
    let mut at = random.between(20, 200) * MILLISECOND;
    for _ in 0..random.between(1, 6) {
        let victims = if random.chance(25) { random.between(1, plan.size as u64) } else { 1 };
        for _ in 0..victims {
            let victim = *random.pick(&nodes(0..plan.size));
            let lag = random.below(3_000);
            plan.at(at + lag, Fault::Kill(victim));
            plan.at(at + lag + random.between(1, 300) * MILLISECOND, Fault::Start(victim));
        }
        at += random.between(20, 400) * MILLISECOND;
    }
    for victim in nodes(0..plan.size) {
        plan.at(at + 300 * MILLISECOND, Fault::Start(victim));
    }
    // An idle cluster is slow: enough load for the commits that are asked for.
    plan.load_until = at.max(900 * MILLISECOND);
    plan.load_every = 40 * MILLISECOND;
}

#[test]
fn processes_die_and_restart() {
    sweep(&[(4, 16), (7, 5), (10, 2)], kill_and_restart, |_| ());
}

#[test]
fn one_machine_loses_power() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        for i in 0..random.between(1, 4) {
            let at = (i + 1) * 250 * MILLISECOND + random.below(200_000);
            let victim = *random.pick(&nodes(0..plan.size));
            plan.at(at, Fault::PowerLoss(vec![victim]));
            plan.at(at + random.between(1, 200) * MILLISECOND, Fault::Start(victim));
        }
        for victim in nodes(0..plan.size) {
            plan.at(1_700 * MILLISECOND, Fault::Start(victim));
        }
        plan.load_until = SECOND;
        plan.load_every = 30 * MILLISECOND;
    };
    sweep(&[(4, 14), (7, 4), (10, 1)], plan, |_| ());
}

#[test]
fn all_machines_lose_power_at_once() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        for i in 0..random.between(1, 3) {
            let at = (i + 1) * 250 * MILLISECOND + random.below(200_000);
            plan.at(at, Fault::PowerLoss(nodes(0..plan.size)));
            for victim in nodes(0..plan.size) {
                plan.at(at + random.between(1, 50) * MILLISECOND, Fault::Start(victim));
            }
        }
        plan.load_until = SECOND;
        plan.load_every = 30 * MILLISECOND;
    };
    sweep(&[(4, 14), (7, 4), (10, 1)], plan, |_| ());
}

/// A node is away for many times `gc_depth`, dead or cut off.
fn long_absence(plan: &mut Plan) {
    let mut random = plan.random();
    plan.protocol.gc_depth = 20;
    let away = *random.pick(&nodes(0..plan.size));
    let at = random.between(50, 300) * MILLISECOND;
    let back = at + random.between(1_000, 2_500) * MILLISECOND;
    if random.chance(50) {
        plan.at(at, if random.chance(50) { Fault::Kill(away) } else { Fault::PowerLoss(vec![away]) });
        plan.at(back, Fault::Start(away));
    } else {
        let rest: Vec<_> = nodes(0..plan.size).into_iter().filter(|n| *n != away).collect();
        for fault in partition(&[away], &rest) {
            plan.at(at, fault);
        }
        plan.at(back, Fault::Heal);
    }
    plan.load_until = back + SECOND;
    plan.load_every = 50 * MILLISECOND;
    plan.least_commits = 100;
}

#[test]
fn a_node_away_for_long_catches_up() {
    sweep(&[(4, 8), (7, 2), (10, 1)], long_absence, |_| ());
}

/// While a node is away, others seal payload; when it returns, one of them has gone for good.
#[test]
fn a_node_catches_up_although_the_author_of_old_payload_is_gone() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        plan.protocol.gc_depth = 20;
        let mut members = nodes(0..plan.size);
        random.shuffle(&mut members);
        let (away, gone) = (members[0], members[1]);
        let back = random.between(1_000, 1_500) * MILLISECOND;
        plan.at(random.between(50, 300) * MILLISECOND, Fault::Kill(away));
        plan.at(back - 50 * MILLISECOND, Fault::Kill(gone));
        plan.at(back, Fault::Start(away));
        plan.load_until = back + SECOND;
        plan.load_every = 50 * MILLISECOND;
        plan.least_commits = 60;
        plan.bound = 5 * SECOND;
    };
    sweep(&[(4, 6), (7, 1)], plan, |_| ());
}

#[test]
fn all_machines_lose_power_and_one_stays_dead() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        let dead = *random.pick(&nodes(0..plan.size));
        let at = 250 * MILLISECOND + random.below(200_000);
        plan.at(at, Fault::PowerLoss(nodes(0..plan.size)));
        for victim in nodes(0..plan.size).into_iter().filter(|victim| *victim != dead) {
            plan.at(at + random.between(1, 50) * MILLISECOND, Fault::Start(victim));
        }
        plan.load_until = SECOND;
        plan.load_every = 20 * MILLISECOND;
        plan.bound = 10 * SECOND;
    };
    sweep(&[(4, 20), (7, 3)], plan, |_| ());
}

#[test]
fn a_node_that_lost_its_past_stops_before_it_signs() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        let victim = *random.pick(&nodes(0..plan.size));
        plan.at(400 * MILLISECOND, Fault::Kill(victim));
        plan.at(410 * MILLISECOND, Fault::RollBack(victim, random.between(5, 90) as usize));
        plan.at(420 * MILLISECOND, Fault::Start(victim));
        plan.must_halt = Some((victim, "amnesia"));
    };
    sweep(&[(4, 6), (7, 2)], plan, |_| ());
}
