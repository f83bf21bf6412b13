//! A filesystem that keeps only what was synced, for tests of real nodes: see `tests/lossy/mod.rs`.
//!
//! ```text
//! lossy_filesystem [--capacity BYTES] DIRECTORY...
//! ```
//!
//! Mounts an empty filesystem in memory on each directory, and unmounts them when its standard input ends. A line there is a
//! command, answered by one line: `ok ...` or `error ...`. `[WHICH]` is the number of a directory, from 0; without it a
//! command is for all of them, and a cut hits all at one moment.
//!
//! | command | effect |
//! |---|---|
//! | `cut [WHICH]` | the power goes: from now on every operation fails |
//! | `power-on SEED [WHICH]` | the power is back; everything synced is there, and by chance (of that seed) some of the rest |
//! | `settle [WHICH]` | everything counts as synced |
//! | `fail-sync N [WHICH]` | the n-th sync from now on fails, and its data never reaches the disk |
//! | `capacity BYTES [WHICH]` | how much fits |
//! | `slow WRITE-MICROSECONDS SYNC-MICROSECONDS [WHICH]` | delays of every write and sync |
//! | `flip FILE OFFSET [MASK]` | inverts bits of one byte of a file, on disk too; the mask is 1 if none is given |
//! | `status [WHICH]` | what was done so far, a group of words for each directory |

#[path = "../tests/lossy/mod.rs"]
mod lossy;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use lossy::{Counters, Disk, Mounted};

const USAGE: &str = "usage: lossy_filesystem [--capacity BYTES] DIRECTORY...";
const DEFAULT_CAPACITY: u64 = 16 << 30;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("lossy_filesystem: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let (capacity, directories) = arguments()?;
    let mount = |path: &PathBuf| {
        Mounted::new(path, capacity).map_err(|error| format!("cannot mount on {}: {error}", path.display()))
    };
    let mounts = directories.iter().map(mount).collect::<Result<Vec<_>, _>>()?;
    let mut output = std::io::stdout();
    let said = |error: std::io::Error| format!("nobody reads the answers: {error}");
    writeln!(output, "ok mounted={}", mounts.len()).map_err(said)?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("cannot read commands: {error}"))?;
        match command(&mounts, &line) {
            Ok(answer) => writeln!(output, "{}", format!("ok {answer}").trim_end()).map_err(said)?,
            Err(reason) => writeln!(output, "error {reason}").map_err(said)?,
        }
    }
    Ok(())
}

fn arguments() -> Result<(u64, Vec<PathBuf>), String> {
    let mut capacity = DEFAULT_CAPACITY;
    let mut directories = Vec::new();
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        if word == "--capacity" {
            let value = words.next().ok_or(USAGE)?;
            capacity = number(value.to_str().unwrap_or_default())?;
        } else {
            let path = PathBuf::from(word);
            directories.push(path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?);
        }
    }
    if directories.is_empty() {
        return Err(USAGE.to_string());
    }
    Ok((capacity, directories))
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("`{word}` is not a number"))
}

fn command(mounts: &[Mounted], line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["cut", ref which @ ..] => {
            // All of them are held before the first one is cut: no request passes in between.
            let mut disks: Vec<_> = select(mounts, which)?.into_iter().map(|(_, mount)| mount.disk()).collect();
            disks.iter_mut().for_each(|disk| disk.cut());
            Ok(String::new())
        }
        ["power-on", seed, ref which @ ..] => {
            let seed = number(seed)?;
            let selected = select(mounts, which)?;
            let lost = selected.into_iter().map(|(place, mount)| {
                let loss = mount.disk().power_on(seed.wrapping_add(place as u64));
                format!("disk={place} {loss}")
            });
            Ok(lost.collect::<Vec<_>>().join(" "))
        }
        ["settle", ref which @ ..] => each(mounts, which, Disk::settle),
        ["fail-sync", nth, ref which @ ..] => {
            let nth = number(nth)?;
            each(mounts, which, |disk| disk.faults.fail_sync(nth))
        }
        ["capacity", bytes, ref which @ ..] => {
            let bytes = number(bytes)?;
            each(mounts, which, |disk| disk.set_capacity(bytes))
        }
        ["slow", write, sync, ref which @ ..] => {
            let (write, sync) = (Duration::from_micros(number(write)?), Duration::from_micros(number(sync)?));
            each(mounts, which, |disk| (disk.faults.write_delay, disk.faults.sync_delay) = (write, sync))
        }
        ["flip", file, offset] => flip(mounts, file, offset, "1"),
        ["flip", file, offset, mask] => flip(mounts, file, offset, mask),
        ["status", ref which @ ..] => Ok(select(mounts, which)?
            .into_iter()
            .map(|(place, mount)| status(place, &mount.disk()))
            .collect::<String>()),
        _ => Err(format!("`{line}` is no command")),
    }
}

fn select<'a>(mounts: &'a [Mounted], which: &[&str]) -> Result<Vec<(usize, &'a Mounted)>, String> {
    match which {
        [] => Ok(mounts.iter().enumerate().collect()),
        [word] => {
            let place = usize::try_from(number(word)?).unwrap_or(usize::MAX);
            let mount = mounts.get(place).ok_or_else(|| format!("there is no directory {place}"))?;
            Ok(vec![(place, mount)])
        }
        _ => Err("too many words".to_string()),
    }
}

fn each(mounts: &[Mounted], which: &[&str], change: impl Fn(&mut Disk)) -> Result<String, String> {
    for (_, mount) in select(mounts, which)? {
        change(&mut mount.disk());
    }
    Ok(String::new())
}

fn flip(mounts: &[Mounted], file: &str, offset: &str, mask: &str) -> Result<String, String> {
    let (offset, mask) = (number(offset)?, mask.parse::<u8>().map_err(|_| format!("`{mask}` is not a byte"))?);
    let within = |mount: &Mounted| Path::new(file).strip_prefix(mount.path()).map(Path::to_path_buf).ok();
    let (mount, path) = mounts
        .iter()
        .find_map(|mount| Some((mount, within(mount)?)))
        .ok_or_else(|| format!("{file} is in none of the directories"))?;
    match mount.disk().flip(&path, offset, mask) {
        Ok(()) => Ok(String::new()),
        Err(error) => Err(format!("{file}: {}", std::io::Error::from_raw_os_error(error.into()))),
    }
}

fn status(place: usize, disk: &Disk) -> String {
    let Counters { buffered_writes, direct_writes, syncs, failed_syncs, full, cuts } = disk.counters;
    format!(
        "disk={place} powered={} used={} capacity={} buffered_writes={buffered_writes} direct_writes={direct_writes} \
         syncs={syncs} failed_syncs={failed_syncs} full={full} cuts={cuts} ",
        disk.powered(),
        disk.used(),
        disk.capacity(),
    )
}
