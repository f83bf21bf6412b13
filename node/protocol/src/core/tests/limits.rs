//! What is known before it is verified, and who is blamed for what.

use std::collections::BTreeSet;

use rorqual_config::parameters::ConsensusParameters;
use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters};

use super::single::Single;
use crate::effect::Effect;
use crate::input::{Input, Tip};
use crate::known::Verdict;
use crate::penalty::Rule;
use crate::types::{BatchRef, BlockRef, CommitIndex, CommitRef, Round, Sequence, VerifiedBlock};

const ONE: AuthorityIndex = AuthorityIndex(1);
const TWO: AuthorityIndex = AuthorityIndex(2);

fn four() -> Single {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single
}

fn known(single: &Single, block: &VerifiedBlock) -> Verdict {
    single.core.known().judge(&block.reference())
}

fn blamed(single: &mut Single) -> Vec<(AuthorityIndex, Rule)> {
    let effects = std::mem::take(&mut single.effects);
    effects
        .into_iter()
        .filter_map(|e| if let Effect::Penalise { peer, rule } = e { Some((peer, rule)) } else { None })
        .collect()
}

#[test]
fn only_what_is_linked_or_waits_is_known() {
    let mut single = four();
    single.run_rounds(&[1, 2, 3], 3);
    let round = single.own_round().0;
    let linked = single.block(1, round, &[]);
    assert_eq!(known(&single, &linked), Verdict::New);
    single.take(std::slice::from_ref(&linked));
    assert_eq!(known(&single, &linked), Verdict::Known);

    let waiting = single.block_on(2, round + 1, &[BlockRef { author: TWO, ..linked.reference() }], 0);
    single.take(std::slice::from_ref(&waiting));
    assert_eq!(single.core.status().footprint.suspended, 1);
    assert_eq!(known(&single, &waiting), Verdict::Known);
    assert_eq!(known(&single, &single.own(1)), Verdict::Known);
}

#[test]
fn what_was_dropped_is_new_again() {
    let parameters = ConsensusParameters { max_suspended_blocks: 2, ..ConsensusParameters::default() };
    let mut single = Single::with(0, 4, ProtocolParameters::default(), parameters);
    single.connect_all();
    single.run_rounds(&[1, 2, 3], 3);
    let round = single.own_round().0;
    let first = single.block(1, round, &[]);
    let (second, third) = (single.twin(1, round, 1), single.twin(1, round, 2));
    single.take(&[first.clone(), second.clone(), third.clone()]);
    assert_eq!([known(&single, &first), known(&single, &second)], [Verdict::Known; 2]);
    assert_eq!(known(&single, &third), Verdict::New, "a third twin is not taken");

    let nobody = BlockRef { round: Round(round), author: TWO, digest: Digest::of("test", &[]) };
    let far = single.block_on(2, 100_000, &[nobody], 0);
    single.take(std::slice::from_ref(&far));
    assert_eq!(known(&single, &far), Verdict::New, "too far ahead");

    // Three wait where two may: the highest goes.
    let waiting: Vec<VerifiedBlock> =
        [round + 1, round + 2, round + 3].map(|round| single.block_on(2, round, &[nobody], 0)).to_vec();
    single.take(&waiting);
    let verdicts: Vec<Verdict> = waiting.iter().map(|block| known(&single, block)).collect();
    assert_eq!(verdicts, [Verdict::Known, Verdict::Known, Verdict::New]);
}

#[test]
fn what_is_collected_is_old_but_for_our_own() {
    let rules = ProtocolParameters { gc_depth: 20, ..ProtocolParameters::default() };
    let mut single = Single::new(0, rules);
    single.connect_all();
    single.run_rounds(&[1, 2, 3], 40);
    let gc_round = single.core.status().gc_round;
    assert!(gc_round > Round(5));
    let name = |round: Round, author| BlockRef { round, author, digest: Digest::of("test", &[]) };
    let judge = |reference| single.core.known().judge(&reference);
    assert_eq!(judge(name(gc_round, ONE)), Verdict::Old);
    assert_eq!(judge(name(gc_round.next(), ONE)), Verdict::New);
    assert_eq!(judge(name(gc_round, AuthorityIndex(0))), Verdict::New, "one that we lost must reach the core");
    assert_eq!(single.core.known().linked.len(), single.core.status().footprint.blocks, "bounded by what is held");
}

#[test]
fn a_copy_tells_who_has_the_block() {
    let mut single = four();
    single.run_rounds(&[1, 2, 3], 3);
    let round = single.own_round().0;
    let block = single.block(1, round, &[]);
    single.take(std::slice::from_ref(&block));
    single.input(Input::KnownBlocks { sender: TWO, refs: vec![block.reference()] });
    single.effects.clear();
    // Long after, everybody who is not known to have it gets it: that is member 3 alone.
    single.advance(ConsensusParameters::default().delay_bound * 40);
    let pushed: BTreeSet<AuthorityIndex> = single
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::SendHistory { peer, blocks } if blocks.contains(&block) => Some(*peer),
            _ => None,
        })
        .collect();
    assert_eq!(pushed, BTreeSet::from([AuthorityIndex(3)]));
}

