//! What a node makes of its data directory: it signs only where it knows what it has signed, names what is damaged, and can be
//! backed up, restored and repaired.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod cluster;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cluster::{Cluster, Member, lines, rorqual, run, stderr, stdout, texts, wait_for};
use serde_json::Value;

/// A cluster that has committed something, and of which node 0 was killed.
fn used() -> Cluster {
    let mut cluster = Cluster::start(4);
    assert!(cluster.members[0].submit_lines(&lines("before", 50)).status.success());
    cluster.members[0].kill();
    cluster
}

fn data(member: &Member) -> PathBuf {
    member.directory.join("data")
}

/// Runs node 0, which must refuse to sign.
fn amnesia(cluster: &Cluster, word: &str) {
    let config = cluster.members[0].config();
    let mut child =
        rorqual().arg("run").arg("--config").arg(&config).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let code = wait_for("the node to end", || child.try_wait().unwrap());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(code.code(), Some(1), "{said}");
    assert!(last.contains("amnesia") && last.contains(word), "{said}");
}

fn command(name: &str, member: &Member, more: &[&str]) -> Output {
    let config = member.config();
    let mut arguments = vec![name, "--config", config.to_str().unwrap()];
    arguments.extend(more);
    run(&arguments)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", stdout(output), stderr(output)))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            // A node that was killed leaves its control socket, which is no data.
            false if entry.file_name() == rorqual_node::control::FILE => {}
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn flip(file: &Path, position: u64) {
    let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], position).unwrap();
}

fn files(directory: &Path, kind: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|found| found == kind)).collect();
    found.sort();
    found
}

#[test]
fn a_node_signs_again_only_with_a_safety_record_that_its_store_reaches() {
    let mut cluster = used();
    let safety = data(&cluster.members[0]).join("SAFETY");
    let whole = std::fs::read(&safety).unwrap();

    std::fs::remove_file(&safety).unwrap();
    amnesia(&cluster, "missing");

    let mut both = whole.clone();
    both[3] ^= 1;
    both[4_096 + 3] ^= 1;
    std::fs::write(&safety, both).unwrap();
    amnesia(&cluster, "damaged");

    // One torn slot is what a power cut may leave.
    for slot in [0, 1] {
        let mut torn = whole.clone();
        torn[slot * 4_096 + 20..(slot + 1) * 4_096].fill(0);
        std::fs::write(&safety, torn).unwrap();
        cluster.members[0].start();
        cluster.wait_ready();
        cluster.members[0].submit(&format!("with slot {slot} torn"));
        cluster.members[0].kill();
    }

    let mark = data(&cluster.members[0]).join("AMNESIA");
    std::fs::write(&mark, "an operator said so\n").unwrap();
    amnesia(&cluster, "an operator said so");
    std::fs::remove_file(&mark).unwrap();
    cluster.members[0].start();
    cluster.wait_ready();
    cluster.members[0].submit("after");
    let log = texts(&cluster.one_log(&[0, 1, 2, 3]));
    assert!(log.contains(&"after".to_owned()) && log.len() == 53, "{}", log.len());
}

#[test]
fn the_mark_wins_over_never_signed() {
    let cluster = Cluster::prepare(4);
    std::fs::write(data(&cluster.members[0]).join("AMNESIA"), "a copy\n").unwrap();
    amnesia(&cluster, "a copy");
}

#[test]
fn an_old_copy_of_the_database_beside_the_record_is_seen() {
    let mut cluster = used();
    let (now, old) = (data(&cluster.members[0]), cluster.path().join("old"));
    copy(&now, &old);
    cluster.members[0].start();
    cluster.wait_ready();
    cluster.members[0].submit("signed after the copy");
    cluster.members[0].kill();
    // All of the old database, and the record of today.
    std::fs::copy(now.join("SAFETY"), old.join("SAFETY")).unwrap();
    std::fs::remove_dir_all(&now).unwrap();
    std::fs::rename(&old, &now).unwrap();
    amnesia(&cluster, "old copy");
    let facts = json(&command("inspect", &cluster.members[0], &["--json"]));
    assert_eq!((&facts["may_sign"], &facts["never_signed"]), (&Value::Bool(false), &Value::Bool(false)), "{facts}");
    assert!(facts["why_not"].as_str().unwrap().contains("old copy"), "{facts}");
}

