//! Every metric: its name with its unit, its kind, its meaning; and label values that programs read. The benchmark and dashboards
//! read these; renaming one is a breaking change.

/// What a number means over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts of values in ranges, with their sum.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// One line for people.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident $kind:ident $name:literal $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Definition = Definition { name: $name, kind: Kind::$kind, help: $help };
        )*

        /// All of them, for the tests and the operator's reference.
        pub const ALL: &[Definition] = &[$($constant),*];
    };
}

metrics! {
    ROUND Gauge "rorqual_round" "Round of the newest own block";
    COMMIT_INDEX Gauge "rorqual_commit_index" "Index of the last commit decided here";
    APPLIED_INDEX Gauge "rorqual_applied_index" "Index of the last commit that execution applied";
    CERTIFIED_INDEX Gauge "rorqual_certified_index" "Index of the highest commit with a full certificate here";
    SOLID_INDEX Gauge "rorqual_solid_index" "Index of the highest commit whose payload is complete here";
    LAG Gauge "rorqual_lag_commits" "Commits that are known to be decided, here or by an honest member, and not applied here";
    GC_ROUND Gauge "rorqual_gc_round" "Round at and below which blocks can no longer be committed";
    LOG_END Gauge "rorqual_log_next_position" "Position that the next transaction will get: transactions applied since the genesis";
    LOG_BEGINS Gauge "rorqual_log_begins_position" "First position that is still stored here";
    QUORUM_ROUND_TRIP Gauge "rorqual_quorum_round_trip_seconds" "Round trip within which a quorum of stake is reached, as consensus knows it; 0 before it was measured";
    DELAY_BOUND Gauge "rorqual_delay_bound_seconds" "The delay bound D that consensus counts with at present";
    LEADER_TIMEOUT Gauge "rorqual_leader_timeout_seconds" "How long a round waits for its leader at present";
    MUTED_LEADERS Gauge "rorqual_muted_leaders" "Leaders that no round waits for";
    PENDING_OWN_BATCHES Gauge "rorqual_pending_own_batches" "Own batches that no commit has delivered yet";
    COMMITS Counter "rorqual_commits_total" "Commits decided";
    DECISIONS Counter "rorqual_decisions_total" "Leader slots decided. Label rule: direct_commit, indirect_commit, direct_skip, indirect_skip";
    DELIVERED_BATCHES Counter "rorqual_delivered_batches_total" "Batches delivered by commits";
    DELIVERED_BYTES Counter "rorqual_delivered_bytes_total" "Bytes of payload delivered by commits";
    SEALED_BATCHES Counter "rorqual_sealed_batches_total" "Own batches sealed";
    SEALED_BYTES Counter "rorqual_sealed_bytes_total" "Bytes of own batches sealed";
    STAGE_LATENCY Histogram "rorqual_stage_latency_seconds" "Time that own batches spent in a stage, in seconds. Label: stage";
    LOG_LOST Counter "rorqual_log_lines_lost_total" "Lines of the log that could not be written, or that nobody read in time";
    CORE_EVENTS Counter "rorqual_core_events_total" "What happened in the consensus core. Label: event";
    CORE_HELD Gauge "rorqual_core_held" "What the consensus core holds, each of it bounded. Label: what";
    PAYLOAD_RECEIVED Counter "rorqual_payload_received_bytes_total" "Payload taken in from a peer, in bytes. Label: peer";
    PAYLOAD_REQUESTED Counter "rorqual_payload_requested_total" "Batches asked of peers because they did not come by themselves";
    PAYLOAD_UNSOLICITED Counter "rorqual_payload_unsolicited_total" "Chunks of payload that nobody asked for and no rule admits";
    EQUIVOCATIONS Counter "rorqual_equivocations_total" "Proofs that an author signed two blocks of one round. Label: author";
    PEER_CONNECTED Gauge "rorqual_peer_connected" "1 while both streams to a peer are up, else 0. Label: peer";
    PEER_ROUND_TRIP Gauge "rorqual_peer_round_trip_seconds" "Smoothed round trip to a peer. Label: peer";
    PEER_BYTES Counter "rorqual_peer_bytes_total" "Bytes of frames, before encryption. Labels: peer, stream, direction (in, out)";
    PEER_FRAMES Counter "rorqual_peer_frames_total" "Frames. Labels: peer, stream, direction (in, out)";
    PEER_QUEUE_BYTES Gauge "rorqual_peer_queue_bytes" "Bytes that wait to be sent to a peer. Labels: peer, lane";
    PEER_LINKS Counter "rorqual_peer_links_total" "How often the link to a peer came up. Label: peer";
    PEER_FAILED_DIALS Counter "rorqual_peer_failed_dials_total" "How often dialling a peer failed. Label: peer";
    PEER_LOST Counter "rorqual_peer_lost_frames_total" "Frames that were queued for a peer and lost with the link. Label: peer";
    PEER_BROKEN Counter "rorqual_peer_broken_links_total" "Links ended for what the peer did. Labels: peer, reason (oversized, malformed: frames; excess: more of them than any honest member sends, or too many refused; unread: it took nothing)";
    PEER_REFUSED Counter "rorqual_peer_refused_total" "Rules broken by a member that no honest one breaks. Labels: peer, rule";
    BLOCKS_RECEIVED Counter "rorqual_blocks_received_total" "Blocks that came from peers. Label verdict: new (its signature was checked), known (a copy), old (at or below the garbage-collection round)";
    REQUESTS_OVER_RATE Counter "rorqual_requests_over_rate_total" "Requests of a peer dropped because it asks faster than any honest member does for long. Label: peer";
    SEND_DROPPED Counter "rorqual_send_dropped_total" "Best-effort frames that found a full queue or a broken link. Label: peer";
    REQUESTS_SHED Counter "rorqual_requests_shed_total" "Requests of a peer dropped because it had too many waiting. Label: peer";
    STRANGERS Counter "rorqual_connections_refused_total" "Connections to the peer address that never became a link. Label: reason";
    HANDSHAKES Counter "rorqual_handshakes_total" "TLS handshakes begun with whoever connected to the peer address";
    QUEUE_BYTES Gauge "rorqual_queue_bytes" "Bytes that wait. Label queue: seal (own submissions), undelivered (payload of others not yet in a commit), store (writes)";
    STORE_BYTES Gauge "rorqual_store_bytes" "Bytes of a column. Labels: column, where (disk; segments, which disk includes; memory; tables; cache)";
    STORE_SEGMENTS Gauge "rorqual_store_segment_bytes" "Bytes of segment files. Label what: files (all of them), spare (kept to be written again), live (referred to)";
    STORE_SEGMENT_WRITTEN Counter "rorqual_store_segment_written_bytes_total" "Bytes written to segment files, filled-up blocks included";
    STORE_SEGMENT_SYNCS Counter "rorqual_store_segment_syncs_total" "Syncs of segment files";
    STORE_BLOCK_CACHE Gauge "rorqual_store_block_cache_bytes" "Memory for blocks read from tables, all columns together";
    DISK_FREE_BYTES Gauge "rorqual_disk_free_bytes" "Bytes that may still be written in the data directory: of the filesystem, or of the quota";
    DISK_LEVEL Gauge "rorqual_disk_level" "What the node does about free space: 0 ample, 1 low, 2 read-only, 3 standstill";
    CLOCK_DEVIATION Gauge "rorqual_clock_deviation_seconds" "How far this machine's clock is ahead (below 0: behind). Label from: peers (the median of theirs), commit_time (that of the next commit)";
    CLOCK_WRONG Gauge "rorqual_clock_wrong" "1 while this machine's clock is more than a second off, else 0";
    CLOCK_WARNINGS Counter "rorqual_clock_warnings_total" "How often this machine's clock came to be more than a second off";
    STORE_WRITES Counter "rorqual_store_writes_total" "Batches written to the store";
    STORE_WRITTEN_BYTES Counter "rorqual_store_written_bytes_total" "Bytes of keys and values written to the store";
    STORE_SYNCS Counter "rorqual_store_syncs_total" "Syncs of the store's log to disk";
    STORE_SYNCED_WRITES Counter "rorqual_store_synced_writes_total" "Batches that these syncs made durable";
    STORE_WAITERS Gauge "rorqual_store_waiters" "Reads that wait for a key to be written";
    CLIENT_CONNECTIONS Gauge "rorqual_client_connections" "Client connections, those that have not said hello yet included";
    CLIENT_IN_FLIGHT Gauge "rorqual_client_in_flight_bytes" "Submitted by clients and not answered yet, with overheads";
    CLIENT_AWAITING Gauge "rorqual_client_batches_awaiting_receipts" "Own batches with receipts that wait for execution";
    CLIENT_EVENTS Counter "rorqual_client_events_total" "What happened on the client link. Label: event";
    BUILD Gauge "rorqual_build_info" "1. Label: version";
    PROCESS_CPU Counter "process_cpu_seconds_total" "User and system CPU time of this process, in seconds";
    PROCESS_MEMORY Gauge "process_resident_memory_bytes" "Resident memory of this process";
    PROCESS_FILES Gauge "process_open_fds" "File descriptors that this process has open";
    PROCESS_MAX_FILES Gauge "process_max_fds" "File descriptors that this process may have open";
    PROCESS_START Gauge "process_start_time_seconds" "Start of this process, in seconds since the Unix epoch";
}

/// Stage: from the sealing of a batch to its commit.
pub const SEALED_TO_COMMITTED: &str = "sealed_to_committed";
/// Stage: from the first submission of a batch to its sealing.
pub const SUBMITTED_TO_SEALED: &str = "submitted_to_sealed";
/// Stage: from the commit of a batch to the end of its execution.
pub const COMMITTED_TO_EXECUTED: &str = "committed_to_executed";
/// Stage: all of it.
pub const SUBMITTED_TO_EXECUTED: &str = "submitted_to_executed";