#[test]
fn a_copy_of_what_has_gone_meanwhile_is_asked_for() {
    let mut single = four();
    single.run_rounds(&[1, 2, 3], 3);
    let round = single.own_round().0;
    let missing = single.block(1, round, &[]);
    let child = single.block_on(3, round + 1, &[BlockRef { author: AuthorityIndex(3), ..missing.reference() }], 0);
    assert!(child.parents().contains(&missing.reference()));
    single.take(&[child]);
    single.effects.clear();
    single.input(Input::KnownBlocks { sender: TWO, refs: vec![missing.reference()] });
    let asked = |effect: &Effect| match effect {
        Effect::FetchBlocks { peer, refs } => *peer == TWO && refs.contains(&missing.reference()),
        _ => false,
    };
    single.advance(std::time::Duration::from_secs(1));
    assert!(single.effects.iter().any(asked), "{:?}", single.effects);
}

#[test]
fn twins_are_charged_to_their_author_and_to_nobody_who_relays_them() {
    let mut single = four();
    single.run_rounds(&[1, 2, 3], 3);
    let round = single.own_round().0;
    let twins: Vec<VerifiedBlock> = (0..5).map(|salt| single.twin(1, round, salt)).collect();
    single.input(Input::Block { sender: TWO, block: twins[0].clone() });
    assert_eq!(blamed(&mut single), []);
    single.input(Input::Block { sender: TWO, block: twins[1].clone() });
    assert_eq!(blamed(&mut single), [(ONE, Rule::Equivocation)]);
    single.input(Input::Block { sender: TWO, block: twins[2].clone() });
    assert_eq!(blamed(&mut single), [], "it may have had to link that one");
    single.input(Input::Block { sender: ONE, block: twins[3].clone() });
    assert_eq!(blamed(&mut single), [(ONE, Rule::Twins)]);
    assert_eq!((single.core.penalties(ONE), single.core.penalties(TWO)), (2, 0));
}

#[test]
fn a_wrong_length_is_charged_to_who_named_it() {
    let mut single = four();
    single.withhold_payload = true;
    single.run_rounds(&[1, 2, 3], 3);
    let round = single.own_round().0;
    let batch = BatchRef { sequence: Sequence(1), digest: Digest::of("test", &[]), bytes: 100 };
    let block = single.with_batches(1, round, vec![batch]);
    single.take(&[block]);
    single.effects.clear();
    single.input(Input::BatchStored { key: batch.key(ONE), bytes: 99 });
    assert_eq!(blamed(&mut single), [(ONE, Rule::PayloadLength)]);
}

#[test]
fn a_vote_against_a_commit_and_a_changed_vote_are_blamed_once() {
    let mut single = four();
    single.run_rounds(&[1, 2, 3], 10);
    assert!(single.core.status().last_commit >= CommitIndex(2), "{:?}", single.core.status());
    let vote = |index, salt: &[u8]| CommitRef { index: CommitIndex(index), digest: Digest::of("test", &[salt]) };
    assert_eq!(blamed(&mut single), []);
    let round = single.own_round().0;
    let block = single.voting(1, round, vec![vote(2, b"a")]);
    single.take(&[block]);
    assert_eq!(blamed(&mut single), [(ONE, Rule::VoteAgainst)]);
    single.run_rounds(&[2, 3], 1);
    let round = single.own_round().0;
    let block = single.voting(1, round, vec![vote(2, b"b"), vote(5_000, b"a")]);
    single.take(&[block]);
    assert_eq!(blamed(&mut single), [(ONE, Rule::VoteChanged)]);
    single.run_rounds(&[2, 3], 1);
    let round = single.own_round().0;
    let block = single.voting(1, round, vec![vote(5_000, b"a")]);
    single.take(&[block]);
    assert_eq!(blamed(&mut single), [], "the same vote again is none");
}

#[test]
fn a_tip_that_is_somebody_elses_is_blamed() {
    let mut single = four();
    single.run_rounds(&[1, 2, 3], 3);
    let (foreign, own, ours) = (single.block(2, 2, &[]), single.block(1, 2, &[]), single.own(2));
    let tip = |own, yours| {
        let tip = Tip { own, yours, gc_round: Round(0), last_commit: CommitIndex(0) };
        Input::PeerTip { peer: ONE, tip: Box::new(tip) }
    };
    single.effects.clear();
    single.input(tip(Some(own.clone()), Some(ours)));
    assert_eq!(blamed(&mut single), []);
    single.input(tip(Some(foreign.clone()), None));
    assert_eq!(blamed(&mut single), [(ONE, Rule::ForeignTip)]);
    single.input(tip(Some(own), Some(foreign)));
    assert_eq!(blamed(&mut single), [(ONE, Rule::ForeignTip)]);
}
