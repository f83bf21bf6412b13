//! What one node decides for itself: nothing here needs to be equal at two nodes.
//!
//! Defaults are the LAN profile (round trips up to 2 ms); [`NodeParameters::wan`] is for round trips up to 300 ms. Values that
//! must be equal everywhere are [`crate::ProtocolParameters`] and stand in the committee file.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Rounds above `gc_depth` that `max_ahead` allows by default.
pub const AHEAD_MARGIN: u64 = 500;

/// When a write that other nodes rely on counts as done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// After the disk has it. A node that loses power keeps every promise it made.
    #[default]
    Synced,
    /// After the operating system has it. Survives a crash of the process, not of the machine: a node that loses power may
    /// contradict what it signed, and counts as faulty then.
    Os,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// What one node decides for itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeParameters {
    /// When a write that other nodes rely on counts as done.
    pub durability: Durability,
    /// The addresses this node binds.
    pub listen: Listen,
    /// Pace of the consensus core, and the limits that protect it from peers.
    pub consensus: ConsensusParameters,
    /// How transactions become payload batches.
    pub batch: BatchParameters,
    /// Who may submit, and how much at once.
    pub client: ClientParameters,
    /// Memory and threads of the store.
    pub store: StoreParameters,
    /// How long payload, blocks and commits stay on disk.
    pub retention: RetentionParameters,
    /// What is logged, and how.
    pub log: LogParameters,
}

/// The addresses this node binds, before it says that it is ready. All three differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    /// Peers connect here (TLS, committee keys only). Peers dial the `address` in the committee file, which leads here.
    pub peer: SocketAddr,
    /// Clients connect here.
    pub client: SocketAddr,
    /// Operator endpoint: `/metrics`, `/livez`, `/readyz`, `/status`. It has no authentication: keep it on a private address.
    pub http: SocketAddr,
    /// Names, beside IP addresses and `localhost`, that a request for `/status` or `/metrics` may have as its host. Any other is
    /// refused: a browser that followed a rebound name would ask under that.
    pub http_names: Vec<String>,
}

impl Default for Listen {
    /// Peers from anywhere, clients and operators from this machine.
    fn default() -> Self {
        Self {
            peer: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9600)),
            client: SocketAddr::from((Ipv4Addr::LOCALHOST, 9601)),
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 9602)),
            http_names: Vec::new(),
        }
    }
}

/// Pace of the consensus core, and the limits that protect it from peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsensusParameters {
    /// D: one way, plus `payload_grace`, plus a round trip, plus the transfer of a block's payload. Too short: leaders are
    /// skipped although they are alive. Too long: a round with a late leader takes longer.
    pub delay_bound: Duration,
    /// How long a round waits for its leader before it goes on without; at least twice `delay_bound`. Grows by half after every
    /// n rounds without a commit.
    pub leader_timeout: Duration,
    /// Where the growth of `leader_timeout` ends. Half of it is the largest D under which the node is sure to make progress.
    pub leader_timeout_cap: Duration,
    /// How long the payload of a block that is here may still be under way before it is fetched.
    pub payload_grace: Duration,
    /// Age after which a block that few others reference may be linked as a late parent.
    pub settle: Duration,
    /// Time between own blocks in the long run. Longer: less CPU, more latency.
    pub min_round_delay: Duration,
    /// How much saved-up time of `min_round_delay` may be spent at once, so that a node that was slow catches up.
    pub round_burst: Duration,
    /// Time between own blocks while there is nothing to order. Longer: less CPU at rest.
    pub idle_delay: Duration,
    /// Least age of a block before its header is pushed to peers that seem not to have it. Longer: fewer duplicates, later repair.
    pub push_delay_min: Duration,
    /// Payload in bytes of one author that is kept here although no commit has delivered it: once what its blocks name, and once
    /// what it sends unasked. Beyond, blocks of that author are not referenced and batches are dropped.
    pub author_quota_bytes: u64,
    /// Payload in bytes that one own block may newly pull in through late parents: fetching it must fit in `delay_bound`.
    pub max_unsettled_bytes: u64,
    /// Rounds above the last committed one up to which blocks are taken in; the rest is dropped and fetched later.
    pub max_ahead: u64,
    /// Rounds of silence of a disconnected leader after which no round waits for it.
    pub mute_after: u64,
    /// Rounds without a commit after which own blocks carry no payload.
    pub uncommitted_cap: u64,
    /// Commits decided here whose payload is not complete here, after which own blocks carry no payload and only blocks behind
    /// the frontier are taken in.
    pub solid_lag: u64,
    /// Own blocks not yet referenced by a quorum, after which own blocks carry no payload.
    pub propagation_limit: u64,
    /// Blocks with missing parents kept for one sender; four times as many for all. Beyond, the highest rounds are dropped.
    pub max_suspended_blocks: usize,
    /// The same in bytes.
    pub max_suspended_bytes: u64,
    /// Blocks a second taken from one sender, with a burst of one second; more wait in its connection.
    pub blocks_per_second: u32,
    /// Commits in one catch-up request.
    pub catch_up_batch: u32,
    /// Catch-up requests under way at once.
    pub catch_up_parallel: usize,
    /// Catch-up answers that may wait for an earlier one; bounds the memory of a node that is far behind.
    pub catch_up_ahead: usize,
}

