//! What is refused, and in which words: the first line of the report, for each way to get a configuration wrong.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt;

use rorqual_config::load::{load_committee, write_committee};
use rorqual_config::{NodeParameters, ProtocolParameters};
use support::{Network, committee, key};

/// Section and line of the node file, and the first line of the report behind the name of the file.
#[rustfmt::skip]
const NODE: &[(&str, &str, &str)] = &[
    ("", "durability = \"maybe\"", "durability = maybe: must be `synced` or `os`"),
    ("", "durablity = \"os\"", "durablity = os: is no known key: did you mean `durability`?"),
    ("", "colour = 3", "colour = 3: is no known key: remove it"),
    ("", "data = \"\"", "data = \"\": must be a path: write data = \"data\""),
    ("", "key = 7", "key = 7: must be a path: write key = \"node.key\""),
    ("batch", "max_bytes = \"2 MiB\"", "batch.max_bytes = 2 MiB: is more than protocol.max_batch_bytes, so that peers refuse it: use at most 1 MiB"),
    ("batch", "max_bytes = \"a lot\"", "batch.max_bytes = a lot: is not a size: write for example \"512 KiB\""),
    ("batch", "max_bytes = -1", "batch.max_bytes = -1: is not a size: write for example \"512 KiB\""),
    ("batch", "max_bytes = 1.5", "batch.max_bytes = 1.5: is not a whole number of bytes: write for example \"512 KiB\""),
    ("batch", "max_bytes = \"4 EiB\"", "batch.max_bytes = 4 EiB: is larger than 1 PiB: choose a size that fits the machine"),
    ("batch", "max_bytes = [1]", "batch.max_bytes = a list: must be one value, not a list or a section"),
    ("batch", "max_bytes = 1023", "batch.max_bytes = 1023 B: must be at least 1 KiB"),
    ("batch", "max_delay = 3", "batch.max_delay = 3: is not a duration: write a number and a unit, for example \"3ms\", \"5s\" or \"1h\""),
    ("batch", "max_delay = \"0s\"", "batch.max_delay = 0s: must be longer than zero"),
    ("batch", "max_byte = 3", "batch.max_byte = 3: is no known key: did you mean `batch.max_bytes`?"),
    ("batch", "author_quota_bytes = \"1 MiB\"", "batch.author_quota_bytes = 1 MiB: has no room for the 16 full blocks that an author may have before a commit: use at least 32 MiB"),
    ("listen", "peer = \"localhost\"", "listen.peer = localhost: is not an address to bind: write IP:PORT, for example \"127.0.0.1:9601\""),
    ("listen", "peer = \"0.0.0.0:0\"", "listen.peer = 0.0.0.0:0: nobody could find port 0: choose a port"),
    ("listen", "http = \"127.0.0.1:9601\"", "listen.http = 127.0.0.1:9601: uses the port of listen.client: choose another"),
    ("listen", "http = \"10.0.0.1:9600\"", "listen.http = 10.0.0.1:9600: uses the port of listen.peer: choose another"),
    ("listen", "client = \"0.0.0.0:9601\"", "listen.client = 0.0.0.0:9601: is not loopback, and TLS for clients is not built yet: use 127.0.0.1, or set client.open = true to let anybody who reaches it submit and read"),
    ("listen", "gc_depth = 3", "listen.gc_depth = 3: is no known key: remove it"),
    ("protocol", "gc_depth = 100", "protocol.gc_depth = 100: must be equal at all nodes: remove it here; it stands as `gc_depth` under [protocol] in the committee file"),
    ("", "max_batch_bytes = \"1 MiB\"", "max_batch_bytes = 1 MiB: must be equal at all nodes: remove it here; it stands as `max_batch_bytes` under [protocol] in the committee file"),
    ("listen", "http_names = [\"*.example.org\"]", "listen.http_names = *.example.org: are host names alone, without port or wildcard: write [\"node-0.example.org\"]"),
    ("client", "open = 1", "client.open = 1: must be `true` or `false`"),
    ("client", "max_connections = 0", "client.max_connections = 0: must be 1 to 100000"),
    ("client", "max_bytes_per_connection = \"1 KiB\"", "client.max_bytes_per_connection = 1 KiB: has no room for one submission of protocol.max_submission_bytes: use at least 262184 B"),
    ("client", "max_bytes_in_flight = \"1 MiB\"", "client.max_bytes_in_flight = 1 MiB: is less than client.max_bytes_per_connection: raise it or lower the other"),
    ("consensus", "delay_bound = \"0ms\"", "consensus.delay_bound = 0s: must be longer than zero"),
    ("consensus", "leader_timeout = \"49ms\"", "consensus.leader_timeout = 49ms: is less than twice consensus.delay_bound: use at least 50ms"),
    ("consensus", "leader_timeout = \"6s\"", "consensus.leader_timeout_cap = 5s (default): is less than consensus.leader_timeout: raise it"),
    ("consensus", "payload_grace = \"25ms\"", "consensus.payload_grace = 25ms: must be shorter than consensus.delay_bound, which contains it"),
    ("consensus", "round_burst = \"1ms\"", "consensus.round_burst = 1ms: is less than consensus.min_round_delay, so that no block could ever be made: raise it"),
    ("consensus", "idle_delay = \"1ms\"", "consensus.idle_delay = 1ms: is less than consensus.min_round_delay: raise it"),
    ("consensus", "max_ahead = 599", "consensus.max_ahead = 599: is less than protocol.gc_depth: use 1100 or so"),
    ("consensus", "max_unsettled_bytes = \"1 KiB\"", "consensus.max_unsettled_bytes = 1 KiB: has no room for one batch of protocol.max_batch_bytes: use at least 1 MiB"),
    ("consensus", "max_suspended_bytes = 100", "consensus.max_suspended_bytes = 100 B: has no room for one block: use at least 3008 B"),
    ("consensus", "catch_up_parallel = 0", "consensus.catch_up_parallel = 0: must be 1 to 1000"),
    ("consensus", "blocks_per_second = 5000000000", "consensus.blocks_per_second = 5000000000: is not a whole number from 0 to 4294967295"),
    ("store", "reader_threads = 0", "store.reader_threads = 0: must be 1 to 256"),
    ("store", "write_buffer_bytes = 0", "store.write_buffer_bytes = 0 B: must be at least 1 MiB"),
    ("store", "min_free_bytes = 1", "store.min_free_bytes = 1 B: must be at least 1 MiB, or 0 for no reserve"),
    ("store", "quota_bytes = \"1 GiB\"\nmin_free_bytes = \"512 MiB\"", "store.quota_bytes = 1 GiB: leaves no room beside store.min_free_bytes: use at least 2 GiB, or 0 for no quota"),
    ("store", "queue_bytes = \"1 MiB\"", "store.queue_bytes = 1 MiB: has no room for the payload of one block: use at least 2 MiB"),
    ("retention", "time = \"for ever\"", "retention.time = for ever: is not a duration: write a number and a unit, for example \"3ms\", \"5s\" or \"1h\""),
    ("log", "format = \"xml\"", "log.format = xml: must be `text` or `json`"),
    ("log", "filter = \"inof\"", "log.filter = inof: is not a filter: write error, warn, info, debug, trace or off, or parts like `info,rorqual_node=debug`"),
];

