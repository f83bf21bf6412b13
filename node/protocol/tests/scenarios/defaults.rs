//! The rules and parameters that ship, where most scenarios use smaller ones to reach their edges sooner.

use rorqual_config::ProtocolParameters;
use rorqual_config::parameters::ConsensusParameters;

use super::{node, nodes, sweep};
use crate::simulation::equivocator::Equivocator;
use crate::simulation::faults::{Fault, partition};
use crate::simulation::plan::{Plan, Role};
use crate::simulation::{MILLISECOND, SECOND};

fn default(plan: &mut Plan) {
    plan.protocol = ProtocolParameters::default();
    plan.parameters = ConsensusParameters::default();
}

#[test]
fn processes_die_and_machines_lose_power_under_default_rules() {
    let plan = |plan: &mut Plan| {
        super::crashes::kill_and_restart(plan);
        default(plan);
        let mut random = plan.random();
        let last = plan.quiet_from();
        if random.chance(50) {
            plan.at(last, Fault::PowerLoss(nodes(0..plan.size)));
            nodes(0..plan.size).into_iter().for_each(|n| plan.at(last + 30 * MILLISECOND, Fault::Start(n)));
            plan.load_until = last + 300 * MILLISECOND;
        }
    };
    sweep(&[(4, 6), (7, 1)], plan, |_| ());
}

#[test]
fn an_equivocator_among_nodes_that_crash_under_default_rules() {
    let plan = |plan: &mut Plan| {
        super::crashes::kill_and_restart(plan);
        default(plan);
        plan.faulty = vec![(node(0), Role::Puppet(Box::new(Equivocator::Halves)))];
        plan.faults.retain(|(_, fault)| !matches!(fault, Fault::Kill(n) | Fault::Start(n) if *n == node(0)));
        plan.bound = 5 * SECOND;
    };
    sweep(&[(4, 6), (7, 1)], plan, |_| ());
}

/// For more than ten seconds, and for more rounds and commits than are kept, since there is some load all the time.
#[test]
fn a_node_away_beyond_gc_depth_and_checkpoints_returns_under_default_rules() {
    let plan = |plan: &mut Plan| {
        default(plan);
        let mut random = plan.random();
        let away = *random.pick(&nodes(0..plan.size));
        let at = random.between(50, 600) * MILLISECOND;
        let back = at + random.between(11_000, 14_000) * MILLISECOND;
        if random.chance(60) {
            plan.at(at, if random.chance(50) { Fault::Kill(away) } else { Fault::PowerLoss(vec![away]) });
            plan.at(back, Fault::Start(away));
        } else {
            let rest: Vec<_> = nodes(0..plan.size).into_iter().filter(|n| *n != away).collect();
            partition(&[away], &rest).into_iter().for_each(|fault| plan.at(at, fault));
            plan.at(back, Fault::Heal);
        }
        plan.load_every = 200 * MILLISECOND;
        plan.load_until = back + SECOND;
        plan.least_commits = 650;
        plan.bound = 5 * SECOND;
    };
    sweep(&[(4, 3), (7, 1)], plan, |_| ());
}