impl Default for ConsensusParameters {
    /// The LAN profile.
    fn default() -> Self {
        Self {
            delay_bound: Duration::from_millis(25),
            leader_timeout: Duration::from_millis(50),
            leader_timeout_cap: Duration::from_secs(5),
            payload_grace: Duration::from_millis(5),
            settle: Duration::from_millis(20),
            min_round_delay: Duration::from_millis(5),
            round_burst: Duration::from_secs(2),
            idle_delay: Duration::from_millis(250),
            push_delay_min: Duration::from_millis(2),
            author_quota_bytes: 64 * MIB,
            max_unsettled_bytes: 2 * MIB,
            max_ahead: crate::ProtocolParameters::default().gc_depth + AHEAD_MARGIN,
            mute_after: 16,
            uncommitted_cap: 200,
            solid_lag: 500,
            propagation_limit: 5,
            max_suspended_blocks: 2_000,
            max_suspended_bytes: 16 * MIB,
            blocks_per_second: 2_000,
            catch_up_batch: 100,
            catch_up_parallel: 4,
            catch_up_ahead: 16,
        }
    }
}

/// How transactions become payload batches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchParameters {
    /// Size in bytes, tables included, at which a batch is sealed; at most the protocol's `max_batch_bytes`. A submission that
    /// is larger makes a batch of its own.
    pub max_bytes: u64,
    /// Age at which a batch that is not full is sealed. Longer: fewer, larger batches and more latency; at most half a round.
    pub max_delay: Duration,
}

impl Default for BatchParameters {
    /// The LAN profile.
    fn default() -> Self {
        Self { max_bytes: 512 * KIB, max_delay: Duration::from_millis(3) }
    }
}

/// Who may submit, and how much at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientParameters {
    /// Whether anybody who reaches a client address other than loopback may submit and read, over plain TCP.
    pub open: bool,
    /// Client connections at once; more are refused with a reason.
    pub max_connections: usize,
    /// Bytes submitted by all clients and not answered yet; more are refused with `retry_hint`.
    pub max_bytes_in_flight: u64,
    /// The same for one connection: the credit its client is given.
    pub max_bytes_per_connection: u64,
    /// When a client that was refused for overload should try again.
    pub retry_hint: Duration,
}

impl Default for ClientParameters {
    fn default() -> Self {
        Self {
            open: false,
            max_connections: 1_024,
            max_bytes_in_flight: 64 * MIB,
            max_bytes_per_connection: 16 * MIB,
            retry_hint: Duration::from_millis(50),
        }
    }
}

