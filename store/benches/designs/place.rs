//! Where a run has its database: a folder on the given disk, or a disk that is slow on purpose.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::workload::Disk;

/// An empty place, which is deleted by [`Place::leave`].
pub struct Place {
    parent: PathBuf,
    folder: TempDir,
}

impl Place {
    /// Makes one, or says why that cannot be done on this machine.
    pub fn make(disk: Disk, parent: &Path) -> Result<Place, String> {
        if disk == Disk::Slow {
            return Err("there is no slow filesystem yet".to_string());
        }
        let folder = tempfile::tempdir_in(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        Ok(Place { parent: parent.to_path_buf(), folder })
    }

    /// The directory of the database, which does not exist yet.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    /// Deletes everything and waits until the disk has forgotten it, so that its traffic is not in the next run.
    pub fn leave(self) -> Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", self.parent.display());
        self.folder.close().map_err(failed)?;
        let status = Command::new("sync").arg("-f").arg(&self.parent).status().map_err(failed)?;
        if status.success() { Ok(()) } else { Err(format!("sync -f {}: {status}", self.parent.display())) }
    }
}