#[test]
fn a_log_damaged_in_its_middle_is_told_from_a_torn_tail() {
    let mut cluster = used();
    let directory = data(&cluster.members[0]);
    let log = files(&directory, "log").pop().unwrap();
    // A torn record at the end: what a power cut leaves.
    let length = log.metadata().unwrap().len();
    std::fs::File::options().write(true).open(&log).unwrap().write_all_at(&[0x5a; 99], length).unwrap();
    let verified = json(&command("verify-store", &cluster.members[0], &["--json"]));
    assert_eq!((&verified["ok"], &verified["may_sign"]), (&Value::Bool(true), &Value::Bool(true)), "{verified}");
    assert!(verified["notes"].to_string().contains("torn at byte"), "{verified}");
    cluster.members[0].start();
    cluster.wait_ready();
    cluster.members[0].submit("after a torn tail");
    cluster.members[0].kill();

    let log = files(&directory, "log").pop().unwrap();
    flip(&log, log.metadata().unwrap().len() / 4);
    let output = command("verify-store", &cluster.members[0], &["--json"]);
    let verified = json(&output);
    assert_eq!(output.status.code(), Some(1), "{verified}");
    let name = log.file_name().unwrap().to_str().unwrap();
    assert!(verified["damages"].to_string().contains(name), "{verified}");
    amnesia(&cluster, "own round");
    let repaired = command("repair", &cluster.members[0], &[]);
    assert_eq!(repaired.status.code(), Some(1), "{}{}", stdout(&repaired), stderr(&repaired));
    assert!(stderr(&repaired).contains("amnesia") && stdout(&repaired).contains("AMNESIA"), "{}", stdout(&repaired));
    amnesia(&cluster, "repair");
    cluster.members[1].submit("the others go on");
}

/// What a store on disk is opened with in these tests.
fn open(member: &Member) -> rorqual_store::Store {
    let options = rorqual_node::schema::options(&Default::default(), false);
    rorqual_store::Store::open(&data(member), options).unwrap()
}

