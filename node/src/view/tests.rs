//! When a node calls itself caught up.

use rorqual_protocol::core::{Counters, Footprint, Status, Times};
use rorqual_protocol::types::Round;

use super::*;

fn status(proposed: u64, last_commit: u64, ahead: u64) -> Status {
    Status {
        round: Round(0),
        frontier: Round(0),
        last_commit: CommitIndex(last_commit),
        last_record: CommitIndex(0),
        solid: CommitIndex(0),
        gc_round: Round(0),
        quorum_commit_index: CommitIndex(0),
        highest_certified: CommitIndex(0),
        lag: ahead,
        dropped_by: Vec::new(),
        muted: Vec::new(),
        quorum_round_trip: Default::default(),
        delay_bound: Default::default(),
        leader_timeout: Default::default(),
        pending_own_batches: 0,
        times: Times::default(),
        events: Counters { proposed, ..Counters::default() },
        footprint: Footprint::default(),
    }
}

#[test]
fn lag_counts_what_is_not_applied_whoever_has_decided_it() {
    assert_eq!(lag(&status(1, 40, 0), CommitIndex(10)), 30);
    assert_eq!(lag(&status(1, 10, 500), CommitIndex(10)), 500);
    let certified = Status { highest_certified: CommitIndex(90), ..status(1, 40, 0) };
    assert_eq!(lag(&certified, CommitIndex(40)), 50);
    let voted = Status { quorum_commit_index: CommitIndex(70), ..status(1, 40, 0) };
    assert_eq!(lag(&voted, CommitIndex(40)), 30);
}

#[test]
fn a_node_is_caught_up_only_after_what_was_decided_at_its_start_is_applied() {
    let goal = OnceLock::new();
    let silent = caught_up(&status(0, 40, 0), CommitIndex(40), &goal).unwrap_err();
    assert!(silent.contains("not taken part"), "{silent}");
    // Within the lag of a ready node, and still short of its goal.
    let short = caught_up(&status(1, 40, 20), CommitIndex(10), &goal).unwrap_err();
    assert_eq!(short, "50 commits behind in what is applied");
    assert!(caught_up(&status(1, 70, 0), CommitIndex(59), &goal).is_err());
    assert_eq!(caught_up(&status(1, 70, 0), CommitIndex(60), &goal), Ok(()));
    // From then on some lag is fine, and too much of it is not.
    assert_eq!(caught_up(&status(1, 160, 0), CommitIndex(60), &goal), Ok(()));
    assert!(caught_up(&status(1, 161, 0), CommitIndex(60), &goal).is_err());
}
