//! How much room the disk has, and what the node does about it before there is none.
//!
//! A store that meets a full disk has failed for good. So the node looks ahead: four times a second it asks for the free space
//! of the data directory's filesystem (and, where `store.quota_bytes` is set, for what the directory itself takes; less often if
//! it has so many files that looking would cost more than a twentieth of a thread) and gives up
//! work step by step, in the order in which it matters least to others:
//!
//! | level | below | what the node does |
//! |---|---|---|
//! | ample | | everything |
//! | low | twice `store.min_free_bytes` | everything, and warns |
//! | read-only | `store.min_free_bytes` | refuses submissions, seals no new payload; takes full part otherwise |
//! | standstill | half of it | takes no payload, blocks or commits from peers either; writes next to nothing; serves reads and peers |
//!
//! A node at a standstill counts as absent among its peers. It comes back by itself: a level is left once there is an eighth of
//! the reserve more than its bound, seen within a second of the space being there. Nothing is lost by what is dropped meanwhile:
//! to the core it is a slow network. Whoever fills the disk faster than this looks still finds a store that fails closed.
//!
//! A directory that is no longer where it was (renamed, removed, another filesystem mounted over it) ends the node: the open files
//! would take writes that no restart finds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rorqual_config::parameters::StoreParameters;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// Times that a look took, to wait before the next one: with a quota it asks about every file.
const REST: u32 = 20;

/// How long to wait after a look that took so long.
fn pause_after(look: Duration) -> Duration {
    INTERVAL.max(look.saturating_mul(REST))
}

/// How much is left. Ordered: what is worse is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Nothing to care about.
    Ample,
    /// Time to free space.
    Low,
    /// No new payload of our own.
    ReadOnly,
    /// Nothing that needs space.
    Standstill,
}

impl Level {
    /// The name, for status and log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ample => "ample",
            Self::Low => "low",
            Self::ReadOnly => "read-only",
            Self::Standstill => "standstill",
        }
    }

    fn from_number(number: u8) -> Self {
        [Self::Ample, Self::Low, Self::ReadOnly].get(usize::from(number)).copied().unwrap_or(Self::Standstill)
    }

    /// Free space below which this level begins.
    pub fn begins_below(self, reserve: u64) -> u64 {
        match self {
            Self::Ample => u64::MAX,
            Self::Low => reserve.saturating_mul(2),
            Self::ReadOnly => reserve,
            Self::Standstill => reserve / 2,
        }
    }

    /// Free space at which this level ends.
    pub fn ends_at(self, reserve: u64) -> u64 {
        self.begins_below(reserve).saturating_add(reserve / 8)
    }
}

/// The level for this much free space. A level once reached is left only with a margin, so that the node does not flutter.
pub fn decide(previous: Level, free: u64, reserve: u64) -> Level {
    let holds = |level: Level| {
        let bound = if previous >= level { level.ends_at(reserve) } else { level.begins_below(reserve) };
        free < bound
    };
    [Level::Standstill, Level::ReadOnly, Level::Low].into_iter().find(|level| holds(*level)).unwrap_or(Level::Ample)
}

/// What was seen last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// What the node does.
    pub level: Level,
    /// Bytes that may still be written: of the filesystem, or of the quota if that is less.
    pub free: u64,
    /// `store.min_free_bytes`.
    pub reserve: u64,
    /// Whether the last look saw the directory; else what was seen before stands here.
    pub seen: bool,
}

impl State {
    /// What is wrong and what to do, in one line; none while submissions are taken.
    pub fn trouble(&self) -> Option<String> {
        let Self { level, free, reserve, seen } = *self;
        if !seen {
            return Some("the data directory cannot be looked at, or is no longer where it was: see the log".into());
        }
        (level >= Level::ReadOnly).then(|| {
            format!(
                "disk nearly full ({}): {} MiB free, goes on by itself at {} MiB; free space, or lower store.min_free_bytes \
                 or [retention] and restart",
                level.name(),
                free >> 20,
                level.ends_at(reserve).div_ceil(1 << 20)
            )
        })
    }
}

/// What the rooms ask before they write. Cheap to clone and to ask.
#[derive(Clone)]
pub struct Disk {
    level: Arc<AtomicU8>,
    state: watch::Receiver<State>,
    /// Counts ends of standstills.
    resumptions: watch::Receiver<u64>,
}

impl Disk {
    /// What the node does now.
    pub fn level(&self) -> Level {
        Level::from_number(self.level.load(Ordering::Relaxed))
    }

    /// Whether new payload of our own may be taken in.
    pub fn takes_submissions(&self) -> bool {
        self.level() < Level::ReadOnly
    }

    /// Whether anything may be written that could come later: others' payload, blocks, commits.
    pub fn takes_from_peers(&self) -> bool {
        self.level() < Level::Standstill
    }