#[test]
fn damaged_payload_is_dropped_by_a_repair_and_fetched_again_from_peers() {
    use rorqual_node::schema::PAYLOAD;
    let mut cluster = Cluster::start(4);
    for part in 0..4 {
        assert!(cluster.members[part].submit_lines(&lines(&format!("part-{part}"), 20)).status.success());
    }
    cluster.wait_positions(&[0], 80);
    assert_eq!(cluster.members[0].terminate(), Some(0));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let keys = runtime.block_on(async {
        let store = open(&cluster.members[0]);
        let all = store.iterate(PAYLOAD, b"", b"", 1_000, usize::MAX, rorqual_store::Direction::Forward).await.unwrap();
        let keys: Vec<_> = all.into_iter().map(|(key, _)| key).collect();
        store.write(PAYLOAD, keys[0].clone(), "not what its key says").await.unwrap();
        let mut gone = rorqual_store::WriteBatch::new();
        gone.delete(PAYLOAD, keys[keys.len() - 1].clone());
        store.write_batch(gone, rorqual_store::Durability::Synced).await.unwrap();
        store.shutdown().await.unwrap();
        keys
    });
    assert!(keys.len() >= 2);
    let output = command("verify-store", &cluster.members[0], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("not what its key says") && stdout(&output).contains("not here"),
        "{}",
        stdout(&output)
    );
    let output = command("repair", &cluster.members[0], &[]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(
        stdout(&output).contains("dropped 1 damaged") && stdout(&output).contains("noted 2"),
        "{}",
        stdout(&output)
    );
    assert!(!stdout(&output).contains("AMNESIA"), "{}", stdout(&output));
    cluster.members[0].start();
    cluster.wait_ready();
    let full = cluster.members[1].log();
    wait_for("the log to be whole again", || {
        let output = run(&["log", "--node", &cluster.members[0].client]);
        (output.status.success() && stdout(&output).lines().map(str::to_owned).collect::<Vec<_>>() == full)
            .then_some(())
    });
    assert_eq!(cluster.members[0].terminate(), Some(0));
    let output = command("verify-store", &cluster.members[0], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(!stdout(&output).contains("note:"), "{}", stdout(&output));
}

#[test]
fn a_damaged_table_of_payload_costs_no_right_to_sign_and_one_of_blocks_does() {
    let mut cluster = Cluster::start(4);
    assert!(cluster.members[0].submit_lines(&lines("line", 50)).status.success());
    cluster.wait_positions(&[0, 1, 2, 3], 50);
    assert_eq!(cluster.members[0].terminate(), Some(0));
    // Which table is whose is what verify-store says of a damaged one.
    let mut of = std::collections::BTreeMap::new();
    for table in files(&data(&cluster.members[0]), "sst") {
        flip(&table, 10);
        let said = json(&command("verify-store", &cluster.members[0], &["--json"]))["damages"].to_string();
        // The store's own column is read before any other.
        let column = said.split("column ").nth(1).map_or("its own", |rest| rest.split(':').next().unwrap()).to_owned();
        flip(&table, 10);
        of.insert(column, table);
    }
    flip(&of["payload"], 10);
    let output = command("repair", &cluster.members[0], &[]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("mark is taken away again"), "{}", stdout(&output));
    cluster.members[0].start();
    cluster.wait_ready();
    cluster.members[0].submit("signed again");
    let full = cluster.members[1].log();
    wait_for("the log to be whole again", || {
        let output = run(&["log", "--node", &cluster.members[0].client]);
        (output.status.success() && stdout(&output).lines().map(str::to_owned).collect::<Vec<_>>() == full)
            .then_some(())
    });
    assert_eq!(cluster.members[0].terminate(), Some(0));

    let blocks = files(&data(&cluster.members[0]), "sst").into_iter().find(|table| {
        flip(table, 10);
        let said = json(&command("verify-store", &cluster.members[0], &["--json"]))["damages"].to_string();
        let is_blocks = said.contains("column blocks");
        if !is_blocks {
            flip(table, 10);
        }
        is_blocks
    });
    assert!(blocks.is_some());
    let output = command("repair", &cluster.members[0], &[]);
    assert_eq!(output.status.code(), Some(1), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("AMNESIA"), "{}", stdout(&output));
    amnesia(&cluster, "repair");
}

/// What a start does with payload that a power cut took: it leaves the index, and is noted as lost.
fn lose_payload(member: &Member, count: usize) {
    let options = rorqual_node::schema::options(&Default::default(), false);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = rorqual_store::Store::open(&data(member), options).unwrap();
        let payload = rorqual_node::schema::PAYLOAD;
        let page = store.iterate(payload, &[], &[], count, usize::MAX, rorqual_store::Direction::Forward);
        let mut batch = rorqual_store::WriteBatch::new();
        for (key, content) in page.await.unwrap() {
            batch.lose(payload, key, content.len() as u64);
        }
        assert_eq!(batch.len(), count);
        store.write_batch(batch, rorqual_store::Durability::Synced).await.unwrap();
        store.shutdown().await.unwrap();
    });
}

#[test]
fn payload_of_the_log_that_was_lost_is_a_hole_until_peers_have_served_it() {
    let mut cluster = Cluster::start(4);
    for number in 0..5 {
        assert!(cluster.members[number % 4].submit_lines(&lines(&format!("of {number}"), 20)).status.success());
    }
    let full = cluster.members[1].log();
    cluster.wait_ready();
    assert_eq!(cluster.members[0].terminate(), Some(0));
    lose_payload(&cluster.members[0], 3);
    let said = command("verify-store", &cluster.members[0], &[]);
    assert_eq!(said.status.code(), Some(1), "{}", stdout(&said));
    assert!(stderr(&said).contains("has a hole: 3 batches"), "{}", stderr(&said));
    assert!(!stdout(&said).contains("everything is what it should be"), "{}", stdout(&said));

    // Alone it cannot mend the hole, and says so as often as it starts.
    (1..4).for_each(|peer| cluster.members[peer].kill());
    for _ in 0..2 {
        cluster.members[0].start();
        let checks =
            wait_for("the endpoint", || cluster::get(&cluster.members[0].http, "/readyz").map(|(_, checks)| checks));
        assert!(checks.contains("3 batches of the log were lost"), "{checks}");
        cluster.members[0].kill();
    }
    (0..4).for_each(|member| cluster.members[member].start());
    cluster.wait_ready();
    assert_eq!(cluster.members[0].log(), full);
    assert_eq!(cluster.members[0].terminate(), Some(0));
    let said = command("verify-store", &cluster.members[0], &[]);
    assert_eq!(said.status.code(), Some(0), "{}{}", stdout(&said), stderr(&said));
}

