//! Backups: a copy of the store of one moment, and its way back.
//!
//! A backup is born with the file `AMNESIA` in it. What the node signs later is not in the copy, so that whoever starts from it
//! must not sign: it could contradict what it has forgotten. The copy gets its name only when it is whole and has that file.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rorqual_config::NodeConfig;
use rorqual_store::Store;

use crate::consensus::safety;
use crate::logging::timestamp;
use crate::private::close_to_others;

/// Where the store writes its copy, within what is not whole yet.
const COPY: &str = "copy";
/// The database's lock file.
const LOCK: &str = "LOCK";

/// Whose data it is, in words.
pub fn name_of(config: &NodeConfig) -> String {
    let chain = config.committee.chain_id().to_string();
    format!("member {} (`{}`) of chain {}", config.me, config.committee.member(config.me).name, &chain[..16])
}

/// Copies the store to the directory `output`, which must not exist while its parent does. Files that never change are hard links
/// where the filesystem allows it, so that a backup on the same filesystem costs next to nothing; copy it elsewhere. The node
/// goes on meanwhile. The copy is for its owner alone: directories 0700, files 0600. Dropping the future gives up the answer alone:
/// what was begun is finished and gets its name, or is removed.
///
/// # Errors
/// One sentence; what was begun is removed. `output` must not lie in `data_dir`.
pub async fn make(store: &Store, data_dir: &Path, output: &Path, of: &str) -> Result<(), String> {
    let (store, data_dir) = (store.clone(), data_dir.to_owned());
    let (output, of) = (output.to_owned(), of.to_owned());
    let whole = tokio::spawn(async move { copy_whole(&store, &data_dir, &output, &of).await });
    whole.await.map_err(|panic| panic.to_string())?
}

async fn copy_whole(store: &Store, data_dir: &Path, output: &Path, of: &str) -> Result<(), String> {
    let partial = partial(output)?;
    outside(data_dir, output)?;
    let reason = reason(of);
    // The store makes its directory by the process's umask: until it is closed to others it stands in one that is.
    let cannot = |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", partial.display());
    DirBuilder::new().mode(0o700).create(&partial).map_err(|error| cannot(&error))?;
    let copy = partial.join(COPY);
    let copied = store.checkpoint(&copy).await.map_err(|error| cannot(&error));
    let to = output.to_owned();
    let finish = move || {
        let closed =
            copied.and_then(|()| close_to_others(&copy).map_err(|error| format!("{}: {error}", copy.display())));
        let named = closed.and_then(|()| safety::forbid(&copy, &reason)).and_then(|()| close_mark(&copy));
        let named = named.and_then(|()| give_name(&copy, &to));
        // Empty where all went well; else what was copied is of no use, and the first failure is the one to tell.
        let _ = fs::remove_dir_all(&partial);
        named
    };
    tokio::task::spawn_blocking(finish).await.map_err(|panic| panic.to_string())?
}

/// Copies the data directory of a node that does not run, whose lock the caller holds, to `output`, and only reads there. As with
/// [`make`] the copy is for its owner alone and says that it is one. Returns the bytes copied. Blocks.
///
/// # Errors
/// One sentence; what was begun is removed.
pub fn copy_stopped(data_dir: &Path, output: &Path, of: &str) -> Result<u64, String> {
    let partial = partial(output)?;
    outside(data_dir, output)?;
    let reason = reason(of);
    let copied = copy(data_dir, &partial)
        .map_err(|error| format!("cannot copy {} to {}: {error}", data_dir.display(), partial.display()));
    let marked = copied.and_then(|bytes| safety::forbid(&partial, &reason).map(|()| bytes));
    let named = marked.and_then(|bytes| close_mark(&partial).map(|()| bytes));
    let named = named.and_then(|bytes| give_name(&partial, output).map(|()| bytes));
    if named.is_err() {
        // As above.
        let _ = fs::remove_dir_all(&partial);
    }
    named
}

fn reason(of: &str) -> String {
    let now = timestamp(SystemTime::now());
    format!("this is a backup of {of}, made at {now}; what that node signed later is not in it")
}

/// Copies a backup to the place of a data directory that does not exist. The copy keeps its file `AMNESIA`. Blocks.
///
/// # Errors
/// One sentence; what was begun is removed.
pub fn restore(from: &Path, data_dir: &Path) -> Result<u64, String> {
    let partial = partial(data_dir)?;
    let copied = copy(from, &partial)
        .map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), partial.display()));
    let named = copied.and_then(|bytes| give_name(&partial, data_dir).map(|()| bytes));
    if named.is_err() {
        // As above.
        let _ = fs::remove_dir_all(&partial);
    }
    named
}

