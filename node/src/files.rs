//! File descriptors: how many this process may have, and how many of them clients may take.
//!
//! Promises: clients are refused before the store or the links between nodes go without; the soft limit is no reason for that.

use tracing::{info, warn};

use crate::clients::{MAX_HALF_OPEN, STATUS_PLACES};

/// For the database (`max_open_files`), its log, segments and the safety record.
const STORE: u64 = 640;
/// For listeners, the operator endpoint, standard streams and the runtime.
const OTHERS: u64 = 112;
/// For peers without a hello.
const PEERS_HALF_OPEN: u64 = 64;
/// For each member: a link, and one that replaces it.
const PER_MEMBER: u64 = 4;
/// Clients are served even where the limit is so low that nothing is left for them by this count.
const FEWEST: u64 = 16;

/// What clients may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientFiles {
    /// Connections that have said hello.
    pub connections: usize,
    /// Connections that have not.
    pub half_open: usize,
}

impl ClientFiles {
    /// What a limit of open files leaves to clients in a committee of `members`.
    pub fn of(limit: u64, members: u64, max_connections: usize) -> Self {
        let kept = STORE.saturating_add(OTHERS).saturating_add(PEERS_HALF_OPEN);
        let kept = kept.saturating_add(members.saturating_mul(PER_MEMBER)).saturating_add(STATUS_PLACES as u64);
        let left = limit.saturating_sub(kept).max(FEWEST);
        let half_open = (left / 4).min(MAX_HALF_OPEN as u64);
        let connections = usize::try_from(left.saturating_sub(half_open)).unwrap_or(usize::MAX).min(max_connections);
        Self { connections, half_open: usize::try_from(half_open).unwrap_or(MAX_HALF_OPEN) }
    }

    /// The same for this process; says so where it is less than what is configured.
    pub fn of_process(members: u64, max_connections: usize) -> Self {
        let Some(limits) = limits() else { return Self { connections: max_connections, half_open: MAX_HALF_OPEN } };
        let this = Self::of(limits.rlim_cur, members, max_connections);
        if this.connections < max_connections {
            warn!(
                open_files = limits.rlim_cur,
                connections = this.connections,
                "client.max_connections = {max_connections} does not fit the limit of open files, most of which the store and \
                 the peers need: fewer connections are taken; raise the limit (LimitNOFILE, ulimit -Hn) or lower the key"
            );
        }
        this
    }
}

fn limits() -> Option<libc::rlimit> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[allow(unsafe_code, reason = "the standard library does not tell limits")]
    // SAFETY: the call writes one `rlimit`, which is what it is given.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) } != 0;
    (!failed).then_some(limits)
}

/// Raises the soft limit of open files to the hard one. Where the system refuses, the soft limit holds.
pub fn raise_limit() {
    let Some(mut limits) = limits() else { return };
    if limits.rlim_cur >= limits.rlim_max {
        return;
    }
    let before = limits.rlim_cur;
    limits.rlim_cur = limits.rlim_max;
    #[allow(unsafe_code, reason = "the standard library does not set limits")]
    // SAFETY: the call reads one `rlimit`, which is what it is given.
    let failed = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) } != 0;
    match failed {
        true => warn!(before, "cannot raise the soft limit of open files: {}", std::io::Error::last_os_error()),
        false => info!(before, now = limits.rlim_max, "raised the soft limit of open files to the hard one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_what_store_and_peers_leave_and_never_all() {
        assert_eq!(ClientFiles::of(1 << 20, 4, 1_024), ClientFiles { connections: 1_024, half_open: MAX_HALF_OPEN });
        let usual = ClientFiles::of(1_024, 4, 1_024);
        assert!(usual.connections < 200 && usual.half_open < 100, "{usual:?}");
        assert!(usual.connections + usual.half_open + STATUS_PLACES + STORE as usize <= 1_024);
        assert_eq!(ClientFiles::of(100, 4, 1_024), ClientFiles { connections: 12, half_open: 4 });
        assert_eq!(ClientFiles::of(u64::MAX, u64::MAX, 7).connections, 7);
    }
}
