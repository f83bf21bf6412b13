//! What the core does about links that lose frames, and what it makes of what they measure.

use std::time::Duration;

use rorqual_config::{AuthorityIndex, ProtocolParameters};

use super::single::Single;
use crate::effect::Effect;
use crate::input::Input;
use crate::types::{BlockRef, Round};

const MS: Duration = Duration::from_millis(1);
const ONE: AuthorityIndex = AuthorityIndex(1);

fn connected() -> Single {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single
}

/// How often a block was pushed to a peer.
fn pushes(single: &Single, to: AuthorityIndex, of: BlockRef) -> usize {
    let pushed = |effect: &&Effect| match effect {
        Effect::SendHistory { peer, blocks } => *peer == to && blocks.iter().any(|block| block.reference() == of),
        _ => false,
    };
    single.effects.iter().filter(pushed).count()
}

fn subscriptions(single: &Single, to: AuthorityIndex) -> usize {
    single.effects.iter().filter(|effect| matches!(effect, Effect::Subscribe { peer, .. } if *peer == to)).count()
}

fn own_sent(single: &Single, to: AuthorityIndex) -> usize {
    single.effects.iter().filter(|effect| matches!(effect, Effect::SendOwn { peer, .. } if *peer == to)).count()
}

#[test]
fn what_a_silent_peer_was_sent_is_pushed_again_ever_more_rarely() {
    let mut single = connected();
    single.seal();
    let own = single.own(1).reference();
    assert_eq!((own_sent(&single, ONE), pushes(&single, ONE, own)), (1, 0));
    single.advance(99 * MS);
    assert_eq!(pushes(&single, ONE, own), 0, "it may still be on its way");
    single.advance(60 * MS);
    assert_eq!(pushes(&single, ONE, own), 1);
    single.advance(Duration::from_secs(60));
    let times = pushes(&single, ONE, own);
    assert!((5..=18).contains(&times), "{times} times in a minute");
}

#[test]
fn a_peer_that_goes_on_is_not_sent_the_same_again() {
    let mut single = connected();
    single.seal();
    let lost = single.own(1).reference();
    // Everybody goes on without our first block, for seconds.
    for round in 1..=12 {
        let blocks: Vec<_> = [1, 2, 3].map(|author| single.block(author, round, &[0])).into();
        single.take(&blocks);
        single.advance(50 * MS);
    }
    // Left out is pushed once.
    assert!(pushes(&single, ONE, lost) <= 1, "{} times", pushes(&single, ONE, lost));
    single.advance(400 * MS);
    assert!(pushes(&single, ONE, lost) >= 1, "now it is silent");
}

#[test]
fn a_block_that_a_link_refused_is_pushed_soon_and_not_at_once() {
    let mut single = connected();
    single.seal();
    let own = single.own(1).reference();
    single.input(Input::SendRefused { peer: ONE, refs: vec![own] });
    assert_eq!(pushes(&single, ONE, own), 0, "the queue is still full");
    single.advance(80 * MS);
    assert_eq!((pushes(&single, ONE, own), pushes(&single, AuthorityIndex(2), own)), (1, 0));
    // A queue that stays full is tried ever more rarely too.
    for _ in 0..200 {
        single.input(Input::SendRefused { peer: ONE, refs: vec![own] });
        single.advance(50 * MS);
    }
    let times = pushes(&single, ONE, own);
    assert!(times <= 110, "{times} times in ten seconds");
}

#[test]
fn a_repeated_subscription_costs_what_is_new() {
    let mut single = connected();
    single.run_rounds(&[1, 2, 3], 30);
    let again = |single: &mut Single, from: u64| {
        let before = own_sent(single, ONE);
        single.input(Input::Subscribed { peer: ONE, from_round: Round(from) });
        own_sent(single, ONE) - before
    };
    assert_eq!(again(&mut single, 1), 31, "once more what went out since the first time");
    assert_eq!((again(&mut single, 1), again(&mut single, 25)), (0, 0));
    single.run_rounds(&[1, 2, 3], 3);
    assert_eq!((again(&mut single, 1), again(&mut single, u64::MAX)), (3, 0));
    // A new link is a new subscription.
    single.input(Input::PeerDown(ONE));
    single.input(Input::PeerUp(ONE));
    assert_eq!(again(&mut single, 31), 4);
}

#[test]
fn a_connected_peer_of_which_nothing_comes_is_subscribed_to_again_ever_more_rarely() {
    let mut single = connected();
    assert_eq!(subscriptions(&single, ONE), 1);
    single.advance(240 * MS);
    assert_eq!(subscriptions(&single, ONE), 1);
    single.advance(20 * MS);
    assert_eq!(subscriptions(&single, ONE), 2);
    single.advance(Duration::from_secs(60));
    let times = subscriptions(&single, ONE);
    assert!((8..=20).contains(&times), "{times} times in a minute");
}

#[test]
fn blocks_that_were_fetched_or_relayed_are_no_sign_that_a_subscription_works() {
    let mut single = connected();
    for round in 1..=30 {
        let blocks = [1, 2, 3].map(|author| single.block(author, round, &[0]));
        for block in blocks {
            // Member 1 is heard of through member 2 only.
            let sender = if block.author() == ONE { AuthorityIndex(2) } else { block.author() };
            single.input(Input::Block { sender, block });
        }
        single.advance(50 * MS);
    }
    assert!(subscriptions(&single, ONE) >= 2);
    assert_eq!(subscriptions(&single, AuthorityIndex(2)), 1);
}

#[test]
fn delays_follow_what_links_measure_within_the_nearest_quorum() {
    let mut single = connected();
    let (bound, timeout) = (single.core.status().delay_bound, single.core.status().leader_timeout);
    assert_eq!((bound, timeout), (25 * MS, 50 * MS));
    let measure = |single: &mut Single, peer: u16, ms: u32| {
        for _ in 0..64 {
            single.input(Input::RoundTrip { peer: AuthorityIndex(peer), duration: MS * ms });
        }
    };
    measure(&mut single, 3, 1_000_000);
    measure(&mut single, 1, 1);
    measure(&mut single, 2, 2);
    let status = single.core.status();
    assert!(status.quorum_round_trip <= 2 * MS && status.delay_bound == 25 * MS, "one is far or lies: {status:?}");
    measure(&mut single, 2, 100);
    single.run_rounds(&[1, 2, 3], 2);
    let status = single.core.status();
    assert!(status.delay_bound > 150 * MS && status.leader_timeout >= 2 * status.delay_bound, "{status:?}");
    measure(&mut single, 2, 1_000_000);
    single.run_rounds(&[1, 2, 3], 2);
    let status = single.core.status();
    assert_eq!((status.delay_bound, status.leader_timeout), (2_500 * MS, 5_000 * MS), "the cap");
}

#[test]
fn only_a_block_above_all_before_shows_that_its_author_goes_on() {
    let mut single = connected();
    single.run_rounds(&[1, 2, 3], 3);
    let round = single.own_round().0;
    let before = single.core.peers.advanced_at(ONE);
    single.advance(10 * MS);
    for (old, salt) in [(round - 1, 1), (round - 2, 2)] {
        let twin = single.twin(1, old, salt);
        single.take(std::slice::from_ref(&twin));
        single.blocks.remove(&twin.reference());
        assert!(single.core.graph.get(&twin.reference()).is_some(), "it is linked");
    }
    assert_eq!(single.core.peers.advanced_at(ONE), before);
    let new = single.block(1, round, &[]);
    single.take(&[new]);
    assert_eq!(single.core.peers.advanced_at(ONE), single.now);
}
