//! Commit time over restarts, ranges and outages; what clocks are known; what clients may be told.

use std::time::Duration;

use rorqual_config::ProtocolParameters;

use super::driver::Cluster;
use crate::commit::time::CommitTime;
use crate::core::{Core, Deviation, Times};
use crate::effect::Halt;
use crate::input::Now;
use crate::types::{CommitIndex, Delivery};

const MS: Duration = Duration::from_millis(1);
const HOUR: i64 = 3_600_000;

fn rules() -> ProtocolParameters {
    ProtocolParameters { gc_depth: 40, checkpoint_interval: 20, ..ProtocolParameters::default() }
}

fn work(cluster: &mut Cluster, steps: usize) {
    for step in 0..steps {
        if cluster.nodes[step % 4].core.is_some() {
            cluster.seal(step % 4, 1_000);
        }
        cluster.run(5 * MS);
    }
}

/// All clocks were an hour ahead for a while and are right again.
fn an_hour_back(cluster: &mut Cluster) {
    work(cluster, 40);
    cluster.ahead_ms = vec![HOUR; 4];
    work(cluster, 40);
    cluster.ahead_ms = vec![0; 4];
    work(cluster, 40);
}

fn ahead(cluster: &Cluster, node: usize) -> i64 {
    cluster.core(node).ledger.time.last_ms() as i64 - cluster.clock().wall_ms as i64
}

#[test]
fn a_restart_while_commit_time_is_ahead_goes_on_with_the_same_times() {
    let mut cluster = Cluster::new(4, rules());
    cluster.start_all();
    an_hour_back(&mut cluster);
    for turn in 0..12 {
        cluster.run(1_700 * MS / 1_000 * (turn + 1));
        let twin = cluster.twin(3);
        assert_eq!(twin.core.ledger.index, cluster.core(3).ledger.index);
        assert!(twin.core.ledger == cluster.core(3).ledger, "turn {turn}");
        assert_ne!(twin.core.ledger.time.next_ms(0), twin.core.ledger.time.next_ms(u64::MAX / 2));
        cluster.stop(3);
        cluster.run(10 * MS);
        cluster.start(3).unwrap();
        work(&mut cluster, 20);
    }
    cluster.check();
    assert!(cluster.last_commit(3) > 100);
    assert!((HOUR - 2_000..HOUR).contains(&ahead(&cluster, 3)), "{} ms ahead", ahead(&cluster, 3));
    // A core without the reference would stand still from here on: the test is worth something.
    let time = cluster.core(3).ledger.time;
    let now = cluster.clock().wall_ms;
    assert!(time.next_ms(now + 60_000) > time.last_ms() + 50_000);
}

#[test]
fn a_node_that_catches_up_through_certified_ranges_has_the_same_reference() {
    let mut cluster = Cluster::new(4, rules());
    cluster.start_all();
    work(&mut cluster, 40);
    cluster.stop(3);
    an_hour_back(&mut cluster);
    work(&mut cluster, 600);
    cluster.start(3).unwrap();
    work(&mut cluster, 200);
    cluster.check();
    let status = cluster.core(3).status();
    assert!(status.events.certified_commits > 100, "{status:?}");
    let caught_up = (0..400).any(|_| {
        cluster.run(MS);
        cluster.core(3).ledger.index == cluster.core(0).ledger.index
    });
    assert!(caught_up && ahead(&cluster, 3) > HOUR - 2_000, "{status:?}");
    assert!(cluster.core(3).ledger == cluster.core(0).ledger);
}

#[test]
fn a_record_whose_time_does_not_follow_from_its_blocks_is_refused() {
    let mut cluster = Cluster::new(4, rules());
    cluster.start_all();
    an_hour_back(&mut cluster);
    cluster.stop(0);
    let honest = cluster.recovered(0);
    assert!(Core::recover(cluster.setup(0), honest.clone(), cluster.clock()).is_ok());
    for change in [1_i64, -1, 1_000] {
        let mut altered = honest.clone();
        // The last one: no digest of a later commit gives it away.
        let last: &mut Delivery = altered.commits.last_mut().unwrap();
        last.commit.timestamp_ms = last.commit.timestamp_ms.saturating_add_signed(change);
        let result = Core::recover(cluster.setup(0), altered, cluster.clock());
        let Err(Halt::BadRecovery(reason)) = result.map(|_| ()) else { panic!("a change by {change} ms is taken") };
        assert!(reason.contains("time"), "{reason}");
    }
}

