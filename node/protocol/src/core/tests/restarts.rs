//! Nodes that stop at any moment and start from what is on their disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rorqual_config::committee::AuthoritySet;
use rorqual_config::{AuthorityIndex, ProtocolParameters};

use super::driver::Cluster;
use crate::core::Core;
use crate::effect::{Cover, Halt};
use crate::input::{Input, Recovered};
use crate::types::{BatchKey, BatchRef, BlockRef, Certificate, CommitIndex, Round, VerifiedBlock};

const MS: Duration = Duration::from_millis(1);

fn rules() -> ProtocolParameters {
    ProtocolParameters { gc_depth: 40, checkpoint_interval: 20, ..ProtocolParameters::default() }
}

/// A cluster that has been at work for a while.
fn busy(rules: ProtocolParameters) -> Cluster {
    let mut cluster = Cluster::new(4, rules);
    cluster.start_all();
    work(&mut cluster, 60);
    cluster
}

fn work(cluster: &mut Cluster, steps: usize) {
    for step in 0..steps {
        if cluster.nodes[step % 4].core.is_some() {
            cluster.seal(step % 4, 1_000);
        }
        cluster.run(5 * MS);
    }
}

/// Runs in small steps until the node is writing an own block that has not left.
fn run_until_writing(cluster: &mut Cluster, node: usize) -> VerifiedBlock {
    for _ in 0..20_000 {
        if let Some((_, block)) = &cluster.core(node).own.in_flight {
            return block.clone();
        }
        cluster.run(Duration::from_micros(20));
    }
    panic!("node {node} does not propose");
}

fn own_blocks(cluster: &Cluster, node: usize) -> Vec<VerifiedBlock> {
    let me = AuthorityIndex(node as u16);
    cluster.nodes[node].disk.blocks.values().filter(|block| block.author() == me).cloned().collect()
}

fn delivered_times(cluster: &Cluster, at: usize, author: usize, batch: &BatchRef) -> usize {
    let key = batch.key(AuthorityIndex(author as u16));
    let commits = cluster.nodes[at].disk.commits.values();
    commits.flat_map(|delivery| &delivery.batches).filter(|delivered| delivered.key() == key).count()
}

#[test]
fn no_round_is_proposed_twice_however_often_a_node_restarts() {
    let mut cluster = busy(rules());
    for turn in 0..40u64 {
        // A moment that wanders over the phases of a round: before, during and after the write.
        cluster.run(Duration::from_micros(1_300 + 170 * turn));
        cluster.stop(2);
        cluster.run(Duration::from_micros(900 * (turn % 5)));
        cluster.start(2).unwrap();
        cluster.seal(turn as usize % 4, 1_000);
    }
    work(&mut cluster, 40);
    cluster.check();
    // Panics on two own blocks of one round; and nobody ever saw two.
    let rounds = cluster.own_rounds(2);
    assert!(rounds.len() > 20 && rounds.last() > Some(&Round(60)), "{rounds:?}");
    assert!((0..4).all(|node| cluster.core(node).status().events.equivocations == 0));
    assert!(cluster.core(2).status().round.0 + 10 > cluster.core(0).status().round.0);
}

#[test]
fn a_block_that_was_written_and_had_not_left_is_the_block_of_its_round() {
    let mut cluster = busy(rules());
    let block = run_until_writing(&mut cluster, 1);
    assert!(cluster.core(0).graph.get(&block.reference()).is_none());
    cluster.stop(1);
    cluster.start(1).unwrap();
    // It is written once more before it counts, and nothing is proposed meanwhile.
    assert_eq!(cluster.core(1).own.coming().map(VerifiedBlock::reference), Some(block.reference()));
    assert!(cluster.core(1).graph.get(&block.reference()).is_none());
    cluster.run(20 * MS);
    for node in 0..4 {
        let known = cluster.nodes[node].disk.blocks.keys();
        let slot: Vec<&BlockRef> = known.filter(|r| r.author.0 == 1 && r.round == block.round()).collect();
        assert_eq!(slot, [&block.reference()], "at node {node}");
    }
}

