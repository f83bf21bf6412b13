//! The pacemaker of one core, fed by hand.

use std::time::Duration;

use rorqual_config::{AuthorityIndex, ProtocolParameters};

use super::single::Single;
use crate::effect::Effect;
use crate::input::Input;
use crate::types::Round;

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_round_waits_for_its_leader_and_then_times_out() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    let first = single.own(1);
    // Round 1 is led by node 1, which says nothing.
    let round = [first, single.block(2, 1, &[]), single.block(3, 1, &[])];
    single.take(&round[1..]);
    assert_eq!(single.own_round(), Round(1));
    single.advance(49 * MS);
    assert_eq!(single.own_round(), Round(1), "still waits");
    single.advance(2 * MS);
    assert_eq!((single.own_round(), single.core.status().events.timeouts), (Round(2), 1));
    let block = single.own(2);
    assert_eq!(block.parents().len(), 3);
    assert_eq!(block.parents()[0], round[0].reference());
}

#[test]
fn a_leader_that_is_gone_for_long_is_not_waited_for() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    single.input(Input::PeerDown(AuthorityIndex(1)));
    single.run_rounds(&[2, 3], 18);
    let timeouts = single.core.status().events.timeouts;
    assert!(timeouts > 0);
    assert_eq!(single.core.status().muted, [AuthorityIndex(1)]);
    single.run_rounds(&[2, 3], 12);
    assert_eq!(single.core.status().events.timeouts, timeouts);
}

#[test]
fn timeouts_grow_while_nothing_commits_and_return_with_the_first_commit() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    // Votes are split so that no leader slot is decided: everybody leaves out the leader of odd nodes' choice.
    single.run_split_rounds(24);
    let status = single.core.status();
    assert_eq!(status.last_commit.0, 0, "{status:?}");
    assert!(status.leader_timeout > 100 * MS, "{status:?}");
    single.run_rounds(&[1, 2, 3], 12);
    let status = single.core.status();
    assert!(status.last_commit.0 > 0, "{status:?}");
    assert_eq!(status.leader_timeout, 50 * MS);
}

#[test]
fn a_node_that_sees_a_quorum_ahead_fills_every_round_without_waiting() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    // The others run ahead to round 12 without us, and nothing of it reaches us before.
    let ahead = single.rounds_without_us(&[1, 2, 3], 12);
    let before = single.now;
    single.take(&ahead);
    let own = single.own_rounds();
    let commit = single.core.status().last_commit;
    assert!(commit.0 > 0);
    assert_eq!(single.now, before, "no time passed");
    // Rounds above the commit round that a quorum has voted for are never skipped; nobody voted yet.
    assert_eq!(own, (1..=own.len() as u64).map(Round).collect::<Vec<_>>());
    assert!(own.len() >= 12, "{own:?}");
    let late: Vec<usize> = own.iter().map(|round| single.own(round.0).batches().len()).collect();
    assert_eq!(late.iter().sum::<usize>(), 1, "one block of four of a late node carries payload: {late:?}");
}

#[test]
fn an_own_block_leaves_only_after_it_is_durable() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.hold_writes = true;
    single.connect_all();
    single.seal();
    assert_eq!(single.written_own(), 1);
    assert!(!single.effects.iter().any(|effect| matches!(effect, Effect::SendOwn { .. })));
    assert_eq!(single.core.status().round, Round(0));
    single.release_writes();
    let sent = single.effects.iter().filter(|effect| matches!(effect, Effect::SendOwn { .. })).count();
    assert_eq!((sent, single.core.status().round), (3, Round(1)));
}

#[test]
fn nothing_is_proposed_before_a_quorum_has_shown_its_tip_and_listens() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.seal();
    for peer in [1, 2] {
        single.input(Input::PeerUp(AuthorityIndex(peer)));
        single.input(Input::Subscribed { peer: AuthorityIndex(peer), from_round: Round(1) });
    }
    assert_eq!(single.written_own(), 0);
    single.show_tip(1);
    assert_eq!(single.written_own(), 0);
    single.show_tip(2);
    assert_eq!(single.written_own(), 1);
}
