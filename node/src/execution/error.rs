//! Why execution ended.

use bytes::Bytes;
use rorqual_config::encoding::decode_stored;
use rorqual_protocol::types::CommitIndex;
use rorqual_store::{Column, StoreError};

/// Why execution ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is missing or is not what its column holds.
    #[error("the record {key} in column `{column}` cannot be used: {reason}; restore the data directory from a backup")]
    Record {
        /// The column.
        column: &'static str,
        /// The key, in hex.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A commit came out of order.
    #[error("commit {found} was delivered where commit {expected} is next: this is a bug")]
    OutOfOrder {
        /// The one that is next.
        expected: CommitIndex,
        /// The one that came.
        found: CommitIndex,
    },
    /// A commit that was applied before came again, and is another one.
    #[error(
        "commit {index} was applied with other content than it is delivered with now; restore the data directory from a backup"
    )]
    Diverged {
        /// Which.
        index: CommitIndex,
    },
    /// A neighbour has ended.
    #[error("{0} has ended")]
    Closed(&'static str),
    /// A part of execution panicked.
    #[error("a part of execution panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The record of a key, or what is wrong with it.
///
/// # Errors
/// [`ExecutionError::Record`].
pub fn record<T: bincode::Decode<()>>(column: Column, key: &[u8], value: &[u8]) -> Result<T, ExecutionError> {
    decode_stored(value).map_err(|error| unusable(column, key, error.to_string()))
}

/// The same for a record that must be there.
///
/// # Errors
/// [`ExecutionError::Record`].
pub fn present<T: bincode::Decode<()>>(column: Column, key: &[u8], value: Option<Bytes>) -> Result<T, ExecutionError> {
    match value {
        Some(value) => record(column, key, &value),
        None => Err(unusable(column, key, "it is missing".into())),
    }
}

/// This record cannot be used.
pub fn unusable(column: Column, key: &[u8], reason: String) -> ExecutionError {
    ExecutionError::Record { column: column.0, key: hex::encode(key), reason }
}
