//! The commands against real nodes: what they print, how they end, and what they say when they end badly.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod cluster;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use cluster::{Cluster, Member, rorqual, run, stderr, stdout, wait_for};
use serde_json::Value;

fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    let text = stdout(&output);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} printed no JSON ({error}):\n{text}"))
}

/// Runs a command that must fail; gives its one sentence.
fn fails(code: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
    let said = stderr(&output);
    assert!(said.starts_with("rorqual: ") && said.lines().count() == 1, "{arguments:?}: {said}");
    said.trim_end().to_owned()
}

#[test]
fn every_command_that_prints_facts_prints_them_as_json_too() {
    let cluster = Cluster::start(4);
    let (node, folder) = (cluster.members[0].client.as_str(), cluster.path());
    let config = cluster.members[0].config();
    let config = config.to_str().unwrap();
    let submitted = json(&["submit", "--node", node, "--text", "hello\tworld", "--json"]);
    assert_eq!((&submitted["outcome"], &submitted["position"]), (&"committed".into(), &0.into()));
    let batch = submitted["batch"].as_str().unwrap();
    let entry = json(&["log", "--node", node, "--json"]);
    assert_eq!((&entry["position"], &entry["text"]), (&0.into(), &"hello\tworld".into()));
    assert_eq!(json(&["read", "--node", node, "0", "--json"])["hex"], hex::encode("hello\tworld"));
    assert_eq!(json(&["read", "--node", node, batch, "--json"])["transactions"], 1);
    let status = json(&["status", "--node", node, "--json"]);
    for fact in ["round", "last_commit", "lag", "peers", "disk_bytes", "version", "log_begins"] {
        assert!(!status[fact].is_null(), "{fact} is not in {status:#}");
    }
    assert_eq!(json(&["config", "check", "--config", config, "--json"])["ok"], true);
    let shown = json(&["config", "show", "--config", config, "--json"]);
    assert!(shown["values"].as_array().unwrap().iter().any(|value| value["origin"] == "default"));
    let file = folder.join("certificate");
    let file = file.to_str().unwrap();
    let certificate = wait_for("a certificate", || {
        let output = run(&["certificate", "--node", node, "1", "--output", file, "--json"]);
        output.status.success().then(|| serde_json::from_str::<Value>(&stdout(&output)).unwrap())
    });
    let committee = cluster.committee();
    let verified = json(&["verify", "--committee", committee.to_str().unwrap(), file, "--json"]);
    assert_eq!((&verified["valid"], &verified["commit"]), (&true.into(), &certificate["commit"]));
    let key = folder.join("new.key");
    let made = json(&["keygen", "--output", key.to_str().unwrap(), "--json"]);
    assert_eq!(made["public_key"].as_str().unwrap().len(), 64);
    let other = folder.join("other");
    let testnet =
        json(&["testnet", "--nodes", "7", "--profile", "wan", "--output-dir", other.to_str().unwrap(), "--json"]);
    assert_eq!(testnet["nodes"].as_array().unwrap().len(), 7);
    std::fs::remove_dir_all(other.join("node-2/data")).unwrap();
    let init = json(&["init", "--config", other.join("node-2/node.toml").to_str().unwrap(), "--json"]);
    assert_eq!(init["member"], 2);
}

#[test]
fn a_testnet_has_the_ports_that_were_asked_for_and_touches_no_folder_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("net");
    let directory = directory.to_str().unwrap();
    let output = run(&["testnet", "--nodes", "4", "--output-dir", directory, "--base-port", "7000"]);
    assert!(output.status.success(), "{}", stderr(&output));
    for (index, port) in [(0, 7000), (3, 7012)] {
        for (line, offset) in [("peer", 0), ("client", 1), ("http", 2)] {
            let address = format!("{line} 127.0.0.1:{}", port + offset);
            assert!(stdout(&output).lines().any(|l| l.starts_with(&format!("node-{index}")) && l.contains(&address)));
        }
    }
    let said = fails(2, &["testnet", "--output-dir", directory]);
    assert!(said.contains("is not empty"), "{said}");
    assert!(fails(2, &["testnet", "--output-dir", "/nowhere/x", "--base-port", "65530"]).contains("--base-port 65530"));
}

