//! What is written when, and what a restart may build on.

use std::time::Duration;

use rorqual_config::{Digest, ProtocolParameters};

use super::driver::Cluster;
use super::single::Single;
use crate::effect::{Effect, Write};
use crate::input::Input;
use crate::types::{BatchKey, CommitIndex, VerifiedBlock};

fn snapshots(single: &Single) -> Vec<CommitIndex> {
    let persisted = single.effects.iter().filter_map(|effect| match effect {
        Effect::Persist { writes, .. } => Some(writes),
        _ => None,
    });
    let written = persisted.flatten().filter_map(|write| match write {
        Write::Snapshot { index, .. } => Some(*index),
        _ => None,
    });
    written.collect()
}

#[test]
fn a_snapshot_is_written_once_execution_has_passed_it_and_not_before() {
    let rules = ProtocolParameters { checkpoint_interval: 4, ..ProtocolParameters::default() };
    let mut single = Single::new(0, rules);
    single.hold_execution = true;
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 16);
    let status = single.core.status();
    assert!(status.last_commit > CommitIndex(8) && status.last_record == CommitIndex(7), "{status:?}");
    assert_eq!(snapshots(&single), []);
    let execute = |single: &mut Single, index| {
        single.input(Input::Executed { index: CommitIndex(index), state: Digest::default() });
        snapshots(single)
    };
    for index in 1..4 {
        assert_eq!(execute(&mut single, index), []);
    }
    assert_eq!(execute(&mut single, 4), [CommitIndex(4)]);
    assert!(single.core.status().last_record > CommitIndex(8), "the commit that binds this state has its digest");
    for index in 5..8 {
        assert_eq!(execute(&mut single, index), [CommitIndex(4)]);
    }
    assert_eq!(execute(&mut single, 8), [CommitIndex(4), CommitIndex(8)]);
}

#[test]
fn an_own_block_is_written_with_a_sync_and_leaves_only_then() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 4);
    let own = single.own_rounds().len();
    let mut synced = 0;
    for effect in &single.effects {
        let Effect::Persist { writes, sync, token } = effect else { continue };
        let named = |write: &Write| matches!(write, Write::Own(_));
        assert_eq!((*sync, token.is_some()), (writes.iter().any(named), *sync), "others wait for no sync");
        synced += usize::from(*sync);
    }
    assert_eq!(synced, own);
}

#[test]
fn nothing_is_voted_for_again_before_its_payload_is_seen_again() {
    let rules = ProtocolParameters { gc_depth: 40, checkpoint_interval: 20, ..ProtocolParameters::default() };
    let mut cluster = Cluster::new(4, rules);
    cluster.start_all();
    let mut foreign = None;
    for turn in 0..4_000 {
        if turn % 20 == 0 {
            cluster.seal(turn / 20 % 3, 100);
        }
        cluster.run(Duration::from_micros(100));
        // Executed and not certified, with payload of another.
        let (status, disk) = (cluster.core(3).status(), &cluster.nodes[3].disk);
        let executed = disk.executed.last_key_value().map_or(CommitIndex(0), |(index, _)| *index);
        if turn < 1_000 || executed <= status.highest_certified {
            continue;
        }
        let mut open = disk.commits.range(status.highest_certified.next()..=executed);
        foreign = open.find(|(_, delivery)| !delivery.batches.is_empty()).map(|(i, d)| (*i, d.clone()));
        if foreign.is_some() {
            break;
        }
    }
    let (index, delivery) = foreign.expect("execution is often ahead of certificates");
    let keys: Vec<BatchKey> = delivery.batches.iter().map(|batch| batch.key()).collect();
    cluster.stop(3);
    let round = cluster.nodes[3].disk.blocks.keys().filter(|r| r.author.0 == 3).map(|r| r.round).max().unwrap();
    cluster.withhold = |node, _| node == 3;
    cluster.start(3).unwrap();
    assert!(keys.iter().all(|key| cluster.nodes[3].waits.contains_key(key)), "its payload is looked for");
    assert!(cluster.core(3).status().solid < index, "{:?}", cluster.core(3).status());
    cluster.run(Duration::from_millis(100));
    let own = cluster.nodes[3].disk.blocks.values().filter(|b| b.author().0 == 3 && b.round() > round);
    let own: Vec<VerifiedBlock> = own.cloned().collect();
    assert!(own.iter().all(|block| block.votes().iter().all(|vote| vote.index < index)), "{own:?}");
    cluster.release_payload(3);
    cluster.run(Duration::from_millis(500));
    cluster.check();
    assert!(cluster.core(3).status().solid > index);
}
