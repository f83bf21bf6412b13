//! Who gets which of our blocks, and what we say when asked about ourselves. Member 0 is the core.

use std::time::Duration;

use rorqual_config::{AuthorityIndex, ProtocolParameters};

use super::single::Single;
use crate::effect::Effect;
use crate::input::Input;
use crate::types::{Round, VerifiedBlock};

const ONE: AuthorityIndex = AuthorityIndex(1);

/// A core that has come to round 7 or a little more, and forgets what it has done so far.
fn at_work() -> Single {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single.run_rounds(&[1, 2, 3], 6);
    single.effects.clear();
    single
}

/// Rounds of own blocks that were sent to a peer.
fn sent(single: &Single, to: AuthorityIndex) -> Vec<Round> {
    let own = single.effects.iter().filter_map(|effect| match effect {
        Effect::SendOwn { peer, block } if *peer == to => Some(block.round()),
        _ => None,
    });
    own.collect()
}

#[test]
fn a_subscriber_gets_our_blocks_from_the_round_that_it_names_and_then_every_new_one() {
    let mut single = at_work();
    let own = single.own_round();
    single.input(Input::Subscribed { peer: ONE, from_round: Round(3) });
    assert_eq!(sent(&single, ONE), (3..=own.0).map(Round).collect::<Vec<_>>());
    assert_eq!(sent(&single, AuthorityIndex(2)), []);
    single.effects.clear();
    single.run_rounds(&[1, 2, 3], 2);
    for peer in 1..4 {
        assert_eq!(sent(&single, AuthorityIndex(peer)), [own.next(), own.plus(2)]);
    }
    single.effects.clear();
    single.input(Input::Subscribed { peer: ONE, from_round: own.plus(3) });
    assert_eq!(sent(&single, ONE), [], "it has all");
}

#[test]
fn a_peer_that_has_not_subscribed_over_this_connection_gets_nothing() {
    let mut single = at_work();
    single.input(Input::PeerDown(ONE));
    single.input(Input::Subscribed { peer: ONE, from_round: Round(1) });
    single.run_rounds(&[1, 2, 3], 1);
    assert_eq!(sent(&single, ONE), [], "it is not connected");
    single.input(Input::PeerUp(ONE));
    single.run_rounds(&[1, 2, 3], 1);
    assert_eq!(sent(&single, ONE), []);
    assert_eq!(sent(&single, AuthorityIndex(2)).len(), 2);
}

#[test]
fn we_subscribe_to_what_follows_the_highest_linked_block_of_a_peer() {
    let mut single = at_work();
    let highest = single.core.clock.round_of(ONE);
    assert!(highest > Round(4));
    single.input(Input::PeerUp(ONE));
    let asked: Vec<Round> = single
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Subscribe { peer: ONE, from_round } => Some(*from_round),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [highest.next()]);
}

#[test]
fn a_tip_is_our_last_block_and_the_highest_of_the_asker() {
    let mut single = at_work();
    single.input(Input::TipQueried { peer: ONE, request: 77 });
    let tips: Vec<_> = single
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::SendTip { peer: ONE, request: 77, tip } => Some(tip.clone()),
            _ => None,
        })
        .collect();
    let [tip] = &tips[..] else { panic!("{tips:?}") };
    assert_eq!(tip.own, Some(single.own(single.own_round().0)));
    assert_eq!(tip.yours.as_ref(), single.core.clock.highest_by(ONE));
    assert_eq!((tip.gc_round, tip.last_commit), (Round(0), single.core.status().last_commit));
    assert!(tip.yours.is_some() && tip.last_commit.0 > 0);
}

#[test]
fn a_peer_that_goes_on_without_a_block_is_pushed_it() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    let first: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, 1, &[])).collect();
    single.take(&first);
    single.advance(Duration::from_millis(5));
    let second = [single.block(1, 2, &[3]), single.block(2, 2, &[3]), single.block(3, 2, &[])];
    single.take(&second);
    assert_eq!(single.own_round(), Round(3));
    let left_out = first[2].reference();
    let pushed = single.effects.iter().filter_map(|effect| match effect {
        Effect::SendHistory { peer, blocks } => blocks.iter().any(|b| b.reference() == left_out).then_some(peer.0),
        _ => None,
    });
    assert_eq!(pushed.collect::<Vec<_>>(), [1, 2], "its author has it");
}