#[test]
fn wrong_usage_is_2_and_what_the_surroundings_refuse_is_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "garbage").unwrap();
    let file = file.to_str().unwrap();
    let nobody = "127.0.0.1:1";
    for command in [
        &["submit", "--node", nobody, "--text", "x"][..],
        &["log", "--node", nobody],
        &["read", "--node", nobody, "0"],
        &["status", "--node", nobody],
        &["certificate", "--node", nobody, "1", "--output", "/tmp/never-written"],
    ] {
        let said = fails(1, command);
        assert!(said.contains("cannot connect to 127.0.0.1:1"), "{said}");
    }
    assert!(fails(2, &["submit", "--node", nobody, "--file", "/nowhere"]).contains("cannot read /nowhere"));
    assert!(fails(2, &["submit", "--node", nobody, "--lines", "/nowhere"]).contains("cannot read /nowhere"));
    assert!(fails(2, &["submit", "--node", nobody]).contains("give --text, --file or --lines"));
    let nonce = ["submit", "--node", nobody, "--text", "x", "--nonce", "zz", "--deadline", "5"];
    assert!(fails(2, &nonce).contains("32 hex digits"));
    assert!(fails(2, &["read", "--node", nobody, "what"]).contains("is not a batch id"));
    assert!(fails(2, &["certificate", "--node", nobody, "1", "--output", file]).contains("not overwritten"));
    assert!(fails(2, &["keygen", "--output", file]).contains("not overwritten"));
    assert!(fails(2, &["verify", "--committee", "/nowhere/committee.toml", file]).contains("/nowhere/committee.toml"));
    assert!(fails(2, &["config", "show", "--config", file]).contains("is not TOML"));
    for wrong in [&["submit", "--text", "x"][..], &["log", "--node", nobody, "--raw", "--json"], &["fly"], &[]] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let net = folder.path().join("net");
    assert!(run(&["testnet", "--output-dir", net.to_str().unwrap()]).status.success());
    let committee = net.join("committee.toml");
    let committee = committee.to_str().unwrap();
    assert!(fails(1, &["verify", "--committee", committee, file]).contains("is not a valid certificate"));
    assert!(fails(2, &["verify", "--committee", committee, "/nowhere"]).contains("cannot read /nowhere"));
}

