//! Extreme numbers in every numeric field of every input: no panic, and the core goes on.
//!
//! The blocks here are signed but not verified, so that the core meets even what no peer gets past the checks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters};

use super::single::Single;
use crate::input::{Input, Tip, Token};
use crate::testing::key;
use crate::types::range::LIMIT;
use crate::types::{BatchKey, BatchRef, BlockCore, BlockRef, CommitIndex, CommitRef, Round, Sequence, VerifiedBlock};

const NUMBERS: [u64; 8] = [0, 1, 1_000, LIMIT - 1, LIMIT, 1 << 63, u64::MAX - 1, u64::MAX];
const LIAR: AuthorityIndex = AuthorityIndex(3);

fn key_of(number: u64) -> BatchKey {
    BatchKey { author: LIAR, sequence: Sequence(number), digest: Digest::default() }
}

fn reference(round: u64) -> BlockRef {
    BlockRef { round: Round(round), author: LIAR, digest: Digest([9; 32]) }
}

/// The liar's next block, changed.
fn block(single: &mut Single, change: impl FnOnce(&mut BlockCore, &mut Vec<CommitRef>)) -> VerifiedBlock {
    let round = single.own_round().0.max(1);
    let honest = single.block(LIAR.usize(), round, &[]);
    single.blocks.remove(&honest.reference());
    let (mut core, mut votes) = (honest.block().core.clone(), Vec::new());
    change(&mut core, &mut votes);
    VerifiedBlock::sign(core, votes, &single.committee, &key(LIAR.usize()))
}

/// Every numeric field of a block.
fn blocks(single: &mut Single, number: u64) -> Vec<VerifiedBlock> {
    let batch = |sequence, bytes| BatchRef { sequence: Sequence(sequence), digest: Digest::default(), bytes };
    let vote = |index| CommitRef { index: CommitIndex(index), digest: Digest::default() };
    let short = u32::try_from(number).unwrap_or(u32::MAX);
    vec![
        block(single, |core, _| core.epoch = number),
        block(single, |core, _| core.round = Round(number)),
        block(single, |core, _| core.timestamp_ms = number),
        block(single, |core, _| core.parents[0].round = Round(number)),
        block(single, |core, _| core.parents.iter_mut().for_each(|parent| parent.round = Round(number))),
        block(single, |core, _| {
            core.round = Round(number);
            core.parents.iter_mut().for_each(|parent| parent.round = Round(number.saturating_sub(1)));
        }),
        block(single, |core, _| core.batches = vec![batch(number, 10)]),
        block(single, |core, _| core.batches = vec![batch(1, short), batch(2, u32::MAX)]),
        block(single, |_, votes| votes.push(vote(number))),
        block(single, |_, votes| votes.extend([vote(number), vote(number), vote(1)])),
    ]
}

/// Every other input with a number.
fn inputs(single: &mut Single, number: u64) -> Vec<Input> {
    let mut inputs = Vec::new();
    for block in blocks(single, number) {
        let tip =
            Tip { own: Some(block.clone()), yours: None, gc_round: Round(number), last_commit: CommitIndex(number) };
        inputs.push(Input::PeerTip { peer: LIAR, tip: Box::new(tip) });
        inputs.push(Input::Block { sender: LIAR, block });
    }
    let (index, sequence, short) = (CommitIndex(number), Sequence(number), u32::try_from(number).unwrap_or(u32::MAX));
    for from in [CommitIndex(1), index] {
        for first_index in [None, Some(CommitIndex(2)), Some(index)] {
            inputs.push(Input::CommitsUnavailable { peer: LIAR, from, first_index });
        }
    }
    inputs.extend([
        Input::BlocksUnavailable { peer: LIAR, refs: vec![reference(number)] },
        Input::BatchStored { key: key_of(number), bytes: short },
        Input::BatchHandedToKernel { sequence, peer: LIAR },
        Input::Persisted(Token(number)),
        Input::Subscribed { peer: LIAR, from_round: Round(number) },
        Input::RoundTrip { peer: LIAR, duration: Duration::from_millis(number % 100_000_000) },
        Input::TipQueried { peer: LIAR, request: number },
    ]);
    inputs
}

#[test]
fn no_number_in_any_input_panics_and_the_core_goes_on() {
    for number in NUMBERS {
        let mut single = Single::new(0, ProtocolParameters { gc_depth: 20, ..ProtocolParameters::default() });
        single.connect_all();
        single.seal();
        single.run_rounds(&[1, 2, 3], 30);
        assert!(single.core.status().last_commit.0 > 5);
        for input in inputs(&mut single, number) {
            let told = format!("{number}: {input:?}");
            let fed = catch_unwind(AssertUnwindSafe(|| single.input(input)));
            assert!(fed.is_ok(), "{told}");
            assert_eq!(single.halted, None, "{told}");
        }
        let before = single.core.status().last_commit;
        single.run_rounds(&[1, 2], 30);
        assert!(single.core.status().last_commit > before, "{number}: nothing is committed any more");
    }
}

#[test]
fn no_number_in_a_first_input_panics() {
    for number in NUMBERS {
        let mut fresh = Single::new(0, ProtocolParameters::default());
        fresh.connect_all();
        for input in inputs(&mut fresh, number) {
            fresh.input(input);
        }
        assert_eq!(fresh.halted, None, "{number}");
    }
}

#[test]
fn numbers_of_our_own_rooms_do_not_panic() {
    for number in NUMBERS {
        let mut single = Single::new(0, ProtocolParameters::default());
        single.connect_all();
        let (index, sequence) = (CommitIndex(number), Sequence(number));
        single.input(Input::BatchSealed(BatchRef { sequence, digest: Digest::default(), bytes: u32::MAX }));
        for peer in 1..4 {
            single.input(Input::BatchHandedToKernel { sequence, peer: AuthorityIndex(peer) });
        }
        single.input(Input::Executed { index, state: Digest::default() });
        single.advance(Duration::from_secs(5));
    }
}
