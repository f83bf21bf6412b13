//! What belongs to a node is for its owner alone, whatever the process's umask is: directories 0700, files 0600.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// From now on files that this process makes are its owner's alone. The database makes its files by the umask.
pub fn keep_to_ourselves() {
    #[allow(unsafe_code, reason = "the standard library does not set the umask")]
    // SAFETY: the call takes a number and cannot fail.
    unsafe {
        libc::umask(0o077)
    };
}

/// Closes a directory and everything in it to others. Blocks.
///
/// # Errors
/// What the system says.
pub fn close_to_others(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => close_to_others(&entry.path())?,
            false => fs::set_permissions(entry.path(), Permissions::from_mode(0o600))?,
        }
    }
    Ok(())
}