    /// What was seen last.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Resolves when a standstill has ended since this clone was made or last said so; never, when nobody looks at the disk any
    /// more. Dropping the future misses nothing.
    pub async fn resumed(&mut self) {
        if self.resumptions.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Looks at the disk of one data directory.
pub struct Monitor {
    directory: PathBuf,
    reserve: u64,
    quota: u64,
    level: Arc<AtomicU8>,
    state: watch::Sender<State>,
    resumptions: watch::Sender<u64>,
    place: Place,
}

/// Which directory a path leads to: device and inode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place(u64, u64);

impl Place {
    fn of(directory: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(directory).map(|facts| Self(facts.dev(), facts.ino()))
    }
}

/// What a look saw.
enum Look {
    Free(u64),
    /// The path leads somewhere else, or nowhere.
    Gone,
}

impl Monitor {
    /// Looks for the first time. Blocks; call it outside a runtime.
    ///
    /// # Errors
    /// One sentence naming the directory.
    pub fn start(directory: &Path, parameters: &StoreParameters) -> Result<(Self, Disk), String> {
        let (reserve, quota) = (parameters.min_free_bytes, parameters.quota_bytes);
        let cannot = |error| format!("cannot tell the free space of {}: {error}", directory.display());
        let (free, place) = (measure(directory, quota).map_err(cannot)?, Place::of(directory).map_err(cannot)?);
        let state = State { level: decide(Level::Ample, free, reserve), free, reserve, seen: true };
        let level = Arc::new(AtomicU8::new(state.level as u8));
        let (sender, receiver) = watch::channel(state);
        let (resumptions, resumed) = watch::channel(0);
        tell(&State { level: Level::Ample, ..state }, &state, directory);
        let disk = Disk { level: level.clone(), state: receiver, resumptions: resumed };
        Ok((Self { directory: directory.to_owned(), reserve, quota, level, state: sender, resumptions, place }, disk))
    }

    /// Looks again and again, on a blocking thread, until `stopping` is cancelled.
    ///
    /// # Errors
    /// One sentence: the directory is no longer where it was.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), String> {
        let mut pause = INTERVAL;
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            let (directory, quota, place) = (self.directory.clone(), self.quota, self.place);
            let began = std::time::Instant::now();
            let looked = tokio::task::spawn_blocking(move || look(&directory, quota, place)).await;
            pause = pause_after(began.elapsed());
            match looked.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
                Ok(Look::Free(free)) => self.saw(free),
                Ok(Look::Gone) => {
                    self.state.send_modify(|state| state.seen = false);
                    return Err(format!(
                        "the data directory {} is no longer where it was: it was renamed, removed, or something was mounted over \
                         it; put it back and start the node again",
                        self.directory.display()
                    ));
                }
                Err(error) => self.unseen(&error),
            }
        }
    }

    /// Told once, not four times a second; what was seen last stays.
    fn unseen(&self, error: &io::Error) {
        if self.state.borrow().seen {
            warn!(directory = %self.directory.display(), %error, "cannot tell the free space of the data directory");
            self.state.send_modify(|state| state.seen = false);
        }
    }

    fn saw(&self, free: u64) {
        let before = *self.state.borrow();
        let level = decide(before.level, free, self.reserve);
        let now = State { level, free, reserve: self.reserve, seen: true };
        self.level.store(now.level as u8, Ordering::Relaxed);
        self.state.send_replace(now);
        if before.level == Level::Standstill && now.level < before.level {
            self.resumptions.send_modify(|count| *count += 1);
        }
        tell(&before, &now, &self.directory);
    }
}

/// Logs a change of level.
fn tell(before: &State, now: &State, directory: &Path) {
    let (free_bytes, reserve_bytes, directory) = (now.free, now.reserve, directory.display());
    if now.level == before.level {
        return;
    }
    let (from, to) = (before.level.name(), now.level.name());
    match now.level {
        Level::Ample => info!(%directory, free_bytes, reserve_bytes, from, to, "there is room on the disk again"),
        Level::Low => warn!(%directory, free_bytes, reserve_bytes, from, to, "the disk fills up: free space soon"),
        Level::ReadOnly => warn!(
            %directory, free_bytes, reserve_bytes, from, to,
            "the disk is nearly full: submissions are refused until there is space"
        ),
        Level::Standstill => warn!(
            %directory, free_bytes, reserve_bytes, from, to,
            "the disk is all but full: nothing is taken from peers either until there is space"
        ),
    }
}

/// Blocks.
fn look(directory: &Path, quota: u64, place: Place) -> io::Result<Look> {
    match Place::of(directory) {
        Ok(now) if now == place => measure(directory, quota).map(Look::Free),
        Ok(_) => Ok(Look::Gone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Look::Gone),
        Err(error) => Err(error),
    }
}

