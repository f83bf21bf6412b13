//! Where a run has its database: a folder on the given disk, or a disk that is slow on purpose.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::lossy::Mounted;
use crate::workload::Disk;

/// What every sync of the slow disk takes, as of a busy hard disk or of a volume behind a network.
pub const SLOW_SYNC: Duration = Duration::from_millis(20);
/// What every write to it takes, as when the kernel holds a writer back because too much is dirty.
pub const SLOW_WRITE: Duration = Duration::from_millis(1);
/// It is in memory; this is far more than the runs on it write.
const SLOW_BYTES: u64 = 4 << 30;

/// An empty place, which is deleted by [`Place::leave`].
pub struct Place {
    parent: PathBuf,
    folder: TempDir,
    slow: Option<Mounted>,
}

impl Place {
    /// Makes one, or says why that cannot be done on this machine.
    pub fn make(disk: Disk, parent: &Path) -> Result<Place, String> {
        let folder = tempfile::tempdir_in(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        let slow = (disk == Disk::Slow).then(|| mount(folder.path())).transpose()?;
        Ok(Place { parent: parent.to_path_buf(), folder, slow })
    }

    /// The directory of the database, which does not exist yet.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    /// Deletes everything and waits until the disk has forgotten it, so that its traffic is not in the next run.
    pub fn leave(self) -> Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", self.parent.display());
        drop(self.slow);
        self.folder.close().map_err(failed)?;
        let status = Command::new("sync").arg("-f").arg(&self.parent).status().map_err(failed)?;
        if status.success() { Ok(()) } else { Err(format!("sync -f {}: {status}", self.parent.display())) }
    }
}

/// RocksDB's own calls go through the kernel to a filesystem that takes its time: nothing of the store is replaced.
fn mount(folder: &Path) -> Result<Mounted, String> {
    let mounted = Mounted::new(folder, SLOW_BYTES)
        .map_err(|error| format!("a slow filesystem needs FUSE, which cannot be mounted here: {error}"))?;
    let mut disk = mounted.disk();
    disk.faults.sync_delay = SLOW_SYNC;
    disk.faults.write_delay = SLOW_WRITE;
    drop(disk);
    Ok(mounted)
}
