//! What an operator gets from real nodes: endpoints, metrics and logs.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster::{Cluster, Member, get, wait_for};
use rorqual_client::{Client, Options};

/// The samples of a text in the Prometheus format; panics where it is not valid.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let (mut helps, mut kinds, mut samples) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a help text");
            assert!(!help.is_empty() && helps.insert(name.to_owned()), "HELP of {name} twice or empty");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "TYPE of {name} twice");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let name = series.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .filter(|f| kinds.contains_key(*f));
        let family = family.unwrap_or(name);
        assert!(helps.contains(family) && kinds.contains_key(family), "{name} comes before its HELP and TYPE");
        assert_eq!(kinds[family] == "counter", family.ends_with("_total"), "{family} is a {}", kinds[family]);
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
        if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let inner = labels.strip_prefix('{').and_then(|l| l.strip_suffix('}')).expect("labels in braces");
            for label in inner.split(',') {
                let (_, value) = label.split_once('=').expect("label=value");
                assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{series}");
            }
        }
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
    }
    samples
}

#[test]
fn metrics_are_valid_and_tell_of_rounds_commits_stages_queues_peers_and_the_store() {
    let cluster = Cluster::start(4);
    for number in 0..20 {
        cluster.members[0].submit(&format!("tx-{number}"));
    }
    let read = || samples(&get(&cluster.members[0].http, "/metrics").unwrap().1);
    wait_for("round trips", || read().contains_key("rorqual_peer_round_trip_seconds{peer=\"node-3\"}").then_some(()));
    // The core's own knowledge: what links measure has reached it.
    wait_for("round trips in the core", || (read()["rorqual_quorum_round_trip_seconds"] > 0.0).then_some(()));
    let first = read();
    let value = |name: &str| *first.get(name).unwrap_or_else(|| panic!("{name} is not among {:#?}", first.keys()));
    for positive in [
        "rorqual_round",
        "rorqual_commit_index",
        "rorqual_applied_index",
        "rorqual_commits_total",
        "rorqual_decisions_total{rule=\"direct_commit\"}",
        "rorqual_peer_bytes_total{peer=\"node-1\",stream=\"priority\",direction=\"in\"}",
        "rorqual_peer_bytes_total{peer=\"node-2\",stream=\"bulk\",direction=\"out\"}",
        "rorqual_store_writes_total",
        "rorqual_store_syncs_total",
        "rorqual_stage_latency_seconds_count{stage=\"submitted_to_executed\"}",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    ] {
        assert!(value(positive) > 0.0, "{positive}");
    }
    assert_eq!(value("rorqual_log_next_position"), 20.0);
    assert_eq!(value("rorqual_client_events_total{event=\"receipts_committed\"}"), 20.0);
    for peer in 1..4 {
        assert_eq!(value(&format!("rorqual_peer_connected{{peer=\"node-{peer}\"}}")), 1.0);
        assert_eq!(value(&format!("rorqual_peer_links_total{{peer=\"node-{peer}\"}}")), 1.0);
    }
    for there in [
        "rorqual_queue_bytes{queue=\"seal\"}",
        "rorqual_queue_bytes{queue=\"undelivered\"}",
        "rorqual_queue_bytes{queue=\"store\"}",
        "rorqual_peer_queue_bytes{peer=\"node-1\",lane=\"own\"}",
        "rorqual_connections_refused_total{reason=\"no_committee_key\"}",
        "rorqual_store_bytes{column=\"payload\",where=\"disk\"}",
        "rorqual_lag_commits",
        "rorqual_client_connections",
    ] {
        value(there);
    }
    // Every metric has a definition.
    let known: BTreeSet<&str> = rorqual_node::metrics::names::ALL.iter().map(|metric| metric.name).collect();
    for series in first.keys() {
        let name = series.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(known.contains(family) || known.contains(name), "{name} is not in names.rs");
    }
    let later = read();
    for (series, value) in first.iter().filter(|(series, _)| series.contains("_total")) {
        assert!(later[series] >= *value, "{series} went back");
    }
}

#[test]
fn strangers_are_counted_by_reason() {
    let cluster = Cluster::start(4);
    for _ in 0..3 {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&cluster.members[1].peer).unwrap();
        stream.write_all(&[0x55; 500]).unwrap();
        let _ = stream.read(&mut [0; 100]);
    }
    wait_for("the count", || {
        let metrics = samples(&get(&cluster.members[1].http, "/metrics")?.1);
        (metrics["rorqual_connections_refused_total{reason=\"tls\"}"] == 3.0).then_some(())
    });
    cluster.members[1].submit("the others go on");
}

