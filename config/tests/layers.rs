//! Files, environment and flags in layers, and what is written is read back.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use rorqual_config::load::{Origin, load_committee, write_committee};
use rorqual_config::{AuthorityIndex, NodeParameters, ProtocolParameters};
use support::{Network, committee};

#[test]
fn what_is_written_is_loaded_unchanged_in_both_profiles() {
    for (parameters, rules) in
        [(NodeParameters::default(), ProtocolParameters::default()), (NodeParameters::wan(), ProtocolParameters::wan())]
    {
        let network = Network::with(parameters.clone(), rules.clone());
        let config = network.load().unwrap();
        assert_eq!(config.parameters, parameters);
        assert_eq!(config.committee.protocol(), &rules);
        assert_eq!(config.committee.chain_id(), committee(4, rules).chain_id());
        assert_eq!(config.me, AuthorityIndex(0));
        assert_eq!(config.data_dir, network.dir.path().join("node-0").join("data"));
        assert!(config.parameters.validate(&config.committee).is_empty());
    }
}

#[test]
fn a_file_yields_to_the_environment_and_the_environment_to_a_flag() {
    let network = Network::new();
    let delay = |config: rorqual_config::NodeConfig| {
        let origin = config.origins.get("batch.max_delay").unwrap().origin.clone();
        (config.parameters.batch.max_delay, origin)
    };
    let (flag, env) = ([("batch.max_delay", "7ms")], [("RORQUAL__BATCH__MAX_DELAY", "6ms")]);
    let ms = Duration::from_millis;
    assert_eq!(delay(network.load().unwrap()), (ms(3), Origin::Default));
    network.set("batch", "max_delay = \"5ms\"");
    assert_eq!(delay(network.load().unwrap()), (ms(5), Origin::File(network.node_file())));
    let variable = Origin::Env("RORQUAL__BATCH__MAX_DELAY".into());
    assert_eq!(delay(network.load_with(&[], &env).unwrap()), (ms(6), variable));
    assert_eq!(delay(network.load_with(&flag, &env).unwrap()), (ms(7), Origin::Flag));
}

#[test]
fn every_value_has_an_origin_in_the_order_of_the_reference() {
    let network = Network::new();
    let config = network.load_with(&[("log.filter", "debug")], &[("RORQUAL__DURABILITY", "os")]).unwrap();
    let lines: Vec<_> = config.origins.iter().map(|e| format!("{} = {} ({})", e.key, e.value, e.origin)).collect();
    let file = network.node_file().display().to_string();
    assert_eq!(lines[0], format!("committee = ../committee.toml (file {file})"));
    assert_eq!(lines[3], "durability = os (env RORQUAL__DURABILITY)");
    assert!(lines.contains(&"log.filter = debug (flag)".to_owned()));
    assert!(lines.contains(&"consensus.delay_bound = 25ms (default)".to_owned()));
    assert!(lines.iter().any(|line| line.starts_with("protocol.gc_depth = 600 (file ")));
    let reference = rorqual_config::load::reference();
    let rows = reference.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(lines.len(), 3 + 2 + rows);
}

#[test]
fn foreign_variables_are_not_read_and_ours_are_in_any_case() {
    let network = Network::new();
    let env = [("PATH", "/bin"), ("RORQUAL_LOG", "x"), ("rorqual__log__filter", "warn"), ("HOME", "")];
    assert_eq!(network.load_with(&[], &env).unwrap().parameters.log.filter, "warn");
}

#[test]
fn numbers_sizes_and_truth_values_may_be_plain_or_quoted() {
    let network = Network::new();
    network.set("store", "queue_bytes = 33554432");
    network.set("client", "open = \"true\"");
    network.set("consensus", "mute_after = \"17\"");
    let env = [("RORQUAL__CLIENT__MAX_CONNECTIONS", "9"), ("RORQUAL__RETENTION__BYTES", "1.5 GiB")];
    let parameters = network.load_with(&[], &env).unwrap().parameters;
    assert_eq!(parameters.store.queue_bytes, 32 << 20);
    assert!(parameters.client.open);
    assert_eq!(parameters.consensus.mute_after, 17);
    assert_eq!(parameters.client.max_connections, 9);
    assert_eq!(parameters.retention.bytes, 3 << 29);
}

#[test]
fn paths_are_relative_to_the_node_file_whoever_gives_them() {
    let network = Network::new();
    let config = network.load_with(&[("data", "elsewhere")], &[]).unwrap();
    assert_eq!(config.data_dir, network.dir.path().join("node-0/elsewhere"));
    let config = network.load_with(&[("data", "/var/lib/rorqual")], &[]).unwrap();
    assert_eq!(config.data_dir.to_str().unwrap(), "/var/lib/rorqual");
}

#[test]
fn a_path_over_a_symbolic_link_is_followed_as_the_system_does() {
    let network = Network::new();
    let deep = network.dir.path().join("a/b");
    std::fs::create_dir_all(&deep).unwrap();
    std::os::unix::fs::symlink(&deep, network.dir.path().join("node-0/link")).unwrap();
    std::fs::rename(network.committee_file(), network.dir.path().join("a/committee.toml")).unwrap();
    network.set("", "committee = \"link/../committee.toml\"");
    assert_eq!(network.load().unwrap().committee.size(), 4);
}

#[test]
fn a_client_address_for_everybody_needs_the_word_open() {
    let network = Network::new();
    network.set("listen", "client = \"0.0.0.0:9601\"");
    assert!(network.load().is_err());
    network.set("client", "open = true");
    assert!(network.load().unwrap().parameters.client.open);
}

#[test]
fn a_committee_that_tolerates_no_fault_says_so_in_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("committee.toml");
    write_committee(&path, &committee(1, ProtocolParameters::default())).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().contains("\ndevelopment = true "));
    assert_eq!(load_committee(&path).unwrap().size(), 1);
    write_committee(&path, &committee(7, ProtocolParameters::default())).unwrap();
    assert!(!std::fs::read_to_string(&path).unwrap().contains("development"));
    assert_eq!(load_committee(&path).unwrap().size(), 7);
}

#[test]
fn the_annotated_examples_are_the_defaults() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let committee = load_committee(&examples.join("committee.toml")).unwrap();
    assert_eq!(committee.protocol(), &ProtocolParameters::default());
    assert_eq!(committee.size(), 4);
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node-0");
    std::fs::create_dir(&node).unwrap();
    std::fs::copy(examples.join("committee.toml"), dir.path().join("committee.toml")).unwrap();
    std::fs::copy(examples.join("node.toml"), node.join("node.toml")).unwrap();
    support::key(0).save(&node.join("node.key")).unwrap();
    let config = rorqual_config::load_node(&node.join("node.toml"), &[], &[]).unwrap();
    assert_eq!(config.parameters, NodeParameters::default());
    assert_eq!(config.committee.member(config.me).name, "node-0");
}

#[test]
fn the_reference_in_the_readme_is_what_the_code_does() {
    let readme = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let reference = rorqual_config::load::reference();
    for line in reference.lines().filter(|line| !line.is_empty()) {
        assert!(
            readme.contains(line),
            "README.md lacks this line of the reference:\n{line}\nthe whole reference:\n{reference}"
        );
    }
    let rows =
        |text: &str| text.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 4).count();
    assert_eq!(rows(&readme), rows(&reference), "README.md has rows for keys that are gone");
}
