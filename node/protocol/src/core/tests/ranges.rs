//! Numbers at the ends of their range, on the way that they take through a core, a catch-up and a restart.

use std::time::Duration;

use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters};

use super::driver::Cluster;
use super::single::Single;
use crate::core::Core;
use crate::effect::Halt;
use crate::input::{Input, Recovered};
use crate::testing::{block_core, key};
use crate::types::commit::DeliveredBatch;
use crate::types::range::LIMIT;
use crate::types::{BatchRef, Certificate, CommitIndex, CommitRef, Sequence, VerifiedBlock};

const SECOND: Duration = Duration::from_secs(1);

fn batch(sequence: u64) -> BatchRef {
    let digest = Digest::of("theirs", &[&sequence.to_le_bytes()]);
    BatchRef { sequence: Sequence(sequence), digest, bytes: 10 }
}

#[test]
fn a_commit_waits_for_a_batch_of_any_sequence() {
    for sequence in [0, 1, LIMIT - 1, LIMIT, 1 << 63, u64::MAX] {
        let mut single = Single::new(0, ProtocolParameters::default());
        single.connect_all();
        let delivered = DeliveredBatch { author: AuthorityIndex(3), batch: batch(sequence) };
        single.core.await_delivered(&delivered, CommitIndex(1), true);
        assert_eq!(single.core.status().footprint.payload_waits, 1);
    }
}

/// Node 3 names a batch of this sequence; node 2 is away meanwhile and catches up over it.
fn caught_up_over(sequence: u64) {
    let rules = ProtocolParameters { gc_depth: 20, ..ProtocolParameters::default() };
    let mut cluster = Cluster::new(4, rules);
    cluster.start_all();
    cluster.run(SECOND / 10);
    cluster.stop(2);
    let liar = AuthorityIndex(3);
    cluster.nodes[3].disk.batches.insert(batch(sequence).key(liar));
    cluster.input(3, Input::BatchSealed(batch(sequence)));
    for peer in 0..3 {
        cluster.input(3, Input::BatchHandedToKernel { sequence: Sequence(sequence), peer: AuthorityIndex(peer) });
    }
    for step in 0..100 {
        cluster.seal(step % 2, 100);
        cluster.run(SECOND / 50);
    }
    let committed = |cluster: &Cluster, node: usize| {
        cluster.nodes[node].disk.commits.values().any(|d| d.batches.iter().any(|b| b.batch == batch(sequence)))
    };
    assert!(committed(&cluster, 0), "the batch is committed");
    let before = cluster.last_commit(0);
    cluster.start(2).unwrap();
    for step in 0..100 {
        cluster.seal(step % 2, 100);
        cluster.run(SECOND / 50);
    }
    cluster.check();
    assert!(cluster.core(2).status().events.certified_commits > 0, "it caught up through ranges");
    assert!(committed(&cluster, 2) && cluster.last_commit(2) > before);
    assert!(cluster.core(0).status().highest_certified.0 > before, "the others went on");
    // A restart goes over it too.
    cluster.stop(2);
    cluster.start(2).unwrap();
    cluster.run(SECOND);
    cluster.check();
}

#[test]
fn catching_up_over_a_batch_of_the_highest_sequence() {
    caught_up_over(LIMIT - 1);
}

fn start(change: impl FnOnce(&Single, &mut Recovered)) -> Result<Core, Halt> {
    let single = Single::new(0, ProtocolParameters::default());
    let mut recovered = Recovered { never_signed: true, ..Recovered::default() };
    change(&single, &mut recovered);
    let now = crate::input::Now { monotonic: SECOND, wall_ms: 1_000 };
    Core::recover(single.core.setup.clone(), recovered, now).map(|(core, _)| core)
}

#[test]
fn stored_numbers_out_of_range_are_a_clear_refusal() {
    let stored = |number: u64| {
        start(|single, recovered| {
            let mut core = block_core(&single.committee, 1, 1);
            core.batches = vec![batch(number)];
            recovered.blocks = vec![VerifiedBlock::sign(core, Vec::new(), &single.committee, &key(1))];
        })
    };
    assert!(stored(LIMIT - 1).is_ok());
    for number in [LIMIT, u64::MAX] {
        let Err(Halt::BadRecovery(reason)) = stored(number) else { panic!("{number} is taken") };
        assert!(reason.contains(&number.to_string()) && reason.contains("block"), "{reason}");
    }
    let own = |number| start(|_, recovered| recovered.own_batches = vec![batch(number)]);
    assert!(own(LIMIT - 1).is_ok() && matches!(own(LIMIT), Err(Halt::BadRecovery(_))));
    let executed = |number| start(|_, r| r.executed = Some((CommitIndex(number), Digest::default())));
    assert!(matches!(executed(u64::MAX), Err(Halt::BadRecovery(_))));
}

#[test]
fn a_stored_certificate_that_nobody_would_believe_counts_as_none() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 8);
    let commit = single.delivered[0].commit.clone();
    let certified = |votes: Vec<CommitRef>| {
        let signers = (1..4u16).map(|author| {
            let (core, author_key) = (block_core(&single.committee, author, 1), key(usize::from(author)));
            let block = VerifiedBlock::sign(core, votes.clone(), &single.committee, &author_key);
            let (core_digest, signature) = (block.core_digest(), block.block().signature);
            crate::types::Signer { author: AuthorityIndex(author), core_digest, votes: votes.clone(), signature }
        });
        let certificate = Certificate { commit: commit.header(), signers: signers.collect() };
        let core = start(|_, recovered| recovered.certificate = Some(certificate)).unwrap();
        core.status().highest_certified
    };
    assert_eq!(certified(vec![commit.reference()]), commit.index);
    let vote = |index| CommitRef { index: CommitIndex(index), digest: Digest::default() };
    let many = std::iter::once(commit.reference()).chain((100..50_000).map(vote)).collect();
    assert_eq!(certified(many), CommitIndex(0));
}

#[test]
fn a_wall_clock_beyond_all_range_makes_blocks_that_others_take() {
    let mut single = Single::new(0, ProtocolParameters::default());
    let now = crate::input::Now { monotonic: SECOND, wall_ms: u64::MAX };
    single.core.step(now, Input::Timer);
    single.connect_all();
    single.core.step(now, Input::Timer);
    assert_eq!(single.core.now.wall_ms, LIMIT - 1);
}
