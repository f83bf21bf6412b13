//! Nothing breaks, or nobody is ever there.

use super::{nodes, sweep};
use crate::simulation::network::Delays;
use crate::simulation::plan::{Plan, Role};
use crate::simulation::world::World;
use crate::simulation::{MILLISECOND, SECOND};

#[test]
fn without_faults_payload_takes_five_delays() {
    let delay = 5 * MILLISECOND;
    let plan = |plan: &mut Plan| plan.delays = Delays::fixed(delay);
    sweep(&[(4, 6), (7, 2), (10, 1)], plan, |outcome| {
        let latency = outcome.oracle.mean_latency(0..SECOND).expect("something was executed");
        // 4.4 delays from the seal to the commit, plus a few syncs of the disk; of ten disks one is slow in every fourth round.
        assert!(2 * latency < 13 * delay, "mean latency {latency} us with a delay of {delay} us");
    });
}

#[test]
fn random_delays_and_reordered_streams() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        let high = random.between(1, 12) * MILLISECOND;
        plan.delays = Delays { low: 100, high, slow_chance: random.below(10), slow: 60 * MILLISECOND };
        plan.protocol.leaders_per_round = random.between(1, 2) as u32;
    };
    sweep(&[(4, 16), (7, 5), (10, 2)], plan, |_| ());
}

#[test]
fn a_member_silent_from_the_start_is_muted() {
    let delay = 5 * MILLISECOND;
    let plan = |plan: &mut Plan| {
        let silent = *plan.random().pick(&nodes(0..plan.size));
        plan.delays = Delays::fixed(delay);
        plan.faulty = vec![(silent, Role::Silent)];
        plan.load_until = 2 * SECOND;
        plan.load_every = 40 * MILLISECOND;
        plan.least_commits = 100;
    };
    sweep(&[(4, 5), (7, 2), (10, 1)], plan, |outcome| {
        // Sixteen rounds are slow, then nobody waits for it any more. Its rounds are skipped, which costs a delay or two.
        let latency = outcome.oracle.mean_latency(SECOND..3 * SECOND).expect("something was executed");
        assert!(latency < 7 * delay, "mean latency {latency} us with a delay of {delay} us");
    });
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |size, seed| {
        let mut plan = Plan::new(size, seed);
        super::crashes::kill_and_restart(&mut plan);
        let outcome = World::new(plan).run();
        (outcome.trace, outcome.events, outcome.oracle.commits())
    };
    for seed in 0..3 {
        assert_eq!(run(4, seed), run(4, seed), "seed {seed}");
    }
    assert_eq!(run(7, 9), run(7, 9));
    assert_ne!(run(4, 1).0, run(4, 2).0);
}
