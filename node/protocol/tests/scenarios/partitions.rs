//! Links break and are mended.

use super::{nodes, sweep};
use crate::simulation::faults::{Fault, partition};
use crate::simulation::plan::Plan;
use crate::simulation::{MILLISECOND, SECOND};

fn split(plan: &mut Plan, left: usize) {
    let mut random = plan.random();
    let at = random.between(100, 400) * MILLISECOND;
    let until = at + random.between(100, 1_500) * MILLISECOND;
    for fault in partition(&nodes(0..left), &nodes(left..plan.size)) {
        plan.at(at, fault);
    }
    plan.at(until, Fault::Heal);
    plan.load_until = until + 400 * MILLISECOND;
    plan.load_every = 40 * MILLISECOND;
}

#[test]
fn two_halves_wait_for_each_other() {
    sweep(&[(4, 10), (7, 3), (10, 1)], |plan| split(plan, plan.size / 2), |_| ());
}

#[test]
fn one_node_cut_off_comes_back() {
    sweep(&[(4, 10), (7, 3), (10, 1)], |plan| split(plan, 1), |_| ());
}

#[test]
fn a_link_that_works_one_way() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        let lonely = *random.pick(&nodes(0..plan.size));
        let rest: Vec<_> = nodes(0..plan.size).into_iter().filter(|n| *n != lonely).collect();
        let at = random.between(100, 400) * MILLISECOND;
        let (from, to) = if random.chance(50) { (vec![lonely], rest) } else { (rest, vec![lonely]) };
        plan.at(at, Fault::Cut { from, to });
        plan.at(at + random.between(100, 1_500) * MILLISECOND, Fault::Heal);
        plan.load_until = SECOND;
        plan.load_every = 40 * MILLISECOND;
    };
    sweep(&[(4, 10), (7, 3), (10, 1)], plan, |_| ());
}

#[test]
fn links_that_break_again_and_again() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        let mut at = 50 * MILLISECOND;
        for _ in 0..random.between(3, 12) {
            let from = *random.pick(&nodes(0..plan.size));
            let to: Vec<_> = nodes(0..plan.size).into_iter().filter(|n| *n != from && random.chance(50)).collect();
            plan.at(at, Fault::Cut { from: vec![from], to });
            at += random.between(5, 200) * MILLISECOND;
            if random.chance(50) {
                plan.at(at, Fault::Heal);
            }
        }
        plan.at(at, Fault::Heal);
        // Load goes on once all is mended, since an idle cluster is slow.
        plan.load_until = at + 400 * MILLISECOND;
        plan.load_every = 40 * MILLISECOND;
    };
    sweep(&[(4, 10), (7, 3), (10, 1)], plan, |_| ());
}
