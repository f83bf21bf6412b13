//! Whether the system gives this process what a node needs, asked before anything is begun: libraries below us abort the process,
//! or wait for ever, where a thread or memory is refused in the middle.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use super::CliError;

/// Threads a running node may have at once, beside those of its store's readers: measured with a margin.
const THREADS: usize = 40;
/// Threads of the runtime for work that blocks, at most.
pub const BLOCKING_THREADS: usize = 64;
/// Address space a node maps, caches not included: 1.2 GiB were measured with 18 threads, and each further thread has its stack.
const ADDRESS_SPACE: u64 = 2 << 30;

/// Asks the system for what a node with so many reader threads and `cache_bytes` of caches needs.
///
/// # Errors
/// One sentence with the remedy; exit code 1.
pub fn check(reader_threads: usize, cache_bytes: u64) -> Result<(), CliError> {
    address_space(rlimit_as(), cache_bytes)?;
    threads(THREADS + reader_threads, |work| thread::Builder::new().stack_size(64 << 10).spawn(work))
}

/// The soft limit of the address space in bytes; none where there is no limit or the system does not tell.
fn rlimit_as() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn address_space(limit: Option<u64>, cache_bytes: u64) -> Result<(), CliError> {
    let needed = ADDRESS_SPACE.saturating_add(cache_bytes);
    match limit {
        Some(limit) if limit < needed => Err(CliError::failed(format!(
            "the address space of this process is limited to {} MiB, and a node with these caches needs {} MiB: raise \
             `ulimit -v` (LimitAS= of a systemd unit); to bound memory, use a control group (MemoryMax=)",
            limit >> 20,
            needed >> 20
        ))),
        _ => Ok(()),
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// Has so many threads at once for a moment.
fn threads(needed: usize, mut spawn: impl FnMut(Work) -> io::Result<JoinHandle<()>>) -> Result<(), CliError> {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(held));
    let mut started = Vec::with_capacity(needed);
    let mut refused = None;
    for _ in 0..needed {
        let held = held.clone();
        // Ends when the sender is dropped, one after the other.
        let wait = move || drop(held.lock().map(|held| held.recv()));
        match spawn(Box::new(wait)) {
            Ok(thread) => started.push(thread),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    drop(release);
    let count = started.len();
    started.into_iter().for_each(|thread| drop(thread.join()));
    match refused {
        None => Ok(()),
        Some(error) => Err(CliError::failed(format!(
            "the system gave this process {count} threads, and a node needs {needed}: {error}; raise `ulimit -u` (all processes \
             of this user count) or the limit of the control group (TasksMax= of a systemd unit, --pids-limit of a container)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_threads_are_told_with_what_is_needed_and_none_is_left() {
        let mut left = 12;
        let error = threads(40, |work| {
            left -= 1;
            if left == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { thread::Builder::new().spawn(work) }
        });
        let error = error.unwrap_err();
        assert!(error.code == 1 && error.message.contains("11 threads, and a node needs 40"), "{error}");
        assert!(error.message.contains("ulimit -u"), "{error}");
        assert_eq!(threads(3, |work| thread::Builder::new().spawn(work)), Ok(()));
    }

    #[test]
    fn too_little_address_space_is_told_with_what_is_needed() {
        let cache = 256 << 20;
        let needed = ADDRESS_SPACE + cache;
        assert_eq!(address_space(None, cache), Ok(()));
        assert_eq!(address_space(Some(needed), cache), Ok(()));
        let error = address_space(Some(needed - 1), cache).unwrap_err();
        assert!(
            error.code == 1 && error.message.contains("2304 MiB") && error.message.contains("ulimit -v"),
            "{error}"
        );
    }
}
