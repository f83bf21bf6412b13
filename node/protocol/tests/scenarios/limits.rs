//! What one member may cost the others.

use rorqual_protocol::Rule;

use super::{node, sweep};
use crate::simulation::chain_bomb::{Accomplice, Audience, ChainBomb};
use crate::simulation::equivocator::Equivocator;
use crate::simulation::faults::Fault;
use crate::simulation::liar::Liar;
use crate::simulation::plan::{Plan, Role};
use crate::simulation::world::{Outcome, World};
use crate::simulation::{MILLISECOND, SECOND};

/// Two members never see each other: the others push to each what the other writes, all of them.
#[test]
fn each_header_is_verified_once_however_often_it_comes() {
    let plan = |plan: &mut Plan| {
        for (from, to) in [(0, 1), (1, 0)] {
            plan.at(MILLISECOND, Fault::Cut { from: vec![node(from)], to: vec![node(to)] });
        }
        plan.load_until = SECOND;
    };
    sweep(&[(4, 4), (7, 2)], plan, |outcome| {
        let (copies, again) = (outcome.oracle.copies, outcome.oracle.verified_again);
        assert!(copies > 100, "{copies} copies: nothing was tested");
        assert!(again * 50 < copies, "{again} signatures were checked a second time, {copies} times they were not");
    });
}

/// Commits a second beside these liars.
fn pace(size: usize, seed: u64, roles: Vec<Role>, gc_depth: u64) -> (u64, Outcome) {
    let mut plan = Plan::new(size, seed);
    plan.protocol.gc_depth = gc_depth;
    plan.load_until = 3 * SECOND / 2;
    plan.load_every = 40 * MILLISECOND;
    plan.bound = 5 * SECOND;
    let members = (0..size).map(|index| node((seed as usize + index) % size));
    plan.faulty = members.zip(roles).collect();
    let outcome = World::new(plan).run();
    (outcome.oracle.commits() * SECOND / outcome.ended, outcome)
}

fn beside_a_chain_bomb(audience: Audience) {
    for (size, gc_depth, seeds) in [(4, 60, 2), (4, 300, 1), (7, 60, 1)] {
        for seed in 0..seeds {
            let (silent, _) = pace(size, seed, vec![Role::Silent], gc_depth);
            let bomb = Role::Puppet(Box::new(ChainBomb::new(gc_depth - 5, audience)));
            let (bombed, outcome) = pace(size, seed, vec![bomb], gc_depth);
            println!(
                "n = {size}, gc_depth {gc_depth}, {audience:?}: {silent} commits/s beside a silent liar, {bombed}; {} events",
                outcome.events
            );
            assert!(2 * bombed >= silent, "{bombed} commits a second, {silent} beside a silent member");
            assert!(outcome.oracle.blamed(Rule::Equivocation) > 0, "nobody blames it");
        }
    }
}

#[test]
fn a_chain_bomb_for_all() {
    beside_a_chain_bomb(Audience::All);
}

#[test]
fn a_chain_bomb_for_one_in_turn() {
    beside_a_chain_bomb(Audience::OneInTurn);
}

#[test]
fn another_chain_bomb_for_each() {
    beside_a_chain_bomb(Audience::Split);
}

/// The chains reach the others as parents of blocks by a member that wrote one block a round.
#[test]
fn a_chain_bomb_behind_the_blocks_of_an_accomplice() {
    for (gc_depth, seeds) in [(60, 2), (300, 1)] {
        for seed in 0..seeds {
            let (silent, _) = pace(7, seed, vec![Role::Silent, Role::Silent], gc_depth);
            let bomb = ChainBomb::new(gc_depth - 5, Audience::Only(node(seed as usize + 1)));
            let liars = vec![Role::Puppet(Box::new(bomb)), Role::Puppet(Box::new(Accomplice))];
            let (bombed, outcome) = pace(7, seed, liars, gc_depth);
            println!(
                "gc_depth {gc_depth}: {silent} commits/s beside silent liars, {bombed}; {} events",
                outcome.events
            );
            assert!(2 * bombed >= silent, "{bombed} commits a second, {silent} beside silent members");
        }
    }
}

#[test]
fn who_breaks_a_rule_is_blamed_for_that_rule() {
    let liar = |abstains| Role::Puppet(Box::new(Liar { abstains, silent_from: u64::MAX }));
    let blamed = |role| {
        let (_, outcome) = pace(4, 1, vec![role], 60);
        Rule::ALL.iter().copied().filter(|rule| outcome.oracle.blamed(*rule) > 0).collect::<Vec<Rule>>()
    };
    assert_eq!(blamed(liar(false)), [Rule::VoteAgainst]);
    assert_eq!(blamed(liar(true)), []);
    assert_eq!(blamed(Role::Silent), []);
    assert_eq!(blamed(Role::Puppet(Box::new(Equivocator::Both))), [Rule::Equivocation]);
}
