//! What the store promises when the power goes, on a filesystem that keeps only what was synced.

#[path = "../lossy/mod.rs"]
mod lossy;

mod bit_flips;
mod crash_points;
mod data;
mod filesystem;
mod full_disk;
mod history;

#[path = "../support/mod.rs"]
mod support;

use lossy::Mounted;

/// Set where FUSE is known to work: there its absence fails the tests instead of skipping them.
const REQUIRED: &str = "RORQUAL_TEST_FUSE";

/// A mounted lossy filesystem of so many bytes and the folder it is mounted on; nothing, and a line that says so, where this
/// machine cannot mount one.
///
/// # Panics
/// Where it cannot, although root runs the tests, or `RORQUAL_TEST_FUSE=required` says that it must.
fn mounted(capacity: u64) -> Option<(tempfile::TempDir, Mounted)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    match Mounted::new(folder.path(), capacity) {
        Ok(mounted) => Some((folder, mounted)),
        Err(error) => {
            let required = std::env::var_os(REQUIRED).is_some_and(|value| value == "required");
            assert!(!required, "{REQUIRED}=required, but a FUSE filesystem cannot be mounted: {error}");
            eprintln!("SKIPPED: a FUSE filesystem cannot be mounted here: {error}");
            None
        }
    }
}
