//! Clusters without faults, with crashes, with absences.

use std::time::Duration;

use rorqual_config::{AuthorityIndex, ProtocolParameters, Stake};

use super::driver::Cluster;
use crate::certificate::check::verify_certificate;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn four_healthy_nodes_commit_every_round_without_a_timeout() {
    let mut cluster = Cluster::new(4, ProtocolParameters::default());
    cluster.start_all();
    for step in 0..200 {
        cluster.seal(step % 4, 1_000);
        cluster.run(SECOND / 100);
    }
    cluster.check();
    for node in 0..4 {
        let status = cluster.core(node).status();
        assert!(status.last_commit.0 > 300, "{status:?}");
        assert!(status.events.decisions.direct_commits + 5 >= status.round.0, "{status:?}");
        assert_eq!((status.events.timeouts, status.events.equivocations), (0, 0));
        assert!(status.highest_certified.0 + 10 > status.last_commit.0, "{status:?}");
        let delivered: usize = cluster.nodes[node].delivered.iter().map(|d| d.batches.len()).sum();
        assert!(delivered > 190, "{delivered}");
        let certificate = cluster.nodes[node].disk.certificates.last_key_value().unwrap().1;
        assert!(verify_certificate(certificate, &cluster.committee, Stake(3)).is_ok());
    }
}

#[test]
fn a_committee_of_one_orders_alone() {
    let mut cluster = Cluster::new(1, ProtocolParameters::default());
    cluster.start_all();
    cluster.seal(0, 100);
    cluster.run(2 * SECOND);
    cluster.check();
    assert_eq!(cluster.nodes[0].delivered.iter().map(|d| d.batches.len()).sum::<usize>(), 1);
    assert!(cluster.core(0).status().highest_certified.0 > 0);
}

#[test]
fn a_crashed_leader_costs_timeouts_only_until_it_is_muted() {
    let mut cluster = Cluster::new(4, ProtocolParameters::default());
    cluster.start_all();
    cluster.run(SECOND / 10);
    cluster.stop(1);
    for _ in 0..200 {
        cluster.seal(0, 100);
        cluster.run(SECOND / 100);
    }
    let timeouts = cluster.core(0).status().events.timeouts;
    assert!(timeouts < 20, "{timeouts}");
    assert_eq!(cluster.core(0).status().muted, [AuthorityIndex(1)]);
    for _ in 0..200 {
        cluster.seal(0, 100);
        cluster.run(SECOND / 100);
    }
    assert_eq!(cluster.core(0).status().events.timeouts, timeouts);
    assert!(cluster.last_commit(0) > 300);
    cluster.check();
}

#[test]
fn an_idle_cluster_sleeps_and_wakes_with_the_first_batch() {
    let mut cluster = Cluster::new(4, ProtocolParameters::default());
    cluster.start_all();
    cluster.run(2 * SECOND);
    let before = cluster.core(0).status().round.0;
    cluster.run(10 * SECOND);
    let rounds = cluster.core(0).status().round.0 - before;
    assert!((20..=60).contains(&rounds), "{rounds} rounds in ten idle seconds");
    cluster.seal(2, 100);
    cluster.run(SECOND / 10);
    assert!(cluster.nodes[0].delivered.iter().any(|delivery| !delivery.batches.is_empty()));
    cluster.check();
}

#[test]
fn a_node_that_was_away_catches_up_through_ranges_and_takes_part_again() {
    let rules = ProtocolParameters { gc_depth: 60, checkpoint_interval: 50, ..ProtocolParameters::default() };
    let mut cluster = Cluster::new(4, rules);
    cluster.start_all();
    cluster.run(SECOND);
    cluster.stop(3);
    for step in 0..600 {
        cluster.seal(step % 3, 1_000);
        cluster.run(SECOND / 50);
    }
    cluster.start(3).unwrap();
    for step in 0..300 {
        cluster.seal(step % 4, 1_000);
        cluster.run(SECOND / 50);
    }
    cluster.run(SECOND);
    cluster.check();
    let status = cluster.core(3).status();
    assert!(status.events.certified_commits > 500, "{status:?}");
    assert!(status.lag < 20 && status.round.0 + 20 > cluster.core(0).status().round.0, "{status:?}");
    assert_eq!(status.pending_own_batches, 0, "{status:?}");
    cluster.own_rounds(3);
}

#[test]
fn seven_nodes_with_one_crashed_and_a_broken_link_agree() {
    let mut cluster = Cluster::new(7, ProtocolParameters::default());
    cluster.delay = Duration::from_millis(3);
    cluster.start_all();
    cluster.run(SECOND / 5);
    cluster.stop(2);
    cluster.disconnect(0, 1);
    for step in 0..200 {
        cluster.seal([0, 1, 3, 4, 5, 6][step % 6], 1_000);
        cluster.run(SECOND / 100);
    }
    cluster.check();
    assert!(cluster.last_commit(0) > 50 && cluster.last_commit(1) > 50);
    let status = cluster.core(0).status();
    assert!(status.events.pushed > 0 || status.events.fetches > 0);
}