/// The commits after `index` that deliver something, with how far their time lies behind the present clock's, in milliseconds.
fn payload_after(cluster: &Cluster, index: CommitIndex) -> Vec<(CommitIndex, i64)> {
    let now = cluster.clock().wall_ms as i64;
    let commits = cluster.nodes[0].disk.commits.range(index.next()..).filter(|(_, d)| !d.batches.is_empty());
    commits.map(|(index, delivery)| (*index, now - delivery.commit.timestamp_ms as i64)).collect()
}

#[test]
fn no_payload_is_in_a_commit_whose_time_is_long_past() {
    let mut cluster = Cluster::new(4, rules());
    // Submitted before anybody is there: of round 1 nobody has a time.
    cluster.start_all();
    for node in 0..4 {
        cluster.seal(node, 1_000);
    }
    cluster.run(200 * MS);
    let first = payload_after(&cluster, CommitIndex(0));
    assert!(!first.is_empty() && first.iter().all(|(_, late)| *late < 1_000), "{first:?}");
    for outage in 0..5 {
        work(&mut cluster, 23 + outage);
        (0..4).for_each(|node| cluster.stop(node));
        // Longer than an id lives.
        cluster.run(Duration::from_secs(600));
        let before = CommitIndex(cluster.nodes[0].disk.commits.last_key_value().unwrap().0.0);
        for node in 0..4 {
            cluster.start(node).unwrap();
            cluster.seal(node, 500);
        }
        let own: Vec<_> =
            (0..4).map(|node| *cluster.nodes[node].disk.own_batches.last_key_value().unwrap().1).collect();
        cluster.run(300 * MS);
        cluster.check();
        let after = payload_after(&cluster, before);
        // What was in blocks from before the outage is committed with the time of these.
        let fresh =
            |index: &CommitIndex| cluster.nodes[0].disk.commits[index].batches.iter().any(|b| own.contains(&b.batch));
        let of_now: Vec<_> = after.iter().filter(|(index, _)| fresh(index)).collect();
        assert!(!of_now.is_empty() && of_now.iter().all(|(_, late)| *late < 1_000), "outage {outage}: {after:?}");
        assert_eq!(cluster.core(1).status().pending_own_batches, 0, "outage {outage}");
    }
}

#[test]
fn a_node_whose_clock_is_wrong_carries_payload_all_the_same() {
    for wrong in [HOUR, -HOUR] {
        let mut cluster = Cluster::new(4, rules());
        cluster.ahead_ms[1] = wrong;
        cluster.start_all();
        work(&mut cluster, 60);
        cluster.run(200 * MS);
        cluster.check();
        assert_eq!(cluster.core(1).status().pending_own_batches, 0, "{wrong}");
        assert!(ahead(&cluster, 0).abs() < 1_000, "{wrong}");
    }
}

#[test]
fn clocks_are_known_from_blocks_that_answer_ours_and_an_outage_shows_nothing() {
    let mut cluster = Cluster::new(4, rules());
    cluster.ahead_ms[1] = HOUR;
    cluster.start_all();
    assert_eq!(cluster.core(1).times().members_ms, None);
    work(&mut cluster, 40);
    let now = cluster.clock();
    let (wrong, right) = (cluster.core(1).times(), cluster.core(0).times());
    // The wrong clock does not mislead its own node, and it is seen.
    for times in [&wrong, &right] {
        assert!(times.median_ms(now).abs_diff(now.wall_ms) < 100, "{times:?}");
        assert!(times.next_commit_ms(cluster.clock_of(1)).abs_diff(now.wall_ms) < 100, "{times:?}");
    }
    let off = wrong.deviation(cluster.clock_of(1), false);
    let near = |ms: Option<i64>, due: i64| ms.is_some_and(|ms| ms.abs_diff(due) < 100);
    assert!(near(off.from_peers_ms, HOUR) && near(off.from_commits_ms, HOUR), "{off:?}");
    assert!(right.deviation(now, false).greatest_ms() < 100);
    (0..4).for_each(|node| cluster.stop(node));
    cluster.run(Duration::from_secs(600));
    for node in 0..4 {
        cluster.start(node).unwrap();
        // Blocks from before the outage are sent again, and tell nothing.
        assert_eq!(cluster.core(node).times().members_ms, None);
        let told = cluster.core(node).times().next_commit_ms(cluster.clock());
        assert!(told.abs_diff(cluster.clock().wall_ms) < 100, "its own clock is the best guess");
    }
    work(&mut cluster, 20);
    let (now, times) = (cluster.clock(), cluster.core(1).times());
    assert!(times.members_ms.is_some() && times.median_ms(now).abs_diff(now.wall_ms) < 100, "{times:?}");
}

