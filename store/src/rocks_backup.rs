//! A backup as one operation: the index of a moment, and every segment it refers to.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rocksdb::DB;
use rocksdb::checkpoint::Checkpoint;

use crate::error::StoreError;
use crate::rocks::translate;
use crate::rocks_open::sync_parent;
use crate::segments::Segments;
use crate::segments::file::{FOLDER, sync_directory};

/// A file with this name is born in every backup: whoever opens a copy has forgotten what was signed after it was made, and
/// must not sign as if it had not.
pub const AMNESIA_FILE: &str = "AMNESIA";
const AMNESIA_TEXT: &str = "This directory is a backup, or was restored from one. The node that runs on it may have signed \
                            what is not in here, so it learns from its peers what it must not sign again.\n";
const STAGING: &str = "incomplete";

/// Makes a backup in `path`, which must not exist. It appears there whole, or not at all.
pub(crate) fn create(database: &DB, segments: &Segments, path: &Path) -> Result<(), StoreError> {
    if exists(path)? {
        return Err(StoreError::Io { detail: format!("the backup {} exists already", path.display()) });
    }
    let mut staging = path.as_os_str().to_owned();
    staging.push(".");
    staging.push(STAGING);
    let staging = PathBuf::from(staging);
    if exists(&staging)? {
        let detail = format!("{} is left of a backup that was cut short; delete it", staging.display());
        return Err(StoreError::Io { detail });
    }
    let filled = fill(database, segments, &staging);
    if filled.is_err() {
        // What is left of it is of no use; the first error is the one to tell.
        let _ = fs::remove_dir_all(&staging);
        return filled;
    }
    fs::rename(&staging, path).map_err(|error| failed("naming the backup", path, &error))?;
    sync_parent(path)
}

fn exists(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(|error| failed("looking for", path, &error))
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::from_io(&format!("{doing} {}", path.display()), error)
}

fn fill(database: &DB, segments: &Segments, staging: &Path) -> Result<(), StoreError> {
    // Nothing that the copied index refers to is deleted or written over until all is linked.
    let hold = segments.hold();
    let checkpoint = Checkpoint::new(database).map_err(|error| translate(database.path(), &error))?;
    checkpoint.create_checkpoint(staging).map_err(|error| translate(database.path(), &error))?;
    fs::set_permissions(staging, Permissions::from_mode(0o700)).map_err(|error| failed("closing", staging, &error))?;
    write_amnesia(staging)?;
    // The index is copied first: the data of what it refers to were written before. Their accounting follows the index.
    segments.settle();
    let wanted = segments.sync.request();
    segments.sync.wait(wanted)?;
    let folder = staging.join(FOLDER);
    DirBuilder::new().mode(0o700).create(&folder).map_err(|error| failed("creating", &folder, &error))?;
    for (name, sealed, end) in segments.files_in_use() {
        let (from, to) = (segments.folder_path().join(&name), folder.join(&name));
        let linked = sealed && fs::hard_link(&from, &to).is_ok();
        if !linked {
            copy(&from, &to, end).map_err(|error| failed("copying to the backup", &from, &error))?;
        }
    }
    drop(hold);
    sync_directory(&folder)?;
    sync_directory(staging)
}

fn write_amnesia(staging: &Path) -> Result<(), StoreError> {
    let path = staging.join(AMNESIA_FILE);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(AMNESIA_TEXT.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| failed("writing", &path, &error))
}

/// Copies what is written of a segment that still grows, or that cannot be linked.
fn copy(from: &Path, to: &Path, end: u64) -> io::Result<()> {
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut File::open(from)?.take(end), &mut copy)?;
    copy.sync_all()
}