/// What to replace in the committee file, by what, and the first line of the report behind the name of the file.
#[rustfmt::skip]
const COMMITTEE: &[(&str, &str, &str)] = &[
    ("epoch = 0", "epoch = -1", "epoch = -1: is not a whole number from 0 to 18446744073709551615"),
    ("epoch = 0", "", "epoch: is missing: add epoch = 0"),
    ("epoch = 0", "epoch = 0\nepocs = 1", "epocs = 1: is no known key: did you mean `epoch`?"),
    ("network_id = \"0909", "network_id = \"09", "network_id = 09090909090909090909090909090909090909090909090909090909090909: must be 64 hex digits, as `rorqual testnet` writes them"),
    ("gc_depth = 600", "gc_depth = 16", "protocol.gc_depth = 16: must be 17 to 100000: late blocks need more than 16 rounds to be ordered"),
    ("gc_depth = 600", "", "protocol.gc_depth: is missing: add gc_depth = 600"),
    ("gc_depth = 600", "gc_deepth = 600", "protocol.gc_deepth = 600: is no known key: did you mean `gc_depth`?"),
    ("leaders_per_round = 1", "leaders_per_round = 3", "protocol.leaders_per_round = 3: must be 1 to 2"),
    ("max_votes_per_block = 16", "max_votes_per_block = 3", "protocol.max_votes_per_block = 3: must be 4 to 1024"),
    ("max_batch_bytes = \"1 MiB\"", "max_batch_bytes = \"256 KiB\"", "protocol.max_submission_bytes = 256 KiB: does not fit a batch with its table of 40 bytes: use at most 262104 B, or raise protocol.max_batch_bytes"),
    ("max_batch_bytes = \"1 MiB\"", "max_batch_bytes = \"3 MiB\"", "protocol.max_block_payload_bytes = 2 MiB: is less than one batch (protocol.max_batch_bytes): use at least 3 MiB"),
    ("max_transaction_bytes = \"128 KiB\"", "max_transaction_bytes = \"257 KiB\"", "protocol.max_transaction_bytes = 257 KiB: is more than a submission (protocol.max_submission_bytes): use at most 256 KiB"),
    ("sequence_ahead = 8192", "sequence_ahead = 8193", "protocol.sequence_ahead = 8193: is more than half of protocol.replay_window: use at most 8192"),
    ("checkpoint_interval = 256", "checkpoint_interval = 0", "protocol.checkpoint_interval = 0: must be 1 to 1000000"),
    ("max_lifetime = \"1m\"", "max_lifetime = \"0s\"", "protocol.max_lifetime = 0s: must be 1s to 1day"),
    ("max_live_ids = 1000000", "max_live_ids = 0", "protocol.max_live_ids = 0: must be 1 to 100000000"),
    ("name = \"node-1\"", "name = \"node-0\"", "members[1].name = node-0: is the name of members[0] too: choose another"),
    ("name = \"node-1\"", "name = \"a b\"", "members[1].name = \"a b\": must be 1 to 64 letters, digits, `.`, `_` or `-`"),
    ("8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394", "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c", "members[1].public_key = 8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c: is the key of members[0] too: every member needs its own (`rorqual keygen`)"),
    ("8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394", "0100000000000000000000000000000000000000000000000000000000000000", "members[1].public_key = 0100000000000000000000000000000000000000000000000000000000000000: is not a point on the curve, or of small order, and could not sign safely: make a key with `rorqual keygen`"),
    ("127.0.0.1:9604", "127.0.0.1:9600", "members[1].address = 127.0.0.1:9600: is the address of members[0] too: every member needs its own"),
    ("127.0.0.1:9604", "node-1", "members[1].address = node-1: is not an address: write HOST:PORT, for example \"10.0.0.1:9600\" or \"node-0.example.org:9600\""),
    ("127.0.0.1:9604", "0.0.0.0:9604", "members[1].address = 0.0.0.0:9604: no peer can dial an unspecified address: write HOST:PORT, for example \"10.0.0.1:9600\" or \"node-0.example.org:9600\""),
    ("stake = 1\n", "stake = 0\n", "members[0].stake = 0: must be 1 to 4294967295"),
    ("stake = 1\n", "", "members[0].stake: is missing: add stake = 1"),
    ("stake = 1\n", "stake = 2\n", "members[0].stake = 2: of 5 is more than the 1 that may be faulty, so that this one member can stop everybody: lower it, or write `development = true` at the top of the file"),
    ("stake = 1\n", "stake = 4294967295\n", "members = 4294967298: the total stake must be at most 4294967295: scale all stakes down"),
    ("[protocol]", "[protocols]", "protocols: is no known key: did you mean `protocol`?"),
    ("[protocol]\n", "[protocol\n", "line 7 is not TOML: "),
];

