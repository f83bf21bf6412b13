//! Nodes that are far away, and delays of a wide area: nobody lies, and nobody is starved.

use rorqual_config::ProtocolParameters;
use rorqual_config::parameters::NodeParameters;

use super::{node, sweep};
use crate::simulation::network::Delays;
use crate::simulation::plan::Plan;
use crate::simulation::{MILLISECOND, SECOND, Time};

/// The profile for local networks, with one node that is not there.
fn one_far(plan: &mut Plan, delay: Time) {
    plan.protocol = ProtocolParameters::default();
    plan.delays = Delays { low: MILLISECOND / 2, high: MILLISECOND, slow_chance: 0, slow: 0 };
    plan.far(node(plan.size - 1), delay);
    plan.load_until = 3 * SECOND;
    plan.load_every = 20 * MILLISECOND;
    plan.bound = 4 * SECOND;
}

fn payload_of_a_far_node_is_delivered(delay: Time) {
    sweep(
        &[(4, 3), (7, 1)],
        |plan| one_far(plan, delay),
        |outcome| {
            let far = node(outcome.oracle.size() - 1);
            let [near, far] =
                [node(0), far].map(|n| outcome.oracle.mean_latency_of(n).expect("something was executed"));
            println!("{} ms away: {} us near, {} us far", delay / MILLISECOND, near, far);
            // To the others and back, a late parent, three rounds.
            assert!(far < 3 * 2 * delay + 100 * MILLISECOND, "mean latency {far} us");
            assert!(near < 60 * MILLISECOND, "the others wait {near} us");
        },
    );
}

#[test]
fn payload_of_a_node_40_ms_away_is_delivered() {
    payload_of_a_far_node_is_delivered(40 * MILLISECOND);
}

#[test]
fn payload_of_a_node_80_ms_away_is_delivered() {
    payload_of_a_far_node_is_delivered(80 * MILLISECOND);
}

#[test]
fn payload_of_a_node_160_ms_away_is_delivered() {
    payload_of_a_far_node_is_delivered(160 * MILLISECOND);
}

#[test]
fn the_wide_area_profile_commits_in_a_few_delays() {
    for delay in [25, 50, 100].map(|delay| delay * MILLISECOND) {
        let plan = |plan: &mut Plan| {
            plan.protocol = ProtocolParameters::wan();
            plan.parameters = NodeParameters::wan().consensus;
            plan.delays = Delays { low: delay * 9 / 10, high: delay * 11 / 10, slow_chance: 0, slow: 0 };
            plan.load_until = 10 * SECOND;
            plan.load_every = 200 * MILLISECOND;
            plan.bound = 8 * SECOND;
        };
        sweep(&[(4, 2), (7, 1)], plan, |outcome| {
            let latency = outcome.oracle.mean_latency(0..20 * SECOND).expect("something was executed");
            println!("{} ms: {} commits, {latency} us", delay / MILLISECOND, outcome.oracle.commits());
            assert!(latency < 6 * delay + 60 * MILLISECOND, "mean latency {latency} us with a delay of {delay} us");
        });
    }
}
