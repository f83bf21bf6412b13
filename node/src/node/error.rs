//! Why a node did not start, or stopped: what the process says at its end, and whose turn it is.

use rorqual_network::NetworkError;
use rorqual_protocol::Halt;
use rorqual_store::StoreError;

use crate::consensus::recovery::RecoveryError;
use crate::consensus::safety::Amnesia;
use crate::schema::DirectoryError;

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory is not usable.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What the disk holds cannot be used.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The core refuses to go on.
    #[error(transparent)]
    Halt(#[from] Halt),
    /// What was signed from this data directory may be lost.
    #[error(transparent)]
    Amnesia(#[from] Amnesia),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A peer listener could not be bound.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Execution could not start or failed.
    #[error("execution: {0}")]
    Execution(String),
    /// One sentence.
    #[error("{0}")]
    Other(String),
}

impl NodeError {
    /// Whether the operator must correct configuration or data directory (exit code 2) rather than the surroundings (1).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Directory(DirectoryError::Store(error)) => matches!(error, StoreError::Format { .. }),
            Self::Directory(_) => true,
            Self::Store(error) => matches!(error, StoreError::Format { .. }),
            _ => false,
        }
    }
}
