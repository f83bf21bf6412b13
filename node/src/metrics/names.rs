//! Every metric name and label value, in one place. The benchmark and dashboards read these; renaming one is a breaking change.

/// Round of the newest own block.
pub const ROUND: &str = "rorqual_round";
/// Index of the last commit.
pub const COMMIT_INDEX: &str = "rorqual_commit_index";
/// Index of the last commit that execution applied.
pub const APPLIED_INDEX: &str = "rorqual_applied_index";
/// Commits decided since the start.
pub const COMMITS: &str = "rorqual_commits_total";
/// Batches delivered by commits since the start.
pub const DELIVERED_BATCHES: &str = "rorqual_delivered_batches_total";
/// Bytes of payload delivered by commits since the start.
pub const DELIVERED_BYTES: &str = "rorqual_delivered_bytes_total";
/// Own batches sealed.
pub const SEALED_BATCHES: &str = "rorqual_sealed_batches_total";
/// Bytes of own batches sealed.
pub const SEALED_BYTES: &str = "rorqual_sealed_bytes_total";
/// Payload taken in from a peer, in bytes. Label: peer.
pub const PAYLOAD_RECEIVED: &str = "rorqual_payload_received_bytes_total";
/// Batches asked of peers because they did not come by themselves.
pub const PAYLOAD_REQUESTED: &str = "rorqual_payload_requested_total";
/// Chunks of payload that nobody asked for and no rule admits.
pub const PAYLOAD_UNSOLICITED: &str = "rorqual_payload_unsolicited_total";
/// Frames and answers of an authenticated peer that broke a rule. Label: peer.
pub const PEER_REFUSED: &str = "rorqual_peer_refused_total";
/// Best-effort frames that found a full queue or a broken link. Label: peer.
pub const SEND_DROPPED: &str = "rorqual_send_dropped_total";
/// Requests of a peer dropped because it had too many waiting. Label: peer.
pub const REQUESTS_SHED: &str = "rorqual_requests_shed_total";
/// Authors caught with two blocks of one round. Label: author.
pub const EQUIVOCATIONS: &str = "rorqual_equivocations_total";
/// Seconds that own batches spent in a stage. Label: stage.
pub const STAGE_LATENCY: &str = "rorqual_stage_latency_seconds";
/// Whether the link to a peer is up. Label: peer.
pub const PEER_CONNECTED: &str = "rorqual_peer_connected";
/// Round trip to a peer. Label: peer.
pub const PEER_ROUND_TRIP: &str = "rorqual_peer_round_trip_seconds";
/// Bytes received from and sent to a peer. Labels: peer, direction.
pub const PEER_BYTES: &str = "rorqual_peer_bytes";
/// Bytes that wait in a queue. Label: queue.
pub const QUEUE_BYTES: &str = "rorqual_queue_bytes";
/// Bytes of a column. Labels: column, where.
pub const STORE_BYTES: &str = "rorqual_store_bytes";
/// Bytes that may still be written in the data directory: of the filesystem, or of the quota.
pub const DISK_FREE_BYTES: &str = "rorqual_disk_free_bytes";
/// What the node does about it: 0 ample, 1 low, 2 read-only, 3 standstill.
pub const DISK_LEVEL: &str = "rorqual_disk_level";
/// Counts of the store. Label: what.
pub const STORE: &str = "rorqual_store";
/// Counts and gauges of the core. Label: what.
pub const CORE: &str = "rorqual_core";
/// Counts of the client link. Label: what.
pub const CLIENTS: &str = "rorqual_clients";
/// Connections refused before they were anybody. Label: reason.
pub const STRANGERS: &str = "rorqual_strangers_refused";

/// Stage: from the first submission of a batch to its commit.
pub const SEALED_TO_COMMITTED: &str = "sealed_to_committed";
/// Stage: from the first submission of a batch to its sealing.
pub const SUBMITTED_TO_SEALED: &str = "submitted_to_sealed";
/// Stage: from the commit of a batch to the end of its execution.
pub const COMMITTED_TO_EXECUTED: &str = "committed_to_executed";
/// Stage: all of it.
pub const SUBMITTED_TO_EXECUTED: &str = "submitted_to_executed";