/// Bytes that may still be written in this directory. Blocks.
fn measure(directory: &Path, quota: u64) -> io::Result<u64> {
    let filesystem = rustix::fs::statvfs(directory)?;
    let free = filesystem.f_bavail.saturating_mul(filesystem.f_frsize);
    if quota == 0 {
        return Ok(free);
    }
    Ok(free.min(quota.saturating_sub(used(directory)?)))
}

/// Bytes that the files below a directory take on the disk. Blocks.
///
/// # Errors
/// What the system said. A file that goes away meanwhile is none.
pub fn used(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(facts) if facts.is_dir() => open.push(entry.path()),
                Ok(facts) => bytes += facts.blocks() * 512,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVE: u64 = 800;

    #[test]
    fn levels_begin_at_their_bounds() {
        for (free, level) in [
            (1_600, Level::Ample),
            (1_599, Level::Low),
            (800, Level::Low),
            (799, Level::ReadOnly),
            (400, Level::ReadOnly),
            (399, Level::Standstill),
            (0, Level::Standstill),
        ] {
            assert_eq!(decide(Level::Ample, free, RESERVE), level, "{free}");
        }
    }

    #[test]
    fn a_level_is_left_only_with_a_margin() {
        assert_eq!(decide(Level::ReadOnly, 899, RESERVE), Level::ReadOnly);
        assert_eq!(decide(Level::ReadOnly, 900, RESERVE), Level::Low);
        assert_eq!(decide(Level::Standstill, 499, RESERVE), Level::Standstill);
        assert_eq!(decide(Level::Standstill, 500, RESERVE), Level::ReadOnly);
        assert_eq!(decide(Level::Standstill, 1_700, RESERVE), Level::Ample);
        assert_eq!(decide(Level::Low, 1_650, RESERVE), Level::Low);
    }

    #[test]
    fn no_reserve_means_no_levels() {
        assert_eq!(decide(Level::Ample, 0, 0), Level::Ample);
    }

    #[test]
    fn trouble_names_what_there_is_and_what_is_needed() {
        let state = State { level: Level::ReadOnly, free: 100 << 20, reserve: 128 << 20, seen: true };
        let text = state.trouble().expect("trouble");
        assert!(text.contains("100 MiB free") && text.contains("144 MiB") && text.contains("read-only"), "{text}");
        assert_eq!(State { level: Level::Low, ..state }.trouble(), None);
    }

    fn parameters(min_free_bytes: u64, quota_bytes: u64) -> StoreParameters {
        StoreParameters { min_free_bytes, quota_bytes, ..StoreParameters::default() }
    }

    #[tokio::test]
    async fn a_quota_is_watched_and_space_that_comes_back_is_seen() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let filler = folder.path().join("filler");
        let (monitor, mut disk) = Monitor::start(folder.path(), &parameters(1 << 20, 8 << 20)).expect("a look");
        assert_eq!(disk.level(), Level::Ample);
        let stopping = CancellationToken::new();
        let task = tokio::spawn(monitor.run(stopping.clone()));
        let mut resumed = disk.clone();
        let resumed = tokio::spawn(async move { resumed.resumed().await });
        fs::write(&filler, vec![7; 8 << 20]).expect("a file");
        let full = disk.state.wait_for(|state| state.level == Level::Standstill);
        tokio::time::timeout(Duration::from_secs(20), full).await.expect("soon").expect("a look");
        assert!(!disk.takes_submissions() && !disk.takes_from_peers());
        fs::remove_file(&filler).expect("space");
        tokio::time::timeout(Duration::from_secs(20), resumed).await.expect("soon").expect("the task");
        assert!(disk.takes_submissions());
        stopping.cancel();
        assert_eq!(task.await.expect("the task"), Ok(()));
    }

    #[tokio::test]
    async fn a_directory_that_is_renamed_ends_the_watch_and_fails_the_check() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        for replaced in [false, true] {
            fs::create_dir(&data).expect("a folder");
            let (monitor, disk) = Monitor::start(&data, &parameters(0, 0)).expect("a look");
            fs::rename(&data, folder.path().join(format!("away-{replaced}"))).expect("a rename");
            if replaced {
                fs::create_dir(&data).expect("a folder");
            }
            let reason = tokio::time::timeout(Duration::from_secs(20), monitor.run(CancellationToken::new())).await;
            let reason = reason.expect("soon").expect_err("gone");
            assert!(reason.contains(&data.display().to_string()) && reason.contains("no longer"), "{reason}");
            assert!(disk.state().trouble().is_some());
        }
    }

    #[test]
    fn looking_costs_at_most_a_twentieth_of_a_thread() {
        let ms = Duration::from_millis;
        assert_eq!([0, 12, 13, 2_000].map(|took| pause_after(ms(took))), [250, 250, 260, 40_000].map(ms));
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let Err(error) = Monitor::start(Path::new("/nowhere/data"), &parameters(1, 0)) else { panic!("no directory") };
        assert!(error.contains("/nowhere/data"), "{error}");
    }
}