fn close_mark(copy: &Path) -> Result<(), String> {
    let mark = copy.join(safety::AMNESIA);
    fs::set_permissions(&mark, Permissions::from_mode(0o600)).map_err(|error| format!("{}: {error}", mark.display()))
}

/// A copy inside of what is copied would be copied by the next one, and counts against the quota.
fn outside(data_dir: &Path, output: &Path) -> Result<(), String> {
    let parent = output.parent().unwrap_or(Path::new("/"));
    let real = |path: &Path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
    match real(parent)?.starts_with(real(data_dir)?) {
        true => Err(format!(
            "{} is inside the data directory {}: choose a place outside of it",
            output.display(),
            data_dir.display()
        )),
        false => Ok(()),
    }
}

/// The name of what is not whole yet.
pub fn partial_name(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{name}.partial"))
}

/// Where a copy stands until it is whole.
fn partial(output: &Path) -> Result<PathBuf, String> {
    if output.file_name().is_none() || !output.is_absolute() {
        return Err(format!("{} is not an absolute path of a directory to be made", output.display()));
    }
    let partial = partial_name(output);
    for path in [output, &partial] {
        match path.symlink_metadata() {
            Ok(_) => return Err(format!("{} exists already and is not touched: choose another name", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    let parent = output.parent().unwrap_or(Path::new("/"));
    match parent.is_dir() {
        true => Ok(partial),
        false => Err(format!("{} is not a directory: create it first", parent.display())),
    }
}

fn give_name(partial: &Path, output: &Path) -> Result<(), String> {
    let parent = output.parent().unwrap_or(Path::new("/"));
    let named = fs::rename(partial, output).and_then(|()| File::open(parent)?.sync_all());
    named.map_err(|error| format!("cannot rename {} to {}: {error}", partial.display(), output.display()))
}

/// Copies a directory with everything below it, durably. Returns the bytes copied.
fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    DirBuilder::new().mode(0o700).create(to)?;
    let mut bytes = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes += copy(&entry.path(), &target)?;
        } else if kind.is_file() && entry.file_name() != LOCK {
            // A socket is no data, and to close the lock's file would give the lock back.
            bytes += fs::copy(entry.path(), &target)?;
            fs::set_permissions(&target, Permissions::from_mode(0o600))?;
            File::open(&target)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rorqual_store::{Column, ColumnOptions, Options};

    use super::*;

    const DATA: Column = Column("data");

    fn options() -> Options {
        Options::with_columns(vec![ColumnOptions::small(DATA.0)])
    }

    #[tokio::test]
    async fn a_backup_is_whole_and_says_that_it_is_one_and_so_does_what_is_restored() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("data"), options()).expect("a store");
        store.write(DATA, "key", "value").await.expect("a write");
        let (backup, restored) = (folder.path().join("backup"), folder.path().join("restored"));
        make(&store, &folder.path().join("data"), &backup, "member 3").await.expect("a backup");
        store.write(DATA, "key", "later").await.expect("a write");
        assert!(restore(&backup, &restored).expect("a copy") > 0);
        for copy in [&backup, &restored] {
            let reason = safety::forbidden(copy).expect("readable").expect("a mark");
            assert!(reason.contains("backup of member 3"), "{reason}");
            let opened = Store::open(copy, options()).expect("a store");
            assert_eq!(opened.read(DATA, b"key").await, Ok(Some("value".into())));
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3, "nothing half done is left");
    }

    #[tokio::test]
    async fn a_backup_whose_asker_goes_away_gets_its_name_all_the_same() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("data"), options()).expect("a store");
        let backup = folder.path().join("backup");
        for _ in 0..2 {
            let data = folder.path().join("data");
            let mut asked = Box::pin(make(&store, &data, &backup, "member 3"));
            std::future::poll_fn(|context| {
                assert!(asked.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            drop(asked);
            let named = async {
                while !backup.exists() || fs::read_dir(folder.path()).expect("a folder").count() > 2 {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(20), named).await.expect("it is finished");
            assert!(safety::forbidden(&backup).expect("readable").is_some());
            // And the name can be used again.
            fs::remove_dir_all(&backup).expect("a removal");
        }
    }

    #[tokio::test]
    async fn nothing_that_exists_is_touched() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("data"), options()).expect("a store");
        let existing = folder.path().join("existing");
        fs::create_dir(&existing).expect("a folder");
        for output in [existing, folder.path().join("no/parent"), PathBuf::from("relative")] {
            let error = make(&store, &folder.path().join("data"), &output, "member 3").await.expect_err("refused");
            assert!(error.contains(&output.display().to_string()) || error.contains("no"), "{error}");
            assert!(restore(&folder.path().join("data"), &output).is_err());
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
    }
}
