//! At most F members lie.

use super::{node, nodes, sweep};
use crate::random::Random;
use crate::simulation::equivocator::Equivocator;
use crate::simulation::faults::Fault;
use crate::simulation::liar::Liar;
use crate::simulation::plan::{Plan, Role};
use crate::simulation::puppet::Mischief;
use crate::simulation::withholder::Withholder;
use crate::simulation::{MILLISECOND, SECOND};

/// Up to F members do mischief.
pub fn corrupt<M: Mischief + 'static>(plan: &mut Plan, make: impl Fn(&mut Random) -> M) {
    let mut random = plan.random();
    let mut members = nodes(0..plan.size);
    random.shuffle(&mut members);
    let most = (plan.size as u64 - 1) / 3;
    let faulty = random.between(1, most) as usize;
    plan.faulty =
        members.into_iter().take(faulty).map(|m| (m, Role::Puppet(Box::new(make(&mut random)) as _))).collect();
    plan.load_every = 40 * MILLISECOND;
    plan.bound = 5 * SECOND;
}

#[test]
fn an_equivocator_shows_each_half_another_block() {
    sweep(&[(4, 12), (7, 4), (10, 1)], |plan| corrupt(plan, |_| Equivocator::Halves), |_| ());
}

#[test]
fn an_equivocator_shows_everybody_both_blocks() {
    sweep(&[(4, 12), (7, 4), (10, 1)], |plan| corrupt(plan, |_| Equivocator::Both), |_| ());
}

#[test]
fn payload_is_withheld_from_all() {
    let plan = |plan: &mut Plan| {
        corrupt(plan, |_| Withholder::FromAll);
        // What is withheld keeps nobody awake: enough load for the commits that are asked for.
        plan.load_until = 1_200 * MILLISECOND;
        plan.protocol.leaders_per_round = plan.random().between(1, 2) as u32;
    };
    sweep(&[(4, 10), (7, 3), (10, 1)], plan, |outcome| {
        let withheld = outcome.oracle.byzantine().map(|liar| outcome.oracle.led_by(liar)).sum::<usize>();
        assert_eq!(withheld, 0, "a leader was committed whose payload nobody has");
    });
}

#[test]
fn payload_is_given_to_one_alone() {
    let plan = |plan: &mut Plan| {
        let favourite = *plan.random().pick(&nodes(0..plan.size));
        corrupt(plan, |_| Withholder::ButForOne(favourite));
    };
    sweep(&[(4, 10), (7, 3), (10, 1)], plan, |_| ());
}

/// A member lies about commits while another is away for many times `gc_depth`; sometimes it falls silent when that returns.
fn lie_while_another_is_away(plan: &mut Plan, abstains: bool) {
    let mut random = plan.random();
    plan.protocol.gc_depth = 20;
    let back = random.between(1_000, 2_000) * MILLISECOND;
    let falls_silent = !abstains || random.chance(50);
    let silent_from = if falls_silent { back + random.below(300_000) } else { u64::MAX };
    plan.faulty = vec![(node(0), Role::Puppet(Box::new(Liar { abstains, silent_from })))];
    let away = node(random.between(1, plan.size as u64 - 1) as usize);
    plan.at(random.between(50, 200) * MILLISECOND, Fault::Kill(away));
    plan.at(back, Fault::Start(away));
    plan.load_until = back + SECOND;
    plan.load_every = 50 * MILLISECOND;
    plan.least_commits = 60;
    plan.bound = 5 * SECOND;
}

#[test]
fn a_liar_about_commits_falls_silent_when_another_returns() {
    sweep(&[(4, 8), (7, 2), (10, 1)], |plan| lie_while_another_is_away(plan, false), |_| ());
}

#[test]
fn a_member_votes_for_nothing_while_another_returns() {
    sweep(&[(4, 8), (7, 1)], |plan| lie_while_another_is_away(plan, true), |_| ());
}

#[test]
fn an_equivocator_among_nodes_that_crash() {
    let plan = |plan: &mut Plan| {
        super::crashes::kill_and_restart(plan);
        plan.faulty = vec![(node(0), Role::Puppet(Box::new(Equivocator::Halves)))];
        plan.faults.retain(|(_, fault)| !matches!(fault, Fault::Kill(n) | Fault::Start(n) if *n == node(0)));
        plan.bound = 5 * SECOND;
    };
    sweep(&[(4, 10), (7, 3)], plan, |_| ());
}
