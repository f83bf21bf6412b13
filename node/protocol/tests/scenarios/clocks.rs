//! Clocks that are wrong, are corrected, or lie: commit time stays near those that are right, and goes on.

use super::{node, nodes, sweep};
use crate::simulation::faults::Fault;
use crate::simulation::plan::{Plan, Role};
use crate::simulation::swinger::Swinger;
use crate::simulation::{MILLISECOND, SECOND, Time};

const HOUR_MS: i64 = 3_600_000;
/// From a block to the execution of what it commits, with some reserve.
const DELAY_MS: i64 = 150;

fn busy_until(plan: &mut Plan, end: Time) {
    plan.load_until = end;
    plan.load_every = 40 * MILLISECOND;
    plan.least_commits = 100;
}

/// F members swing; F of the others are ahead by `spread_ms`, the rest is right.
fn swing(plan: &mut Plan, spread_ms: i64) {
    let mut random = plan.random();
    let mut members = nodes(0..plan.size);
    random.shuffle(&mut members);
    let most = (plan.size - 1) / 3;
    for (place, member) in members.into_iter().enumerate() {
        if place < most {
            let (reach, rounds) = (2 * spread_ms as Time * MILLISECOND, random.between(1, 12));
            plan.faulty.push((member, Role::Puppet(Box::new(Swinger { reach, rounds }))));
        } else {
            plan.at(0, Fault::Clock(member, if place < 2 * most { spread_ms } else { 0 }));
        }
    }
}

#[test]
fn lying_leaders_and_honest_clocks_ahead_move_commit_time_less_than_three_times_the_spread() {
    let spread = 400;
    let plan = |plan: &mut Plan| {
        swing(plan, spread);
        busy_until(plan, 3 * SECOND);
    };
    sweep(&[(4, 6), (7, 1)], plan, |outcome| {
        let times = &outcome.oracle.times;
        let ahead = times.most_ahead(0..3 * SECOND);
        assert!(ahead < 3 * spread, "{ahead} ms ahead of clocks that are right");
        let stood = times.longest_stand(500 * MILLISECOND..3 * SECOND);
        assert!(stood < spread + DELAY_MS, "commit time stood still for {stood} ms");
    });
}

#[test]
fn with_lying_leaders_and_honest_clocks_an_hour_ahead_commit_time_goes_on() {
    let plan = |plan: &mut Plan| {
        swing(plan, HOUR_MS);
        busy_until(plan, 3 * SECOND);
    };
    sweep(&[(4, 3), (7, 1)], plan, |outcome| {
        let ahead = outcome.oracle.times.most_ahead(0..3 * SECOND);
        assert!(ahead < 3 * HOUR_MS, "{ahead} ms ahead of clocks that are right");
    });
}

#[test]
fn all_clocks_an_hour_ahead_and_back_leave_commit_time_running() {
    let (ahead, back, end) = (600 * MILLISECOND, 1_200 * MILLISECOND, 3 * SECOND);
    let plan = |plan: &mut Plan| {
        for member in nodes(0..plan.size) {
            let off = plan.random().below(20) as i64;
            plan.at(0, Fault::Clock(member, off));
            plan.at(ahead + off as Time, Fault::Clock(member, HOUR_MS + off));
            plan.at(back + off as Time, Fault::Clock(member, off));
        }
        // One restarts in the middle of it, one is away and catches up through certified ranges.
        let restarts = node(plan.random().below(plan.size as u64) as usize);
        let away = node((restarts.usize() + 1) % plan.size);
        plan.protocol.gc_depth = 20;
        plan.at(back + 300 * MILLISECOND, Fault::Kill(restarts));
        plan.at(back + 310 * MILLISECOND, Fault::Start(restarts));
        plan.at(500 * MILLISECOND, Fault::Kill(away));
        plan.at(back + 600 * MILLISECOND, Fault::Start(away));
        busy_until(plan, end);
        plan.bound = 5 * SECOND;
    };
    sweep(&[(4, 5), (7, 1)], plan, |outcome| {
        let times = &outcome.oracle.times;
        assert!(times.most_ahead(0..ahead) < 50);
        let jumped = times.most_ahead(0..end);
        assert!((HOUR_MS - 200..HOUR_MS + 50).contains(&jumped), "{jumped} ms ahead");
        let after = back + 300 * MILLISECOND..end;
        let stood = times.longest_stand(after.clone());
        assert!(stood < DELAY_MS, "commit time stood still for {stood} ms");
        let pace = times.pace(after);
        assert!((0.85..0.95).contains(&pace), "commit time runs at {pace:.3} of the pace of clocks");
    });
}
