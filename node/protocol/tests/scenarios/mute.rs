//! Nobody is away, links are slow now and then, and up to F members answer no request, or answer late.
//!
//! Every run with liars is paired with one of the same seed without.

use super::nodes;
use crate::random::{seeds, with_seed};
use crate::simulation::network::Delays;
use crate::simulation::plan::{Plan, Role};
use crate::simulation::server::{About, Lie, Server};
use crate::simulation::world::World;
use crate::simulation::{MILLISECOND, SECOND, Time};

/// Mean delay from sealing to execution at the sealer.
fn latency(size: usize, seed: u64, lie: Option<Lie>) -> Time {
    let mut plan = Plan::new(size, seed);
    let mut members = nodes(0..size);
    plan.random().shuffle(&mut members);
    plan.delays = Delays { low: MILLISECOND, high: 4 * MILLISECOND, slow_chance: 5, slow: 80 * MILLISECOND };
    plan.load_every = 20 * MILLISECOND;
    for liar in members.into_iter().take((size - 1) / 3) {
        plan.faulty.extend(lie.map(|lie| (liar, Role::Server(Server::False(lie, About::Everything)))));
    }
    let outcome = World::new(plan).run();
    outcome.oracle.mean_latency(0..2 * SECOND).expect("something was executed")
}

fn paired(name: &str, lie: Lie) {
    for (size, count) in [(4, 4), (7, 2)] {
        for seed in seeds(count) {
            let [honest, lied] = with_seed(seed, || [latency(size, seed, None), latency(size, seed, Some(lie))]);
            println!("{name}, n = {size}, seed {seed}: mean latency {honest} us honest, {lied} us with liars");
            assert!(lied <= 2 * honest, "{name}, n = {size}, seed {seed}: {honest} us became {lied} us");
        }
    }
}

#[test]
fn members_that_answer_nothing_do_not_slow_commits() {
    paired("mute", Lie::Mute);
}

#[test]
fn members_that_answer_late_do_not_slow_commits() {
    paired("late", Lie::Trickle(150 * MILLISECOND));
}
