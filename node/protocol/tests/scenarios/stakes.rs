//! Members of unequal stake: what counts is stake and never the number of members.

use rorqual_config::committee::AuthoritySet;

use super::{nodes, sweep};
use crate::members;
use crate::simulation::equivocator::Equivocator;
use crate::simulation::faults::Fault;
use crate::simulation::plan::{Plan, Role};
use crate::simulation::{MILLISECOND, SECOND};

fn unequal(plan: &mut Plan) {
    let mut random = plan.random();
    plan.stakes = (0..plan.size).map(|_| random.between(1, 9)).collect();
    plan.bound = 5 * SECOND;
}

#[test]
fn members_of_unequal_stake_crash_and_return() {
    let plan = |plan: &mut Plan| {
        super::crashes::kill_and_restart(plan);
        unequal(plan);
    };
    sweep(&[(4, 8), (7, 2)], plan, |_| ());
}

/// As many equivocators as their stake allows, though no more than a third of the members, and one of the others dies for a
/// moment. (Leaders go round by member and not by stake. With more liars among the members no three leaders in a row need be
/// honest, and a slot that is left undecided may wait as long as they go on.)
#[test]
fn members_of_unequal_stake_equivocate() {
    let plan = |plan: &mut Plan| {
        unequal(plan);
        let mut random = plan.random();
        let committee = members::committee(&plan.stakes, plan.protocol.clone());
        let (mut liars, mut members) = (AuthoritySet::EMPTY, nodes(0..plan.size));
        random.shuffle(&mut members);
        for member in &members {
            let mut more = liars;
            more.insert(*member);
            if committee.stake_of(&more) <= committee.max_faulty() && more.len() <= (plan.size - 1) / 3 {
                liars = more;
            }
        }
        plan.faulty = liars.iter().map(|liar| (liar, Role::Puppet(Box::new(Equivocator::Halves) as _))).collect();
        let victim = members.into_iter().find(|member| !liars.contains(*member));
        if let Some(victim) = victim {
            let at = random.between(100, 500) * MILLISECOND;
            plan.at(at, Fault::Kill(victim));
            plan.at(at + random.between(1, 200) * MILLISECOND, Fault::Start(victim));
        }
        plan.load_until = SECOND;
        plan.load_every = 40 * MILLISECOND;
    };
    sweep(&[(4, 8), (7, 2)], plan, |_| ());
}
