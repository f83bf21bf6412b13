//! A node comes back after many times `gc_depth`, and up to F of those that it asks lie.
//!
//! Every run with liars is paired with one of the same seed where they serve honestly.

use super::nodes;
use crate::random::{Random, seeds, with_seed};
use crate::simulation::boaster::Boaster;
use crate::simulation::faults::Fault;
use crate::simulation::oracle::Return;
use crate::simulation::plan::{Plan, Role};
use crate::simulation::server::{About, Lie, Server};
use crate::simulation::world::World;
use crate::simulation::{MILLISECOND, SECOND, Time};

fn plan(size: usize, seed: u64, lie: impl Fn(&mut Random) -> Option<Role>) -> Plan {
    let mut plan = Plan::new(size, seed);
    let mut random = plan.random();
    plan.protocol.gc_depth = 20;
    let mut members = nodes(0..size);
    random.shuffle(&mut members);
    let away = members[0];
    let at = random.between(50, 300) * MILLISECOND;
    let back = at + random.between(2_000, 4_000) * MILLISECOND;
    plan.at(at, Fault::Kill(away));
    plan.at(back, Fault::Start(away));
    plan.load_until = back + SECOND;
    plan.load_every = 50 * MILLISECOND;
    plan.least_commits = 100;
    plan.bound = 90 * SECOND;
    for liar in &members[1..=(size - 1) / 3] {
        plan.faulty.extend(lie(&mut random).map(|role| (*liar, role)));
    }
    plan
}

fn run(plan: Plan) -> Return {
    let outcome = World::new(plan).run();
    *outcome.oracle.returns().last().expect("somebody came back")
}

fn served(lie: Lie, about: About) -> Role {
    Role::Server(Server::False(lie, about))
}

/// Runs pairs; the time with liars is bounded by the time without.
fn paired(name: &str, sizes: &[(usize, u64)], lie: impl Fn(&mut Random) -> Role) {
    for (size, count) in sizes {
        let mut times: Vec<[Time; 4]> = Vec::new();
        for seed in seeds(*count) {
            let [honest, lied] = with_seed(seed, || {
                [run(plan(*size, seed, |_| None)), run(plan(*size, seed, |random| Some(lie(random))))]
            });
            let took = |done: Option<Time>, back: &Return| done.expect("it has caught up") - back.at;
            times.push([
                took(honest.recorded, &honest),
                took(lied.recorded, &lied),
                took(honest.executed, &honest),
                took(lied.executed, &lied),
            ]);
            let [decided, decided_with_liars, applied, applied_with_liars] = times[times.len() - 1];
            let seed = format!("seed {seed}, n = {size}, ms: {:?}", times[times.len() - 1].map(|t| t / MILLISECOND));
            assert!(decided_with_liars <= 2 * decided + GRACE, "deciding takes too long; {seed}");
            assert!(applied_with_liars <= 2 * applied + GRACE, "applying takes too long; {seed}");
        }
        let column = |place: usize| {
            let mut all: Vec<Time> = times.iter().map(|row| row[place] / MILLISECOND).collect();
            all.sort_unstable();
            format!("{} / {}", all[all.len() / 2], all[all.len() - 1])
        };
        println!(
            "{name}, n = {size}: median / worst ms to decide {} honest, {} lied to; to apply {}, {}",
            column(0),
            column(1),
            column(2),
            column(3)
        );
    }
}

/// What liars may cost beyond twice the honest time: four round trips of the plan.
const GRACE: Time = 4 * 5 * MILLISECOND;

const SIZES: &[(usize, u64)] = &[(4, 3), (7, 1)];

#[test]
fn mute_servers() {
    paired("mute", SIZES, |_| served(Lie::Mute, About::Ranges));
}

#[test]
fn servers_of_records_without_blocks() {
    paired("records only", SIZES, |_| served(Lie::RecordsOnly, About::Ranges));
}

#[test]
fn trickling_servers() {
    let trickle = |random: &mut Random| {
        let delay = [10, 30, 100, 300, 1_900][random.below(5) as usize] * MILLISECOND;
        served(Lie::Trickle(delay), About::Ranges)
    };
    paired("trickle", SIZES, trickle);
}

#[test]
fn servers_of_short_ranges() {
    paired("truncate", SIZES, |_| served(Lie::Truncate, About::Ranges));
}

#[test]
fn servers_that_claim_to_have_dropped_everything() {
    paired("pruned", SIZES, |random| served(Lie::Pruned([1, 1 << 40][random.below(2) as usize]), About::Ranges));
}

#[test]
fn servers_of_garbage() {
    paired("garbage", SIZES, |_| served(Lie::Garbage, About::Ranges));
}

#[test]
fn servers_that_lie_differently_each_time() {
    paired("mixed", SIZES, |_| served(Lie::Mixed, About::Ranges));
}

#[test]
fn mute_for_everything() {
    paired("mute for everything", SIZES, |_| served(Lie::Mute, About::Everything));
}

#[test]
fn members_that_claim_commits_that_nobody_has() {
    paired("boast", SIZES, |random| Role::Puppet(Box::new(Boaster { by: [50, 1 << 40][random.below(2) as usize] })));
}
