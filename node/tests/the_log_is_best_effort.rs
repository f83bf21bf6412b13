//! Whatever becomes of standard error and standard output, a node goes on and commands end quietly.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod cluster;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use cluster::{Cluster, get, lines, rorqual, stderr, wait_for};

/// A cluster of one whose standard error is a pipe.
fn start(cluster: &Cluster, set: &[&str]) -> Child {
    let mut command = rorqual();
    command.arg("run").arg("--config").arg(cluster.members[0].config()).args(set);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap().success());
}

/// The value of a metric without labels.
fn metric(cluster: &Cluster, name: &str) -> f64 {
    let (_, text) = get(&cluster.members[0].http, "/metrics").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
    line.parse().unwrap()
}

fn commits_and_ends_well(cluster: &Cluster, mut node: Child) {
    let member = &cluster.members[0];
    wait_for("readiness", || member.is_ready().then_some(()));
    member.submit("nobody reads the log");
    assert_eq!(member.log().len(), 1);
    assert!(member.is_ready());
    signal(&node, "TERM");
    assert_eq!(node.wait().unwrap().code(), Some(0));
}

#[test]
fn a_node_whose_log_pipe_is_closed_commits_counts_lost_lines_and_stops_cleanly() {
    let cluster = Cluster::prepare(1);
    let mut node = start(&cluster, &["--set", "log.filter=trace"]);
    // As `| head -1` does.
    let mut first = String::new();
    BufReader::new(node.stderr.take().unwrap()).read_line(&mut first).unwrap();
    assert!(!first.is_empty());
    // Lines by the dozen are lost, and nothing else.
    let lost = || {
        get(&cluster.members[0].http, "/metrics")
            .is_some_and(|_| metric(&cluster, "rorqual_log_lines_lost_total") > 0.0)
    };
    wait_for("lost lines", || lost().then_some(()));
    commits_and_ends_well(&cluster, node);
}

#[test]
fn a_node_whose_log_is_never_read_does_not_wait_for_its_reader() {
    let cluster = Cluster::prepare(1);
    // Full from the first byte on, and never read.
    let (unread, mut writer) = std::io::pipe().unwrap();
    let mut command = rorqual();
    command.arg("run").arg("--config").arg(cluster.members[0].config());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer.try_clone().unwrap());
    let (full, filled) = std::sync::mpsc::channel();
    let filler =
        std::thread::spawn(move || while writer.write_all(&[b'x'; 4_096]).is_ok_and(|()| full.send(()).is_ok()) {});
    while filled.recv_timeout(std::time::Duration::from_secs(1)).is_ok() {}
    let node = command.spawn().unwrap();
    drop(command);
    commits_and_ends_well(&cluster, node);
    drop(unread);
    filler.join().unwrap();
}

#[test]
fn a_command_whose_output_is_closed_ends_without_a_word() {
    let mut cluster = Cluster::prepare(1);
    cluster.members[0].start();
    cluster.wait_ready();
    let output = cluster.members[0].submit_lines(&lines("line", 5_000));
    assert!(output.status.success(), "{}", stderr(&output));
    for extra in [&["--follow"][..], &[]] {
        let mut command = rorqual();
        command.args(["log", "--node", &cluster.members[0].client]).args(extra);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert_eq!(first, "0\tline-000000\n");
        cluster.members[0].submit("another line, so that it notices");
        child.wait().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "");
    }
}

#[test]
fn sighup_drains_like_sigterm() {
    let cluster = Cluster::prepare(1);
    let mut node = start(&cluster, &[]);
    wait_for("readiness", || cluster.members[0].is_ready().then_some(()));
    signal(&node, "HUP");
    assert_eq!(node.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    node.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("SIGHUP: draining"), "{said}");
}

#[test]
fn the_reason_of_a_failed_node_is_json_where_its_log_is() {
    let cluster = Cluster::prepare(1);
    let port = std::net::TcpListener::bind(&cluster.members[0].http).unwrap();
    let output = start(&cluster, &["--set", "log.format=json"]).wait_with_output().unwrap();
    drop(port);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let last: serde_json::Value =
        serde_json::from_str(said.lines().last().unwrap()).unwrap_or_else(|_| panic!("{said}"));
    assert!(last["message"].as_str().unwrap().contains("cannot listen for operators"), "{said}");
    assert_eq!((last["level"].as_str(), last["exit_code"].as_u64()), (Some("ERROR"), Some(1)));
}

#[test]
fn a_data_directory_that_is_renamed_under_a_node_ends_it_with_the_reason() {
    let mut cluster = Cluster::prepare(1);
    cluster.members[0].start();
    cluster.wait_ready();
    let data = cluster.members[0].directory.join("data");
    std::fs::rename(&data, data.with_extension("away")).unwrap();
    assert_eq!(cluster.members[0].wait_exit(), Some(1));
    let said = cluster.members[0].whole_log();
    assert!(said.lines().last().unwrap().contains("is no longer where it was"), "{said}");
}

/// Runs a node under a limit of the shell's; it must end by itself.
fn limited(limit: &str) -> (Option<i32>, String) {
    let cluster = Cluster::prepare(1);
    let binary = env!("CARGO_BIN_EXE_rorqual");
    let script = format!("ulimit {limit}; exec {binary} run --config {}", cluster.members[0].config().display());
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    (output.status.code(), stderr(&output))
}

#[test]
fn too_little_address_space_is_one_sentence_and_exit_code_1() {
    for limit in ["-v 200000", "-v 400000", "-v 1000000"] {
        let (code, said) = limited(limit);
        assert_eq!((code, said.lines().count()), (Some(1), 1), "{limit}: {said}");
        assert!(
            said.starts_with("rorqual: ") && said.contains("address space") && said.contains("ulimit -v"),
            "{said}"
        );
    }
}