/// Memory and threads of the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreParameters {
    /// Bytes that may wait for the writer; when full, writers wait and clients are refused.
    pub queue_bytes: u64,
    /// Memory in bytes for what is read from index and small records.
    pub block_cache_bytes: u64,
    /// Memory in bytes for index and small records not yet sorted to disk.
    pub write_buffer_bytes: u64,
    /// Memory in bytes for recent payload, so that execution and peers rarely read the disk.
    pub payload_cache_bytes: u64,
    /// Threads for reads that need the disk.
    pub reader_threads: usize,
    /// Space in bytes that stays free on the filesystem of the data directory: below twice as much the node warns, below it
    /// refuses submissions, below half of it takes nothing from peers either, and it goes on by itself when there is space
    /// again. Should exceed `client.max_bytes_in_flight` and `write_buffer_bytes`. 0: no reserve.
    pub min_free_bytes: u64,
    /// Bytes that the data directory may take; what is left of them counts as free space. 0: the whole filesystem.
    pub quota_bytes: u64,
}

impl Default for StoreParameters {
    fn default() -> Self {
        Self {
            queue_bytes: 64 * MIB,
            block_cache_bytes: 64 * MIB,
            write_buffer_bytes: 64 * MIB,
            payload_cache_bytes: 128 * MIB,
            reader_threads: 4,
            min_free_bytes: 256 * MIB,
            quota_bytes: 0,
        }
    }
}

/// How long payload, blocks and commits stay on disk: until the first limit is reached, but never less than ten times
/// `gc_depth` rounds, and never less than what is not executed yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetentionParameters {
    /// Age after which they may go; zero: no limit by age.
    pub time: Duration,
    /// Bytes on disk above which the oldest go; 0: no limit by size.
    pub bytes: u64,
}

impl Default for RetentionParameters {
    fn default() -> Self {
        Self { time: Duration::from_secs(3_600), bytes: 8 * GIB }
    }
}

/// What is logged, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogParameters {
    /// Text for people or JSON for collectors.
    pub format: LogFormat,
    /// Which lines: a level, or `target=level` parts with commas between them.
    pub filter: String,
}

impl Default for LogParameters {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

impl NodeParameters {
    /// The WAN profile: round trips up to 300 ms. Goes with [`crate::ProtocolParameters::wan`].
    pub fn wan() -> Self {
        let consensus = ConsensusParameters {
            delay_bound: Duration::from_millis(500),
            leader_timeout: Duration::from_secs(1),
            payload_grace: Duration::from_millis(50),
            settle: Duration::from_millis(200),
            min_round_delay: Duration::from_millis(50),
            idle_delay: Duration::from_millis(500),
            max_unsettled_bytes: MIB,
            max_ahead: crate::ProtocolParameters::wan().gc_depth + AHEAD_MARGIN,
            uncommitted_cap: 100,
            catch_up_parallel: 8,
            catch_up_ahead: 32,
            ..ConsensusParameters::default()
        };
        let batch = BatchParameters { max_bytes: 256 * KIB, max_delay: Duration::from_millis(25) };
        Self { consensus, batch, ..Self::default() }
    }
}

/// One value that cannot be, whoever gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The dotted key, for example `batch.max_bytes`.
    pub key: String,
    /// The value in text form; empty where the key is missing.
    pub value: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl Problem {
    /// A problem with the value of a key.
    pub fn new(key: impl Into<String>, value: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.is_empty() {
            true => write!(f, "{}: {}", self.key, self.message),
            false => write!(f, "{} = {}: {}", self.key, self.value, self.message),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Synced => "synced",
            Self::Os => "os",
        })
    }
}

impl FromStr for Durability {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "synced" => Ok(Self::Synced),
            "os" => Ok(Self::Os),
            _ => Err("must be `synced` or `os`".into()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be `text` or `json`".into()),
        }
    }
}
