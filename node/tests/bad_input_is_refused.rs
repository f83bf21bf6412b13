//! Bad input of any kind: one clear sentence that names the thing, the right exit code, and nothing lost. A full disk has tests
//! of its own in `disk_full_is_survived`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

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

/// What a refused start says: one sentence, by the program's name.
fn sentence(said: &str) -> &str {
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 1, "not one sentence:\n{said}");
    lines[0].strip_prefix("rorqual: ").unwrap_or_else(|| panic!("not by name: {said}"))
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
    assert!(sentence(&said).contains("/nowhere/node.toml: there is no such file"), "{said}");
    let cluster = Cluster::prepare(4);
    for (file, remedy) in [("node.key", "rorqual keygen"), ("../committee.toml", "committee file")] {
        let path = cluster.members[0].directory.join(file);
        let away = path.with_extension("away");
        std::fs::rename(&path, &away).unwrap();
        let (code, said) = refused(&cluster.members[0].config(), &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(sentence(&said).contains("there is no such file") && said.contains(remedy), "{said}");
        std::fs::rename(&away, &path).unwrap();
    }
}

#[test]
fn an_unknown_key_is_named() {
    let cluster = Cluster::prepare(4);
    let config = cluster.members[0].config();
    edit(&config, "durability", "durabillity");
    let (code, said) = refused(&config, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(sentence(&said).ends_with("durabillity = synced: is no known key: did you mean `durability`?"), "{said}");
    edit(&config, "durabillity", "durability");
    edit(&cluster.committee(), "gc_depth", "gc_deepth");
    let (code, said) = refused(&config, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("protocol.gc_deepth") && said.contains("did you mean `gc_depth`?"), "{said}");
}

#[test]
fn no_node_can_change_a_rule_of_all_nodes() {
    let cluster = Cluster::prepare(4);
    let config = cluster.members[0].config();
    let (code, said) = refused(&config, &["--set", "protocol.gc_depth=60"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(sentence(&said).contains("must be equal at all nodes"), "{said}");
    let output = cluster::rorqual()
        .args(["run", "--config", config.to_str().unwrap()])
        .env("RORQUAL__PROTOCOL__GC_DEPTH", "60")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(sentence(&stderr(&output)).contains("environment variable RORQUAL__PROTOCOL__GC_DEPTH"));
}

#[test]
fn clients_from_elsewhere_need_the_word_open() {
    let cluster = Cluster::prepare(4);
    let config = cluster.members[0].config();
    let port = cluster.members[0].client.rsplit_once(':').unwrap().1;
    let address = format!("listen.client=0.0.0.0:{port}");
    let check = run(&["config", "check", "--config", config.to_str().unwrap(), "--set", &address]);
    let (code, said) = refused(&config, &["--set", &address]);
    for (code, said) in [(check.status.code(), stderr(&check)), (code, said)] {
        assert_eq!(code, Some(2), "{said}");
        assert!(sentence(&said).contains("client.open = true"), "{said}");
    }
    let open =
        ["config", "check", "--config", config.to_str().unwrap(), "--set", &address, "--set", "client.open=true"];
    assert_eq!(run(&open).status.code(), Some(0));
}

#[test]
fn a_key_outside_the_committee_is_refused() {
    let cluster = Cluster::prepare(4);
    let key = cluster.members[0].directory.join("node.key");
    std::fs::remove_file(&key).unwrap();
    assert!(run(&["keygen", "--output", key.to_str().unwrap()]).status.success());
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(sentence(&said).contains("is no member's: use the key file of a member"), "{said}");
    // A key that others may read is refused too.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(sentence(&said).contains("chmod 600"), "{said}");
}

#[test]
fn another_members_data_directory_is_refused() {
    let cluster = Cluster::prepare(4);
    let (one, two) = (&cluster.members[0], &cluster.members[1]);
    std::fs::remove_dir_all(one.directory.join("data")).unwrap();
    std::fs::rename(two.directory.join("data"), one.directory.join("data")).unwrap();
    let (code, said) = refused(&one.config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    let said = sentence(&said);
    assert!(said.contains("member 1") && said.contains("member 0") && said.contains("node.toml"), "{said}");
}

#[test]
fn a_data_directory_of_another_chain_is_refused() {
    let (cluster, other) = (Cluster::prepare(4), Cluster::prepare(4));
    let (ours, theirs) = (cluster.members[0].directory.join("data"), other.members[0].directory.join("data"));
    std::fs::remove_dir_all(&ours).unwrap();
    std::fs::rename(theirs, &ours).unwrap();
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(sentence(&said).contains("chain") && said.contains("correct `data`"), "{said}");
}

#[test]
fn a_data_directory_of_another_format_is_refused_with_both_versions_and_left_as_it_is() {
    use rorqual_config::encoding::{decode, encode};
    use rorqual_node::schema::{self, FORMAT_VERSION, Identity, META, Meta};
    use rorqual_store::{Durability, Store, WriteBatch};
    let cluster = Cluster::prepare(4);
    let data = cluster.members[0].directory.join("data");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let set = |format: u32| {
        runtime.block_on(async {
            let store = Store::open(&data, schema::options(&Default::default(), false)).unwrap();
            let record = store.read(META, Meta::IDENTITY).await.unwrap().unwrap();
            let mut batch = WriteBatch::new();
            let identity = Identity { format, ..decode::<Identity>(&record).unwrap() };
            batch.put(META, Meta::IDENTITY, encode(&identity));
            store.write_batch(batch, Durability::Synced).await.unwrap();
            store.shutdown().await.unwrap();
        });
    };
    set(FORMAT_VERSION + 7);
    for _ in 0..2 {
        let (code, said) = refused(&cluster.members[0].config(), &[]);
        assert_eq!(code, Some(2), "{said}");
        let (found, expected) = (format!("format {}", FORMAT_VERSION + 7), format!("format {FORMAT_VERSION}"));
        assert!(sentence(&said).contains(&found) && said.contains(&expected), "{said}");
    }
    set(FORMAT_VERSION);
    let mut cluster = cluster;
    cluster.members.iter_mut().for_each(cluster::Member::start);
    cluster.wait_ready();
    cluster.members[0].submit("nothing was lost");
}

#[test]
fn a_folder_of_something_else_is_no_data_directory() {
    let cluster = Cluster::prepare(4);
    let data = cluster.members[0].directory.join("data");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("holiday.jpg"), "mine").unwrap();
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(sentence(&said).contains("rorqual init"), "{said}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "nothing was added");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::write(&data, "a file").unwrap();
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(sentence(&said).contains("cannot be read"), "{said}");
}

#[test]
fn a_missing_or_empty_data_directory_is_never_a_fresh_start() {
    let cluster = Cluster::prepare(4);
    let data = cluster.members[0].directory.join("data");
    std::fs::remove_dir_all(&data).unwrap();
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(sentence(&said).contains("rorqual init") && said.contains("must not sign again"), "{said}");
    std::fs::create_dir(&data).unwrap();
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(sentence(&said).contains("must not sign again"), "{said}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "it stays empty");
}

#[test]
fn init_never_touches_an_existing_directory() {
    let cluster = Cluster::prepare(4);
    let output = run(&["init", "--config", cluster.members[0].config().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(sentence(&stderr(&output)).contains("exists already and is not touched"), "{}", stderr(&output));
}

#[test]
fn a_port_in_use_is_named() {
    let cluster = Cluster::prepare(4);
    for address in [&cluster.members[0].peer, &cluster.members[0].client, &cluster.members[0].http] {
        let _taken = TcpListener::bind(address).unwrap();
        let (code, said) = refused(&cluster.members[0].config(), &[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(sentence(&said).contains(address.as_str()) && said.contains("stop"), "{said}");
    }
    // Nothing of the failed starts stays behind.
    let mut cluster = cluster;
    cluster.members.iter_mut().for_each(cluster::Member::start);
    cluster.wait_ready();
    cluster.members[0].submit("the ports are free again");
}

#[test]
fn a_second_process_on_one_data_directory_is_refused() {
    let cluster = Cluster::start(4);
    let (code, said) = refused(&cluster.members[0].config(), &[]);
    assert_eq!(code, Some(1), "{said}");
    let holder = format!("in use by process {}; stop it", cluster.members[0].process_id());
    assert!(sentence(&said).contains(&holder), "{said}");
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
    assert!(sentence(&stderr(&output)).contains("larger than the limit of 131072 bytes"), "{}", stderr(&output));
    cluster.members[0].submit("small");
    // Among lines, the others are committed, and the one that is not is named.
    std::fs::write(&file, format!("before\n{}\nafter\n", "x".repeat(200 << 10))).unwrap();
    let output = run(&["submit", "--node", client, "--lines", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("line 2: refused: it is larger"), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 of 3 lines have no receipt"), "{}", stderr(&output));
    assert_eq!(cluster::texts(&cluster.one_log(&[0, 1, 2, 3])), ["after", "before", "small"]);
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