#[test]
fn a_bad_value_in_a_node_file_is_refused_with_its_remedy() {
    for (section, line, expected) in NODE {
        let network = Network::new();
        network.set(section, line);
        let errors = network.errors(network.load());
        assert_eq!(errors[0], format!("DIR/node-0/node.toml: {expected}"), "[{section}] {line}");
    }
}

#[test]
fn a_bad_value_in_a_committee_file_is_refused_with_its_remedy() {
    for (from, to, expected) in COMMITTEE {
        let network = Network::new();
        network.edit(&network.committee_file(), from, to);
        let errors = network.errors(network.load());
        let line = format!("DIR/committee.toml: {expected}");
        let same = errors[0] == line || expected.ends_with(": ") && errors[0].starts_with(&line);
        assert!(same, "{from} -> {to}:\n{}\n{line}", errors[0]);
    }
}

#[test]
fn every_error_of_every_file_is_reported_at_once() {
    let network = Network::new();
    network.set("batch", "max_bytes = \"huge\"");
    network.set("consensus", "leader_timeout = \"1ms\"");
    network.set("log", "colour = true");
    network.edit(&network.committee_file(), "gc_depth = 600", "gc_depth = 1");
    network.edit(&network.committee_file(), "127.0.0.1:9604", "nowhere");
    std::fs::remove_file(network.dir.path().join("node-0/node.key")).unwrap();
    let flags = [("store.reader_threads", "0"), ("no key", "1"), ("a..b", "2")];
    let errors = network.errors(network.load_with(&flags, &[("RORQUAL__DURABILITY", "none")]));
    for expected in [
        "DIR/node-0/node.toml: batch.max_bytes = huge: ",
        "DIR/node-0/node.toml: log.colour = true: ",
        "DIR/node-0/node.toml: key = DIR/node-0/node.key: there is no such file: ",
        "DIR/node-0/node.toml: consensus.leader_timeout = 1ms: ",
        "DIR/committee.toml: protocol.gc_depth = 1: ",
        "DIR/committee.toml: members[1].address = nowhere: ",
        "environment variable RORQUAL__DURABILITY: durability = none: ",
        "flag: store.reader_threads = 0: ",
        "flag: no key = 1: is no key",
        "flag: a..b = 2: is no key",
    ] {
        assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected} is not in {errors:#?}");
    }
    assert_eq!(errors.len(), 10, "{errors:#?}");
    std::fs::write(network.node_file(), "[").unwrap();
    let errors = network.errors(network.load_with(&flags, &[]));
    assert!(errors[0].contains("is not TOML") && errors[1].contains("no key") && errors.len() == 3, "{errors:#?}");
}

