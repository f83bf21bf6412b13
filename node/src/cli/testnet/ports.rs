//! Ports for a cluster on one machine.
//!
//! They lie below the ephemeral range: a dialer whose peer is down could otherwise be given the very port it dials, and
//! connect to itself.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use crate::cli::CliError;

/// Ports of one node: peers, clients, http, and one spare.
const STRIDE: usize = 4;
/// Where the search begins; below it live well-known services.
const FIRST: usize = 10_000;
/// Where the ephemeral range begins when the system does not tell.
const USUAL_EPHEMERAL: usize = 32_768;

/// The port of a node. The base was made by [`check`] or [`find`] for more nodes than `index`, so that it fits.
pub fn of(base: u16, index: usize, offset: u16) -> u16 {
    base.saturating_add((STRIDE * index) as u16).saturating_add(offset)
}

/// A base that was asked for.
///
/// # Errors
/// Where it leaves no room for all nodes.
pub fn check(base: u16, nodes: usize) -> Result<u16, CliError> {
    let last = usize::from(base) + STRIDE * nodes - 2;
    match base > 0 && last <= usize::from(u16::MAX) {
        true => Ok(base),
        false => Err(CliError::usage(format!(
            "--base-port {base}: {nodes} nodes need the ports {base} to {last}: use 1 to {}",
            usize::from(u16::MAX) + 2 - STRIDE * nodes
        ))),
    }
}

/// A base whose ports are all free now, below the ephemeral range. The search begins anywhere, so that two searches at the same
/// time seldom find the same.
///
/// # Errors
/// Where there is none.
pub fn find(nodes: usize) -> Result<u16, CliError> {
    let range = FIRST..ephemeral();
    let start = getrandom::u32().unwrap_or_default() as usize;
    candidates(range.clone(), STRIDE * nodes, start).find(|base| is_free(*base, nodes)).ok_or_else(|| {
        CliError::failed(format!(
            "no {} free ports in a row from {} to {}: give --base-port",
            STRIDE * nodes,
            range.start,
            range.end
        ))
    })
}

/// Every base whose block of `width` ports lies in the range, in order from a place that `start` chooses, around to the first.
fn candidates(range: Range<usize>, width: usize, start: usize) -> impl Iterator<Item = u16> {
    let count = range.end.min(1 << 16).saturating_sub(range.start) / width.max(1);
    (0..count).filter_map(move |step| u16::try_from(range.start + (start % count + step) % count * width).ok())
}

fn is_free(base: u16, nodes: usize) -> bool {
    let ports = (0..nodes).flat_map(|index| (0..3).map(move |offset| of(base, index, offset)));
    // Held together until all were tried.
    let bound: Result<Vec<_>, _> = ports.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
    bound.is_ok()
}

/// The first ephemeral port.
fn ephemeral() -> usize {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(USUAL_EPHEMERAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_ports_are_free_and_below_the_ephemeral_range() {
        let base = find(4).unwrap();
        assert!(usize::from(of(base, 3, 2)) < ephemeral());
        assert!(is_free(base, 4));
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, of(base, 2, 1))).unwrap();
        assert!(!is_free(base, 4));
    }

    #[test]
    fn a_base_leaves_room_for_every_node() {
        assert_eq!(check(65_521, 4).unwrap(), 65_521);
        assert_eq!(of(65_521, 3, 2), 65_535);
        assert_eq!(check(65_522, 4).unwrap_err().code, 2);
        assert!(check(65_522, 4).unwrap_err().message.ends_with("use 1 to 65521"));
        assert!(check(0, 1).is_err());
    }

    #[test]
    fn every_candidate_is_tried_once_wherever_the_search_begins() {
        for start in [0, 7, usize::MAX] {
            let mut bases: Vec<_> = candidates(100..150, 16, start).collect();
            bases.sort_unstable();
            assert_eq!(bases, [100, 116, 132]);
        }
        assert_eq!(candidates(100..110, 16, 3).count(), 0);
    }
}
