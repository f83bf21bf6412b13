//! How long is waited for whom: ranges, holders, leaders; and when a clock is believed.

use std::sync::Arc;
use std::time::Duration;

use rorqual_config::{AuthorityIndex, Digest, ProtocolParameters};

use super::single::Single;
use crate::core::records::Records;
use crate::core::requests::{Asked, Requests};
use crate::core::servers::{Candidate, Servers};
use crate::core::waits::Waits;
use crate::dag::fetch::Fetcher;
use crate::dag::graph::{Graph, Vertex};
use crate::input::Input;
use crate::testing::{block_core, committee, key};
use crate::types::{BlockRef, CommitIndex, Round, VerifiedBlock};

const MS: Duration = Duration::from_millis(1);
const ONE: AuthorityIndex = AuthorityIndex(1);
const TWO: AuthorityIndex = AuthorityIndex(2);
const THREE: AuthorityIndex = AuthorityIndex(3);

#[test]
fn a_server_that_delivers_again_rests_no_longer() {
    let mut servers = Servers::new(4, Duration::ZERO);
    let both = [ONE, TWO].map(|peer| Candidate { peer, open: 0, waiting: Duration::ZERO });
    servers.delivered(ONE, 100, 10 * MS);
    servers.delivered(TWO, 1, 1_000 * MS);
    servers.failed(ONE, MS, 1_000 * MS, Duration::ZERO);
    assert_eq!(servers.choose(&both, 10 * MS, MS), Ok(TWO), "it rests");
    servers.delivered(ONE, 100, 10 * MS);
    assert_eq!(servers.choose(&both, 10 * MS, MS), Ok(ONE), "one delivery forgives");
}

#[test]
fn a_range_may_take_a_minute_in_all_however_steadily_it_comes() {
    let since = Duration::from_secs(5);
    let ends = |seconds: u64| Asked { since, bytes: seconds * (64 << 10) }.gives_up_at(Duration::from_secs(1));
    assert_eq!([58, 59, 60, 1_000].map(|seconds| ends(seconds).as_secs()), [64, 65, 65, 65]);
}

#[test]
fn a_range_is_asked_for_until_its_last_commit_is_here() {
    let mut requests = Requests::default();
    requests.ask(CommitIndex(1), CommitIndex(10), ONE, Duration::ZERO);
    requests.ask(CommitIndex(11), CommitIndex(20), TWO, Duration::ZERO);
    assert_eq!(requests.drop_below(CommitIndex(9)), []);
    assert_eq!(requests.drop_below(CommitIndex(10)), [(CommitIndex(1), ONE)]);
    assert_eq!(requests.len(), 1);
}

#[test]
fn no_round_trip_that_fewer_than_v_share_lengthens_the_patience_with_anybody() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    for (peer, duration) in [(ONE, 20 * MS), (TWO, 100 * MS), (THREE, 1_000 * MS)] {
        single.input(Input::RoundTrip { peer, duration });
    }
    assert_eq!(single.core.range_patience(), 400 * MS, "four of the second nearest: V is two");
    let holders = [ONE, TWO, THREE].map(|peer| single.core.block_patience(peer));
    assert_eq!(holders, [40 * MS, 200 * MS, 200 * MS], "two of its own, or of what a quorum shares with us");
}

#[test]
fn a_leader_that_came_after_the_timeout_was_away_and_says_nothing_about_links() {
    let committee = committee(4);
    for (wait, expected) in [(50 * MS, 50 * MS), (51 * MS, Duration::ZERO)] {
        let mut waits = Waits::new(4);
        for leader in committee.authorities() {
            waits.begin(Round(1), leader, 10 * MS);
            let awaited = *waits.open().next().unwrap();
            waits.end(awaited, 10 * MS + wait, 50 * MS);
        }
        assert_eq!((waits.typical(&committee), waits.open().count()), (expected, 0));
    }
}

#[test]
fn an_answer_to_our_very_first_block_shows_a_clock() {
    let mut single = Single::new(0, ProtocolParameters::default());
    single.connect_all();
    single.seal();
    let first: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, 1, &[])).collect();
    single.take(&first);
    assert_eq!(single.core.times().peers_ms, None, "nobody has answered");
    let second: Vec<VerifiedBlock> = (1..4).map(|author| single.block(author, 2, &[])).collect();
    assert!(second[0].parents().contains(&single.own(1).reference()));
    single.take(&second);
    assert!(single.core.times().peers_ms.is_some());
}

#[test]
fn three_blocks_in_a_row_go_without_payload_for_their_time_and_no_fourth() {
    let mut single = Single::new(0, ProtocolParameters::default());
    let chain = single.committee.chain_id();
    let genesis: Vec<BlockRef> = (0..4).map(|author| BlockRef::genesis(chain, AuthorityIndex(author))).collect();
    single.core.now.wall_ms = 1_000_000;
    let withheld = [(); 5].map(|()| single.core.would_be_past(Round(1), &genesis));
    assert_eq!(withheld, [true, true, true, false, false]);
    single.core.now.wall_ms = 1_000;
    assert!(!single.core.would_be_past(Round(1), &genesis));
    single.core.now.wall_ms = 1_000_000;
    assert!(single.core.would_be_past(Round(1), &genesis), "they are counted in a row");
}

#[test]
fn only_who_is_asked_for_a_block_can_say_that_it_does_not_have_it() {
    let block = BlockRef { round: Round(3), author: ONE, digest: Digest::default() };
    let mut fetcher = Fetcher::new(100 * MS);
    fetcher.want(block, ONE);
    fetcher.want(block, TWO);
    let connected = [ONE, TWO, THREE].into_iter().collect();
    let ask = |fetcher: &mut Fetcher| -> Vec<AuthorityIndex> {
        fetcher.due(MS, connected, |_| 1_000 * MS).0.iter().map(|request| request.peer).collect()
    };
    assert_eq!(ask(&mut fetcher), [ONE]);
    fetcher.unavailable(&block, TWO);
    assert_eq!(ask(&mut fetcher), [], "its answer is still to come");
    fetcher.unavailable(&block, ONE);
    assert_eq!(ask(&mut fetcher), [TWO]);
}

#[test]
fn a_block_that_is_collected_keeps_nobody_awake() {
    let committee = committee(4);
    let block = VerifiedBlock::sign(block_core(&committee, 1, 1), Vec::new(), &committee, &key(1));
    let mut graph = Graph::new(4);
    graph.insert(Vertex::new(block.clone(), Duration::ZERO));
    graph.set_wakes(&block.reference(), true);
    assert_eq!(graph.waking(), 1);
    graph.collect(Round(1));
    assert_eq!((graph.waking(), graph.len()), (0, 0));
}

#[test]
fn of_many_snapshots_that_wait_the_oldest_stays_since_it_can_be_written_first() {
    let mut records = Records::new(&committee(4));
    for index in [4, 8, 12, 16] {
        records.keep_snapshot(CommitIndex(index), Arc::new(Vec::new()));
    }
    let mut taken =
        |executed| records.take_snapshots(CommitIndex(executed)).into_keys().map(|i| i.0).collect::<Vec<_>>();
    assert_eq!([taken(3), taken(4), taken(16)], [vec![], vec![4], vec![12, 16]]);
}
