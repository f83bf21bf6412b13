//! Bad input of any kind: one clear sentence that names the thing, the right exit code, and nothing lost.

mod cluster;

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use cluster::{Cluster, run, stderr};

/// Runs a node that must not start; returns its exit code and what it said.
fn refused(config: &std::path::Path, extra: &[&str]) -> (Option<i32>, String) {
    let mut arguments = vec!["run", "--config", config.to_str().unwrap()];
    arguments.extend(extra);
    let output = run(&arguments);
    (output.status.code(), stderr(&output))
}

fn edit(file: &std::path::Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "`{from}` is not in {}", file.display());
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_missing_file_is_named() {
    let (code, said) = refused(std::path::Path::new("/nowhere/node.toml"), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("/nowhere/node.toml"), "{said}");
}

#[test]
fn an_unknown_key_is_named() {
    let cluster = Cluster::prepare(4);
    let config = cluster.members[0].config();
    edit(&config, "durability", "durabillity");
    let (code, said) = refused(&config, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("durabillity"), "{said}");
}

#[test]
fn a_key_outside_the_committee_is_refused() {
    let cluster = Cluster::prepare(4);
    let key = cluster.members[0].directory.join("node.key");
    std::fs::remove_file(&key).unwrap();
    assert!(run(&["keygen", "--output", key.to_str().unwrap()]).status.success());
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("committee"), "{said}");
}

#[test]
fn another_members_data_directory_is_refused() {
    let cluster = Cluster::prepare(4);
    let (one, two) = (&cluster.members[0], &cluster.members[1]);
    std::fs::remove_dir_all(one.directory.join("data")).unwrap();
    std::fs::rename(two.directory.join("data"), one.directory.join("data")).unwrap();
    let (code, said) = refused(&one.config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("member 1") && said.contains("member 0"), "{said}");
}

#[test]
fn a_data_directory_of_another_chain_is_refused() {
    let (cluster, other) = (Cluster::prepare(4), Cluster::prepare(4));
    let (ours, theirs) = (cluster.members[0].directory.join("data"), other.members[0].directory.join("data"));
    std::fs::remove_dir_all(&ours).unwrap();
    std::fs::rename(theirs, &ours).unwrap();
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("chain"), "{said}");
}

#[test]
fn a_missing_or_empty_data_directory_is_never_a_fresh_start() {
    let cluster = Cluster::prepare(4);
    let data = cluster.members[0].directory.join("data");
    std::fs::remove_dir_all(&data).unwrap();
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("rorqual init"), "{said}");
    std::fs::create_dir(&data).unwrap();
    assert_eq!(refused(&cluster.members[0].config(), &[]).0, Some(2));
}

#[test]
fn init_never_touches_an_existing_directory() {
    let cluster = Cluster::prepare(4);
    let output = run(&["init", "--config", cluster.members[0].config().to_str().unwrap()]);
    assert_ne!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("data"), "{}", stderr(&output));
}

#[test]
fn a_port_in_use_is_named() {
    let cluster = Cluster::prepare(4);
    for address in [&cluster.members[0].peer, &cluster.members[0].client, &cluster.members[0].http] {
        let _taken = TcpListener::bind(address).unwrap();
        let (code, said) = refused(&cluster.members[0].config(), &[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(address.as_str()), "{said}");
    }
}

#[test]
fn a_second_process_on_one_data_directory_is_refused() {
    let cluster = Cluster::start(4);
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another process") || said.contains("lock"), "{said}");
    cluster.members[0].submit("still alive");
}

#[test]
fn an_oversized_transaction_is_refused_and_the_node_goes_on() {
    let cluster = Cluster::start(4);
    let file = cluster.path().join("large");
    std::fs::write(&file, vec![7; 200 << 10]).unwrap();
    let client = &cluster.members[0].client;
    let output = run(&["submit", "--node", client, "--file", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("131072") || stderr(&output).contains("128"), "{}", stderr(&output));
    cluster.members[0].submit("small");
}

#[test]
fn strangers_and_garbage_do_no_harm() {
    let mut cluster = Cluster::start(4);
    for address in [&cluster.members[0].peer, &cluster.members[0].client] {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0, 0, 0, 0], &u32::MAX.to_be_bytes()] {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(garbage);
        }
    }
    cluster.members[0].submit("after garbage");
    assert!(cluster.members[0].is_running());
}
