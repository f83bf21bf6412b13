//! Who has a database directory: the lock that RocksDB takes, and who holds it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::StoreError;

/// RocksDB's lock file in the directory.
const LOCK: &str = "LOCK";

/// Keeps every store, of this and of other processes, from opening a directory; given back when it is dropped.
///
/// It is the lock that RocksDB itself takes. A lock of this kind belongs to the process: a store of the *same* process is not
/// kept away by the operating system, so do not open one meanwhile.
#[derive(Debug)]
pub struct Lock {
    /// None on a filesystem that takes no writes, where there is no file to lock: nobody has a store open there.
    _file: Option<File>,
}

impl Lock {
    /// Takes the lock. Where nothing may be written (a snapshot mounted read-only, somebody else's files) it is the shared one,
    /// which a running node refuses too.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Locked`] with the process that has it, [`StoreError::Io`].
    pub fn take(path: &Path) -> Result<Lock, StoreError> {
        if !path.is_dir() {
            return Err(StoreError::Missing { path: path.to_path_buf() });
        }
        let name = path.join(LOCK);
        let failed = |error: &std::io::Error| StoreError::from_io(&format!("locking {}", name.display()), error);
        // A copy has no such file; a directory without a database gets none.
        let create = path.join("CURRENT").exists();
        let file = match File::options().read(true).write(true).create(create).truncate(false).open(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(StoreError::Missing { path: path.to_path_buf() });
            }
            Err(error) if matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => {
                return Lock::shared(path, &name);
            }
            Err(error) => return Err(failed(&error)),
        };
        Lock::locked(path, &name, file, FlockOperation::NonBlockingLockExclusive)
    }

    fn shared(path: &Path, name: &Path) -> Result<Lock, StoreError> {
        match File::open(name) {
            Ok(file) => Lock::locked(path, name, file, FlockOperation::NonBlockingLockShared),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Lock { _file: None }),
            Err(error) => Err(StoreError::from_io(&format!("locking {}", name.display()), &error)),
        }
    }

    fn locked(path: &Path, name: &Path, file: File, how: FlockOperation) -> Result<Lock, StoreError> {
        match rustix::fs::fcntl_lock(&file, how) {
            Ok(()) => Ok(Lock { _file: Some(file) }),
            Err(Errno::ACCESS | Errno::AGAIN) => {
                Err(StoreError::Locked { path: path.to_path_buf(), holder: holder(path) })
            }
            Err(error) => Err(StoreError::from_io(&format!("locking {}", name.display()), &error.into())),
        }
    }
}

/// The process that holds the lock of a directory, as far as the system tells.
pub fn holder(path: &Path) -> Option<u32> {
    let lock = path.join(LOCK);
    let facts = fs::metadata(&lock).ok()?;
    let table = fs::read_to_string("/proc/locks").ok()?;
    let holders = holders(&table, facts.ino());
    // An inode's number is unique on one device only, and the table's devices are not always those that files name.
    holders.into_iter().find(|process| has_open(*process, &lock).unwrap_or(true))
}

/// Whether the process has this file open; none where it is another user's and the system does not tell.
fn has_open(process: u32, file: &Path) -> Option<bool> {
    let Ok(file) = file.canonicalize() else { return Some(false) };
    let open = match fs::read_dir(format!("/proc/{process}/fd")) {
        Ok(open) => open,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        Err(_) => return Some(false),
    };
    Some(open.filter_map(Result::ok).any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == file)))
}

/// Processes that hold a POSIX lock on a file with this inode: lines like
/// `3: POSIX  ADVISORY  WRITE 4711 fd:01:1835 0 EOF`.
fn holders(table: &str, inode: u64) -> Vec<u32> {
    let holder = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "POSIX", _, _, process, file, ..] = words[..] else { return None };
        (file.rsplit(':').next()?.parse() == Ok(inode)).then(|| process.parse().ok()).flatten()
    };
    table.lines().filter_map(holder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_locks_is_read_by_inode() {
        let table = "1: POSIX  ADVISORY  WRITE 4711 fd:01:1835 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 99 fd:01:1835 0 EOF\n\
                     3: POSIX  ADVISORY  READ  12 00:2f:77 128 128\n\
                     3: -> POSIX  ADVISORY  WRITE 13 fd:01:1835 0 EOF\n";
        assert_eq!(holders(table, 1835), [4711]);
        assert_eq!(holders(table, 77), [12]);
        assert_eq!(holders(table, 1), Vec::<u32>::new());
        assert_eq!(holders("rubbish\n\n", 1), Vec::<u32>::new());
    }

    #[test]
    fn where_there_is_no_database_there_is_nothing_to_lock() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for path in [Path::new("/nowhere/db"), folder.path()] {
            let error = Lock::take(path).expect_err("no database");
            assert_eq!(error, StoreError::Missing { path: path.into() });
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is made there");
    }
}