#[test]
fn commits_without_a_certificate_are_voted_for_again() {
    let mut cluster = busy(rules());
    let mut found = None;
    for turn in 0..2_000 {
        let status = cluster.core(3).status();
        if status.solid > status.highest_certified {
            found = Some(status);
            break;
        }
        if turn % 50 == 0 {
            cluster.seal(turn / 50 % 4, 100);
        }
        cluster.run(Duration::from_micros(100));
    }
    let before = found.expect("certificates come after their commits");
    cluster.stop(3);
    cluster.start(3).unwrap();
    cluster.run(100 * MS);
    let later = own_blocks(&cluster, 3).into_iter().filter(|block| block.round() > before.round);
    let votes: BTreeSet<CommitIndex> = later.flat_map(|block| block.votes().to_vec()).map(|vote| vote.index).collect();
    for index in before.highest_certified.0 + 1..=before.solid.0 {
        assert!(votes.contains(&CommitIndex(index)), "no vote for commit {index} of {votes:?}");
    }
}

#[test]
fn own_payload_that_no_block_names_yet_is_named_after_the_restart_and_delivered_once() {
    let mut cluster = busy(rules());
    let writing = run_until_writing(&mut cluster, 0);
    let named: Vec<BatchRef> = writing.batches().to_vec();
    let fresh = cluster.seal(0, 500);
    assert!(!named.contains(&fresh));
    cluster.stop(0);
    cluster.start(0).unwrap();
    work(&mut cluster, 30);
    cluster.check();
    for batch in named.iter().chain([&fresh]) {
        assert_eq!(delivered_times(&cluster, 2, 0, batch), 1, "{batch:?}");
        let naming = own_blocks(&cluster, 0).iter().filter(|block| block.batches().contains(batch)).count();
        assert_eq!(naming, 1, "{batch:?} is named by one block");
    }
    assert_eq!(cluster.core(0).status().pending_own_batches, 0);
}

#[test]
fn a_snapshot_and_the_commits_after_it_are_enough() {
    let mut cluster = busy(rules());
    cluster.stop(1);
    let disk = &mut cluster.nodes[1].disk;
    let snapshot = *disk.snapshots.last_key_value().expect("a snapshot was written").0;
    let last = *disk.commits.last_key_value().unwrap().0;
    assert!(snapshot > CommitIndex(20) && snapshot < last, "{snapshot} of {last}");
    let floor = disk.commits[&snapshot].commit.leader_round.minus(40);
    assert!(floor > Round(0));
    disk.snapshots.retain(|index, _| *index == snapshot);
    disk.commits.retain(|index, _| *index > snapshot);
    disk.blocks.retain(|reference, _| reference.round > floor);
    cluster.start(1).unwrap();
    assert_eq!(cluster.core(1).status().last_record, last);
    work(&mut cluster, 30);
    cluster.check();
    assert!(cluster.last_commit(1) > last.0 + 10);
}

#[test]
fn what_execution_had_not_applied_is_delivered_again_from_there() {
    let mut cluster = busy(rules());
    cluster.stop(2);
    let disk = &mut cluster.nodes[2].disk;
    let last = *disk.commits.last_key_value().unwrap().0;
    disk.executed.retain(|index, _| index.0 + 5 <= last.0);
    cluster.start(2).unwrap();
    let delivered: Vec<CommitIndex> = cluster.nodes[2].delivered.iter().map(|delivery| delivery.commit.index).collect();
    assert_eq!(delivered, (last.0 - 4..=last.0).map(CommitIndex).collect::<Vec<_>>());
}

/// What a core knows of one block, apart from times and links.
#[derive(PartialEq, Eq, Debug)]
struct Known {
    committed: bool,
    usable: bool,
    /// Of uncommitted blocks.
    in_history_of: AuthoritySet,
    referenced_by: AuthoritySet,
    certifies: Vec<u64>,
}

/// What a core is a function of the disk for.
struct State {
    ledger: crate::commit::ledger::Ledger,
    gc_round: Round,
    cursor: Round,
    last: crate::types::CommitRef,
    solid: CommitIndex,
    slots: Vec<String>,
    blocks: BTreeMap<BlockRef, Known>,
    own_last: Option<BlockRef>,
    pending: (usize, u64),
    next_round: Round,
}

