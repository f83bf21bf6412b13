//! The state that execution carries from commit to commit: the same at every node after the same commit.

use rorqual_config::Digest;
use rorqual_protocol::types::CommitIndex;

use super::ids::LiveIds;
use super::record::AppliedRecord;

/// The state after a commit; the default is the one before the first.
#[derive(Default)]
pub struct State {
    /// The last commit applied.
    pub index: CommitIndex,
    /// Its commit time.
    pub time_ms: u64,
    /// Position of the next transaction.
    pub next_position: u64,
    /// The digest that chains all execution records. Before the first commit it is all zeros.
    pub digest: Digest,
    /// Bytes of payload delivered so far.
    pub payload_bytes: u64,
    /// The ids alive.
    pub ids: LiveIds,
}

impl State {
    /// Everything but the ids, as stored.
    pub fn record(&self) -> AppliedRecord {
        AppliedRecord {
            index: self.index,
            next_position: self.next_position,
            time_ms: self.time_ms,
            digest: self.digest,
            payload_bytes: self.payload_bytes,
        }
    }

    /// The state with this record and these ids.
    pub fn new(record: &AppliedRecord, ids: LiveIds) -> Self {
        Self {
            index: record.index,
            time_ms: record.time_ms,
            next_position: record.next_position,
            digest: record.digest,
            payload_bytes: record.payload_bytes,
            ids,
        }
    }
}