#[test]
fn the_log_is_read_from_a_position_raw_and_as_it_grows() {
    let cluster = Cluster::start(4);
    let node = &cluster.members[1].client;
    for text in ["one", "two"] {
        cluster.members[0].submit(text);
    }
    let file = cluster.path().join("binary");
    std::fs::write(&file, [0, 1, 255]).unwrap();
    let output = run(&["submit", "--node", node, "--file", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    cluster.wait_positions(&[1], 3);
    assert_eq!(stdout(&run(&["log", "--node", node, "--from", "1"])), "1\ttwo\n2\t0001ff\n");
    assert_eq!(run(&["log", "--node", node, "--raw"]).stdout, b"onetwo\x00\x01\xff");
    assert_eq!(stdout(&run(&["log", "--node", node, "--from", "3"])), "");
    assert!(fails(1, &["log", "--node", node, "--from", "4"]).contains("the next position is 3"));
    assert_eq!(stdout(&run(&["read", "--node", node, "1"])), "two\n");
    assert_eq!(run(&["read", "--node", node, "2", "--raw"]).stdout, [0, 1, 255]);
    assert!(fails(1, &["read", "--node", node, "9"]).contains("the next position is 3"));
    let mut following = rorqual().args(["log", "--node", node, "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let waiting =
        rorqual().args(["read", "--node", node, "3", "--wait", "60s"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        lines.next().unwrap().unwrap();
    }
    cluster.members[2].submit("three");
    assert_eq!(lines.next().unwrap().unwrap(), "3\tthree");
    assert_eq!(stdout(&waiting.wait_with_output().unwrap()), "three\n", "notify_read for people");
    following.kill().unwrap();
    following.wait().unwrap();
    // A batch by its id: what came with it, a line each.
    let entry = json(&["read", "--node", node, "3", "--json"]);
    let batch = entry["batch"].as_str().unwrap();
    assert_eq!(stdout(&run(&["read", "--node", &cluster.members[3].client, batch, "--wait", "30s"])), "three\n");
    let never = format!("2/999999/{}", batch.rsplit_once('/').unwrap().1);
    assert!(fails(1, &["read", "--node", node, &never, "--wait", "100ms"]).contains("no such batch is stored here"));
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_without_a_word() {
    let cluster = Cluster::start(4);
    assert!(cluster.members[0].submit_lines(&cluster::lines("x", 20_000)).status.success());
    let mut log = rorqual();
    log.args(["log", "--node", &cluster.members[0].client]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = log.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "0\tx-000000\n");
    assert_eq!(stderr(&child.wait_with_output().unwrap()), "");
}

#[test]
fn an_unknown_outcome_is_called_so_and_the_same_again_is_applied_once() {
    let mut cluster = Cluster::prepare(4);
    cluster.members[..2].iter_mut().for_each(Member::start);
    wait_for("the client address", || {
        run(&["status", "--node", &cluster.members[0].client]).status.success().then_some(())
    });
    let said = fails(1, &["submit", "--node", &cluster.members[0].client, "--text", "once", "--timeout", "1s"]);
    assert!(said.contains("outcome unknown until 20") && said.contains("through any node"), "{said}");
    let options = said.rsplit_once('`').unwrap().0.rsplit_once('`').unwrap().1;
    let again: Vec<&str> = options.split(' ').collect();
    assert_eq!((again[0], again[2]), ("--nonce", "--deadline"), "{said}");
    cluster.members[2].start();
    cluster.wait_ready();
    // Through another node, and through the first one once more.
    for member in [1, 0] {
        let mut arguments = vec!["submit", "--node", &cluster.members[member].client, "--text", "once"];
        arguments.extend(&again);
        let output = run(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert_eq!(cluster::texts(&cluster.one_log(&[0, 1, 2])), ["once"]);
    let late =
        ["submit", "--node", &cluster.members[1].client, "--text", "once", "--nonce", again[1], "--deadline", "1000"];
    let said = fails(1, &late);
    assert!(said.contains("its deadline has passed") && said.contains("rorqual log"), "{said}");
    assert_eq!(cluster::texts(&cluster.one_log(&[0, 1, 2])), ["once"]);
}

#[test]
fn lines_go_on_when_their_node_is_killed_and_comes_back() {
    let mut cluster = Cluster::start(4);
    let lines = cluster::lines("line", 30_000);
    let file = cluster.path().join("lines");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let mut command = rorqual();
    command.args([
        "submit",
        "--node",
        &cluster.members[0].client,
        "--lines",
        file.to_str().unwrap(),
        "--timeout",
        "80s",
    ]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("some of the lines", || (cluster.members[0].positions() > 500).then_some(()));
    cluster.members[0].kill();
    cluster.members[0].start();
    let output = child.wait_with_output().unwrap();
    let log = cluster::texts(&cluster.one_log(&[0, 1, 2, 3]));
    if !output.status.success() {
        // A line may be out of luck, but it is never out of sight.
        let said = stderr(&output);
        let unknown = said.lines().filter(|line| line.contains("outcome unknown until")).count();
        let summary = said.lines().last().unwrap();
        assert!(summary.contains(&format!("{unknown} of 30000 lines have no receipt")), "{said}");
        assert!(log.len() >= lines.len() - unknown);
    } else {
        assert_eq!(log.len(), lines.len());
    }
    let mut once = log.clone();
    once.dedup();
    assert_eq!(once.len(), log.len(), "no line is there twice");
    let receipts = stdout(&output).lines().count();
    assert!(receipts <= log.len() && receipts > 500, "{receipts} receipts");
}

#[test]
fn a_second_signal_ends_the_drain_at_once_and_nothing_is_lost() {
    let mut cluster = Cluster::start(4);
    cluster.members[0].submit("before");
    // The others hold their links and say nothing.
    cluster.members[1..].iter().for_each(|member| member.signal("STOP"));
    let mut submit = rorqual();
    submit.args(["submit", "--node", &cluster.members[0].client, "--text", "during", "--timeout", "60s", "--json"]);
    let child = submit.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the submission to be sealed", || {
        let (_, text) = cluster::get(&cluster.members[0].http, "/metrics")?;
        text.lines().any(|line| line == "rorqual_sealed_batches_total 2").then_some(())
    });
    cluster.members[0].signal("TERM");
    wait_for("the drain", || cluster.members[0].whole_log().contains("SIGTERM: draining").then_some(()));
    cluster.members[0].signal("TERM");
    assert_eq!(cluster.members[0].wait_exit(), Some(1), "{}", cluster.members[0].last_words());
    assert!(cluster.members[0].last_words().contains("a second signal ended the drain"));
    cluster.members[1..].iter().for_each(|member| member.signal("CONT"));
    cluster.members[0].start();
    cluster.wait_ready();
    let output = child.wait_with_output().unwrap();
    let outcome: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(outcome["outcome"], "committed", "sent again with its ticket: {outcome}");
    cluster.wait_positions(&[0, 1, 2, 3], 2);
    assert_eq!(cluster::texts(&cluster.one_log(&[0, 1, 2, 3])), ["before", "during"]);
}

#[test]
fn a_node_without_a_quorum_stops_at_once_and_one_that_just_starts_stops_too() {
    let mut cluster = Cluster::prepare(4);
    cluster.members[0].start();
    wait_for("the operator endpoint", || cluster::get(&cluster.members[0].http, "/livez"));
    assert_eq!(cluster.members[0].terminate(), Some(0), "{}", cluster.members[0].last_words());
    // A signal that comes as early as can be either finds no handler yet or is obeyed.
    let before = cluster.members[0].whole_log().len();
    cluster.members[0].start();
    wait_for("its first words", || (cluster.members[0].whole_log().len() > before).then_some(()));
    assert_eq!(cluster.members[0].terminate(), Some(0), "{}", cluster.members[0].last_words());
}

#[test]
fn a_configuration_may_come_from_a_pipe() {
    let cluster = Cluster::prepare(4);
    let directory = &cluster.members[0].directory;
    let script = format!(
        "cat node.toml | {0} config check --config /dev/stdin && {0} config show --config /dev/stdin --set log.filter=warn < node.toml",
        env!("CARGO_BIN_EXE_rorqual")
    );
    let output = std::process::Command::new("sh").arg("-c").arg(script).current_dir(directory).output().unwrap();
    let said = format!("{}{}", stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("/dev/stdin: ok"), "{said}");
    let origin = |key: &str| said.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    assert!(origin("log.filter").ends_with("flag") && origin("listen.peer").ends_with("file /dev/stdin"), "{said}");
}

#[test]
fn the_root_of_a_volume_is_refused_as_a_data_directory_with_the_remedy() {
    let cluster = Cluster::prepare(4);
    let data = cluster.members[0].directory.join("data");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir_all(data.join("lost+found")).unwrap();
    let output = run(&["init", "--config", cluster.members[0].config().to_str().unwrap()]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("root of a volume") && said.contains(data.join("data").to_str().unwrap()), "{said}");
    std::fs::remove_dir_all(&data).unwrap();
    let output = run(&["init", "--config", cluster.members[0].config().to_str().unwrap()]);
    assert!(stdout(&output).contains(" MiB"), "{}", stdout(&output));
}

#[test]
fn commands_that_are_printed_for_paths_with_blanks_can_be_pasted() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("a b");
    let output = run(&["testnet", "--nodes", "4", "--output-dir", directory.to_str().unwrap()]);
    let said = stdout(&output);
    assert!(said.contains(&format!("--config '{}/node-0/node.toml'`", directory.display())), "{said}");
}
