//! The first submission to a cluster is taken: to a fresh one at once, and after an outage of all nodes that was longer than
//! submission ids live.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod cluster;

use std::time::{Duration, Instant};

use cluster::{Cluster, Member, texts};

/// Submits through every node at once, as soon as it answers.
fn submit_everywhere(cluster: &Cluster, text: &str) {
    std::thread::scope(|scope| {
        for (index, member) in cluster.members.iter().enumerate() {
            scope.spawn(move || {
                let answers = || cluster::run(&["status", "--node", &member.client]).status.success().then_some(());
                cluster::wait_for("the node to answer", answers);
                member.submit(&format!("{text} {index}"));
            });
        }
    });
}

#[test]
fn a_fresh_cluster_and_one_after_a_long_outage_take_the_first_submission() {
    let mut cluster = Cluster::prepare(4);
    cluster.set_protocol("max_lifetime", "\"10s\"");
    cluster.members.iter_mut().for_each(Member::start);
    submit_everywhere(&cluster, "fresh");
    cluster.members.iter_mut().for_each(Member::kill);
    let outage = Instant::now();
    while outage.elapsed() < Duration::from_secs(12) {
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.members.iter_mut().for_each(Member::start);
    submit_everywhere(&cluster, "after the outage");
    cluster.wait_ready();
    let log = cluster.one_log(&[0, 1, 2, 3]);
    let mut expected: Vec<String> =
        (0..4).flat_map(|index| [format!("fresh {index}"), format!("after the outage {index}")]).collect();
    expected.sort();
    assert_eq!(texts(&log), expected);
    for member in &cluster.members {
        let (code, checks) = cluster::get(&member.http, "/readyz").unwrap();
        assert!(code == 200 && checks.contains("[+] clock ok\n"), "{checks}");
        assert_eq!(member.status().unwrap()["clock"]["wrong"], false);
    }
}