fn times(commits: &[u64], members_ms: Option<i64>) -> Times {
    let mut time = CommitTime::default();
    for median in commits {
        time.advance(*median);
    }
    Times { commits: time, members_ms, peers_ms: members_ms }
}

fn at(monotonic_ms: u64, wall_ms: u64) -> Now {
    Now { monotonic: Duration::from_millis(monotonic_ms), wall_ms }
}

#[test]
fn what_clients_are_told_is_the_time_of_the_next_commit() {
    let wall = 1_700_000_000_000;
    assert_eq!(times(&[], None).next_commit_ms(at(5, wall)), wall, "a fresh cluster");
    assert_eq!(times(&[0], None).next_commit_ms(at(5, wall)), wall, "the first commit has no time yet");
    assert_eq!(times(&[wall - 600_000], None).next_commit_ms(at(5, wall)), wall, "an outage longer than ids live");
    assert_eq!(times(&[wall + 700], None).next_commit_ms(at(5, wall)), wall + 701, "commits are ahead of this clock");
    // The clocks of the members are known: ours has no say beside them.
    let known = |commits: &[u64]| times(commits, Some(wall as i64 - 1_000));
    assert_eq!(known(&[wall - 50]).next_commit_ms(at(1_000, wall + HOUR as u64)), wall);
    assert_eq!(known(&[wall - 50]).next_commit_ms(at(6_000, wall - HOUR as u64)), wall + 5_000, "and they go on");
    // An hour ahead and back, and then ten seconds.
    let ahead = known(&[wall + HOUR as u64, wall]);
    assert_eq!(ahead.next_commit_ms(at(11_000, wall)), wall + HOUR as u64 + 1 + 9_000);
}

#[test]
fn a_clock_is_compared_with_those_of_peers_and_with_commit_time() {
    let wall = 1_700_000_000_000;
    let known = |commits: &[u64]| times(commits, Some(wall as i64 - 1_000));
    let deviation = |from_peers_ms, from_commits_ms| Deviation { from_peers_ms, from_commits_ms };
    assert_eq!(known(&[wall - 50]).deviation(at(1_000, wall), false), deviation(Some(0), Some(0)));
    assert_eq!(known(&[wall - 50]).deviation(at(1_000, wall + 3_000), false), deviation(Some(3_000), Some(3_000)));
    assert_eq!(known(&[wall - 50]).deviation(at(1_000, wall - 3_000), true), deviation(Some(-3_000), None), "behind");
    assert_eq!(known(&[]).deviation(at(1_000, wall), false), deviation(Some(0), None), "no commit yet");
    // All clocks were wrong once: peers agree, commits are ahead of everybody.
    let ahead = known(&[wall + HOUR as u64, wall - 10]).deviation(at(1_000, wall), false);
    assert_eq!(ahead, deviation(Some(0), Some(-(HOUR + 10))));
    // Alone after a restart, with a clock that is an hour behind.
    let alone = times(&[wall + HOUR as u64], None).deviation(at(1_000, wall), false);
    assert_eq!(alone, deviation(None, Some(-(HOUR + 1))));
    assert_eq!(alone.greatest_ms(), HOUR as u64 + 1);
    assert_eq!(
        times(&[0], None).deviation(at(0, 0), false).greatest_ms(),
        2,
        "nothing overflows at the beginning of time"
    );
    assert!(times(&[u64::MAX], Some(i64::MIN)).deviation(at(u64::MAX, u64::MAX), false).greatest_ms() > 0);
}