fn state(core: &Core) -> State {
    let (cursor, rounds) = (core.index.cursor(), core.index.len() as u64);
    let open: Vec<u64> = (0..rounds).map(|offset| core.index.number(cursor.plus(offset), 0)).collect();
    let slots = (0..rounds).flat_map(|offset| core.index.slots(cursor.plus(offset))).map(|slot| format!("{slot:?}"));
    let known = |vertex: &crate::dag::graph::Vertex| Known {
        committed: vertex.committed,
        usable: vertex.usable(),
        in_history_of: if vertex.committed { AuthoritySet::EMPTY } else { vertex.in_history_of },
        referenced_by: if vertex.committed { AuthoritySet::EMPTY } else { vertex.referenced_by },
        certifies: open.iter().copied().filter(|slot| vertex.reach.contains(*slot)).collect(),
    };
    State {
        ledger: core.ledger.clone(),
        gc_round: core.graph.gc_round(),
        cursor,
        last: core.records.last,
        solid: core.records.solid(),
        slots: slots.collect(),
        blocks: core.graph.iter().map(|vertex| (vertex.block.reference(), known(vertex))).collect(),
        own_last: core.own.last.as_ref().map(VerifiedBlock::reference),
        pending: (core.batches.pending(), core.batches.oldest().0),
        next_round: core.next_round(),
    }
}

/// Field by field, since a whole state fills many screens.
fn assert_same(after: &State, before: &State, turn: u64) {
    for (reference, known) in &before.blocks {
        assert_eq!(after.blocks.get(reference), Some(known), "{reference:?} in turn {turn}");
    }
    assert_eq!(after.blocks.len(), before.blocks.len(), "turn {turn}");
    assert_eq!(after.slots, before.slots, "turn {turn}");
    let small = |state: &State| (state.gc_round, state.cursor, state.last, state.solid, state.own_last, state.pending);
    assert_eq!((small(after), after.next_round), (small(before), before.next_round), "turn {turn}");
    assert!(after.ledger == before.ledger, "the ledgers of turn {turn} differ");
}

#[test]
fn the_state_after_a_restart_is_the_state_before() {
    let mut cluster = busy(rules());
    let mut compared = 0;
    for turn in 0..60u64 {
        cluster.seal(turn as usize % 4, 700);
        cluster.run(Duration::from_micros(2_000 + 333 * (turn % 11)));
        // Not durable yet, or waiting for payload: the disk is ahead of the core or behind it.
        let core = cluster.core(3);
        let settled = core.own.in_flight.is_none() && core.suspended.is_empty() && core.payload.is_empty();
        if !settled || !core.records.waiting.is_empty() {
            continue;
        }
        let before = state(core);
        let mut twin = cluster.twin(3);
        for (key, bytes) in twin.waits.clone() {
            twin.input(Input::BatchStored { key, bytes });
        }
        // A last block that nobody references yet is written once more.
        let again = twin.core.own.in_flight.as_ref().filter(|(_, b)| Some(b.reference()) == before.own_last);
        if let Some((token, _)) = again {
            twin.input(Input::Persisted(*token));
        }
        assert_same(&state(&twin.core), &before, turn);
        compared += 1;
    }
    assert!(compared > 10, "{compared} comparisons say little");
}

#[test]
fn a_disk_that_may_have_lost_what_it_signed_is_refused() {
    let cluster = Cluster::new(4, rules());
    let empty = Core::recover(cluster.setup(0), Recovered::default(), cluster.clock());
    assert_eq!(empty.err(), Some(Halt::Unmarked));
    let fresh = Recovered { never_signed: true, ..Recovered::default() };
    assert!(Core::recover(cluster.setup(0), fresh, cluster.clock()).is_ok());
}

/// A cluster whose node 0 was stopped while its newest block was on its way to the disk, and that block.
fn stopped_while_writing() -> (Cluster, VerifiedBlock) {
    let mut cluster = busy(rules());
    while cluster.core(0).own.in_flight.is_some() {
        cluster.run(Duration::from_micros(20));
    }
    cluster.seal(0, 1_000);
    let block = run_until_writing(&mut cluster, 0);
    cluster.stop(0);
    (cluster, block)
}

