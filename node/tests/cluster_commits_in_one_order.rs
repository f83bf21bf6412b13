//! Four real processes, submissions through all of them at once: one order, every line once, positions dense.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod cluster;

use cluster::{Cluster, lines, texts};

#[test]
fn lines_through_every_node_are_in_one_log_once() {
    let cluster = Cluster::start(4);
    std::thread::scope(|scope| {
        for (index, member) in cluster.members.iter().enumerate() {
            scope.spawn(move || {
                let output = member.submit_lines(&lines(&format!("from-{index}"), 250));
                assert!(output.status.success(), "{}\n{}", cluster::stderr(&output), member.last_words());
            });
        }
    });
    let log = cluster.one_log(&[0, 1, 2, 3]);
    let mut expected: Vec<String> = (0..4).flat_map(|index| lines(&format!("from-{index}"), 250)).collect();
    expected.sort();
    assert_eq!(texts(&log), expected);
    for (position, line) in log.iter().enumerate() {
        assert_eq!(line.split('\t').next(), Some(position.to_string().as_str()), "positions are dense");
    }
}

#[test]
fn a_commit_certificate_is_checked_with_the_committee_alone() {
    let cluster = Cluster::start(4);
    cluster.members[1].submit("certify me");
    let (file, client) = (cluster.path().join("certificate"), &cluster.members[2].client);
    let file = file.to_str().unwrap();
    cluster::wait_for("a certificate", || {
        let _ = std::fs::remove_file(file);
        cluster::run(&["certificate", "--node", client, "1", "--output", file]).status.success().then_some(())
    });
    let committee = cluster.committee();
    let verify = || cluster::run(&["verify", "--committee", committee.to_str().unwrap(), file]);
    let good = verify();
    assert_eq!(good.status.code(), Some(0), "{}", cluster::stderr(&good));
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
    assert_eq!(verify().status.code(), Some(1), "a flipped bit must not verify");
}
