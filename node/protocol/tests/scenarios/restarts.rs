//! Nodes stop at any moment while a member lies with valid blocks, or after they have been away. No round is signed twice,
//! nobody who lost nothing ends in amnesia, and everything goes on.

use super::{node, nodes, sweep};
use crate::random::Random;
use crate::simulation::equivocator::Equivocator;
use crate::simulation::faults::Fault;
use crate::simulation::plan::{Plan, Role};
use crate::simulation::puppet::Mischief;
use crate::simulation::rootless::Rootless;
use crate::simulation::withholder::Withholder;
use crate::simulation::{MILLISECOND, SECOND, Time};

const SIZES: [(usize, u64); 2] = [(4, 10), (7, 3)];

/// How nodes are stopped.
#[derive(Clone, Copy)]
enum Stop {
    /// `kill -9`.
    Kill,
    /// The power of one.
    Power,
    /// The power of all.
    Blackout,
}

impl Stop {
    fn of(self, victim: rorqual_config::AuthorityIndex, all: &[rorqual_config::AuthorityIndex]) -> Fault {
        match self {
            Self::Kill => Fault::Kill(victim),
            Self::Power => Fault::PowerLoss(vec![victim]),
            Self::Blackout => Fault::PowerLoss(all.to_vec()),
        }
    }
}

/// Rules under which garbage is collected all the time.
fn small_rules(plan: &mut Plan) {
    plan.protocol.gc_depth = 20;
    plan.protocol.checkpoint_interval = 4;
}

/// Member 0 lies from the start.
fn lies(plan: &mut Plan, mischief: impl Mischief + 'static) {
    plan.faulty = vec![(node(0), Role::Puppet(Box::new(mischief)))];
    plan.bound = 10 * SECOND;
}

/// Honest nodes are stopped again and again, a moment at a time, from `from` on.
fn stop_often(plan: &mut Plan, random: &mut Random, from: Time, how: Stop) {
    let honest = nodes(1..plan.size);
    let mut at = from;
    for _ in 0..random.between(3, 8) {
        let victims = if matches!(how, Stop::Blackout) { 1 } else { random.between(1, 2) };
        for _ in 0..victims {
            let victim = *random.pick(&honest);
            plan.at(at + random.below(3_000), how.of(victim, &honest));
        }
        let back = at + random.between(5, 120) * MILLISECOND;
        honest.iter().for_each(|victim| plan.at(back, Fault::Start(*victim)));
        at = back + random.between(30, 250) * MILLISECOND;
    }
    honest.iter().for_each(|victim| plan.at(at, Fault::Start(*victim)));
    plan.load_until = at + 300 * MILLISECOND;
    plan.load_every = 30 * MILLISECOND;
    plan.least_commits = 60;
}

fn rootless(plan: &mut Plan, how: Stop) {
    small_rules(plan);
    let mut random = plan.random();
    let liar = Rootless { every: random.between(1, 12), withholds: random.chance(50), splits: random.chance(30) };
    lies(plan, liar);
    stop_often(plan, &mut random, 250 * MILLISECOND, how);
}

#[test]
fn an_own_parent_that_nobody_sees_and_kills() {
    sweep(&SIZES, |plan| rootless(plan, Stop::Kill), |_| ());
}

#[test]
fn an_own_parent_that_nobody_sees_and_power_cuts_of_one() {
    sweep(&SIZES, |plan| rootless(plan, Stop::Power), |_| ());
}

#[test]
fn an_own_parent_that_nobody_sees_and_power_cuts_of_all() {
    sweep(&SIZES, |plan| rootless(plan, Stop::Blackout), |_| ());
}

/// The common rules that a cluster has by default, with load enough to collect garbage.
#[test]
fn an_own_parent_that_nobody_sees_under_default_rules() {
    let plan = |plan: &mut Plan| {
        rootless(plan, Stop::Kill);
        plan.protocol = rorqual_config::ProtocolParameters::default();
        let mut random = plan.random();
        plan.faults.clear();
        stop_often(plan, &mut random, 7 * SECOND, Stop::Kill);
        plan.load_every = 15 * MILLISECOND;
        plan.least_commits = 610;
    };
    sweep(&[(4, 2)], plan, |_| ());
}

/// A node is away for many times `gc_depth`; when it is back it is stopped again, at any moment of catching up.
fn return_and_stop(plan: &mut Plan, how: Stop) -> Random {
    small_rules(plan);
    let mut random = plan.random();
    let away = node(random.between(1, plan.size as u64 - 1) as usize);
    let back = random.between(700, 2_000) * MILLISECOND;
    plan.at(random.between(50, 200) * MILLISECOND, Fault::Kill(away));
    plan.at(back, Fault::Start(away));
    let mut at = back;
    for _ in 0..random.between(1, 6) {
        at += random.between(1, 200) * MILLISECOND;
        plan.at(at, how.of(away, &nodes(1..plan.size)));
        at += random.between(1, 100) * MILLISECOND;
        nodes(1..plan.size).into_iter().for_each(|victim| plan.at(at, Fault::Start(victim)));
    }
    plan.load_until = at + 500 * MILLISECOND;
    plan.load_every = 30 * MILLISECOND;
    // Beside a liar that leads, a cluster with little load rests between commits.
    plan.least_commits = 40;
    plan.bound = 10 * SECOND;
    random
}

#[test]
fn a_node_returns_from_long_absence_and_is_killed_while_nobody_lies() {
    sweep(&[(4, 16), (7, 3)], |plan| _ = return_and_stop(plan, Stop::Kill), |_| ());
}

#[test]
fn a_node_returns_from_long_absence_and_loses_power_while_nobody_lies() {
    sweep(&SIZES, |plan| _ = return_and_stop(plan, Stop::Power), |_| ());
}

#[test]
fn a_node_returns_beside_a_liar_and_is_killed() {
    let plan = |plan: &mut Plan| {
        let mut random = return_and_stop(plan, Stop::Kill);
        match random.below(4) {
            0 => lies(plan, Equivocator::Halves),
            1 => lies(plan, Withholder::FromAll),
            2 => lies(plan, Withholder::ButForOne(node(1))),
            _ => lies(plan, Rootless { every: 3, withholds: true, splits: true }),
        }
    };
    sweep(&[(4, 16), (7, 3)], plan, |_| ());
}

#[test]
fn all_lose_power_while_a_node_returns() {
    sweep(&SIZES, |plan| _ = return_and_stop(plan, Stop::Blackout), |_| ());
}