#[test]
fn no_layer_can_set_what_must_be_equal_everywhere() {
    let network = Network::new();
    let remedy =
        "must be equal at all nodes: remove it here; it stands as `gc_depth` under [protocol] in the committee file";
    let errors = network.errors(network.load_with(&[("protocol.gc_depth", "60")], &[]));
    assert_eq!(errors, [format!("flag: protocol.gc_depth = 60: {remedy}")]);
    let errors = network.errors(network.load_with(&[], &[("RORQUAL__PROTOCOL__GC_DEPTH", "60")]));
    assert_eq!(errors, [format!("environment variable RORQUAL__PROTOCOL__GC_DEPTH: protocol.gc_depth = 60: {remedy}")]);
}

#[test]
fn unknown_variables_and_flags_are_refused() {
    let network = Network::new();
    for (name, key, hint) in [
        ("RORQUAL__BATCH__MAX_DELAYS", "batch.max_delays", "is no known key: did you mean `batch.max_delay`?"),
        ("RORQUAL__", "", ""),
        ("RORQUAL____", ".", ""),
        ("RORQUAL__BATCH", "batch", "is a section: write [batch] and its keys below"),
        ("RORQUAL__X[0]", "x", "is no known key: remove it"),
    ] {
        let errors = network.errors(network.load_with(&[], &[(name, "1")]));
        assert!(errors[0].contains(key) && errors[0].contains(hint), "{name}: {errors:?}");
    }
    for flag in ["batch.max_delays", "no key", "", "a..b", "x[", "batch"] {
        assert!(network.load_with(&[(flag, "1")], &[]).is_err(), "{flag}");
    }
}

