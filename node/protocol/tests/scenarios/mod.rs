//! What is run, over many seeds.

mod absence;
mod byzantine;
mod calm;
mod clocks;
mod crashes;
mod defaults;
mod execution;
mod far;
mod hoarding;
mod limits;
mod losses;
mod malformed;
mod mute;
mod numbers;
mod partitions;
mod restarts;
mod stakes;
mod wild;

use rorqual_config::AuthorityIndex;

use crate::random::{seeds, with_seed};
use crate::simulation::plan::Plan;
use crate::simulation::world::{Outcome, World};

/// Runs a scenario over seeds for each size of a committee, and looks at every outcome.
fn sweep(sizes: &[(usize, u64)], plan: impl Fn(&mut Plan), look: impl Fn(&Outcome)) {
    for (size, count) in sizes {
        let (mut commits, mut events, mut simulated, mut runs) = (0, 0, 0, 0);
        let started = std::time::Instant::now();
        for seed in seeds(*count) {
            let outcome = with_seed(seed, || {
                let mut made = Plan::new(*size, seed);
                plan(&mut made);
                let outcome = World::new(made).run();
                look(&outcome);
                outcome
            });
            commits += outcome.oracle.commits();
            events += outcome.events;
            simulated += outcome.ended / 1000;
            runs += 1;
        }
        let took = started.elapsed().as_millis();
        println!("n = {size}: {runs} seeds, {commits} commits, {events} events, {simulated} ms simulated in {took} ms");
    }
}

fn node(index: usize) -> AuthorityIndex {
    AuthorityIndex(index as u16)
}

fn nodes(indices: std::ops::Range<usize>) -> Vec<AuthorityIndex> {
    indices.map(node).collect()
}
