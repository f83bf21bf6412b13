//! Clusters without faults, with crashes, with absences.

use std::collections::BTreeMap;
use std::time::Duration;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, ProtocolParameters, Stake};

use super::driver::Cluster;
use crate::certificate::check::verify_certificate;
use crate::effect::Effect;

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
fn an_idle_node_does_what_its_own_blocks_need_and_nothing_else() {
    for n in [4, 10] {
        let mut cluster = Cluster::new(n, ProtocolParameters::default());
        cluster.start_all();
        cluster.seal(0, 100);
        cluster.run(2 * SECOND);
        let before: Vec<u64> = (0..n).map(|node| cluster.core(node).status().round.0).collect();
        cluster.nodes.iter_mut().for_each(|node| node.effects.clear());
        cluster.run(10 * SECOND);
        for (node, before) in before.into_iter().enumerate() {
            let rounds = (cluster.core(node).status().round.0 - before) as usize;
            assert!((20..=42).contains(&rounds), "{rounds} rounds in ten idle seconds");
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for effect in &cluster.nodes[node].effects {
                let name = match effect {
                    Effect::Persist { sync: true, .. } => "sync",
                    Effect::Persist { .. } => "write",
                    Effect::SendOwn { .. } => "own",
                    Effect::Deliver(_) => "delivery",
                    Effect::SetTimer(_) => "timer",
                    // Pushes, fetches, questions, waits: nobody lacks anything.
                    other => panic!("{other:?}"),
                };
                *counts.entry(name).or_default() += 1;
            }
            let most = |name: &str| counts.get(name).copied().unwrap_or(0);
            assert!(most("sync") <= rounds + 1 && most("delivery") <= rounds + 1, "{rounds} rounds: {counts:?}");
            assert!(most("own") <= (n - 1) * (rounds + 1), "{rounds} rounds: {counts:?}");
            // One for each block of another, one for the record of a commit.
            assert!(most("write") <= (n + 1) * (rounds + 1), "{rounds} rounds: {counts:?}");
            assert!(most("timer") <= (n + 3) * (rounds + 1), "{rounds} rounds: {counts:?}");
        }
        cluster.check();
    }
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
fn catching_up_waits_for_payload_and_execution() {
    let rules = ProtocolParameters { gc_depth: 60, checkpoint_interval: 50, ..ProtocolParameters::default() };
    let parameters = ConsensusParameters {
        solid_lag: 30,
        catch_up_batch: 10,
        catch_up_parallel: 2,
        catch_up_ahead: 4,
        ..ConsensusParameters::default()
    };
    let mut cluster = Cluster::with(4, rules, parameters);
    cluster.start_all();
    cluster.run(SECOND / 5);
    cluster.stop(3);
    for step in 0..200 {
        cluster.seal(step % 3, 1_000);
        cluster.run(SECOND / 50);
    }
    cluster.withhold = |node, _| node == 3;
    cluster.start(3).unwrap();
    cluster.run(2 * SECOND);
    let status = cluster.core(3).status();
    assert!(status.lag > 300 && status.last_commit.0 > status.solid.0 + 30, "{status:?}");
    // The limit, and what was under way when it was reached.
    assert!(status.last_commit.0 <= status.solid.0 + 30 + 4 * 10 + 10, "{status:?}");
    cluster.release_payload(3);
    cluster.run(3 * SECOND);
    cluster.check();
    let status = cluster.core(3).status();
    assert!(status.lag < 10 && status.solid == status.last_record, "{status:?}");
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