#[test]
fn a_damaged_manifest_and_a_damaged_table_are_named() {
    let mut cluster = used();
    // A clean stop puts everything into tables.
    cluster.members[0].start();
    cluster.wait_ready();
    assert_eq!(cluster.members[0].terminate(), Some(0));
    let (directory, kept) = (data(&cluster.members[0]), cluster.path().join("kept"));
    copy(&directory, &kept);
    assert_eq!(command("verify-store", &cluster.members[0], &[]).status.code(), Some(0));

    let tables = files(&directory, "sst");
    assert!(!tables.is_empty());
    for table in &tables {
        let name = table.file_name().unwrap().to_str().unwrap();
        flip(table, 10);
        let output = command("verify-store", &cluster.members[0], &[]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", stdout(&output));
        assert!(stdout(&output).contains(name), "{name}: {}", stdout(&output));
        std::fs::copy(kept.join(name), table).unwrap();
    }
    let manifest = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let manifest = manifest.into_iter().find(|path| path.to_string_lossy().contains("MANIFEST-")).unwrap();
    flip(&manifest, manifest.metadata().unwrap().len() / 2);
    let output = command("verify-store", &cluster.members[0], &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stdout(&output).contains("MANIFEST"), "{}", stdout(&output));
    let started = command("run", &cluster.members[0], &[]);
    assert_eq!(started.status.code(), Some(1), "{}", stderr(&started));
    assert!(stderr(&started).contains("rorqual verify-store"), "{}", stderr(&started));
}

#[test]
fn a_running_node_is_backed_up_and_what_is_restored_does_not_sign() {
    let mut cluster = Cluster::start(4);
    assert!(cluster.members[0].submit_lines(&lines("saved", 50)).status.success());
    let backup = cluster.path().join("backup");
    let output = command("backup", &cluster.members[0], &["--output", backup.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("running node"), "{}", stdout(&output));
    let again = command("backup", &cluster.members[0], &["--output", backup.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("exists already"), "{}", stderr(&again));
    let facts = json(&run(&["inspect", backup.to_str().unwrap(), "--json"]));
    assert_eq!(facts["may_sign"], Value::Bool(false), "{facts}");
    assert_eq!(facts["log"]["next_position"], 50, "{facts}");
    cluster.members[0].submit("not in the backup");

    let existing = command("restore", &cluster.members[0], &["--from", backup.to_str().unwrap()]);
    assert_eq!(existing.status.code(), Some(2), "{}", stderr(&existing));
    cluster.members[0].kill();
    std::fs::remove_dir_all(data(&cluster.members[0])).unwrap();
    let other = command("restore", &cluster.members[1], &["--from", backup.to_str().unwrap()]);
    assert_eq!(other.status.code(), Some(2));
    let restored = command("restore", &cluster.members[0], &["--from", backup.to_str().unwrap()]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    assert_eq!(command("verify-store", &cluster.members[0], &[]).status.code(), Some(0));
    amnesia(&cluster, "backup");
    cluster.members[1].submit("the others go on");
}

#[test]
fn a_stopped_node_is_backed_up_too_and_no_plain_copy_passes_for_a_backup() {
    let cluster = used();
    let (backup, copied) = (cluster.path().join("backup"), cluster.path().join("copied"));
    let output = command("backup", &cluster.members[0], &["--output", backup.to_str().unwrap()]);
    assert!(output.status.success() && stdout(&output).contains("stopped node"), "{}", stderr(&output));
    assert_eq!(run(&["inspect", backup.to_str().unwrap()]).status.code(), Some(0));
    copy(&data(&cluster.members[0]), &copied);
    std::fs::remove_dir_all(data(&cluster.members[0])).unwrap();
    let output = command("restore", &cluster.members[0], &["--from", copied.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("not a backup"), "{}", stderr(&output));
}

#[test]
fn who_has_the_directory_is_named() {
    let cluster = Cluster::start(4);
    let process = cluster.members[0].process_id().to_string();
    for name in ["run", "verify-store", "repair"] {
        let output = command(name, &cluster.members[0], &[]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(stderr(&output).contains(&format!("process {process};")), "{name}: {}", stderr(&output));
    }
    let facts = json(&command("inspect", &cluster.members[0], &["--json"]));
    assert_eq!(facts["in_use_by"], format!("process {process}"), "{facts}");
    cluster.members[0].submit("still alive");
}

#[test]
fn what_is_not_there_is_a_usage_error() {
    let cluster = Cluster::prepare(4);
    std::fs::remove_dir_all(data(&cluster.members[0])).unwrap();
    let output = cluster.path().join("backup");
    for (name, more) in [
        ("inspect", &[][..]),
        ("verify-store", &[]),
        ("repair", &[]),
        ("backup", &["--output", output.to_str().unwrap()]),
        ("restore", &["--from", "/nowhere"]),
    ] {
        let output = command(name, &cluster.members[0], more);
        assert_eq!(output.status.code(), Some(2), "{name}: {}", stderr(&output));
        assert_eq!(stderr(&output).trim().lines().count(), 1, "{name}: {}", stderr(&output));
    }
}

/// Makes a data directory as another version of the daemon would have left it: without a column of this one.
fn of_format_one(member: &Member) {
    use rorqual_node::schema::{self, Identity, META, Meta, UNDELIVERED};
    let (chain_id, me) = {
        let store = open(member);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let record = store.read(META, Meta::IDENTITY).await.unwrap().unwrap();
            store.shutdown().await.unwrap();
            let identity: Identity = rorqual_config::encoding::decode(&record).unwrap();
            (identity.chain_id, identity.me)
        })
    };
    std::fs::remove_dir_all(data(member)).unwrap();
    let mut options = schema::options(&Default::default(), true);
    options.columns.retain(|column| column.name != UNDELIVERED.0);
    let store = rorqual_store::Store::open(&data(member), options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let identity = rorqual_config::encoding::encode(&Identity { format: 1, chain_id, me });
        store.write(META, Meta::IDENTITY, identity).await.unwrap();
        store.write(META, Meta::NEVER_SIGNED, "1").await.unwrap();
        store.shutdown().await.unwrap();
    });
}

#[test]
fn a_directory_of_another_format_is_refused_with_both_numbers_and_left_as_it_is() {
    let cluster = Cluster::prepare(4);
    let member = &cluster.members[0];
    let backup = cluster.path().join("backup");
    of_format_one(member);
    for (name, more) in [
        ("run", &[][..]),
        ("inspect", &[]),
        ("verify-store", &[]),
        ("repair", &[]),
        ("backup", &["--output", backup.to_str().unwrap()]),
    ] {
        let output = command(name, member, more);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {}{said}", stdout(&output));
        assert!(said.contains("format 1") && said.contains("format 2"), "{name}: {said}");
        assert!(!said.contains("column") && !said.contains("undelivered"), "{name}: {said}");
    }
    assert!(!data(member).join("AMNESIA").exists() && !data(member).join("lost").exists(), "it was touched");
}

#[test]
fn what_a_repair_drops_does_not_free_the_round_of_the_newest_block() {
    use rorqual_node::consensus::safety::{self, Found};
    use rorqual_node::schema::{META, Meta, OWN, PAYLOAD, batch_key};
    use rorqual_protocol::types::{BatchKey, Round, Sequence, VerifiedBlock};
    use rorqual_store::Direction;

    let mut cluster = Cluster::start(4);
    assert!(cluster.members[0].submit_lines(&lines("before", 50)).status.success());
    // All at once: nobody commits the newest block of node 0.
    cluster.members.iter_mut().for_each(Member::kill);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let newest = |member: &Member| {
        runtime.block_on(async {
            let store = open(member);
            let all = store.iterate(OWN, b"", b"", 1, usize::MAX, Direction::Backward).await.unwrap();
            store.shutdown().await.unwrap();
            VerifiedBlock::from_store(all[0].1.clone()).unwrap()
        })
    };
    let named = |member: &Member| match safety::read(&data(member)).unwrap() {
        Found::Valid { record, .. } => record.round,
        found => panic!("{found:?}"),
    };
    let block = newest(&cluster.members[0]);
    // What a power cut leaves that takes the record's newest slot, and payload of the cover that was damaged since.
    let safety = data(&cluster.members[0]).join("SAFETY");
    let mut record = std::fs::read(&safety).unwrap();
    while named(&cluster.members[0]) >= block.round() {
        let Found::Valid { record: newer, .. } = safety::parse(&record) else { panic!("no record is left") };
        let slot = (newer.generation % 2) as usize * 4_096;
        record[slot..slot + 4_096].fill(0);
        std::fs::write(&safety, &record).unwrap();
    }
    assert!(named(&cluster.members[0]) < block.round());
    let author = rorqual_config::AuthorityIndex(1);
    let key = BatchKey { author, sequence: Sequence(1_000), digest: rorqual_config::Digest([7; 32]) };
    let cover = rorqual_protocol::Cover { block: block.reference(), payload: vec![key] };
    runtime.block_on(async {
        let store = open(&cluster.members[0]);
        store.write(PAYLOAD, batch_key(&key), "not what its key says").await.unwrap();
        store.write(META, Meta::COVER, rorqual_config::encoding::encode(&cover)).await.unwrap();
        store.shutdown().await.unwrap();
    });
    let output = command("repair", &cluster.members[0], &[]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("dropped 1 damaged"), "{}", stdout(&output));
    assert!(
        named(&cluster.members[0]) >= block.round(),
        "the payload is gone and nothing says that the block may have left"
    );

    cluster.members.iter_mut().for_each(Member::start);
    cluster.wait_ready();
    cluster.members[0].submit("after");
    cluster.members[0].kill();
    let kept = runtime.block_on(async {
        let store = open(&cluster.members[0]);
        let kept = store.read(OWN, &rorqual_node::schema::round_key(block.round())).await.unwrap();
        store.shutdown().await.unwrap();
        kept
    });
    let kept = kept.map(|bytes| VerifiedBlock::from_store(bytes).unwrap().reference());
    assert_eq!(kept, Some(block.reference()), "another block was signed for round {}", block.round());
    assert!(newest(&cluster.members[0]).round() > block.round() && Round(0) < block.round());
}

#[test]
fn a_copy_is_verified_in_its_place_and_backups_only_read_and_lie_outside() {
    let cluster = used();
    let (member, backup) = (&cluster.members[0], cluster.path().join("backup"));
    let state = || {
        let mut files: Vec<_> = std::fs::read_dir(data(member)).unwrap().map(|entry| entry.unwrap()).collect();
        files.sort_by_key(std::fs::DirEntry::file_name);
        files.iter().map(|f| (f.file_name(), f.metadata().unwrap().modified().unwrap())).collect::<Vec<_>>()
    };
    let before = state();
    let output = command("backup", member, &["--output", backup.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(state(), before, "what is copied is only read");
    let output = command("verify-store", member, &[backup.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let mode = std::os::unix::fs::PermissionsExt::mode(&backup.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    let inside = data(member).join("inside");
    let output = command("backup", member, &["--output", inside.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("inside the data directory"), "{}", stderr(&output));
    let output = command("restore", &cluster.members[1], &["--from", "/nowhere"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_backup_of_a_node_that_is_frozen_is_given_up_with_the_reason() {
    let cluster = Cluster::start(1);
    let member = &cluster.members[0];
    member.signal("STOP");
    let backup = cluster.path().join("backup");
    let output = command("backup", member, &["--output", backup.to_str().unwrap()]);
    member.signal("CONT");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("has said nothing for 15 s"), "{}", stderr(&output));
}

#[test]
fn whatever_the_umask_is_the_data_directory_is_for_its_owner_alone() {
    let cluster = Cluster::prepare(1);
    let member = &cluster.members[0];
    let open = |directory: &Path| {
        let mut todo = vec![directory.to_owned()];
        let mut open = Vec::new();
        while let Some(path) = todo.pop() {
            let facts = path.metadata().unwrap();
            if std::os::unix::fs::PermissionsExt::mode(&facts.permissions()) & 0o077 != 0 {
                open.push(path.clone());
            }
            if facts.is_dir() {
                todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        open
    };
    assert_eq!(open(&data(member)), Vec::<PathBuf>::new(), "as it was made");
    let node = format!("umask 0; exec {} run --config \"$0\"", env!("CARGO_BIN_EXE_rorqual"));
    let mut node = Command::new("sh").args(["-c", &node]).arg(member.config()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the node to be ready", || member.is_ready().then_some(()));
    let while_it_runs = open(&data(member));
    node.kill().unwrap();
    node.wait().unwrap();
    assert_eq!(while_it_runs, Vec::<PathBuf>::new(), "while it runs");
}
