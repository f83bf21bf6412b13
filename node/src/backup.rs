//! Backups: a copy of the store of one moment, and its way back.
//!
//! A backup is born with the file `AMNESIA` in it. What the node signs later is not in the copy, so that whoever starts from it
//! must not sign: it could contradict what it has forgotten. The copy gets its name only when it is whole and has that file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rorqual_config::NodeConfig;
use rorqual_store::Store;

use crate::consensus::safety;

/// Whose data it is, in words.
pub fn name_of(config: &NodeConfig) -> String {
    let chain = config.committee.chain_id().to_string();
    format!("member {} (`{}`) of chain {}", config.me, config.committee.member(config.me).name, &chain[..16])
}

/// Copies the store to the directory `output`, which must not exist while its parent does. Files that never change are hard links
/// where the filesystem allows it, so that a backup on the same filesystem costs next to nothing; copy it elsewhere. The node
/// goes on meanwhile. Dropping the future gives up the answer alone: what was begun is finished and gets its name, or is removed.
///
/// # Errors
/// One sentence; what was begun is removed.
pub async fn make(store: &Store, output: &Path, of: &str) -> Result<(), String> {
    let (store, output, of) = (store.clone(), output.to_owned(), of.to_owned());
    let whole = tokio::spawn(async move {
        let made = copy_whole(&store, &output, &of).await;
        match &made {
            Ok(()) => tracing::info!(backup = %output.display(), "the backup is whole"),
            Err(error) => tracing::warn!(%error, "no backup was made"),
        }
        made
    });
    whole.await.map_err(|panic| panic.to_string())?
}

async fn copy_whole(store: &Store, output: &Path, of: &str) -> Result<(), String> {
    let partial = partial(output)?;
    let reason = format!(
        "this is a backup of {of}, made at {}; what that node signed later is not in it",
        humantime::format_rfc3339_seconds(SystemTime::now())
    );
    let copied =
        store.checkpoint(&partial).await.map_err(|error| format!("cannot write {}: {error}", partial.display()));
    let (from, to) = (partial.clone(), output.to_owned());
    let finish = move || {
        let named = copied.and_then(|()| safety::forbid(&from, &reason)).and_then(|()| give_name(&from, &to));
        if named.is_err() {
            // What was copied is of no use, and the first failure is the one to tell.
            let _ = fs::remove_dir_all(&from);
        }
        named
    };
    tokio::task::spawn_blocking(finish).await.map_err(|panic| panic.to_string())?
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

/// Where a copy stands until it is whole.
fn partial(output: &Path) -> Result<PathBuf, String> {
    let name = output.file_name().filter(|_| output.is_absolute());
    let name = name.ok_or_else(|| format!("{} is not an absolute path of a directory to be made", output.display()))?;
    let partial = output.with_file_name(format!("{}.partial", name.to_string_lossy()));
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
    fs::create_dir(to)?;
    let mut bytes = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            bytes += copy(&entry.path(), &target)?;
        } else {
            bytes += fs::copy(entry.path(), &target)?;
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
        make(&store, &backup, "member 3").await.expect("a backup");
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
            let mut asked = Box::pin(make(&store, &backup, "member 3"));
            std::future::poll_fn(|context| {
                assert!(asked.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            drop(asked);
            let named = async {
                while !backup.exists() {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(20), named).await.expect("it is finished");
            assert!(safety::forbidden(&backup).expect("readable").is_some());
            assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing half done is left");
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
            let error = make(&store, &output, "member 3").await.expect_err("refused");
            assert!(error.contains(&output.display().to_string()) || error.contains("no"), "{error}");
            assert!(restore(&folder.path().join("data"), &output).is_err());
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
    }
}
