//! Members that do anything the rules of form allow, while the others die, lose power, are cut off and are away for long.

use super::{node, nodes, sweep};
use crate::random::Random;
use crate::simulation::executor::Pace;
use crate::simulation::faults::Fault;
use crate::simulation::loss::{ALL, Loss};
use crate::simulation::plan::{Plan, Role};
use crate::simulation::wild::{Temper, Wild};
use crate::simulation::{MILLISECOND, SECOND};

/// As many of them as the committee can bear.
fn wild(plan: &mut Plan, random: &mut Random) {
    for liar in 0..(plan.size - 1) / 3 {
        plan.faulty.push((node(liar), Role::Puppet(Box::new(Wild::new(Temper::any(random))))));
    }
    plan.bound = 20 * SECOND;
    plan.least_commits = 20;
}

fn small_rules(plan: &mut Plan, random: &mut Random) {
    plan.protocol.gc_depth = *random.pick(&[12, 20, 60]);
    plan.protocol.checkpoint_interval = *random.pick(&[2, 4, 16]);
}

/// Anything that happens to machines, to one honest node or to all.
fn trouble(plan: &mut Plan, random: &mut Random) {
    let honest = nodes((plan.size - 1) / 3..plan.size);
    let mut at = random.between(50, 400) * MILLISECOND;
    for _ in 0..random.between(1, 6) {
        let victim = *random.pick(&honest);
        let fault = match random.below(4) {
            0 => Fault::PowerLoss(honest.clone()),
            1 => Fault::PowerLoss(vec![victim]),
            _ => Fault::Kill(victim),
        };
        plan.at(at, fault);
        let away = if random.chance(25) { random.between(500, 1_500) } else { random.between(5, 120) };
        at += away * MILLISECOND;
        honest.iter().for_each(|victim| plan.at(at, Fault::Start(*victim)));
        at += random.between(1, 250) * MILLISECOND;
    }
    plan.load_until = at + 400 * MILLISECOND;
    plan.load_every = *random.pick(&[15, 40]) * MILLISECOND;
}

#[test]
fn members_do_anything_while_nobody_else_fails() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        small_rules(plan, &mut random);
        wild(plan, &mut random);
        plan.load_until = 1_500 * MILLISECOND;
    };
    sweep(&[(4, 12), (7, 3)], plan, |_| ());
}

#[test]
fn members_do_anything_while_nodes_die_and_return() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        small_rules(plan, &mut random);
        wild(plan, &mut random);
        trouble(plan, &mut random);
    };
    sweep(&[(4, 12), (7, 3)], plan, |_| ());
}

#[test]
fn members_do_anything_while_nodes_die_and_return_under_default_rules() {
    let plan = |plan: &mut Plan| {
        plan.protocol = rorqual_config::ProtocolParameters::default();
        plan.parameters = rorqual_config::parameters::ConsensusParameters::default();
        let mut random = plan.random();
        wild(plan, &mut random);
        trouble(plan, &mut random);
    };
    sweep(&[(4, 8), (7, 2)], plan, |_| ());
}

/// The links as well: frames vanish, directions fail, a node is far away, execution is slow.
#[test]
fn members_do_anything_while_links_and_machines_fail_alike() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        small_rules(plan, &mut random);
        wild(plan, &mut random);
        trouble(plan, &mut random);
        let (all, until) = (nodes(0..plan.size), plan.load_until);
        if random.chance(50) {
            plan.losses.push(Loss::new(ALL, random.between(1, 10), until));
        }
        if random.chance(50) {
            let lonely = *random.pick(&all);
            let rest: Vec<_> = all.iter().copied().filter(|node| *node != lonely).collect();
            let (from, to) = if random.chance(50) { (vec![lonely], rest) } else { (rest, vec![lonely]) };
            plan.at(random.between(50, 600) * MILLISECOND, Fault::Cut { from, to });
            plan.at(until, Fault::Heal);
        }
        if random.chance(30) {
            let far = *random.pick(&all);
            plan.far(far, random.between(5, 60) * MILLISECOND);
        }
        if random.chance(30) {
            plan.pace = Pace { low: 20, high: 300, slow_of_thousand: 10, slow: SECOND };
        }
        plan.least_commits = 5;
    };
    sweep(&[(4, 12), (7, 3)], plan, |_| ());
}
