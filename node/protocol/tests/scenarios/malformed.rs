//! Blocks that break a rule of form are refused wherever they come in, and cost nobody anything.

use super::{node, sweep};
use crate::simulation::malformer::Malformer;
use crate::simulation::plan::{Plan, Role};
use crate::simulation::{MILLISECOND, SECOND};

#[test]
fn blocks_that_are_not_valid_are_refused() {
    let plan = |plan: &mut Plan| {
        let liar = plan.random().below(plan.size as u64) as usize;
        plan.faulty = vec![(node(liar), Role::Puppet(Box::new(Malformer)))];
        plan.load_every = 40 * MILLISECOND;
        plan.bound = 5 * SECOND;
    };
    sweep(&[(4, 6), (7, 1)], plan, |_| ());
}
