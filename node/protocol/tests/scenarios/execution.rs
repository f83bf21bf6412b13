//! Execution is slow: commits, records and votes go their way meanwhile, and a process dies with much of it not applied.

use super::{nodes, sweep};
use crate::simulation::executor::Pace;
use crate::simulation::faults::Fault;
use crate::simulation::plan::Plan;
use crate::simulation::{MILLISECOND, SECOND};

/// Now and then a commit takes up to two seconds.
fn slow(plan: &mut Plan) {
    plan.pace = Pace { low: 20, high: 300, slow_of_thousand: 10, slow: 2 * SECOND };
    plan.load_until = SECOND;
    plan.load_every = 60 * MILLISECOND;
    plan.bound = 20 * SECOND;
}

#[test]
fn execution_is_seconds_behind() {
    sweep(&[(4, 4), (7, 1)], slow, |_| ());
}

#[test]
fn nodes_die_while_their_execution_is_seconds_behind() {
    let plan = |plan: &mut Plan| {
        slow(plan);
        let mut random = plan.random();
        for _ in 0..random.between(1, 3) {
            let (at, victim) = (random.between(300, 900) * MILLISECOND, *random.pick(&nodes(0..plan.size)));
            plan.at(at, if random.chance(50) { Fault::Kill(victim) } else { Fault::PowerLoss(vec![victim]) });
            plan.at(at + random.between(1, 300) * MILLISECOND, Fault::Start(victim));
        }
    };
    sweep(&[(4, 6), (7, 1)], plan, |_| ());
}
