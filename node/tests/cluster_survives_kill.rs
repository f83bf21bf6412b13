//! kill -9 of real processes: the others go on, a returning node catches up, nothing with a receipt is lost or doubled.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod cluster;

use cluster::{Cluster, Member, lines, texts, wait_for};

#[test]
fn a_killed_node_returns_and_catches_up_beyond_garbage_collection() {
    let mut cluster = Cluster::prepare(4);
    // So short that the absence is longer than what live blocks can bridge.
    cluster.set_protocol("gc_depth", "20");
    cluster.members.iter_mut().for_each(Member::start);
    cluster.wait_ready();
    cluster.members[0].submit("before");
    cluster.members[3].kill();
    let commit_at_kill = cluster.members[0].last_commit();
    let mut expected = vec!["before".to_owned()];
    for part in 0..12 {
        let part = lines(&format!("part-{part}"), 20);
        let output = cluster.members[part.len() % 3].submit_lines(&part);
        assert!(output.status.success(), "commits go on with one of four down: {}", cluster::stderr(&output));
        expected.extend(part);
    }
    wait_for("a gap of many times gc_depth", || {
        cluster.members[1].submit("filler");
        (cluster.members[0].last_commit() > commit_at_kill + 100).then_some(())
    });
    cluster.members[3].start();
    cluster.wait_ready();
    let positions = cluster.members[0].positions();
    cluster.wait_positions(&[3], positions);
    let log = cluster.one_log(&[0, 1, 2, 3]);
    expected.extend(std::iter::repeat_n("filler".to_owned(), texts(&log).iter().filter(|t| *t == "filler").count()));
    expected.sort();
    assert_eq!(texts(&log), expected);
    cluster.members[3].submit("after");
    assert!(texts(&cluster.one_log(&[0, 3])).contains(&"after".to_owned()), "the returned node takes submissions");
}

#[test]
fn all_killed_at_once_keep_every_receipt() {
    let mut cluster = Cluster::start(4);
    for round in 0..3 {
        let part = lines(&format!("round-{round}"), 200);
        let output = cluster.members[round].submit_lines(&part);
        assert!(output.status.success(), "{}", cluster::stderr(&output));
        cluster.members.iter_mut().for_each(Member::kill);
        cluster.members.iter_mut().for_each(Member::start);
        cluster.wait_ready();
    }
    cluster.members[3].submit("last");
    let mut expected: Vec<String> = (0..3).flat_map(|round| lines(&format!("round-{round}"), 200)).collect();
    expected.push("last".into());
    expected.sort();
    assert_eq!(texts(&cluster.one_log(&[0, 1, 2, 3])), expected);
}

#[test]
fn a_node_down_from_the_start_does_not_stop_the_others() {
    let mut cluster = Cluster::prepare(4);
    cluster.members[..3].iter_mut().for_each(Member::start);
    cluster.wait_ready();
    let part = lines("three", 100);
    assert!(cluster.members[0].submit_lines(&part).status.success());
    assert_eq!(texts(&cluster.one_log(&[0, 1, 2])), part);
}

#[test]
fn a_stopped_node_drains_and_exits_with_zero() {
    let mut cluster = Cluster::start(4);
    cluster.members[0].submit("one");
    assert_eq!(cluster.members[0].terminate(), Some(0), "{}", cluster.members[0].last_words());
    cluster.members[1].submit("two");
    cluster.members[0].start();
    cluster.wait_ready();
    assert_eq!(texts(&cluster.one_log(&[0, 1, 2, 3])), ["one", "two"]);
}