/// A batch that the newest block of node 0 stands for and that no commit has delivered.
fn fresh_payload(cluster: &Cluster, recovered: &Recovered) -> BatchKey {
    let cover = recovered.cover.as_ref().expect("a block on its way has a cover");
    let window = |key: &BatchKey| &cluster.core(1).ledger.windows[key.author.usize()];
    let fresh = cover.payload.iter().rev().find(|key| window(key).is_fresh(key.sequence));
    *fresh.expect("payload is sealed all the time")
}

fn recover(cluster: &Cluster, recovered: Recovered) -> Core {
    Core::recover(cluster.setup(0), recovered, cluster.clock()).expect("a disk that makes sense").0
}

#[test]
fn a_round_is_free_again_only_if_what_its_durable_point_covered_is_gone() {
    let (cluster, block) = stopped_while_writing();
    let whole = cluster.recovered(0);
    let lost = fresh_payload(&cluster, &whole);
    let coming = |recovered: Recovered| recover(&cluster, recovered).own.coming().map(VerifiedBlock::reference);
    let ours = Some(block.reference());
    assert_eq!(coming(whole.clone()), ours, "nothing is lost");
    let partial = Recovered { absent: vec![lost], ..whole.clone() };
    assert_eq!(coming(partial.clone()), None, "it never left");
    assert!(recover(&cluster, partial.clone()).own_round() < block.round());
    let named = Recovered { completed: block.round(), ..partial.clone() };
    assert_eq!(coming(named), ours, "the safety record names it: the disk has lost payload since");
    let below = Recovered { completed: block.round().previous(), ..partial.clone() };
    assert_eq!(coming(below), None);
    let uncovered = Recovered { cover: None, ..partial.clone() };
    assert_eq!(coming(uncovered), ours, "its durable point has completed");
    let other = cluster.nodes[0].disk.blocks.keys().rev().find(|r| r.author.0 != 0).copied().expect("others propose");
    let cover = whole.cover.clone().map(|cover| Cover { block: other, ..cover });
    assert_eq!(coming(Recovered { cover, ..partial }), ours, "a cover of something else says nothing of it");
}

#[test]
fn payload_that_was_delivered_may_be_deleted_and_proves_nothing() {
    let (cluster, block) = stopped_while_writing();
    let mut recovered = cluster.recovered(0);
    let delivered = recovered.commits.iter().flat_map(|delivery| &delivery.batches).next().expect("payload");
    let cover = recovered.cover.as_mut().expect("a block on its way has a cover");
    cover.payload.push(delivered.key());
    recovered.absent = vec![delivered.key()];
    let core = recover(&cluster, recovered);
    assert_eq!(core.own.coming().map(VerifiedBlock::reference), Some(block.reference()));
}

#[test]
fn a_block_that_never_left_goes_with_the_write_of_its_successor() {
    let (mut cluster, block) = stopped_while_writing();
    let recovered = cluster.recovered(0);
    let lost = fresh_payload(&cluster, &recovered);
    cluster.nodes[0].disk.own_batches.retain(|_, batch| batch.key(AuthorityIndex(0)) != lost);
    cluster.start_from(0, Recovered { absent: vec![lost], ..recovered }).unwrap();
    assert!(cluster.nodes[0].disk.blocks.contains_key(&block.reference()), "a start alone deletes nothing");
    let next = run_until_writing(&mut cluster, 0);
    assert_ne!(next.reference(), block.reference());
    assert!(!cluster.nodes[0].disk.blocks.contains_key(&block.reference()), "no later start meets both");
    cluster.run(50 * MS);
    work(&mut cluster, 40);
    cluster.check();
    assert!(cluster.own_rounds(0).contains(&next.round()));
}