#[test]
fn a_missing_file_is_one_sentence_that_names_it() {
    let network = Network::new();
    std::fs::remove_file(network.committee_file()).unwrap();
    assert_eq!(
        network.errors(network.load()),
        ["DIR/node-0/node.toml: committee = DIR/committee.toml: there is no such file: give the path of the \
          committee file that all nodes share"]
    );
    std::fs::remove_file(network.node_file()).unwrap();
    assert_eq!(
        network.errors(network.load()),
        [
            "DIR/node-0/node.toml: there is no such file: make a cluster with `rorqual testnet`, or give the path of yours"
        ]
    );
}

#[test]
fn missing_paths_are_asked_for() {
    let network = Network::new();
    std::fs::write(network.node_file(), "").unwrap();
    assert_eq!(
        network.errors(network.load()),
        [
            "DIR/node-0/node.toml: committee: is missing: add committee = \"../committee.toml\"",
            "DIR/node-0/node.toml: key: is missing: add key = \"node.key\"",
            "DIR/node-0/node.toml: data: is missing: add data = \"data\"",
        ]
    );
}

#[test]
fn a_key_that_is_no_members_exposed_or_malformed_is_refused() {
    let network = Network::new();
    let path = network.dir.path().join("node-0/node.key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(network.errors(network.load())[0].contains("run `chmod 600 "));
    std::fs::remove_file(&path).unwrap();
    key(9).save(&path).unwrap();
    let stranger = key(9).public();
    assert_eq!(
        network.errors(network.load()),
        [format!(
            "DIR/node-0/node.toml: key = node.key: its public key {stranger} is no member's: use the key file of a member, or \
             put this public key into the committee file"
        )]
    );
    std::fs::write(&path, "secret that must not be shown").unwrap();
    let errors = network.errors(network.load());
    assert!(errors[0].contains("does not hold a key") && !errors[0].contains("must not be shown"), "{errors:?}");
}

#[test]
fn broken_files_never_panic() {
    let network = Network::new();
    for text in
        ["[", "a = ", "\u{0}", "listen = [[]]", "[[listen]]", "x = 99999999999999999999", "committee = {}", "[a.b.c]"]
    {
        std::fs::write(network.node_file(), text).unwrap();
        assert!(network.load().is_err(), "{text}");
        std::fs::write(network.committee_file(), text).unwrap();
        assert!(load_committee(&network.committee_file()).is_err(), "{text}");
    }
    for text in ["members = 3", "members = [3]", "protocol = 3", "members = []", "[[members]]\nname = [1]"] {
        std::fs::write(network.committee_file(), text).unwrap();
        assert!(load_committee(&network.committee_file()).is_err(), "{text}");
    }
    std::fs::write(network.node_file(), [0xff, 0xfe]).unwrap();
    assert!(network.errors(network.load())[0].contains("is not text in UTF-8"));
}

#[test]
fn few_members_need_the_word_development() {
    let network = Network::new();
    write_committee(&network.committee_file(), &committee(3, ProtocolParameters::default())).unwrap();
    assert!(network.load().is_ok());
    network.edit(&network.committee_file(), "development = true", "development = false");
    assert_eq!(
        network.errors(network.load()),
        ["DIR/committee.toml: members = 3: fewer than 4 members tolerate no fault: add members, or write \
          `development = true` at the top of the file"]
    );
}

#[test]
fn values_made_in_code_are_validated_the_same_way() {
    let mut parameters = NodeParameters::default();
    parameters.batch.max_bytes = 8 << 20;
    let problems = parameters.validate(&committee(4, ProtocolParameters::default()));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().starts_with("batch.max_bytes = 8 MiB: is more than protocol.max_batch_bytes"));
}
