//! The table of all keys: how each is read, shown, written and explained.
//!
//! One line a key; loading, `config show`, the files that `testnet` writes and the reference in the README all go through it,
//! so that none of them can forget a key.

use std::net::SocketAddr;
use std::time::Duration;

use crate::committee::ProtocolParameters;
use crate::parameters::{Durability, LogFormat, NodeParameters};
use crate::text::{Bytes, Form, Text, quoted};

type Names = Vec<String>;

/// One key of a `T`.
pub(crate) struct Setting<T> {
    /// The dotted key.
    pub key: &'static str,
    /// The unit of its value, for the reference.
    pub unit: &'static str,
    /// How its value is written in TOML.
    pub form: Form,
    /// A few words for the reference and for the files that people edit.
    pub comment: &'static str,
    /// Sets the value from its text form.
    pub read: fn(&mut T, &str) -> Result<(), String>,
    /// The text form of the value.
    pub show: fn(&T) -> String,
}

impl<T> Setting<T> {
    /// The section, or nothing for a key above all sections.
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// The key without its section.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// `name = value` as TOML.
    pub fn line(&self, values: &T) -> String {
        format!("{} = {}", self.name(), toml_form(self.form, &(self.show)(values)))
    }
}

/// The TOML form of a value in text form.
pub(crate) fn toml_form(form: Form, value: &str) -> String {
    match form {
        Form::Quoted | Form::Size => quoted(value),
        Form::Number | Form::Boolean => value.to_owned(),
        Form::List => {
            let items: Vec<_> = value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(quoted).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

/// Every key with its defaults, unit and meaning, as the Markdown tables of the reference in the README.
pub fn reference() -> String {
    let (lan, wan) = (NodeParameters::default(), NodeParameters::wan());
    let (lan_rules, wan_rules) = (ProtocolParameters::default(), ProtocolParameters::wan());
    format!("{}\n{}", rows(NODE, &lan, &wan), rows(PROTOCOL, &lan_rules, &wan_rules))
}

fn rows<T>(table: &[Setting<T>], lan: &T, wan: &T) -> String {
    let mut text = String::from("| key | default | profile wan | unit | meaning |\n| --- | --- | --- | --- | --- |\n");
    for setting in table {
        let form = |values: &T| match (setting.show)(values) {
            value if value.is_empty() => "none".to_owned(),
            value => format!("`{value}`"),
        };
        let (lan, wan) = (form(lan), form(wan));
        let wan = if wan == lan { "same" } else { &wan };
        text.push_str(&format!("| `{}` | {lan} | {wan} | {} | {} |\n", setting.key, setting.unit, setting.comment));
    }
    text
}

macro_rules! settings {
    ($type:ty { $($key:literal $($field:ident).+ : $text:ty, $unit:literal, $comment:literal;)* }) => {
        &[$(Setting::<$type> {
            key: $key,
            unit: $unit,
            form: <$text as Text>::FORM,
            comment: $comment,
            read: |values, text| {
                values.$($field).+ = <$text as Text>::read(text)?.into();
                Ok(())
            },
            show: |values| <$text>::from(values.$($field).+.clone()).show(),
        },)*]
    };
}

/// Every key of `node.toml` beside `committee`, `key` and `data`.
#[rustfmt::skip]
#[allow(clippy::useless_conversion, clippy::clone_on_copy, reason = "one macro for plain and wrapped types")]
pub(crate) const NODE: &[Setting<NodeParameters>] = settings! {
    NodeParameters {
        "durability" durability: Durability, "`synced`, `os`", "When a write that peers rely on is done: `synced` = on disk, `os` = handed to the system (lost with power)";
        "listen.peer" listen.peer: SocketAddr, "IP:port", "Peers connect here (TLS, committee keys only)";
        "listen.client" listen.client: SocketAddr, "IP:port", "Clients connect here; other than loopback only with client.open";
        "listen.http" listen.http: SocketAddr, "IP:port", "Operator endpoint: metrics, health, status; no authentication, keep it private";
        "listen.http_names" listen.http_names: Names, "host names", "Names beside IP addresses and localhost by which /status and /metrics may be asked";
        "consensus.delay_bound" consensus.delay_bound: Duration, "duration", "D: one way + payload_grace + round trip + transfer of a block's payload";
        "consensus.leader_timeout" consensus.leader_timeout: Duration, "duration", "How long a round waits for its leader; at least twice delay_bound";
        "consensus.leader_timeout_cap" consensus.leader_timeout_cap: Duration, "duration", "Where leader_timeout stops growing while nothing commits";
        "consensus.payload_grace" consensus.payload_grace: Duration, "duration", "How long announced payload may be under way before it is fetched";
        "consensus.settle" consensus.settle: Duration, "duration", "Age after which a block that few reference may be a late parent";
        "consensus.min_round_delay" consensus.min_round_delay: Duration, "duration", "Time between own blocks in the long run: shorter costs CPU, longer latency";
        "consensus.round_burst" consensus.round_burst: Duration, "duration", "Saved-up time of min_round_delay that may be spent at once";
        "consensus.idle_delay" consensus.idle_delay: Duration, "duration", "Time between own blocks while there is nothing to order";
        "consensus.push_delay_min" consensus.push_delay_min: Duration, "duration", "Least age of a block before its header is pushed to peers that lack it";
        "consensus.max_unsettled_bytes" consensus.max_unsettled_bytes: Bytes, "size", "Payload that one own block may pull in through late parents";
        "consensus.max_ahead" consensus.max_ahead: u64, "rounds", "How far above the last committed round blocks are taken in";
        "consensus.mute_after" consensus.mute_after: u64, "rounds", "Silence of a disconnected leader after which no round waits for it";
        "consensus.uncommitted_cap" consensus.uncommitted_cap: u64, "rounds", "Rounds without a commit after which own blocks carry no payload";
        "consensus.solid_lag" consensus.solid_lag: u64, "commits", "Commits with incomplete payload here after which own blocks carry no payload";
        "consensus.propagation_limit" consensus.propagation_limit: u64, "rounds", "Own rounds no quorum references after which own blocks carry no payload";
        "consensus.max_suspended_blocks" consensus.max_suspended_blocks: usize, "blocks", "Blocks with missing parents kept for one sender; four times as many for all";
        "consensus.max_suspended_bytes" consensus.max_suspended_bytes: Bytes, "size", "The same in bytes";
        "consensus.blocks_per_second" consensus.blocks_per_second: u32, "blocks/s", "Blocks taken from one sender; more wait in its connection";
        "consensus.catch_up_batch" consensus.catch_up_batch: u32, "commits", "Commits in one catch-up request";
        "consensus.catch_up_parallel" consensus.catch_up_parallel: usize, "requests", "Catch-up requests under way at once";
        "consensus.catch_up_ahead" consensus.catch_up_ahead: usize, "answers", "Catch-up answers that may wait for an earlier one";
        "batch.max_bytes" batch.max_bytes: Bytes, "size", "Size at which a batch is sealed; at most protocol.max_batch_bytes";
        "batch.max_delay" batch.max_delay: Duration, "duration", "Age at which a batch that is not full is sealed";
        "batch.author_quota_bytes" consensus.author_quota_bytes: Bytes, "size", "Undelivered payload of one author kept here, named by its blocks or sent unasked";
        "client.open" client.open: bool, "`true`, `false`", "Anybody who reaches a client address other than loopback may submit and read, over plain TCP";
        "client.max_connections" client.max_connections: usize, "connections", "Client connections at once; more are refused with a reason";
        "client.max_bytes_in_flight" client.max_bytes_in_flight: Bytes, "size", "Submitted by all clients and not answered; more is refused with retry_hint";
        "client.max_bytes_per_connection" client.max_bytes_per_connection: Bytes, "size", "The same for one connection: the credit of its client";
        "client.retry_hint" client.retry_hint: Duration, "duration", "When a client refused for overload should try again";
        "store.queue_bytes" store.queue_bytes: Bytes, "size", "What may wait for the writer; when full, writers wait and clients are refused";
        "store.block_cache_bytes" store.block_cache_bytes: Bytes, "size", "Memory for index and small records that were read";
        "store.write_buffer_bytes" store.write_buffer_bytes: Bytes, "size", "Memory for index and small records not yet sorted to disk";
        "store.payload_cache_bytes" store.payload_cache_bytes: Bytes, "size", "Memory for recent payload";
        "store.reader_threads" store.reader_threads: usize, "threads", "Threads for reads that need the disk";
        "store.min_free_bytes" store.min_free_bytes: Bytes, "size", "Disk space that stays free: below it submissions are refused; 0 B = no reserve";
        "store.quota_bytes" store.quota_bytes: Bytes, "size", "What the data directory may take; 0 B = the whole filesystem";
        "retention.time" retention.time: Duration, "duration", "Age after which payload, blocks and commits may go; 0s = no limit by age";
        "retention.bytes" retention.bytes: Bytes, "size", "Size on disk above which the oldest go; 0 B = no limit by size";
        "log.format" log.format: LogFormat, "`text`, `json`", "`text` for people, `json` for collectors";
        "log.filter" log.filter: String, "filter", "A level, or target=level parts with commas between them";
    }
};

/// Every key under `[protocol]` of `committee.toml`.
#[rustfmt::skip]
#[allow(clippy::useless_conversion, clippy::clone_on_copy, reason = "one macro for plain and wrapped types")]
pub(crate) const PROTOCOL: &[Setting<ProtocolParameters>] = settings! {
    ProtocolParameters {
        "protocol.leaders_per_round" leaders_per_round: u32, "leaders", "Leader slots in a round, 1 or 2";
        "protocol.gc_depth" gc_depth: u64, "rounds", "Rounds below the last committed one after which a block can no longer commit";
        "protocol.max_batches_per_block" max_batches_per_block: u32, "batches", "Payload batches that one block may name";
        "protocol.max_block_payload_bytes" max_block_payload_bytes: Bytes, "size", "Sum of the batches that one block may name";
        "protocol.max_batch_bytes" max_batch_bytes: Bytes, "size", "Largest payload batch, tables included";
        "protocol.max_votes_per_block" max_votes_per_block: u32, "votes", "Commit votes that one block may carry";
        "protocol.replay_window" replay_window: u64, "batches", "Sequence numbers of one author that are still told apart";
        "protocol.sequence_ahead" sequence_ahead: u64, "batches", "How far an author may run ahead of its oldest undelivered batch; at most half of replay_window";
        "protocol.checkpoint_interval" checkpoint_interval: u64, "commits", "Commits between two state digests";
        "protocol.max_lifetime" max_lifetime: Duration, "duration", "Longest life of a submission id, in commit time";
        "protocol.max_live_ids" max_live_ids: u64, "ids", "Submission ids that one author may have alive at once";
        "protocol.max_transaction_bytes" max_transaction_bytes: Bytes, "size", "Largest transaction";
        "protocol.max_submission_bytes" max_submission_bytes: Bytes, "size", "Largest submission (one client frame) in bytes of transactions";
    }
};
