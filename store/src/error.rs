//! Everything that can go wrong in the store, as values a caller can match on.
//!
//! Each error prints as one sentence that says what to do about it. Errors are `Clone`, because one failed sync is the
//! answer to every writer that waited for it.

use std::fmt;
use std::path::PathBuf;

use crate::batch::WriteBatch;

/// Why the store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The column was not declared in [`Options`](crate::Options) when the store was opened.
    #[error("column \"{column}\" is not declared; add it to the columns the store is opened with")]
    UnknownColumn {
        /// The name that was asked for.
        column: &'static str,
    },
    /// The write queue has no room for the batch now; only the `try_` methods answer this.
    #[error("the write queue of {queue_bytes} bytes is full; shed load or try again later")]
    Full {
        /// The capacity of the queue in bytes.
        queue_bytes: usize,
    },
    /// The store was shut down, or is shutting down.
    #[error("the store is shut down; open it again to use it")]
    Closed,
    /// The filesystem has no space left. The store has failed for good.
    #[error("the disk is full ({detail}); free space and restart the node")]
    DiskFull {
        /// What the engine or the operating system said.
        detail: String,
    },
    /// Stored bytes do not pass their check.
    #[error(
        "stored data is damaged ({detail}); stop the node, see what is wrong with `rorqual verify-store`, salvage with `rorqual repair`"
    )]
    Corruption {
        /// What the engine said.
        detail: String,
    },
    /// The operating system refused a read, a write or a sync.
    #[error("input or output failed ({detail}); check the disk and its permissions, then restart the node")]
    Io {
        /// What the engine or the operating system said.
        detail: String,
    },
    /// Another store, in this process or another one, has the directory open.
    #[error("the data directory {} is in use by {}; stop it, or give this node another directory", path.display(), process(*holder))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that has it, where the system tells.
        holder: Option<u32>,
    },
    /// The directory was written by another version of this program, or by another program.
    #[error("the data directory {} cannot be used: {detail}", path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// What was found, what was expected and what to do.
        detail: String,
    },
    /// There is no database in the directory and `create_if_missing` is off.
    #[error("there is no database in {}; create it, or restore it from a backup", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The options contradict themselves.
    #[error("the store's options are invalid: {detail}")]
    Options {
        /// What is wrong with them.
        detail: String,
    },
    /// The engine cannot do this: the in-memory store makes no checkpoints.
    #[error("{what} is not supported by this store; use a store on disk")]
    Unsupported {
        /// The operation.
        what: &'static str,
    },
    /// An earlier write or sync failed. The store stays refused until it is opened again; nothing was retried.
    #[error("the store stopped after a failure: {reason}")]
    Failed {
        /// The first failure, in words.
        reason: String,
    },
}

fn process(holder: Option<u32>) -> String {
    match holder {
        Some(process) if process == std::process::id() => "this process itself".to_string(),
        Some(process) => format!("process {process}"),
        None => "another process".to_string(),
    }
}

impl StoreError {
    /// The error for everything that comes after this one.
    pub(crate) fn aftermath(&self) -> StoreError {
        match self {
            StoreError::Failed { .. } => self.clone(),
            first => StoreError::Failed { reason: first.to_string() },
        }
    }

    /// An error of the operating system, with what was being done.
    pub(crate) fn from_io(doing: &str, error: &std::io::Error) -> StoreError {
        let detail = format!("{doing}: {error}");
        if error.kind() == std::io::ErrorKind::StorageFull {
            return StoreError::DiskFull { detail };
        }
        StoreError::Io { detail }
    }
}

/// A batch that was not taken into the queue, handed back untouched.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The batch, as it was given.
    pub batch: WriteBatch,
    /// Why: [`StoreError::Full`], [`StoreError::Closed`], [`StoreError::Failed`] or [`StoreError::UnknownColumn`].
    pub error: StoreError,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(formatter)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_sentence_without_a_line_break() {
        let errors = [
            StoreError::UnknownColumn { column: "c" },
            StoreError::Full { queue_bytes: 1 },
            StoreError::Closed,
            StoreError::DiskFull { detail: "d".into() },
            StoreError::Locked { path: "/x".into(), holder: Some(4711) },
            StoreError::Locked { path: "/x".into(), holder: None },
            StoreError::Failed { reason: "r".into() },
        ];
        for error in errors {
            let text = error.to_string();
            assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
        }
    }

    #[test]
    fn the_aftermath_keeps_the_first_reason() {
        let first = StoreError::DiskFull { detail: "No space left on device".into() };
        let later = first.aftermath();
        assert!(later.to_string().contains("No space left on device"));
        assert_eq!(later.aftermath(), later);
    }

    #[test]
    fn a_full_disk_is_told_from_other_errors_of_the_system() {
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        assert!(matches!(StoreError::from_io("sync", &full), StoreError::DiskFull { .. }));
        let other = std::io::Error::from_raw_os_error(libc::EIO);
        assert!(matches!(StoreError::from_io("sync", &other), StoreError::Io { .. }));
    }
}
