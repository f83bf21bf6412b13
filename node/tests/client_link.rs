//! The client link over real processes: readers that pause, nodes that restart, more clients than there are files for.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod cluster;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cluster::{Cluster, Member, rorqual, run, stderr, stdout, wait_for};
use rorqual_client::{Client, Options};

#[test]
fn a_reader_that_pauses_for_longer_than_the_node_waits_gets_the_whole_log() {
    let cluster = Cluster::start(4);
    let lines: Vec<String> = (0..20_000).map(|number| format!("{number:0400}")).collect();
    assert!(cluster.members[0].submit_lines(&lines).status.success());
    let mut log = rorqual();
    let mut child = log
        .args(["log", "--node", &cluster.members[0].client])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    // The node closes after 20 s of silence: the pause is what is tested.
    let pause = Instant::now();
    while pause.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(rest.lines().count(), 19_999);
}

#[test]
fn following_survives_a_restart_of_the_node_and_ends_with_its_position() {
    let mut cluster = Cluster::start(4);
    cluster.members[0].submit("one");
    let node = cluster.members[0].client.clone();
    let mut follow = rorqual();
    let mut child = follow
        .args(["log", "--node", &node, "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "0\tone");
    cluster.members[0].kill();
    cluster.members[1].submit("two");
    cluster.members[0].start();
    assert_eq!(lines.next().unwrap().unwrap(), "1\ttwo");
    let killed = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert!(output.status.success() && said.contains("going on at position 1"), "{said}");
    assert!(said.contains("stopped at position 2: go on with --from 2"), "{said}");
}

#[test]
fn more_clients_than_there_are_files_for_are_told_so_and_the_node_lives() {
    let mut cluster = Cluster::prepare(4);
    cluster.members[1..].iter_mut().for_each(Member::start);
    let member = &cluster.members[0];
    let log = std::fs::File::create(member.directory.join("log")).unwrap();
    let limited =
        format!("ulimit -Sn 256 && ulimit -Hn 900 && exec {} run --config \"$0\"", env!("CARGO_BIN_EXE_rorqual"));
    let mut node = Command::new("sh").args(["-c", &limited]).arg(member.config()).stderr(log).spawn().unwrap();
    let client = member.client.clone();
    wait_for("the node to answer", || run(&["status", "--node", &client]).status.success().then_some(()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let many = (0..400).map(|_| Client::connect(&client, Options::default()));
    let idle: Vec<Client> = runtime.block_on(futures_util::future::join_all(many)).into_iter().flatten().collect();
    assert!((8..200).contains(&idle.len()), "{} connections were taken", idle.len());
    wait_for("a client to be told that there is no place", || {
        stderr(&run(&["log", "--node", &client])).contains("its limit of open files").then_some(())
    });
    cluster.members[1].submit("through another node");
    // The node's own files are there: it takes part, and tells its status.
    wait_for("the payload", || (cluster.members[0].positions() == 1).then_some(()));
    let output = run(&["status", "--node", &client]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("round"));
    let said = cluster.members[0].whole_log();
    assert!(said.contains("client.max_connections = 1024 does not fit the limit of open files"), "{said}");
    assert!(node.try_wait().unwrap().is_none(), "{said}");
    drop(idle);
    node.kill().unwrap();
    node.wait().unwrap();
}

#[test]
fn wrong_addresses_and_files_are_answered_with_what_to_write() {
    let said = |arguments: &[&str]| {
        let output = run(arguments);
        assert!(!output.status.success());
        stderr(&output)
    };
    assert!(said(&["status", "--node", "http://127.0.0.1:9601"]).contains("without `http://`: 127.0.0.1:9601"));
    assert!(said(&["status", "--node", "localhost"]).contains("write HOST:PORT"));
    assert!(said(&["submit", "--node", "127.0.0.1:1", "--lines", "-"]).contains("write /dev/stdin"));
    assert!(said(&["submit", "--node", "127.0.0.1:1", "--text", "-x"]).contains("--text=-TEXT"));
    let folder = tempfile::tempdir().unwrap();
    let (net, rubbish) = (folder.path().join("net"), folder.path().join("rubbish"));
    assert!(run(&["testnet", "--output-dir", net.to_str().unwrap()]).status.success());
    std::fs::write(&rubbish, "rubbish").unwrap();
    let committee = net.join("committee.toml");
    let text = said(&["verify", "--committee", committee.to_str().unwrap(), rubbish.to_str().unwrap()]);
    assert!(text.contains("`rorqual certificate` wrote") && !text.contains("::"), "{text}");
}
