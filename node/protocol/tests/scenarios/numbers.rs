//! A member writes numbers at the ends of their range while others are away, are killed and catch up over what it wrote.

use super::{node, sweep};
use crate::simulation::extremist::Extremist;
use crate::simulation::faults::Fault;
use crate::simulation::plan::{Plan, Role};
use crate::simulation::{MILLISECOND, SECOND};

#[test]
fn numbers_at_the_ends_of_their_range_stop_nobody_who_catches_up_over_them() {
    let plan = |plan: &mut Plan| {
        let mut random = plan.random();
        plan.protocol.gc_depth = 20;
        plan.faulty = vec![(node(0), Role::Puppet(Box::new(Extremist)))];
        let away = node(random.between(1, plan.size as u64 - 1) as usize);
        let back = random.between(1_000, 2_000) * MILLISECOND;
        plan.at(random.between(100, 300) * MILLISECOND, Fault::Kill(away));
        plan.at(back, Fault::Start(away));
        plan.load_until = back + SECOND;
        plan.load_every = 50 * MILLISECOND;
        plan.least_commits = 60;
        plan.bound = 5 * SECOND;
    };
    // The reference committer needs long for these graphs, at seven members 20 seconds a seed.
    sweep(&[(4, 8), (7, 1)], plan, |_| ());
}