#[test]
fn a_cover_goes_with_the_first_write_after_its_durable_point() {
    let mut cluster = busy(rules());
    for _ in 0..200 {
        let block = run_until_writing(&mut cluster, 2);
        let cover = |cluster: &Cluster| cluster.nodes[2].disk.cover.as_ref().map(|cover| cover.block);
        assert_eq!(cover(&cluster), Some(block.reference()));
        while cluster.core(2).own.in_flight.is_some() {
            cluster.run(Duration::from_micros(20));
        }
        let blocks = cluster.nodes[2].disk.blocks.len();
        while cluster.nodes[2].disk.blocks.len() == blocks && cluster.core(2).own.in_flight.is_none() {
            cluster.run(Duration::from_micros(20));
        }
        assert_ne!(cover(&cluster), Some(block.reference()), "others' blocks were written and the cover stayed");
    }
}

#[test]
fn a_disk_that_contradicts_itself_is_refused() {
    let mut cluster = busy(rules());
    cluster.stop(0);
    let refused = |recovered: Recovered, cluster: &Cluster| {
        let result = Core::recover(cluster.setup(0), recovered, cluster.clock());
        assert!(matches!(result, Err(Halt::BadRecovery(_))), "{:?}", result.err());
    };
    let mut gap = cluster.recovered(0);
    gap.commits.remove(gap.commits.len() / 2);
    refused(gap, &cluster);
    let mut hole = cluster.recovered(0);
    let committed = hole.commits.last().unwrap().commit.blocks[0];
    hole.blocks.retain(|block| block.reference() != committed);
    refused(hole, &cluster);
    let mut ahead = cluster.recovered(0);
    ahead.executed = ahead.executed.map(|(index, state)| (index.plus(100), state));
    refused(ahead, &cluster);
    let mut garbled = cluster.recovered(0);
    garbled.snapshot.as_mut().expect("a snapshot was written").1.pop();
    refused(garbled, &cluster);
}

#[test]
fn below_the_newest_own_block_stands_the_one_before() {
    let (cluster, block) = stopped_while_writing();
    let whole = cluster.recovered(0);
    let before = own_blocks(&cluster, 0).into_iter().rev().nth(1).map(|own| own.reference());
    let lost = fresh_payload(&cluster, &whole);
    for recovered in [Recovered { absent: vec![lost], ..whole.clone() }, whole] {
        let core = recover(&cluster, recovered);
        let last = core.own.last.as_ref().map(VerifiedBlock::reference);
        assert_eq!(last, before);
        assert!(last.is_some_and(|last| last.round < block.round()));
    }
}

#[test]
fn a_stored_certificate_is_full_only_with_a_quorum() {
    let mut cluster = busy(rules());
    // Its last commit has no certificate yet.
    while cluster.core(0).status().last_record <= cluster.core(0).status().highest_certified {
        cluster.run(Duration::from_micros(100));
    }
    let before = cluster.core(0).status();
    cluster.stop(0);
    let whole = cluster.recovered(0);
    let last = whole.commits.last().expect("commits are written all the time").commit.clone();
    let signers = whole.certificate.clone().expect("so are certificates").signers;
    for (count, full) in [(2, false), (3, true)] {
        let certificate = Certificate { commit: last.header(), signers: signers[..count].to_vec() };
        let core = recover(&cluster, Recovered { certificate: Some(certificate), ..whole.clone() });
        let certified = core.status().highest_certified;
        assert_eq!(certified == last.index, full, "{count} signers: {certified}, before {before:?}");
    }
}

#[test]
fn what_a_held_block_names_is_named_by_no_other_block() {
    let (cluster, block) = stopped_while_writing();
    assert!(!block.batches().is_empty());
    let whole = cluster.recovered(0);
    let mut core = recover(&cluster, whole.clone());
    assert_eq!(core.own.coming().map(VerifiedBlock::reference), Some(block.reference()));
    let again = core.batches.name(usize::MAX, u64::MAX);
    assert!(!again.iter().any(|batch| block.batches().contains(batch)), "{again:?}");
    // Where it never left they are to be named.
    let lost = fresh_payload(&cluster, &whole);
    let mut core = recover(&cluster, Recovered { absent: vec![lost], ..whole });
    let again = core.batches.name(usize::MAX, u64::MAX);
    assert!(block.batches().iter().all(|batch| again.contains(batch)), "{again:?}");
}