#[test]
fn readiness_names_what_is_missing_and_liveness_does_not_depend_on_others() {
    let mut cluster = Cluster::start(4);
    let ready = |member: &Member| get(&member.http, "/readyz").unwrap();
    let (code, text) = ready(&cluster.members[0]);
    assert_eq!(code, 200, "{text}");
    for check in ["running", "accepting", "quorum", "caught-up"] {
        assert!(text.lines().any(|line| line == format!("[+] {check} ok")), "{text}");
    }
    // A quorum is ready without the last link, which is counted on below.
    wait_for("the link to node 1", || {
        let status = cluster.members[0].status()?;
        (status["peers"][0]["connected"] == true).then_some(())
    });
    cluster.members[2..].iter_mut().for_each(Member::kill);
    wait_for("the loss of the quorum", || (ready(&cluster.members[0]).0 == 503).then_some(()));
    let (_, text) = ready(&cluster.members[0]);
    assert!(text.contains("[-] quorum connected stake 2 of 3 needed"), "{text}");
    assert_eq!(get(&cluster.members[0].http, "/livez").unwrap().0, 200);
    cluster.members[2].start();
    wait_for("the quorum", || (ready(&cluster.members[0]).0 == 200).then_some(()));
    cluster.members[0].submit("and on it goes");
}

#[test]
fn a_healthy_node_logs_its_start_its_links_and_its_stop_and_nothing_else() {
    let mut cluster = Cluster::prepare(4);
    let config = cluster.members[3].config();
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("# format = \"text\""));
    std::fs::write(&config, text.replace("# format = \"text\"", "format = \"json\"")).unwrap();
    cluster.members.iter_mut().for_each(Member::start);
    cluster.wait_ready();
    for round in 0..5 {
        assert!(cluster.members[round % 4].submit_lines(&cluster::lines(&format!("r{round}"), 500)).status.success());
    }
    let commits = cluster.members[0].last_commit();
    wait_for("many blocks", || (cluster.members[0].last_commit() > commits + 20).then_some(()));
    for index in 0..3 {
        let log = cluster.members[index].whole_log();
        assert_eq!(log.matches("ready: all listeners are bound").count(), 1, "{log}");
        for peer in (0..4).filter(|peer| *peer != index) {
            let ups = log.lines().filter(|l| l.contains("link up") && l.contains(&format!("node-{peer}"))).count();
            assert_eq!(ups, 1, "one line for each peer:\n{log}");
        }
        // Peers that are not there yet when a node starts are said so once each.
        assert!(log.lines().count() <= 1 + 3 + 3, "too much to read:\n{log}");
        assert!(!log.contains("ERROR"), "{log}");
    }
    assert_eq!(cluster.members[3].terminate(), Some(0));
    let log = cluster.members[3].whole_log();
    for line in log.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(value["timestamp"].is_string() && value["level"].is_string() && value["message"].is_string(), "{line}");
    }
    assert!(log.contains("SIGTERM: draining") && log.contains("\"stopped\""), "{log}");
    cluster.members[0].submit("three go on");
}

#[test]
fn two_thousand_status_questions_at_once_make_no_two_hundred_threads() {
    let cluster = Cluster::start(1);
    let member = &cluster.members[0];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let threads = || {
        let text = std::fs::read_to_string(format!("/proc/{}/status", member.process_id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap().trim().to_owned();
        line.parse::<usize>().unwrap()
    };
    let most = runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..64 {
            clients.push(Arc::new(Client::connect(&member.client, Options::default()).await.unwrap()));
        }
        let ask = |client: &Arc<Client>| {
            let client = client.clone();
            tokio::spawn(async move { client.status().await.is_ok() })
        };
        let asked: Vec<_> = clients.iter().flat_map(|client| (0..32).map(|_| ask(client))).collect();
        let mut most = 0;
        for answer in asked {
            most = most.max(threads());
            assert!(answer.await.unwrap());
        }
        most
    });
    // 64 for work that blocks, the runtime's own and those of the store.
    assert!(most < 128, "{most} threads");
}
